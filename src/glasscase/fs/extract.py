"""Unpacking a canonical tar into a new directory, and nothing but a canonical tar.

Invariants: every header is compared with the one that the writer gives for the same path, kind, mode and size, so there are only
files and directories, in order, each once, with parents first; a file is created below its parent's descriptor without
following anything; limits are checked before a byte is written.
Source: docs/bundle-format.md, "Tar".
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from glasscase.errors import FormatError
from glasscase.fs.atomic import storage_error
from glasscase.fs.tar import BLOCK, DIRECTORY, FILE, PAX, TarEntry, header, padding
from glasscase.fs.walk import FILES_MAX, check_distinct, check_path

_CHUNK = 1 << 20
_PAX_MAX = 8 * BLOCK  # bytes of the records of one entry


class Readable(Protocol):
    """Anything with read(size) -> bytes, empty at the end."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes."""


@dataclass(frozen=True)
class ExtractLimits:
    """What an archive may hold at most. file_bytes: of one file; total_bytes: of all files together."""

    entries: int = FILES_MAX
    file_bytes: int = 1 << 45
    total_bytes: int = 1 << 46


def extract_tar(
    stream: Readable, target: str | os.PathLike[str], *, top: str | None = "", limits: ExtractLimits = ExtractLimits()
) -> str:  # fmt: skip
    """Unpack a canonical tar into the directory `target`, which exists and is empty; return the name of its top directory.

    top: "" = the archive has no top directory; None = it has one, of any name, which is left out of the paths on disk.
    The stream must end with the archive. Raises FormatError("fs.archive.malformed"), ("fs.archive.oversize"),
    ("fs.path.refused"), ("fs.path.clash"); what was unpacked until then is the caller's to remove.
    """
    reader = _Reader(stream)
    root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    seen: set[str] = set()
    folders: set[str] = set()
    last, total, name = b"", 0, ""
    try:
        while (entry := _next_entry(reader)) is not None:
            below = entry.path.removeprefix(f"{name}/") if name else entry.path
            check_path(below)  # as long as a path on disk may be, whatever the top directory adds
            if top is None and not seen:
                name = _take_top(entry)
            _check_order(entry, last, folders, seen, top=name)
            last = entry.path.encode("utf-8")
            total += entry.size
            if len(seen) >= limits.entries or entry.size > limits.file_bytes or total > limits.total_bytes:
                raise FormatError("fs.archive.oversize", f"{entry.path!r} makes the archive larger than is allowed")
            seen.add(entry.path)
            if entry.directory:
                folders.add(entry.path)
            if entry.path != name:
                _write(root, below, entry, reader)
        reader.finish()
        check_distinct(seen)
    except OSError as error:
        raise storage_error(error, target) from None
    finally:
        os.close(root)
    if not seen:
        raise _malformed("it holds nothing")
    return name


class _Reader:
    """Blocks of a stream, exactly as many as are asked for."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream

    def exactly(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size:
            part = self._stream.read(min(size, _CHUNK))
            if not part:
                raise _malformed("it ends too early")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def copy(self, size: int, write: Callable[[bytes], object]) -> None:
        while size:
            part = self._stream.read(min(size, _CHUNK))
            if not part:
                raise _malformed("it ends too early")
            write(part)
            size -= len(part)

    def finish(self) -> None:
        if self.exactly(BLOCK) != bytes(BLOCK) or self._stream.read(1):
            raise _malformed("something stands behind its end")


def _next_entry(reader: _Reader) -> TarEntry | None:
    """Return the next entry, or None at the first block of zeros."""
    block = reader.exactly(BLOCK)
    if block == bytes(BLOCK):
        return None
    whole, records = block, {}
    if block[156:157] == PAX:
        size = _octal(block[124:136])
        if not 0 < size <= _PAX_MAX:
            raise _malformed("a pax record is too long")
        data = reader.exactly(size + len(padding(size)))
        records = _pax(data[:size])
        block = reader.exactly(BLOCK)
        whole += data + block
    kind = block[156:157]
    if kind not in (FILE, DIRECTORY):
        raise _malformed("it holds something else than files and directories")
    entry = _parse(block, records, directory=kind == DIRECTORY)
    if header(entry) != whole:
        raise _malformed(f"the header of {entry.path!r} is not in the one form")
    return entry


def _parse(block: bytes, records: dict[bytes, bytes], *, directory: bool) -> TarEntry:
    name, prefix = (field.rstrip(b"\0") for field in (block[0:100], block[345:500]))
    raw = records.get(b"path", prefix + b"/" + name if prefix else name)
    if directory != raw.endswith(b"/"):
        raise _malformed("a name ends with a slash, or a directory's does not")
    try:
        path = raw.decode("utf-8").removesuffix("/")
    except UnicodeDecodeError:
        raise FormatError("fs.path.refused", f"the path {raw[:100]!r} is not UTF-8") from None
    mode = _octal(block[100:108])
    if mode not in ((0o755,) if directory else (0o644, 0o755)):
        raise _malformed(f"{path!r} has mode {mode:o}")
    size_text = records.get(b"size")
    size = _octal(block[124:136]) if size_text is None else _decimal(size_text)
    if directory and size:
        raise _malformed(f"the directory {path!r} has a size")
    return TarEntry(path, directory=directory, mode=mode, size=size)


def _pax(data: bytes) -> dict[bytes, bytes]:
    """Return the records; only path and size may stand there, each once."""
    found: dict[bytes, bytes] = {}
    while data:
        length_text, space, _ = data.partition(b" ")
        length = _decimal(length_text)
        record, data = data[:length], data[length:]
        key, equals, value = record[len(length_text) + 1 : -1].partition(b"=")
        if not space or not equals or record[-1:] != b"\n" or len(record) != length or key in found:
            raise _malformed("a pax record is broken")
        if key not in (b"path", b"size"):
            raise _malformed("a pax record holds something else than path and size")
        found[key] = value
    return found


def _check_order(entry: TarEntry, last: bytes, folders: set[str], seen: set[str], *, top: str) -> None:
    path = entry.path.encode("utf-8")
    if path <= last and seen:
        raise _malformed(f"{entry.path!r} is out of order or stands twice")
    parent = entry.path.rpartition("/")[0]
    if parent and parent not in folders:
        raise _malformed(f"{entry.path!r} comes before its directory")
    if top and seen and not entry.path.startswith(top + "/"):
        raise _malformed(f"{entry.path!r} is not below {top!r}")


def _take_top(entry: TarEntry) -> str:
    if not entry.directory or "/" in entry.path:
        raise _malformed("it does not begin with its one directory")
    return entry.path


def _write(root: int, path: str, entry: TarEntry, reader: _Reader) -> None:
    """Create one file or directory; every directory on the way is opened from its parent, links are not followed."""
    *folders, name = path.split("/")
    current = os.dup(root)
    try:
        for folder in folders:
            below = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=current)
            os.close(current)
            current = below
        if entry.directory:
            os.mkdir(name, 0o755, dir_fd=current)
            os.chmod(name, 0o755, dir_fd=current)  # noqa: S103 - a bundle is public
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=current)
    finally:
        os.close(current)
    with os.fdopen(descriptor, "wb") as file:
        reader.copy(entry.size, file.write)
        if reader.exactly(len(padding(entry.size))).strip(b"\0"):
            raise _malformed(f"the padding of {entry.path!r} is not zero")
        file.flush()
        os.fchmod(file.fileno(), entry.mode)
        os.utime(file.fileno(), (0, 0))


def _octal(field: bytes) -> int:
    digits = field.rstrip(b"\0")
    if len(digits) != len(field) - 1 or not digits or digits.strip(b"01234567"):
        raise _malformed("a number is not octal")
    return int(digits, 8)


def _decimal(text: bytes) -> int:
    if not text or len(text) > 15 or text.strip(b"0123456789") or (text[:1] == b"0" and text != b"0"):
        raise _malformed("a number is not decimal")
    return int(text)


def _malformed(why: str) -> FormatError:
    return FormatError("fs.archive.malformed", f"the archive is not a canonical tar: {why}", what="tar")
