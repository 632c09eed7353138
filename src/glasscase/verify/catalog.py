"""The fixed order and the class of every check of a verdict, from the one table of ids.

Invariants: an id that is not in the table has no class and raises KeyError; nothing is classed by default.
"""

from glasscase.reasons import dcap, verify

_ANCHORS = {
    "policy": "policy", "engine": "root", "enclave": "root", "platform": "policy", "collateral": "policy",
    "binding": "root", "freshness": "policy", "instance": "policy", "statements": "policy",
}  # fmt: skip
_RECOMPUTED = ("policy.bundle.damaged", "policy.mrenclave.mismatch", "policy.bundle_id.mismatch", "enclave.signer.mismatch",
               "enclave.product.mismatch", "enclave.xfrm.mismatch", "enclave.miscselect.mismatch")  # fmt: skip
_REASONS = {reason.id: reason for reason in (*dcap.REASONS, *verify.REASONS) if reason.kind in ("proof", "basis")}

# Our own checks in the order of a verdict, each with what its outcome rests on.
OWN: dict[str, str] = {
    reason.id: "bytes" if reason.id in _RECOMPUTED else _ANCHORS[reason.id.partition(".")[0]]
    for reason in verify.REASONS
    if reason.kind in ("proof", "basis")
}


def kind_of(name: str) -> str:
    """Return "proof" or "basis"."""
    return _REASONS[name].kind


def source_of(name: str) -> str:
    """Return where the rule comes from."""
    return _REASONS[name].source


def remedy_of(name: str) -> str:
    """Return what a person does next."""
    return _REASONS[name].remedy


def message_of(name: str) -> str:
    """Return what the failed check means."""
    return _REASONS[name].message
