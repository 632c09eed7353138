"""The one context of the C core, and the translation of its status codes.

Invariants: the context is made on first use and never changed; a status other than GLASS_OK always becomes an exception
here or in a module of this package that knows better what failed.
"""

import threading
from collections.abc import Callable
from functools import cache, wraps
from typing import Any

from glasscase._native import ffi, lib
from glasscase.errors import Error, FormatError, Interrupted, StorageError


def once(make: Callable[[], Any]) -> Callable[[], Any]:
    """Return a function that calls `make` once, whichever of several threads asks first, and gives all of them what it made.

    functools.cache alone lets each of them make one and drops all but the last, while things of the core still point to them.
    """
    kept, lock = cache(make), threading.RLock()

    @wraps(make)
    def get() -> Any:
        with lock:
            return kept()

    return get


@once
def context() -> Any:
    """Return the shared `glass_ctx *`, made on first use. Raises StorageError("core.libcrypto.failed") if libcrypto fails."""
    out = ffi.new("glass_ctx **")
    check(lib.glass_ctx_new(out), "the crypto core cannot start")
    return ffi.gc(out[0], lib.glass_ctx_free)


def status_name(status: int) -> str:
    """Return the core's name of a status code, for example "auth"."""
    return str(ffi.string(lib.glass_status_name(status)), "ascii")


def check(status: int, message: str) -> None:
    """Return if `status` is GLASS_OK, else raise the error that belongs to it with `message` as its beginning.

    Callers that know the fault more exactly (a chunk, an offset, a check id) translate it themselves.
    """
    if status == lib.GLASS_OK:
        return
    text = f"{message}: {status_name(status)}"
    if status in (lib.GLASS_ERR_LIMIT, lib.GLASS_ERR_FORMAT, lib.GLASS_ERR_UNSUPPORTED, lib.GLASS_ERR_TRUNCATED):
        raise FormatError("core.input.malformed", text)
    if status in (lib.GLASS_ERR_AUTH, lib.GLASS_ERR_CHANGED):
        raise FormatError("core.input.unauthentic", text)
    if status == lib.GLASS_ERR_IO:
        raise StorageError("core.io.failed", text)
    if status == lib.GLASS_ERR_CANCELLED:
        raise Interrupted("core.operation.cancelled", text)
    if status == lib.GLASS_ERR_LIBCRYPTO:
        raise StorageError("core.libcrypto.failed", text, hint="is libcrypto 3.0 or newer installed and complete?")
    if status == lib.GLASS_ERR_MEMORY:
        raise StorageError("core.memory.exhausted", text)
    raise Error("core.state.wrong", text)


def libcrypto_version() -> str:
    """Return the text of the loaded libcrypto, for example "OpenSSL 3.0.19 27 Jan 2026"."""
    return str(ffi.string(lib.glass_libcrypto_version()), "ascii")


def has_vaes() -> bool:
    """Return whether this processor has vector AES instructions."""
    return bool(lib.glass_cpu_has_vaes())


def constant_time_equal(a: bytes, b: bytes) -> bool:
    """Return whether two byte strings are equal; the time depends on their lengths only."""
    return len(a) == len(b) and bool(lib.glass_equal(a, b, len(a)))
