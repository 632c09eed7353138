"""Ids of the area `measure`: recomputing MRENCLAVE and comparing two measurements."""

from glasscase.reasons.model import Reason

REASONS: tuple[Reason, ...] = (
    Reason("measure.bundle.mismatch", "format", "the files of the bundle give another MRENCLAVE than its index names",
           "docs/bundle-format.md, Measurement", "build the bundle again; do not sign it"),
)  # fmt: skip
