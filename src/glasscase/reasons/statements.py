"""Ids of the area `statements`: DSSE envelopes and in-toto statements. The check statements.threshold.unmet: verify."""

from glasscase.reasons.model import Reason

_RULE = "docs/policy.md, statements"

REASONS: tuple[Reason, ...] = (
    Reason("statements.envelope.malformed", "format", "the file is not a DSSE envelope of the one form", _RULE,
           "get the statement again from who signed it"),
    Reason("statements.statement.malformed", "format", "the signed statement is not of a known type and form", _RULE,
           "get the statement again from who signed it, or use a newer glasscase"),
    Reason("statements.rebuild.incomplete", "format", "the rebuild differs or left something out, so it vouches for nothing",
           _RULE,
           "give --source, --opening or --package-key for an encrypted application, --compile for compiled Python; see reproduce"),
)  # fmt: skip
