"""The canonical tar of a bundle: one spelling for one tree.

Invariants: a header is a function of path, kind, mode and size alone; times, owners and names are zero or empty; a pax record
stands only where ustar cannot say it.
Source: POSIX pax interchange format; docs/bundle-format.md, "Tar".
"""

import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from glasscase.fs.atomic import open_regular

BLOCK = 512  # bytes
NAME_MAX = 100  # bytes of the name field
PREFIX_MAX = 155  # bytes of the prefix field
SIZE_LIMIT = 8 << 30  # bytes; from here on the size stands in a pax record
END = bytes(2 * BLOCK)
FILE = b"0"
DIRECTORY = b"5"
PAX = b"x"
_PAX_NAME = b"pax"


@dataclass(frozen=True)
class TarEntry:
    """One file or directory. path: relative, without a slash at the end. mode: 0o644 or 0o755. size: bytes."""

    path: str
    directory: bool
    mode: int
    size: int


def header(entry: TarEntry) -> bytes:
    """Return the one header of an entry: a block, or three blocks where a pax record is needed."""
    name = entry.path.encode("utf-8") + (b"/" if entry.directory else b"")
    kind = DIRECTORY if entry.directory else FILE
    split = _split(name)
    records = b""
    if split is None:
        records += _record(b"path", name)
    if entry.size >= SIZE_LIMIT:
        records += _record(b"size", b"%d" % entry.size)
    prefix, short = split or (b"", name[:NAME_MAX])
    own = _block(short, prefix, kind, entry.mode, entry.size if entry.size < SIZE_LIMIT else 0)
    if not records:
        return own
    return _block(_PAX_NAME, b"", PAX, 0o644, len(records)) + records + bytes(-len(records) % BLOCK) + own


def padding(size: int) -> bytes:
    """Return the zeros after a content of `size` bytes."""
    return bytes(-size % BLOCK)


def tree_entries(files: Iterable[tuple[str, int, int]], *, top: str = "") -> list[TarEntry]:
    """Return files (path, mode, size) and their parent directories in the order of the tar: by the bytes of the paths.

    top: name of the one directory at the top, or empty for none.
    """
    base = f"{top}/" if top else ""
    found: dict[str, TarEntry] = {}
    for path, mode, size in files:
        full = base + path
        found[full] = TarEntry(full, directory=False, mode=mode, size=size)
        folder = full.rpartition("/")[0]
        while folder and folder not in found:
            found[folder] = TarEntry(folder, directory=True, mode=0o755, size=0)
            folder = folder.rpartition("/")[0]
    return sorted(found.values(), key=lambda entry: entry.path.encode("utf-8"))


def pack(entries: Iterable[TarEntry], content: "os.PathLike[str] | str", *, top: str = "") -> Iterator[bytes]:
    """Yield the bytes of the tar. content: the directory that the paths, without `top`, are below.

    Raises OSError or StorageError if a file cannot be read, UsageError if it is none, ValueError if one has another size
    than its entry.
    """
    strip = len(top) + 1 if top else 0
    for entry in entries:
        yield header(entry)
        if entry.directory:
            continue
        left = entry.size
        descriptor = open_regular(os.path.join(content, entry.path[strip:]), follow=False)
        with io.FileIO(descriptor, "rb") as file:
            while chunk := file.read(1 << 20):
                left -= len(chunk)
                yield chunk
        if left:
            raise ValueError(entry.path)
        yield padding(entry.size)
    yield END


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """Return (prefix, name) for the two fields of ustar: the longest name part that fits, or None."""
    if len(name) <= NAME_MAX:
        return b"", name
    at = name.find(b"/", len(name) - NAME_MAX - 1)
    if at <= 0 or at > PREFIX_MAX or at == len(name) - 1:
        return None
    return name[:at], name[at + 1 :]


def _block(name: bytes, prefix: bytes, kind: bytes, mode: int, size: int) -> bytes:
    fields = [
        name.ljust(100, b"\0"), b"%07o\0" % mode, b"0000000\0", b"0000000\0", b"%011o\0" % size, b"00000000000\0",
        b" " * 8, kind, bytes(100), b"ustar\0", b"00", bytes(32), bytes(32), b"0000000\0", b"0000000\0",
        prefix.ljust(155, b"\0"), bytes(12),
    ]  # fmt: skip
    block = bytearray(b"".join(fields))
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def _record(key: bytes, value: bytes) -> bytes:
    """Return a pax record: its own length in decimal, then " key=value" and a newline."""
    rest = b" " + key + b"=" + value + b"\n"
    size = len(rest) + 1
    while len(b"%d" % size) + len(rest) != size:
        size += 1
    return b"%d" % size + rest
