"""A verdict cannot be misread: no truth value, no forged enclave, an order that never changes."""

import copy
import pickle

import pytest

from glasscase import auditor
from glasscase.core import dcap
from glasscase.errors import FormatError, UsageError, VerificationError
from glasscase.reasons import dcap as dcap_reasons
from glasscase.reasons import verify as verify_reasons
from glasscase.verify.verdict import Verdict, VerdictStatus


def test_a_verdict_has_no_truth_value(lab):
    """bool() of a verdict raises, so `if verdict:` cannot pass by accident."""
    with pytest.raises(TypeError):
        bool(lab.judge())


def test_nothing_but_require_makes_a_verified_enclave(lab):
    """The type has no constructor, no copy, no pickle, and cannot be changed."""
    enclave = lab.judge().require()
    failed = lab.judge(anchor=auditor.TrustAnchor.intel())

    for refused in (auditor.VerifiedEnclave, auditor.TrustAnchor):
        with pytest.raises(TypeError) as caught:
            refused()
        assert isinstance(caught.value, UsageError)  # wrong use is an Error
    with pytest.raises(TypeError):
        auditor.VerifiedEnclave._of(failed)
    with pytest.raises(TypeError):
        copy.copy(enclave)
    with pytest.raises(TypeError):
        copy.deepcopy(enclave)
    with pytest.raises(TypeError):
        pickle.dumps(enclave)
    with pytest.raises(AttributeError):
        enclave.mrenclave = bytes(32)
    with pytest.raises(AttributeError):
        enclave._verdict = failed


def test_the_order_is_fixed_and_complete(lab):
    """Every verdict shows the core's checks, then ours, in the order of the one table."""
    wanted = [*dcap.CHECKS, *(reason.id for reason in verify_reasons.REASONS if reason.kind in ("proof", "basis"))]
    table = [reason.id for reason in dcap_reasons.REASONS if reason.kind in ("proof", "basis")]
    garbage = auditor.verify_quote(b"", collateral=None, anchor=lab.anchor, policy=lab.named(), at=lab.time_at(lab.at))

    assert list(dcap.CHECKS) == table
    for verdict in (lab.judge(), garbage):
        assert wanted == [check.id for check in verdict.checks]
        assert {"pass", "fail", "not_reached", "not_applicable"} >= {check.outcome for check in verdict.checks}
        assert all(check.source and check.anchor in ("root", "bytes", "policy", "evidence") for check in verdict.checks)


def test_a_check_that_is_missing_or_not_reached_never_verifies(lab):
    """Leaving out any one of our findings, or not reaching it, takes the verdict away."""
    good = lab.judge()
    findings = dict(good._findings)

    assert VerdictStatus.VERIFIED is Verdict(good.core, good.basis, findings).status
    for name in findings:
        without = {key: value for key, value in findings.items() if key != name}
        assert VerdictStatus.UNDETERMINED is Verdict(good.core, good.basis, without).status
        for outcome in ("not_reached", "skipped", ""):
            changed = {**findings, name: (outcome, "", "")}
            assert VerdictStatus.VERIFIED is not Verdict(good.core, good.basis, changed).status


def test_proof_outranks_basis(lab):
    """Each failed check alone gives the status of its class; a failed proof beside a failed basis gives failed."""
    good = lab.judge()
    kinds = {reason.id: reason.kind for reason in verify_reasons.REASONS}
    basis = next(name for name in good._findings if kinds[name] == "basis")
    for name in good._findings:
        wanted = VerdictStatus.FAILED if kinds[name] == "proof" else VerdictStatus.UNDETERMINED
        failing = {**good._findings, name: ("fail", "", "")}
        assert wanted is Verdict(good.core, good.basis, failing).status
        assert wanted is Verdict(good.core, good.basis, failing, {basis: ("fail", "", "")}).status


def test_a_finding_that_is_not_in_the_table_is_a_fault_of_the_program(lab):
    """An id without a class cannot slip in."""
    good = lab.judge()
    with pytest.raises(KeyError):
        Verdict(good.core, good.basis, good._findings, {"made.up.id": ("pass", "", "")})


def test_require_raises_with_the_decisive_check(lab):
    """The error carries the verdict, the id and the exit code of its class."""
    cases = (
        (lab.named(mrenclave=(bytes(32),)), "policy.mrenclave.unlisted", 2),
        (lab.named(mrenclave=(), bundle=True), "policy.bundle.missing", 3),
    )
    for policy, reason, code in cases:
        verdict = lab.judge(policy=policy)
        with pytest.raises(VerificationError) as caught:
            verdict.require()
        assert (reason, code) == (caught.value.reason, caught.value.exit_code)
        assert verdict is caught.value.verdict


def test_a_quote_alone_yields_an_enclave_without_keys(lab):
    """A verified raw quote names no key, so nothing can be sealed to it."""
    quote = lab.quote(bytes(64))
    verdict = auditor.verify_quote(
        quote, collateral=lab.collateral(), anchor=lab.anchor, policy=lab.named(evidence_max_age_s=None),
        at=lab.time_at(lab.at),
    )  # fmt: skip
    enclave = verdict.require()

    assert lab.mrenclave == enclave.mrenclave
    assert "claims.binding" in verdict.not_checked
    for name in ("seal_key", "receipt_key", "tls_spki_sha256", "instance_digest", "claims"):
        with pytest.raises(VerificationError) as caught:
            getattr(enclave, name)
        assert "verdict.claims.absent" == caught.value.reason


def test_raw_quotes_and_what_they_cannot_show(lab):
    """Policies about age, nonce, provisioning and statements are not skipped for a raw quote."""
    nonce = b"n" * 32

    def judge(report_data=bytes(64), nonce=None, asks_nonce=False, **fields):
        policy = lab.named(**{"evidence_max_age_s": None, "nonce": asks_nonce, **fields})
        return lab.failed(auditor.verify_quote(
            lab.quote(report_data), collateral=lab.collateral(), anchor=lab.anchor, policy=policy,
            at=lab.time_at(lab.at), nonce=nonce,
        ))  # fmt: skip

    assert ["freshness.unproven"] == judge(evidence_max_age_s=86400)
    assert [] == judge(nonce + bytes(32), nonce=nonce, evidence_max_age_s=86400)
    assert ["freshness.nonce.mismatch"] == judge(nonce=nonce)
    assert ["freshness.nonce.mismatch"] == judge(nonce + b"\1" * 32, nonce=nonce)
    assert ["freshness.nonce.missing"] == judge(asks_nonce=True)
    assert ["instance.provision.missing"] == judge(provisioned=True)
    assert ["instance.provision.missing"] == judge(owners=(bytes(32),))
    assert ["statements.threshold.unmet"] == judge(statements_require=1, statements_keys=(bytes(32),))


def test_without_a_policy_there_are_facts_and_no_verdict(lab):
    """No policy: undetermined by that alone, with measurement and platform status to be read."""
    verdict = auditor.verify_evidence(lab.evidence(), anchor=lab.anchor, policy=None, at=lab.time_at(lab.at))

    assert (VerdictStatus.UNDETERMINED, ["policy.identity.unset"]) == (verdict.status, lab.failed(verdict))
    assert (lab.mrenclave, "UpToDate") == (verdict.mrenclave, verdict.tcb_status)
    with pytest.raises(VerificationError):
        verdict.require()


@pytest.mark.parametrize(("case", "check"), [
    ("tdx4-90c06f000000-f8f82d-2412", "quote.tee.unsupported"), ("tdx5-90c06f000000-d0010d-2506", "quote.tee.unsupported"),
    ("sgx3-00707f000000-8cc428-1909v2", "quote.certification.unsupported"),
])  # fmt: skip
def test_what_is_not_judged_is_undetermined_under_any_policy(shared, lab, case, check):
    """TDX and quotes without a chain end undetermined, also when the policy asks for age, nonce or a platform."""
    import json

    folder = shared / "corpus" / case
    at = json.loads((folder / "expected.json").read_text())["checks"][0]["at"]
    policy = (
        auditor.Policy(mrenclave=(bytes(32),), insecure_debug=True) if check.startswith("quote.tee") else lab.named()
    )
    verdict = auditor.verify_quote(
        (folder / "quote.bin").read_bytes(), collateral=auditor.load_collateral(folder / "collateral.json"),
        anchor=auditor.TrustAnchor.intel(), policy=policy, at=lab.time_at(at), nonce=b"n" * 32 if "tdx" in case else None,
    )  # fmt: skip

    assert check in lab.failed(verdict)
    if "tdx" in case:
        assert VerdictStatus.UNDETERMINED is verdict.status
    assert not [name for name in lab.failed(verdict) if name.startswith(("freshness.", "instance.", "platform."))]


def test_a_raw_quote_without_collateral_is_undetermined_under_the_default_policy(lab):
    """Missing collateral is the only thing that is said."""
    verdict = auditor.verify_quote(
        lab.quote(bytes(64)), collateral=None, anchor=lab.anchor, policy=lab.named(), at=lab.time_at(lab.at)
    )

    assert VerdictStatus.UNDETERMINED is verdict.status
    assert all(name.endswith(".missing") for name in lab.failed(verdict))


def test_many_quotes_at_once_give_the_same_verdicts(lab):
    """verify_many keeps the order and agrees with verify_quote, with one thread or several."""
    collateral = lab.collateral()
    quotes = [lab.quote(bytes([number]) * 64) for number in range(8)]
    quotes[3] = b"garbage"
    quotes[5] = quotes[5][:-1]
    verifier = auditor.Verifier(anchor=lab.anchor, policy=lab.named(evidence_max_age_s=None))
    at = lab.time_at(lab.at)
    alone = [verifier.verify_quote(quote, collateral=collateral, at=at).to_json() for quote in quotes]
    for threads in (1, 2, 8):
        many = verifier.verify_many([(quote, collateral) for quote in quotes], at=at, threads=threads)
        assert alone == [verdict.to_json() for verdict in many]
    assert [] == list(verifier.verify_many([], at=at))


@pytest.mark.parametrize("pem", [
    b"", b"not pem", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"\0" * 70000, "text", None,
])  # fmt: skip
def test_an_anchor_is_exactly_one_root(pem):
    """Anything but one certificate in PEM is no anchor."""
    with pytest.raises(FormatError) as caught:
        auditor.TrustAnchor.insecure_root(pem)

    assert "anchor.root.malformed" == caught.value.reason


def test_anchors_are_named_and_fixed(lab):
    """There is no empty anchor, two roots are none, and an anchor cannot be changed."""
    pem = lab.platform.root_pem.encode()
    with pytest.raises(TypeError):
        auditor.TrustAnchor()
    with pytest.raises(FormatError):
        auditor.TrustAnchor.insecure_root(pem + pem)
    with pytest.raises(AttributeError):
        auditor.TrustAnchor.intel().name = "mine"
    assert ("intel", False) == (auditor.TrustAnchor.intel().name, auditor.TrustAnchor.intel().simulated)
    assert lab.anchor.name.startswith("insecure-root:") and lab.anchor.simulated


@pytest.mark.parametrize("spelling", ["\n{}", "{}\n\n", "  {}  ", "crlf"])
def test_the_callers_root_may_have_blank_space_around_it(lab, spelling):
    """The anchor is the caller's own file: line ends and blank lines do not matter, a second certificate does."""
    pem = lab.platform.root_pem
    text = pem.replace("\n", "\r\n") if spelling == "crlf" else spelling.format(pem)
    anchor = auditor.TrustAnchor.insecure_root(text.encode())

    assert auditor.TrustAnchor.insecure_root(pem.encode()).certificates == anchor.certificates
