"""Ids of the area `lock`: glasscase.lock and the inputs it pins."""

from glasscase.reasons.model import Reason

_FORMAT = "docs/bundle-format.md"

REASONS: tuple[Reason, ...] = (
    Reason("lock.file.malformed", "format", "glasscase.lock breaks a rule of its format", _FORMAT, "run: glasscase lock"),
    Reason("lock.file.noncanonical", "format", "glasscase.lock is not in the one spelling that is hashed", _FORMAT,
           "do not edit it; run: glasscase lock"),
)  # fmt: skip
