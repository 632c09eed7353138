"""Files that appear whole or not at all, and reads with a limit.

Invariants: a final name never shows half-written content; temporary files are 0600 and named `.part-*`; whatever fails
leaves the old content. Inside an enclave there is no O_TMPFILE, link or flock, so `.part` and rename only.
"""

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from typing import BinaryIO

from glasscase.errors import Error, FormatError, StorageError, UsageError

PART = ".part-"
_RAW_KEY = 32  # bytes of a package or model key
_PEM_MAX = 64 << 10  # bytes of a file with a key in PEM, which other text may stand before
_PEM = re.compile(rb"^-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----", re.MULTILINE)


def storage_error(error: OSError, path: str | os.PathLike[str]) -> StorageError:
    """Return the StorageError for an OSError at `path`; its reason is fs.file.missing, .denied, .full or .failed."""
    kinds = {
        errno.ENOENT: "fs.file.missing",
        errno.ENOTDIR: "fs.file.missing",
        errno.EACCES: "fs.file.denied",
        errno.EPERM: "fs.file.denied",
        errno.ENOSPC: "fs.file.full",
        errno.EDQUOT: "fs.file.full",
        errno.EFBIG: "fs.file.full",
    }
    hints = {errno.EISDIR: "name a file", errno.EROFS: "name a place that can be written to"}
    number = error.errno or 0
    reason, hint = kinds.get(number, "fs.file.failed"), hints.get(number, "")
    text = (error.strerror or "failed").lower()
    return StorageError(reason, f"{os.fspath(path)!r}: {text}", hint=hint, path=os.fspath(path), errno=error.errno)


def shell_word(path: str | os.PathLike[str]) -> str:
    """Return a path as one word of a shell that is no option, for commands that people copy from a hint."""
    import shlex  # here, because only errors need it

    name = os.fspath(path)
    return shlex.quote(f"./{name}" if name.startswith("-") and name != "-" else name)


def open_regular(path: str | os.PathLike[str], *, follow: bool = True) -> int:
    """Return a descriptor for reading a regular file, without waiting for anybody. follow: a last symbolic link.

    Raises StorageError if it cannot be opened, UsageError("fs.entry.refused") for a FIFO, device or socket.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
        kind = os.fstat(descriptor).st_mode
    except OSError as error:
        if error.errno == errno.ENXIO or (error.errno == errno.ELOOP and not follow):  # a socket; a link
            raise _irregular(path) from None
        raise storage_error(error, path) from None
    if stat.S_ISREG(kind):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(kind):
        raise storage_error(IsADirectoryError(errno.EISDIR, "is a directory"), path)
    raise _irregular(path)


def read_file(path: str | os.PathLike[str], *, max_bytes: int, what: str, streams: bool = False) -> bytes:
    """Return the content of a regular file of at most max_bytes bytes.

    streams: take a pipe or device too and wait for its end; for paths that are themselves an argument, like /dev/stdin.
    Raises StorageError if it cannot be read, FormatError("fs.file.oversize") if it is longer, UsageError("fs.entry.refused").
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC) if streams else open_regular(path)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            return read_stream(file, max_bytes=max_bytes, what=what)
    except OSError as error:
        raise storage_error(error, path) from None
    except ValueError:  # a NUL or a lone surrogate
        name = os.fspath(path)
        raise StorageError("fs.file.missing", f"{name!r} cannot be the name of a file", path=name) from None


def read_stream(file: BinaryIO | os.PathLike[str] | object, *, max_bytes: int, what: str) -> bytes:
    """Return all that is left in an open binary stream, at most max_bytes bytes; FormatError("fs.file.oversize") above."""
    chunks: list[bytes] = []
    left = max_bytes + 1
    while left:
        chunk = file.read(min(left, 1 << 20))  # type: ignore[union-attr]
        if not chunk:
            break
        chunks.append(chunk)
        left -= len(chunk)
    if not left:
        raise FormatError("fs.file.oversize", f"{what} is longer than {max_bytes} bytes", what=what)
    return b"".join(chunks)


def require_file_name(path: str | os.PathLike[str]) -> None:
    """Return if a path can be that of a file; raises StorageError("fs.file.failed") for `name/`, `.` and `..`."""
    if os.fspath(path).rpartition("/")[2] in ("", ".", ".."):
        raise storage_error(IsADirectoryError(errno.EISDIR, "is a directory"), path)


def check_output(path: str | os.PathLike[str]) -> None:
    """Return if a new file may take the name `path`; what is there must not be a device, FIFO, socket or a name in /dev.

    Raises UsageError("fs.output.special"): the rename at the end would put a file in the place of /dev/null.
    """
    if os.fspath(path) in ("", "-"):
        raise UsageError(
            "fs.output.special",
            f"{os.fspath(path)!r} is not the name of a file",
            hint="./- names a file that is called so",
        )
    if not os.access(path, os.F_OK):  # the usual case, without the cost of an exception
        return
    try:
        facts = os.stat(path)
    except OSError:
        return
    plain = stat.S_ISREG(facts.st_mode) or stat.S_ISDIR(facts.st_mode)
    folder = os.path.dirname(os.path.abspath(path)) + "/"
    if not plain or folder.startswith(("/dev/fd/", "/proc/")) or folder == "/dev/":
        raise UsageError(
            "fs.output.special",
            f"{os.fspath(path)!r} is not a regular file, so no file can take its place",
            hint="-o - writes to stdout where the verb can do that",
        )


def require_no_key(path: str | os.PathLike[str]) -> None:
    """Return unless a secret key has the name `path`: 32 bytes for their owner alone, or a private key in PEM.

    Raises UsageError("fs.output.key"): no output takes the place of one.
    """
    try:
        facts = os.lstat(path)
    except OSError:
        return
    if not stat.S_ISREG(facts.st_mode):
        return
    raw = facts.st_size == _RAW_KEY and not facts.st_mode & 0o077  # also one that we may not read
    if raw or _has_pem_key(path, facts.st_size):
        raise UsageError(
            "fs.output.key",
            f"{os.fspath(path)!r} is a secret key, which no output takes the place of",
            hint="choose another name for the output",
        )


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str], *, mode: int = 0o644, overwrite: bool = True) -> Iterator[BinaryIO]:
    """Give a binary file that takes the place of `path` when the block ends without an exception.

    mode: set on the open file, whatever the umask. overwrite=False raises UsageError("fs.output.exists") if the name is
    taken, also when it is taken while the block runs. A secret key is never overwritten. Raises StorageError if the disk
    fails; the old content stays then.
    """
    check_output(path)
    require_file_name(path)
    final = os.path.abspath(path)
    folder = os.path.dirname(final)
    part = os.path.join(folder, f"{PART}{os.urandom(8).hex()}")
    if not overwrite and os.path.lexists(final):
        raise name_taken(final)
    require_no_key(final)
    if os.path.isdir(final) and not os.path.islink(final):  # now, not when what the block does is done
        raise storage_error(IsADirectoryError(errno.EISDIR, "is a directory"), final)
    try:
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise unwritable(error, final) from None
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        if overwrite:
            require_no_key(final)  # one that was made meanwhile
            take_place(part, final)
        else:
            _rename_new(part, final)
            settle(final)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(part)
        if isinstance(error, OSError) and not isinstance(error, Error):  # a refused peer is both
            raise storage_error(error, final) from None
        raise


def write_file(path: str | os.PathLike[str], data: bytes, *, mode: int = 0o644, overwrite: bool = True) -> None:
    """Write `data` to `path`, whole or not at all; see atomic_file."""
    with atomic_file(path, mode=mode, overwrite=overwrite) as file:
        file.write(data)


def take_place(part: str, final: str) -> None:
    """Rename a complete file and make its name durable. If that fails, what had the name before has it again.

    Where no second link can be made (inside an enclave, on some file systems) the new file stays in the place of an old one.
    """
    taken, old = os.access(final, os.F_OK, follow_symlinks=False), f"{part}-old"
    kept = False
    if taken:
        with contextlib.suppress(OSError):
            os.link(final, old, follow_symlinks=False)
            kept = True
    try:
        os.rename(part, final)
        if not taken:
            settle(final)
            return
        try:
            sync_directory(os.path.dirname(final) or ".")
        except BaseException:
            if kept:
                os.rename(old, final)
            raise
    finally:
        if kept:
            with contextlib.suppress(OSError):
                os.unlink(old)


def settle(path: str | os.PathLike[str]) -> None:
    """Make the name of a new file durable. If that fails the file is removed: what a crash may undo is not left as done."""
    try:
        sync_directory(os.path.dirname(path) or ".")
    except BaseException:
        os.unlink(path)
        raise


def sync_directory(path: str | os.PathLike[str]) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file_system(path: str | os.PathLike[str]) -> None:
    """Make everything below the directory `path` durable: syncfs is one call where fsync of each file is thousands."""
    import ctypes  # here, because most commands need it not

    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), os.fspath(path))
    finally:
        os.close(descriptor)


def read_private(path: str | os.PathLike[str], *, max_bytes: int, what: str) -> bytes:
    """Return the content of a key file, or of a pipe that somebody has open for writing, as a shell's `<(...)` is.

    Raises UsageError("fs.key.exposed") if others than its owner may read the file, UsageError("fs.entry.refused") for a device
    or socket. A FIFO that nobody writes to is empty; nothing is waited for.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise (_irregular(path) if error.errno == errno.ENXIO else storage_error(error, path)) from None
    try:
        _check_private(path, os.fstat(descriptor).st_mode)
        os.set_blocking(descriptor, True)
        with os.fdopen(os.dup(descriptor), "rb", buffering=0) as file:
            return read_stream(file, max_bytes=max_bytes, what=what)
    except OSError as error:
        raise storage_error(error, path) from None
    finally:
        os.close(descriptor)


def unwritable(error: OSError, final: str) -> StorageError:
    """Return the StorageError for an output whose place cannot be made; a missing directory is named."""
    folder = os.path.dirname(final)
    if error.errno == errno.ENOENT and not os.access(folder, os.F_OK):
        return StorageError(
            "fs.file.missing", f"{final!r}: there is no directory {folder!r}", hint=f"mkdir -p {shell_word(folder)}", path=final,
            errno=error.errno,
        )  # fmt: skip
    return storage_error(error, final)


def name_taken(final: str) -> UsageError:
    """Return the UsageError("fs.output.exists") for an output whose name is taken."""
    return UsageError("fs.output.exists", f"{final!r} exists", hint="choose another name or remove it first")


def _has_pem_key(path: str | os.PathLike[str], size: int) -> bool:
    try:
        with os.fdopen(open_regular(path, follow=False), "rb") as file:
            first = file.read(_PEM_MAX)
    except (OSError, Error):
        return False
    return (_PEM.search if size <= _PEM_MAX else _PEM.match)(first) is not None


def _check_private(path: str | os.PathLike[str], mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "is a directory")
    if stat.S_ISREG(mode) and mode & 0o077:
        name = os.fspath(path)
        raise UsageError(
            "fs.key.exposed",
            f"{name!r} has mode {mode & 0o777:04o}, a key must be readable by its owner only",
            hint="that is the public key: name the private one"
            if name.endswith(".pub")
            else f"chmod 600 {shell_word(path)}",
        )
    if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):
        raise _irregular(path)


def _irregular(path: str | os.PathLike[str]) -> UsageError:
    text = f"{os.fspath(path)!r} is not a regular file"
    return UsageError("fs.entry.refused", text, hint="a FIFO, device, socket or link stands where a file is read")


def _rename_new(part: str, final: str) -> None:
    try:
        os.link(part, final, follow_symlinks=False)
    except FileExistsError:
        raise name_taken(final) from None
    os.unlink(part)
