"""Ids of the area `ledger`: the append-only chain of releases."""

from glasscase.reasons.model import Reason

_RULE = "docs/policy.md, ledger"

REASONS: tuple[Reason, ...] = (
    Reason("ledger.line.malformed", "format", "a line of the ledger is not of the one form", _RULE,
           "restore measurements.jsonl from a copy; never edit it"),
    Reason("ledger.chain.broken", "format", "a line of the ledger does not continue the chain", _RULE,
           "restore measurements.jsonl from a copy; somebody changed, dropped or reordered lines"),
)  # fmt: skip
