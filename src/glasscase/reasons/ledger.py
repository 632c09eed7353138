"""Ids of the area `ledger`: the append-only chain of releases."""

from glasscase.reasons.model import Reason

_RULE = "docs/policy.md, ledger"

REASONS: tuple[Reason, ...] = (
    Reason("ledger.line.malformed", "format", "a line of the ledger is not of the one form", _RULE,
           "restore measurements.jsonl from a copy; never edit it"),
    Reason("ledger.chain.broken", "format", "a line of the ledger does not continue the chain", _RULE,
           "restore measurements.jsonl from a copy; somebody changed, dropped or reordered lines"),
    Reason("ledger.head.differs", "format", "the ledger is shorter or another one than the head that is remembered", _RULE,
           "somebody cut off or replaced the ledger: ask its keeper; trust no release that is only in this copy"),
    Reason("ledger.measurement.unknown", "usage", "no release of this measurement stands in the ledger", _RULE,
           "glasscase ledger show lists the releases"),
)  # fmt: skip
