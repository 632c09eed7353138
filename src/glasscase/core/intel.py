"""Intel's quote verification library through the adapter of the C core; for the worker process only.

Invariants: the library is foreign code that may crash or hang, so no other process loads it.
Source: native/include/glass_intel.h.
"""

from collections.abc import Mapping
from typing import Any

from glasscase._native import ffi, lib
from glasscase.core.dcap import ITEMS
from glasscase.core.handles import status_name

NUMBERS = (
    "returned", "result", "expiration_status", "supplemental", "major_version", "minor_version", "earliest_issue",
    "latest_issue", "earliest_expiration", "tcb_date", "pck_crl_number", "root_ca_crl_number", "evaluation", "pcesvn",
    "pceid", "sgx_type",
)  # fmt: skip
BYTES = ("root_key_id", "ppid", "cpusvn", "platform_instance_id")


def load(path: str) -> Any | None:
    """Return a handle of the library at `path`, None if it cannot be loaded or is another library."""
    out = ffi.new("glass_intel **")
    if lib.glass_intel_open(out, path.encode("utf-8", "surrogateescape")) != lib.GLASS_OK:
        return None
    return ffi.gc(out[0], lib.glass_intel_close)


def ask(library: Any, quote: bytes, items: Mapping[str, str], *, at: int, supplemental: bool) -> dict[str, Any]:
    """Return what the library answers, by the field names of glass_intel_answer; {"status": name} if the adapter refused.

    items: the seven objects by the names of ITEMS, CRLs as hexadecimal DER.
    """
    texts = [ffi.new("char[]", items[name].encode("utf-8", "surrogatepass")) for name in ITEMS]
    sizes = [len(text) - 1 for text in texts]
    answer = ffi.new("glass_intel_answer *")
    status = lib.glass_intel_verify(
        library, answer, quote, len(quote), ffi.new("const char *[]", texts), sizes, at, int(supplemental)
    )
    if status != lib.GLASS_OK:
        return {"status": status_name(status)}
    found: dict[str, Any] = {name: int(getattr(answer, name)) for name in NUMBERS}
    found |= {name: bytes(getattr(answer, name)).hex() for name in BYTES}
    found["advisories"] = str(ffi.string(answer.advisories), "latin-1")
    found["status"] = "ok"
    return found
