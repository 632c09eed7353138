"""Ids of the area `core`: the C core where no more exact id fits."""

from glasscase.reasons.model import Reason

_RULE = "native/include/glass_status.h"

REASONS: tuple[Reason, ...] = (
    Reason("core.input.malformed", "format", "the core refused the form of its input", _RULE, "check the input file"),
    Reason("core.input.unauthentic", "format", "the core could not authenticate its input", _RULE,
           "check the key and the input file"),
    Reason("core.io.failed", "storage", "a descriptor could not be read or written", _RULE, "check the disk"),
    Reason("core.operation.cancelled", "interrupted", "the operation was cancelled", _RULE, "run it again"),
    Reason("core.libcrypto.failed", "storage", "libcrypto failed where it must not", _RULE,
           "check that libcrypto 3.0 or newer is installed and complete"),
    Reason("core.memory.exhausted", "storage", "memory could not be allocated", _RULE, "free memory"),
    Reason("core.state.wrong", "state", "the core was called in a way that it does not allow", _RULE,
           "this is a fault of the program: report it"),
)  # fmt: skip
