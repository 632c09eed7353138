"""Hashing in the C core: the records of MRENCLAVE, and many files at once.

Invariants: both release the interpreter lock while they hash; a file that changes its size meanwhile is an error.
"""

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from glasscase._native import ffi, lib
from glasscase.core import handles
from glasscase.errors import StorageError, UsageError

PAGE = 4096
_BATCH = 256  # files open at once


class MeasurementHash:
    """The running hash of one enclave: ECREATE when it is made, then runs of pages, then `final` once."""

    def __init__(self, *, ssa_pages: int, size: int) -> None:
        out = ffi.new("glass_measure **")
        handles.check(lib.glass_measure_new(handles.context(), out, ssa_pages, size), "the measurement cannot start")
        self._handle: Any = ffi.gc(out[0], lib.glass_measure_free)

    def add(self, offset: int, size: int, flags: int) -> None:
        """Add pages whose content is not measured. offset, size: bytes, whole pages."""
        self._check(lib.glass_measure_add(self._handle, offset, size // PAGE, flags))

    def extend(self, offset: int, flags: int, content: bytes) -> None:
        """Add and measure the pages of `content`, whole pages."""
        self._check(lib.glass_measure_extend(self._handle, offset, flags, content, len(content)))

    def extend_zero(self, offset: int, size: int, flags: int) -> None:
        """Add and measure pages of zeros. size: bytes, whole pages."""
        self._check(lib.glass_measure_extend_zero(self._handle, offset, size // PAGE, flags))

    def final(self) -> bytes:
        """Return the 32 bytes of MRENCLAVE; nothing can be added afterwards."""
        out = ffi.new("uint8_t[32]")
        self._check(lib.glass_measure_final(self._handle, out))
        return bytes(out)

    @staticmethod
    def _check(status: int) -> None:
        handles.check(status, "the enclave cannot be measured")


@dataclass(frozen=True)
class FileDigest:
    """What a file holds. size in bytes; sha256: 32 bytes."""

    size: int
    sha256: bytes


def hash_files(paths: Sequence[str | os.PathLike[str]], *, threads: int = 0) -> list[bytes]:
    """Return the SHA-256 of each regular file (symbolic links are followed), in the order given.

    threads: 0 means as many as there are processors to run on.
    Raises StorageError("fs.file.*") if one cannot be read, UsageError("fs.entry.refused") for one that is no file, and
    UsageError("fs.entry.changed") if one got longer or shorter meanwhile.
    """
    return [digest.sha256 for digest in digest_files(paths, threads=threads)]


def digest_files(
    paths: Sequence[str | os.PathLike[str]], *, threads: int = 0, follow_symlinks: bool = True
) -> list[FileDigest]:
    """Return size and SHA-256 of each regular file, as hash_files does; a symbolic link is refused if not followed."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow_symlinks else os.O_NOFOLLOW)
    digests: list[FileDigest] = []
    for start in range(0, len(paths), _BATCH):
        digests += _digest_batch([os.fspath(path) for path in paths[start : start + _BATCH]], flags, threads)
    return digests


def digest_descriptors(descriptors: Sequence[int], *, names: Sequence[str], threads: int = 0) -> list[FileDigest]:
    """Return size and SHA-256 of each open regular file from its beginning on; names: for messages."""
    sizes = []
    for descriptor, name in zip(descriptors, names, strict=True):
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise UsageError("fs.entry.refused", f"{name!r} is not a regular file")
        sizes.append(facts.st_size)
    out = ffi.new("glass_file_digest[]", max(len(descriptors), 1))
    workers = min(threads or len(os.sched_getaffinity(0)), 64)
    status = lib.glass_hash_files(handles.context(), out, list(descriptors), len(descriptors), workers)
    handles.check(status, "files cannot be hashed")
    return [_digest(out[index], name, size) for index, (name, size) in enumerate(zip(names, sizes, strict=True))]


def _digest_batch(paths: list[str], flags: int, threads: int) -> list[FileDigest]:
    descriptors: list[int] = []
    try:
        for path in paths:
            try:
                descriptors.append(os.open(path, flags))
            except OSError as error:
                raise _storage_error(error.errno or 0, path) from None
        return digest_descriptors(descriptors, names=paths, threads=threads)
    finally:
        _close(descriptors)


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _digest(result: Any, name: str, size: int) -> FileDigest:
    if result.status == lib.GLASS_ERR_IO:
        raise _storage_error(result.error, name)
    handles.check(result.status, f"{name!r} cannot be hashed")
    if result.size != size:
        raise UsageError("fs.entry.changed", f"{name!r} changed while it was read: {size} bytes, then {result.size}")
    return FileDigest(size=result.size, sha256=bytes(result.sha256))


def _storage_error(number: int, path: str) -> StorageError:
    from glasscase.fs.atomic import storage_error

    return storage_error(OSError(number, os.strerror(number)), path)
