"""The C core on the real corpus: every case and instant."""

from glasscase.core.facts import SGX_TYPES
from glasscase.reasons.stricter import LAST_SECOND, NO_CHAIN, TRAILING, VERSION_2

STATUS = {  # Intel's result -> name of the policy file
    "OK": "UpToDate",
    "SW_HARDENING_NEEDED": "SWHardeningNeeded",
    "CONFIG_NEEDED": "ConfigurationNeeded",
    "CONFIG_AND_SW_HARDENING_NEEDED": "ConfigurationAndSWHardeningNeeded",
    "OUT_OF_DATE": "OutOfDate",
    "OUT_OF_DATE_CONFIG_NEEDED": "OutOfDateConfigurationNeeded",
}
FLAG = (False, True, None)


def exceptions_of(case, check):
    """Return the written exceptions that hold for one instant of a case."""
    found = []
    if case.facts.get("tcb_info_version") == 2:
        found.append(VERSION_2)
    if check["why"] == "exactly the earliest expiry":
        found.append(LAST_SECOND)
    if case.facts["cert_type"] != 5:
        found.append(NO_CHAIN)
    if case.name.startswith("odd-trailing"):
        found.append(TRAILING)
    return found


def instants(cases):
    for case in cases.values():
        for check in case.expected["checks"]:
            yield case, check


def test_valid_instants_pass_with_intels_status(sgx_cases):
    """Where Intel accepts and everything is in its window, every check passes and the status is Intel's."""
    seen = 0
    for case, check in instants(sgx_cases):
        if check["class"] == "valid" and not exceptions_of(case, check):
            verdict = case.verify(check["at"])

            assert () == verdict.failed, (case.name, check["why"])
            assert verdict.genuine
            assert STATUS[check["tcb_status"]] == verdict.tcb_status, (case.name, check["why"])
            seen += 1
    assert seen >= 60


def test_every_other_instant_fails_a_check(sgx_cases):
    """Expired, not yet valid, rejected by Intel, or a written exception: at least one check fails."""
    seen = 0
    for case, check in instants(sgx_cases):
        exceptions = exceptions_of(case, check)
        if check["class"] != "valid" or exceptions:
            verdict = case.verify(check["at"])

            assert not verdict.genuine, (case.name, check["why"])
            assert verdict.failed, (case.name, check["why"])
            for exception in exceptions:
                assert any(name.endswith(exception.check) for name in verdict.failed), (case.name, exception)
            seen += 1
    assert seen >= 200


def test_the_last_second_is_the_only_difference_of_its_exception(sgx_cases):
    """One second before the expiry passes, at the expiry only checks named expired fail."""
    for case, check in instants(sgx_cases):
        if check["class"] == "valid" and exceptions_of(case, check) == [LAST_SECOND]:
            assert case.verify(check["at"] - 1).genuine
            assert all(name.endswith(".expired") for name in case.verify(check["at"]).failed)


def test_tdx_quotes_are_shown_and_not_judged(cases):
    """A TDX quote parses whole and fails quote.tee.unsupported at every instant."""
    seen = 0
    for case, check in instants(cases):
        if case.facts["tee"] == "TDX":
            verdict = case.verify(check["at"])

            assert ("quote.tee.unsupported",) == verdict.failed
            assert verdict.tcb_status is None
            assert not verdict.genuine
            seen += 1
    assert seen > 50


def test_facts_equal_intels_supplemental_data(cases):
    """FMSPC, PPID, SVNs, CRL numbers, dates, evaluation number, root key id and advisories are those that Intel computes."""
    seen = 0
    for case, check in instants(cases):
        wanted = check.get("intel", {}).get("supplemental")
        if not wanted or case.facts["cert_type"] != 5 or case.facts["tee"] != "SGX":
            continue
        verdict = case.verify(check["at"])
        pck = verdict.pck
        assert wanted["pck_ppid"] == pck.ppid.hex()
        assert wanted["tcb_cpusvn"] == pck.cpusvn.hex()
        assert wanted["tcb_pce_isvsvn"] == pck.pcesvn
        assert wanted["pce_id"] == int.from_bytes(pck.pceid, "little")
        assert case.facts["fmspc"] == pck.fmspc.hex()
        assert wanted["platform_instance_id"] == pck.platform_instance_id.hex()
        assert FLAG[wanted["dynamic_platform"]] == pck.dynamic_platform
        # Intel's library gives "undefined" for a cachedKeys that the certificate says is FALSE
        assert FLAG[wanted["cached_keys"]] == (pck.cached_keys or None)
        assert FLAG[wanted["smt_enabled"]] == pck.smt_enabled
        assert wanted["sgx_type"] == SGX_TYPES.index(pck.sgx_type)
        assert wanted["root_ca_crl_num"] == verdict.root_ca_crl_number
        assert wanted["pck_crl_num"] == verdict.pck_crl_number
        assert wanted["tcb_eval_ref_num"] == min(verdict.tcb_info_evaluation, verdict.qe_identity_evaluation)
        assert wanted["root_key_id"] == verdict.root_key_id.hex()
        assert wanted["earliest_issue_date"] == verdict.earliest_issue
        assert wanted["latest_issue_date"] == verdict.latest_issue
        assert wanted["earliest_expiration_date"] == verdict.earliest_expiration
        assert wanted["tcb_level_date_tag"] == min(verdict.matched.date, verdict.qe_tcb_date)
        assert set(wanted["sa_list"].split(",")) - {""} == set(verdict.advisories)
        seen += 1
    assert seen >= 25
