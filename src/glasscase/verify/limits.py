"""What a verdict does not say, which relaxations were in force, and until when it holds.

Invariants: every relaxation of the policy, the anchor and the bundle is named; nothing here can make a verdict better.
Source: docs/threat-model.md; docs/policy.md.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from glasscase.verify.policy import ANY_ADVISORY, ANY_PLATFORM

if TYPE_CHECKING:
    from glasscase.core.dcap import CoreVerdict
    from glasscase.verify.check import Basis

# name -> the sentence that explains it; the first ones hold for every verdict
NEVER_CHECKED = {
    "physical.interposition": "an interposer on the memory bus of the machine",
    "side.channels": "microarchitectural side channels",
    "availability": "that the enclave keeps running and answers",
    "state.rollback": "rollback and forking of persisted state",
    "time.inside": "the time that the enclave believes",
    "machine.location": "where the machine stands and who touches it",
    "code.intent": "that the measured code is benign",
}
SOMETIMES_NOT_CHECKED = {
    "identity.any": "which enclave it is: the policy accepts any",
    "platform.any": "which machine it is: the policy names none",
    "platform.advisories": "which security advisories apply: the policy accepts any",
    "bundle.provenance": "whose bundle it is: the policy names neither bundle_id nor mrsigner",
    "bundle.signature": "the signer: the bundle carries no app.sig",
    "claims.binding": "which keys the enclave holds: this is a quote without claims",
    "freshness.evidence": "when the evidence was made",
    "statements": "what independent auditors say",
}


def not_checked(basis: "Basis") -> tuple[str, ...]:
    """Return the names of what this verdict does not say."""
    policy, expected = basis.policy, basis.expected
    found = list(NEVER_CHECKED)
    if basis.claims is None:
        found.append("claims.binding")
    if policy is None:
        return tuple(found)
    conditions = {
        "identity.any": policy.insecure_any,
        "platform.any": policy.platforms in ((), (ANY_PLATFORM,)),
        "platform.advisories": policy.advisories == (ANY_ADVISORY,),
        "bundle.provenance": policy.bundle and policy.bundle_id is None and policy.mrsigner is None,
        "bundle.signature": expected is not None and expected.bundle_id is not None and expected.mrsigner is None,
        "freshness.evidence": policy.evidence_max_age_s is None and not basis.live,
        "statements": policy.statements_require == 0,
    }
    return (*found, *(name for name, holds in conditions.items() if holds))


def insecure(basis: "Basis") -> tuple[str, ...]:
    """Return every relaxation in force, sorted: of anchor, policy and bundle; the evidence's own list is not used."""
    found = set(basis.expected.insecure) if basis.expected is not None else set()
    if basis.simulated:
        found.add("anchor")
    if basis.policy is not None:
        if basis.policy.insecure_any:
            found.add("any")
        if basis.policy.insecure_debug:
            found.add("debug")
    return tuple(sorted(found))


def end_of_validity(basis: "Basis", core: "CoreVerdict") -> tuple[datetime | None, str]:
    """Return the earliest end among windows and policy ages, and what ends then; None if one of them is not known."""
    policy = basis.policy
    if policy is None or not core.earliest_expiration:
        return None, ""
    ends = {"a certificate, CRL or document of the collateral": core.earliest_expiration}
    rows = (
        ("policy: collateral_max_age of the TCB info", "tcb_info", policy.collateral_max_age_s),
        ("policy: collateral_max_age of the QE identity", "qe_identity", policy.collateral_max_age_s),
        ("policy: crl_max_age", "pck_crl", policy.crl_max_age_s),
    )
    for what, item, limit in rows:
        window = core.window(item)
        if window is None:
            return None, ""
        ends[what] = window.start + limit
    if basis.session_end is not None and basis.live:
        ends["the session of the enclave"] = basis.session_end
    if basis.evidence_end is not None:
        ends["policy: evidence_max_age"] = basis.evidence_end
    first = min(ends, key=lambda name: ends[name])
    return _datetime(ends[first]), first


def _datetime(unix_s: int) -> datetime:
    try:
        return datetime.fromtimestamp(unix_s, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.max.replace(tzinfo=UTC, microsecond=0)
