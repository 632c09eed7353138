"""The content-addressed cache of build inputs: a file's name is the SHA-256 of its content.

Invariants: nothing is handed out whose bytes were not hashed in this very call; a file enters under its final name only
when its digest and size are right.
"""

import hashlib
import os
from collections.abc import Iterable

from glasscase.errors import FormatError, StorageError
from glasscase.fs.atomic import atomic_file, read_file

_CHUNK = 1 << 20


class InputCache:
    """Files of one directory by digest. directory: `inputs` below the user's cache directory; made on first use."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = os.fspath(directory)

    def path(self, sha256: bytes) -> str:
        """Return where a file with this digest lies or would lie."""
        return os.path.join(self.directory, sha256.hex())

    def holds(self, sha256: bytes, size: int) -> bool:
        """Return whether a file of this digest and size is there; its content is hashed."""
        try:
            self.read(sha256, size, "input")
        except (StorageError, FormatError):
            return False
        return True

    def read(self, sha256: bytes, size: int, what: str) -> bytes:
        """Return the content of an input after checking it.

        Raises StorageError("lock.input.missing") if it is not there, FormatError("lock.input.mismatch") if its content is
        not what its name says.
        """
        try:
            data = read_file(self.path(sha256), max_bytes=size, what=what)
        except StorageError as error:
            if error.reason != "fs.file.missing":
                raise
            raise StorageError(
                "lock.input.missing", f"{what} is not in the cache", hint="run: glasscase lock", path=self.path(sha256)
            ) from None
        except FormatError:
            data = b""
        if len(data) != size or hashlib.sha256(data).digest() != sha256:
            raise _mismatch(what, "the cached copy has other bytes; remove it and run: glasscase lock")
        return data

    def add(self, chunks: Iterable[bytes], *, sha256: bytes, size: int | None, limit: int, what: str) -> int:
        """Store an input that must have this digest (and size, if it is known); return its size in bytes.

        Raises FormatError("lock.input.mismatch") for other content and FormatError("lock.input.oversize") above `limit`.
        """
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        digest, total = hashlib.sha256(), 0
        with atomic_file(self.path(sha256), mode=0o600) as file:
            for chunk in chunks:
                total += len(chunk)
                if total > (limit if size is None else size):
                    raise FormatError("lock.input.oversize", f"{what} is longer than it may be", what=what)
                digest.update(chunk)
                file.write(chunk)
            if digest.digest() != sha256 or size not in (None, total):
                raise _mismatch(what, "the index or the file is not the one that was pinned")
        return total

    def add_file(self, path: str | os.PathLike[str], *, limit: int, what: str) -> tuple[bytes, int]:
        """Copy a file into the cache; return its digest and size."""
        data = read_file(path, max_bytes=limit, what=what)
        digest = hashlib.sha256(data).digest()
        self.add((data,), sha256=digest, size=len(data), limit=limit, what=what)
        return digest, len(data)


def _mismatch(what: str, hint: str) -> FormatError:
    return FormatError("lock.input.mismatch", f"{what} does not have the SHA-256 that is pinned", hint=hint, what=what)
