"""What went wrong in the stream code of the core, as exceptions with ids.

Invariants: every fault of native/include/glass_stream.h has exactly one id. Source: docs/stream-format.md.
"""

import os
from typing import Any

from glasscase._native import ffi, lib
from glasscase.core import handles
from glasscase.errors import Error, FormatError, Interrupted, StorageError


def check(status: int, stat: Any, what: str) -> None:
    """Return if `status` is GLASS_OK, else raise the error that the report describes."""
    if status != lib.GLASS_OK:
        raise error(status, stat, what)


def error(status: int, stat: Any, what: str) -> Error:
    """Return the exception for a status and its report. what: the name of the input, for the message."""
    fault = int(stat.fault)
    if fault in _FORMAT:
        reason, text, hint = _FORMAT[fault]
        return FormatError(reason, f"{what} {text.format(chunk=int(stat.chunk))}", hint=hint, what=what)
    if fault in _STORAGE:
        return _storage(fault, int(stat.os_errno), what)
    if fault == lib.GLASS_STREAM_CANCEL:
        return Interrupted("stream.operation.cancelled", f"{what}: stopped before the end")
    # what failed before a file was looked at has a status and no fault
    if fault == lib.GLASS_STREAM_NOMEM or status == lib.GLASS_ERR_MEMORY:
        return StorageError("core.memory.exhausted", f"{what}: memory could not be allocated")
    if fault == lib.GLASS_STREAM_CRYPTO or status == lib.GLASS_ERR_LIBCRYPTO:
        return StorageError("core.libcrypto.failed", f"{what}: libcrypto failed")
    return Error("core.state.wrong", f"{what}: {handles.status_name(status)}")


def _storage(fault: int, number: int, what: str) -> StorageError:
    reason = "stream.disk.full" if fault == lib.GLASS_STREAM_NOSPACE else "stream.io.failed"
    where = what if fault == lib.GLASS_STREAM_IO else "the output"
    return StorageError(reason, f"{where}: {os.strerror(number).lower()}", errno=number)


def stat_of(fault: int) -> Any:
    """Return a report of the core with this fault, for refusals that are found out in Python."""
    stat = ffi.new("glass_stream_stat *")
    stat.fault = fault
    return stat


_STORAGE = (lib.GLASS_STREAM_IO, lib.GLASS_STREAM_NOSPACE, lib.GLASS_STREAM_OUTPUT)
_AGAIN = "the file was changed or damaged: get it again"
_FORMAT: dict[int, tuple[str, str, str]] = {
    lib.GLASS_STREAM_CHANGED: ("stream.content.changed", "changed while it was read", "run it again when nobody writes"),
    lib.GLASS_STREAM_MAGIC: ("stream.header.magic", "is not an encrypted file of glasscase", ""),
    lib.GLASS_STREAM_NEWER: ("stream.version.newer", "has a newer format", "use a newer version of glasscase"),
    lib.GLASS_STREAM_SUITE: ("stream.suite.unknown", "uses an algorithm that this version does not know", ""),
    lib.GLASS_STREAM_FIELD: ("stream.header.malformed", "has a header with a field that is not allowed", _AGAIN),
    lib.GLASS_STREAM_KEY_ID: (
        "stream.key.wrong", "was made with another key", "glasscase inspect shows the id of the key in FILE, and of a key",
    ),
    lib.GLASS_STREAM_COMMIT: (
        "stream.header.unauthentic", "has a changed header, or another context belongs to it",
        "give the same --context as for encrypting; if it is the same, " + _AGAIN,
    ),
    lib.GLASS_STREAM_TAG_FAILED: ("stream.chunk.unauthentic", "is not authentic at chunk {chunk}", _AGAIN),
    lib.GLASS_STREAM_TRUNCATED: ("stream.length.truncated", "ends too early", _AGAIN),
    lib.GLASS_STREAM_SIZE: ("stream.size.mismatch", "is not as long as was stated", "run it again when nobody writes"),
    lib.GLASS_STREAM_TRAILING: ("stream.length.trailing", "goes on after its last chunk", _AGAIN),
    lib.GLASS_STREAM_HEADER_DIFFERS: ("stream.header.differs", "is not the one that was expected", _AGAIN),
    lib.GLASS_STREAM_LEAF: ("stream.leaf.mismatch", "has other content than its digest says, chunk {chunk}", _AGAIN),
}  # fmt: skip
