"""Our own rules about a genuine quote: which enclave, how it was started, on what platform, how old everything is.

Invariants: each function returns a finding for every id that it owns; what cannot be looked at is "not_reached", which never
verifies. Nothing here decides whether the quote is genuine: the core does.
Source: docs/policy.md.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from glasscase.sgx.attributes import FLAG_AEX_NOTIFY, FLAG_DEBUG, FLAG_INIT, FLAG_MODE64
from glasscase.sgx.report import ReportBody
from glasscase.verify.check import FAIL, NOT_APPLICABLE, NOT_REACHED, PASS, Finding, spell
from glasscase.verify.expected import Expected
from glasscase.verify.policy import ANY_ADVISORY, ANY_PLATFORM, Policy
from glasscase.verify.verdict import platform_names

if TYPE_CHECKING:
    from glasscase.core.dcap import CoreVerdict

NOT_LOOKED_AT: Finding = (NOT_REACHED, "", "")
DOES_NOT_APPLY: Finding = (NOT_APPLICABLE, "", "")

_REVOKED = "Revoked"  # no policy accepts it: platform.tcb.revoked is a check of the core
# status -> the check that fails unless the policy accepts the status
STATUS_CHECKS = {
    "UpToDate": "platform.tcb.out_of_date",  # a policy may accept no status at all
    "OutOfDate": "platform.tcb.out_of_date",
    "OutOfDateConfigurationNeeded": "platform.tcb.out_of_date",
    "ConfigurationNeeded": "platform.tcb.configuration_needed",
    "ConfigurationAndSWHardeningNeeded": "platform.tcb.configuration_needed",
    "SWHardeningNeeded": "platform.tcb.sw_hardening_needed",
}
_STATUS_IDS = tuple(dict.fromkeys(STATUS_CHECKS.values()))
_NO_KSS = (0, bytes(64), bytes(16), bytes(16))  # CONFIGSVN, CONFIGID, ISVEXTPRODID, ISVFAMILYID
_PCESVN = 16  # the number of a shortfall that is not one of the 16 components


def judge(holds: bool, observed: object, expected: object) -> Finding:  # noqa: FBT001 - the result of a comparison
    """Return a finding: pass if it holds, else fail."""
    return (PASS if holds else FAIL, observed, expected)


def identity_findings(
    policy: Policy | None, report: ReportBody | None, expected: Expected | None
) -> dict[str, Finding]:
    """Return the findings about which enclave it is: policy.*."""
    found = {
        "policy.identity.unset": judge(policy is not None, "no policy" if policy is None else "a policy", "a policy"),
        "policy.bundle.missing": _bundle_given(policy, expected),
        "policy.bundle.damaged": DOES_NOT_APPLY
        if expected is None
        else judge(not expected.problems, expected.problems, ""),
        "policy.bundle_id.mismatch": DOES_NOT_APPLY,
        "policy.mrenclave.mismatch": DOES_NOT_APPLY,
        "policy.mrenclave.unlisted": DOES_NOT_APPLY,
        "policy.mrsigner.mismatch": DOES_NOT_APPLY,
        "policy.isv_prod_id.mismatch": DOES_NOT_APPLY,
        "policy.isv_svn.low": DOES_NOT_APPLY,
    }
    if expected is not None:
        found["policy.mrenclave.mismatch"] = (
            NOT_LOOKED_AT
            if report is None
            else judge(report.mrenclave == expected.mrenclave, report.mrenclave, expected.mrenclave)
        )
    elif policy is not None and policy.bundle:
        found["policy.mrenclave.mismatch"] = NOT_LOOKED_AT
    if policy is None:
        return found
    if policy.bundle_id is not None:
        actual = expected.bundle_id if expected is not None else None
        found["policy.bundle_id.mismatch"] = (
            NOT_LOOKED_AT if actual is None else judge(actual == policy.bundle_id, actual, policy.bundle_id)
        )
    wanted = {
        "policy.mrenclave.unlisted": policy.mrenclave or None,
        "policy.mrsigner.mismatch": policy.mrsigner,
        "policy.isv_prod_id.mismatch": policy.isv_prod_id,
        "policy.isv_svn.low": policy.isv_svn_min,
    }
    for name, value in wanted.items():
        if value is not None:
            found[name] = NOT_LOOKED_AT if report is None else _identity(name, value, report)
    return found


def _identity(name: str, wanted: object, report: ReportBody) -> Finding:
    if name == "policy.mrenclave.unlisted":
        return judge(report.mrenclave in wanted, report.mrenclave, wanted)  # type: ignore[operator]
    if name == "policy.mrsigner.mismatch":
        return judge(report.mrsigner == wanted, report.mrsigner, wanted)
    if name == "policy.isv_prod_id.mismatch":
        return judge(report.isv_prod_id == wanted, report.isv_prod_id, wanted)
    return judge(report.isv_svn >= wanted, report.isv_svn, f"at least {wanted}")  # type: ignore[operator]


def _bundle_given(policy: Policy | None, expected: Expected | None) -> Finding:
    if policy is None or not policy.bundle:
        return DOES_NOT_APPLY
    if expected is None:
        return (FAIL, "no bundle", "the bundle that the policy means")
    if policy.bundle_id is not None and expected.bundle_id is None:
        return (FAIL, "a measurement without a bundle id", "the bundle that the policy means")
    return (PASS, "a bundle", "a bundle")


def enclave_findings(policy: Policy | None, report: ReportBody | None, expected: Expected | None) -> dict[str, Finding]:
    """Return the findings about how the enclave was built and started: enclave.*."""
    names = ("debug.set", "flags.unexpected", "kss.nonzero", "signer.mismatch", "product.mismatch", "xfrm.mismatch",
             "miscselect.mismatch")  # fmt: skip
    if report is None:
        return {f"enclave.{name}": NOT_LOOKED_AT for name in names}
    debug_allowed = policy is not None and policy.insecure_debug
    flags = report.attributes_flags
    ignored = FLAG_AEX_NOTIFY | FLAG_DEBUG  # debug has its own check
    kss = (report.config_svn, report.config_id, report.isv_ext_prod_id, report.isv_family_id) != _NO_KSS
    found = {
        "enclave.debug.set": judge(
            not report.debug or debug_allowed,
            "debug" if report.debug else "production",
            "debug is allowed by the policy" if debug_allowed else "production",
        ),
        "enclave.flags.unexpected": judge(
            flags & ~ignored == FLAG_INIT | FLAG_MODE64, lambda: f"{flags:#x}", f"{FLAG_INIT | FLAG_MODE64:#x}"
        ),
        "enclave.kss.nonzero": judge(not kss, "not zero" if kss else "zero", "zero"),
    }
    if expected is None:
        found |= {f"enclave.{name}": DOES_NOT_APPLY for name in names[3:]}
        return found
    found["enclave.signer.mismatch"] = (
        DOES_NOT_APPLY
        if expected.mrsigner is None
        else judge(report.mrsigner == expected.mrsigner, report.mrsigner, expected.mrsigner)
    )
    found["enclave.product.mismatch"] = judge(
        (report.isv_prod_id, report.isv_svn) == (expected.isv_prod_id, expected.isv_svn),
        f"product {report.isv_prod_id}, svn {report.isv_svn}",
        f"product {expected.isv_prod_id}, svn {expected.isv_svn}",
    )
    found["enclave.xfrm.mismatch"] = _masked(report.xfrm, expected.xfrm, expected.xfrm_mask)
    found["enclave.miscselect.mismatch"] = _masked(report.misc_select, expected.misc_select, expected.misc_mask)
    return found


def _masked(observed: int, expected: int, mask: int) -> Finding:
    return judge(observed & mask == expected & mask, f"{observed & mask:#x}", f"{expected & mask:#x} under {mask:#x}")


def platform_findings(policy: Policy | None, core: "CoreVerdict") -> dict[str, Finding]:
    """Return the findings about the platform: platform.tcb.* by the policy, advisories, identity."""
    if policy is None:
        return dict.fromkeys((*_STATUS_IDS, "platform.advisory.unlisted", "platform.identity.unlisted"), NOT_LOOKED_AT)
    status = core.tcb_status
    found = dict.fromkeys(_STATUS_IDS, NOT_LOOKED_AT if status is None else (PASS, status, policy.accept))
    if status is not None and status not in policy.accept and status != _REVOKED:
        accepted = policy.accept or "no status is accepted"
        found[STATUS_CHECKS[status]] = (FAIL, lambda: status_sentence(core), accepted)
    found["platform.advisory.unlisted"] = _advisories(policy, core)
    found["platform.identity.unlisted"] = _platform(policy, core)
    return found


def _advisories(policy: Policy, core: "CoreVerdict") -> Finding:
    if core.tcb_status is None:
        return NOT_LOOKED_AT
    if core.tcb_status == "UpToDate":
        return (PASS, lambda: core.advisories, "any, as the platform is up to date")
    if policy.advisories == (ANY_ADVISORY,):
        return (PASS, lambda: core.advisories, "any, by the policy")
    unlisted = [name for name in core.advisories if name not in policy.advisories]
    return judge(not unlisted, unlisted or core.advisories, policy.advisories or "no advisory")


def _platform(policy: Policy, core: "CoreVerdict") -> Finding:
    if policy.platforms in ((), (ANY_PLATFORM,)):
        return DOES_NOT_APPLY
    if core.pck is None:
        return NOT_LOOKED_AT
    own = platform_names(core.pck)
    return judge(any(name in policy.platforms for name in own), own, policy.platforms)


def shortfall_sentences(core: "CoreVerdict") -> tuple[str, ...]:
    """Return what the platform lacks to be up to date, one sentence for each component."""
    return tuple(
        f"{'PCE SVN' if part.component == _PCESVN else f'SGX TCB component {part.component}'} is {part.own}, "
        f"needs {part.needed}"
        for part in core.shortfall
    )


def status_sentence(core: "CoreVerdict") -> str:
    """Return the status with what is lacking and the advisories, in one line."""
    parts = [*shortfall_sentences(core), *([", ".join(core.advisories)] if core.advisories else [])]
    return f"{core.tcb_status}: {'; '.join(parts)}" if parts else str(core.tcb_status)


def collateral_findings(policy: Policy | None, core: "CoreVerdict", at_unix: int) -> dict[str, Finding]:
    """Return the findings about the age of the collateral: collateral.*."""
    if policy is None:
        names = ("tcbinfo.stale", "qeidentity.stale", "pckcrl.stale", "evaluation.low")
        return {f"collateral.{name}": NOT_LOOKED_AT for name in names}
    rows = (
        ("collateral.tcbinfo.stale", "tcb_info", policy.collateral_max_age_s),
        ("collateral.qeidentity.stale", "qe_identity", policy.collateral_max_age_s),
        ("collateral.pckcrl.stale", "pck_crl", policy.crl_max_age_s),
    )
    found: dict[str, Finding] = {}
    for name, item, limit in rows:
        window = core.window(item)
        found[name] = NOT_LOOKED_AT if window is None else age_finding(window.start, at_unix, limit)
    lower = min(core.tcb_info_evaluation, core.qe_identity_evaluation)
    unread = core.window("tcb_info") is None or core.window("qe_identity") is None
    found["collateral.evaluation.low"] = (
        NOT_LOOKED_AT
        if unread
        else judge(lower >= policy.tcb_evaluation_min, lower, f"at least {policy.tcb_evaluation_min}")
    )
    return found


_DOCUMENTS = {"tcbinfo": "tcb_info", "qe": "qe_identity"}  # area of the checks -> dated item


def signed_issue(core: "CoreVerdict", area: str) -> int | None:
    """Return when a document was issued (unix seconds), if all but the time says that it is signed under the anchor.

    area: "tcbinfo" or "qe". The document's window and platform do not matter, nor whether its signers are valid already.
    """
    window = core.window(_DOCUMENTS[area])
    return window.start if window is not None and is_signed(core, area, in_time=False) else None


def is_signed(core: "CoreVerdict", area: str, *, in_time: bool = True) -> bool:
    """Return whether chain, signer and signature of a document hold; its window and platform do not matter here.

    in_time False: nor whether chain and signer are valid already.
    """
    parts = (f"{area}.chain.", f"{area}.signer.", f"{area}.document.")
    ignored = {f"{area}.document.not_yet_valid", f"{area}.document.expired"}
    return all(
        outcome == PASS
        for name, outcome in core.by_id.items()
        if name.startswith(parts) and name not in ignored and (in_time or not name.endswith(".not_yet_valid"))
    )


def age_finding(issued: int, at_unix: int, limit_s: int) -> Finding:
    """Return whether something issued at `issued` is at most limit_s old at `at_unix` (unix seconds)."""
    age = at_unix - issued
    return (
        PASS if age <= limit_s else FAIL,
        lambda: f"issued {when(issued)}, {span(age)} old",
        lambda: f"at most {span(limit_s)}",
    )


def when(unix_s: int) -> str:
    """Return a time as RFC 3339, or the number if no calendar has it."""
    try:
        return spell(datetime.fromtimestamp(unix_s, UTC))
    except (ValueError, OverflowError, OSError):
        return str(unix_s)


def span(seconds: int) -> str:
    """Return a duration for people."""
    if abs(seconds) >= 2 * 86_400:
        return f"{seconds // 86_400} days"
    return f"{seconds // 3600} h" if abs(seconds) >= 2 * 3600 else f"{seconds} s"
