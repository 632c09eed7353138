"""Ids of the area `sgx`."""

from glasscase.reasons.model import Reason

_SDM = "Intel SDM vol. 3D, SGX data structures"

REASONS: tuple[Reason, ...] = (
    Reason("sgx.report.malformed", "format", "the bytes are not an SGX report body with zero reserved bytes", _SDM,
           "collect the evidence or the report again"),
)  # fmt: skip
