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
    Reason("core.library.unloadable", "storage", "the C core is not there or does not load on this system", "README.md, install",
           "libcrypto 3.0 or newer has to be installed, and the wheel built on this system or an older one: "
           "in glasscase's sources, pip wheel --no-deps -w dist . ; then pip install that file"),
    Reason("core.memory.exhausted", "storage", "memory could not be allocated", _RULE, "free memory"),
    Reason("core.state.wrong", "state", "the core was called in a way that it does not allow", _RULE,
           "this is a fault of the program: report it"),
    Reason("core.root.missing", "usage", "a trust anchor without root certificate or key", "native/include/glass_collateral.h",
           "name at least one root certificate; an empty trust store accepts nothing"),
    Reason("core.root.malformed", "format", "a root certificate is not a self-signed P-256 root of the SGX profile",
           "native/include/glass_collateral.h", "give the PEM file of the root"),
    Reason("core.root.mixed", "usage", "collaterals of one batch were prepared with different anchors",
           "native/include/glass_verify.h", "verify each anchor's quotes in a call of their own"),
    Reason("core.item.unknown", "usage", "an item that is not one of the seven of collateral",
           "native/include/glass_collateral.h", "use the names of the collateral file"),
    Reason("core.time.invalid", "usage", "a time of verification outside the years 1970 to 9999",
           "native/include/glass_verify.h", "give the time in unix seconds or RFC 3339"),
    Reason("core.threads.invalid", "usage", "a number of threads outside 1 to 64", "native/include/glass_verify.h",
           "give a number from 1 to 64"),
)  # fmt: skip
