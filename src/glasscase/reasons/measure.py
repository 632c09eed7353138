"""Ids of the area `measure`: recomputing MRENCLAVE and comparing two measurements."""

from glasscase.reasons.model import Reason

_RULE = "docs/bundle-format.md, Measurement"

REASONS: tuple[Reason, ...] = (
    Reason("measure.document.malformed", "format", "the JSON is not what measure --json prints", _RULE,
           "check that the right file was given"),
    Reason("measure.subjects.incomparable", "usage", "a manifest that is not measured has nothing in common with an MRENCLAVE",
           _RULE, "give --libpal PAL too, or a bundle"),
    Reason("measure.bundle.wrong", "format", "a bundle is a directory, and this is something else", _RULE,
           "give the directory, or --manifest M.sgx --libpal PAL"),
    Reason("measure.libpal.missing", "usage", "a manifest is measured together with its libpal.so", _RULE,
           "give libpal= too, or the directory of a bundle"),
)  # fmt: skip
