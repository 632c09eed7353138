"""A walk over a directory that never follows a link, reads each file once, and says what it cannot take.

Invariants: files come in the byte order of their paths; what is yielded was a regular file with one name before and after it was
read, unchanged in size, time and inode; nothing is skipped silently.
Source: docs/bundle-format.md, "Normalisation".
"""

import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from glasscase.errors import FormatError, UsageError
from glasscase.fs.atomic import storage_error

PATH_MAX = 1024  # bytes
PART_MAX = 255  # bytes
DEPTH_MAX = 64
FILES_MAX = 1_000_000
_READ = 1 << 20
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True)
class Entry:
    """One file or directory below the root of a walk. path: relative, with `/`. size: bytes, 0 for a directory."""

    path: str
    directory: bool
    executable: bool
    size: int


def check_path(path: str) -> None:
    """Return if `path` is a PATH of the formats: relative, NFC, no empty, `.` or `..` part, no control characters.

    Raises FormatError("fs.path.refused") otherwise.
    """
    if not path or not unicodedata.is_normalized("NFC", path):
        raise _refused(path, "is empty or not in NFC")
    if _CONTROL.search(path):
        raise _refused(path, "holds control characters or is not UTF-8")
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise _refused(path, "is absolute or has an empty, . or .. part")
    size = len(path.encode("utf-8"))
    longest = size if size <= PART_MAX else max(len(part.encode("utf-8")) for part in parts)
    if size > PATH_MAX or longest > PART_MAX or len(parts) > DEPTH_MAX:
        raise _refused(path, f"is longer than {PATH_MAX} bytes, deeper than {DEPTH_MAX} or has a part above {PART_MAX}")


def check_distinct(paths: Iterable[str]) -> None:
    """Return if no two paths, or their parents, are the same name to a file system that folds case.

    Raises FormatError("fs.path.clash") otherwise.
    """
    seen: dict[str, str] = {}
    for path in paths:
        end = len(path)
        while end > 0:
            name = path[:end]
            folded = name.lower() if name.isascii() else _fold(name)
            other = seen.setdefault(folded, name)
            if other != name:
                raise FormatError("fs.path.clash", f"{name!r} and {other!r} are one name where case is folded")
            if other is not name:
                break
            end = path.rfind("/", 0, end)


def walk(
    root: str | os.PathLike[str], *, skip: Callable[[str, bool], bool] = lambda _path, _directory: False
) -> tuple[Entry, ...]:
    """Return every entry below the directory `root`, sorted by the bytes of the paths, parents first.

    skip(path, directory) -> True leaves an entry and what is below it out; it must be a rule that the caller documents.
    Raises StorageError if something cannot be read, UsageError("fs.entry.refused") for links, devices, FIFOs, sockets, setuid,
    setgid and sticky files and files with several names, FormatError("fs.path.refused") or ("fs.path.clash") for names.
    """
    found: list[Entry] = []
    try:
        top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise storage_error(error, root) from None
    try:
        _walk(top, "", os.fspath(root), skip, found)
    finally:
        os.close(top)
    found.sort(key=lambda entry: entry.path.encode("utf-8"))
    check_distinct(entry.path for entry in found)
    return tuple(found)


def read_unchanged(root: str | os.PathLike[str], entry: Entry) -> Iterator[bytes]:
    """Yield the content of a file that a walk has found, at most 1 MiB at a time.

    Raises UsageError("fs.entry.changed") if the file is no longer the one that was found or changes while it is read.
    """
    full = os.path.join(root, entry.path)
    try:
        descriptor = open_beneath(root, entry.path)
    except OSError as error:
        raise storage_error(error, full) from None
    try:
        before = os.fstat(descriptor)
        _check_file(before, full)
        if before.st_size != entry.size:
            raise _changed(full)
        total = 0
        while chunk := os.read(descriptor, _READ):
            total += len(chunk)
            yield chunk
        after = os.fstat(descriptor)
        if total != before.st_size or _identity(before) != _identity(after):
            raise _changed(full)
    except OSError as error:
        raise storage_error(error, full) from None
    finally:
        os.close(descriptor)


def open_beneath(root: str | os.PathLike[str], path: str, *, flags: int = os.O_RDONLY) -> int:
    """Return a descriptor of `path` below `root`, opened part by part without following a link. Raises OSError."""
    *folders, name = path.split("/")
    current = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            below = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=current)
            os.close(current)
            current = below
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=current)
    finally:
        os.close(current)


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKD", name).casefold())


def _walk(descriptor: int, prefix: str, where: str, skip: Callable[[str, bool], bool], found: list[Entry]) -> None:
    try:
        names = sorted(os.listdir(descriptor))
    except OSError as error:
        raise storage_error(error, where) from None
    for name in names:
        path, full = prefix + name, os.path.join(where, name)
        try:
            facts = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        except OSError as error:
            raise storage_error(error, full) from None
        directory = stat.S_ISDIR(facts.st_mode)
        if skip(path, directory):
            continue
        check_path(path)
        if len(found) >= FILES_MAX:
            raise UsageError("fs.entry.refused", f"{where!r} holds more than {FILES_MAX} entries")
        if directory:
            found.append(Entry(path, directory=True, executable=False, size=0))
            try:
                below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
            except OSError as error:
                raise storage_error(error, full) from None
            try:
                _walk(below, path + "/", full, skip, found)
            finally:
                os.close(below)
        else:
            _check_file(facts, full)
            executable = bool(facts.st_mode & 0o111)
            found.append(Entry(path, directory=False, executable=executable, size=facts.st_size))


def _check_file(facts: os.stat_result, full: str) -> None:
    kinds = {
        stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFDIR: "a directory",
    }  # fmt: skip
    kind = kinds.get(stat.S_IFMT(facts.st_mode))
    if kind is None and facts.st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX):
        kind = "a setuid, setgid or sticky file"
    if kind is None and facts.st_nlink > 1:
        kind = "a file with several names (hard links)"
    if kind is not None:
        raise UsageError(
            "fs.entry.refused", f"{full!r} is {kind}, only plain files can be taken", hint="replace it by a copy"
        )


def _identity(facts: os.stat_result) -> tuple[int, ...]:
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_mode


def _refused(path: str, why: str) -> FormatError:
    return FormatError("fs.path.refused", f"the path {path!r} {why}")


def _changed(full: str) -> UsageError:
    return UsageError(
        "fs.entry.changed", f"{full!r} changed while it was read", hint="run again when nothing writes there"
    )
