"""What a verdict does not say, which relaxations were in force, and until when it holds.

Invariants: every relaxation of the policy, the anchor and the bundle is named; nothing here can make a verdict better.
Source: docs/threat-model.md; docs/policy.md.
"""

from typing import TYPE_CHECKING

from glasscase.verify.expected import Expected
from glasscase.verify.policy import ANY_ADVISORY, ANY_PLATFORM, Policy

if TYPE_CHECKING:
    from glasscase.core.dcap import CoreVerdict

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


def not_checked(policy: Policy | None, expected: Expected | None, *, claims: bool, live: bool) -> tuple[str, ...]:
    """Return the names of what this verdict does not say. claims: there were claims to judge; live: inside a handshake."""
    found = list(NEVER_CHECKED)
    if not claims:
        found.append("claims.binding")
    if policy is None:
        return tuple(found)
    conditions = {
        "identity.any": policy.insecure_any,
        "platform.any": policy.platforms in ((), (ANY_PLATFORM,)),
        "platform.advisories": policy.advisories == (ANY_ADVISORY,),
        "bundle.provenance": policy.bundle and policy.bundle_id is None and policy.mrsigner is None,
        "bundle.signature": expected is not None and expected.bundle_id is not None and expected.mrsigner is None,
        "freshness.evidence": policy.evidence_max_age_s is None and not live,
        "statements": policy.statements_require == 0,
    }
    return (*found, *(name for name, holds in conditions.items() if holds))


def insecure(policy: Policy | None, expected: Expected | None, *, simulated: bool) -> tuple[str, ...]:
    """Return every relaxation in force, sorted: of anchor, policy and bundle; the evidence's own list is not used."""
    found = set(expected.insecure) if expected is not None else set()
    if simulated:
        found.add("anchor")
    if policy is not None:
        if policy.insecure_any:
            found.add("any")
        if policy.insecure_debug:
            found.add("debug")
    return tuple(sorted(found))


def end_of_validity(
    policy: Policy | None, core: "CoreVerdict", *, session_end: int | None, evidence_end: int | None
) -> tuple[int | None, str]:
    """Return the earliest end (unix seconds) among windows and policy ages, and what ends then; None if one is not known."""
    if policy is None or not core.earliest_expiration:
        return None, ""
    ends = {"a certificate, CRL or document of the collateral": core.earliest_expiration}
    rows = (
        ("policy: collateral_max_age of the TCB info", "tcb_info", policy.collateral_max_age_s),
        ("policy: collateral_max_age of the QE identity", "qe_identity", policy.collateral_max_age_s),
        ("policy: crl_max_age", "pck_crl", policy.crl_max_age_s),
    )
    for what, item, limit in rows:
        window = core.windows.get(item)
        if window is None:
            return None, ""
        ends[what] = window.start + limit
    if session_end is not None:
        ends["the session of the enclave"] = session_end
    if evidence_end is not None:
        ends["policy: evidence_max_age"] = evidence_end
    limit_name = min(ends, key=lambda name: ends[name])
    return ends[limit_name], limit_name
