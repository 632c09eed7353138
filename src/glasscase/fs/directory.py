"""Directories that appear whole or not at all.

Invariants: a final name never shows a half-made directory; a temporary one is 0700, named `.part-*` and locked as long as its
maker lives, so that leftovers of killed runs are known and removed; whatever fails leaves the old directory.
"""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator

from glasscase.fs.atomic import PART, check_output, name_taken, storage_error, sync_directory, unwritable


@contextlib.contextmanager
def atomic_directory(path: str | os.PathLike[str], *, overwrite: bool = False, mode: int = 0o755) -> Iterator[str]:
    """Give the path of a new directory (0700) that takes the name `path` when the block ends without an exception.

    mode: set at the end; the default is for bundles, which are public.
    overwrite=True replaces a directory that is there, after the new one is complete. Stale leftovers of killed runs for
    the same name are removed first. Raises UsageError("fs.output.exists") if the name is taken.
    """
    final = os.path.abspath(path)
    folder, name = os.path.split(final)
    check_output(path)
    if not overwrite and os.path.lexists(final):
        raise name_taken(final)
    prefix = f"{PART}{name}-"
    try:
        for entry in os.listdir(folder):
            if entry.startswith(prefix):
                _remove_stale(os.path.join(folder, entry))
        part = os.path.join(folder, prefix + os.urandom(8).hex())
        handle = _make_locked(part, folder)
    except OSError as error:
        raise unwritable(error, final) from None
    try:
        yield part
        os.chmod(part, mode)
        sync_directory(part)
        if overwrite and os.path.isdir(final):
            _exchange_durably(part, final)
            _remove_tree(part)  # the old one
        else:
            _rename_durably(part, final)
    except BaseException as error:
        _remove_tree(part)
        if isinstance(error, OSError):
            raise storage_error(error, final) from None
        raise
    finally:
        os.close(handle)


def _make_locked(part: str, folder: str) -> int:
    """Make the directory `part` and return a descriptor that holds its lock, so that nobody takes it for a leftover.

    It has another name until the lock is held.
    """
    start = os.path.join(folder, f"{PART}.new-{os.urandom(8).hex()}")
    os.mkdir(start, 0o700)
    handle = os.open(start, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(start, part)
    except BaseException:
        os.close(handle)
        _remove_tree(start)
        raise
    return handle


def _rename_durably(part: str, final: str) -> None:
    """Give a directory its final name, or its old one again if the name cannot be made durable."""
    try:
        os.rename(part, final)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):  # somebody else has taken the name meanwhile
            raise name_taken(final) from None
        raise
    try:
        sync_directory(os.path.dirname(final))
    except BaseException:
        os.rename(final, part)
        raise


def _exchange_durably(part: str, final: str) -> None:
    """Let two directories swap names, at once where the file system can, so that a crash leaves one of them under `final`.

    If the names cannot be made durable they swap back.
    """
    _exchange(part, final)
    try:
        sync_directory(os.path.dirname(final))
    except BaseException:
        _exchange(part, final)
        raise


def _exchange(one: str, other: str) -> None:
    import ctypes  # here, because most commands need it not

    here, both = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if ctypes.CDLL(None, use_errno=True).renameat2(here, os.fsencode(one), here, os.fsencode(other), both) == 0:
        return
    number = ctypes.get_errno()
    if number not in (errno.EINVAL, errno.ENOSYS):  # NFS, for example, cannot
        raise OSError(number, os.strerror(number), other)
    between = f"{one}-between"
    os.rename(other, between)
    try:
        os.rename(one, other)
    except BaseException:
        os.rename(between, other)
        raise
    os.rename(between, one)


def _remove_stale(path: str) -> None:
    """Remove a leftover directory unless a running process holds its lock."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return
    finally:
        os.close(handle)
    _remove_tree(path)


def _remove_tree(path: str) -> None:
    import shutil  # here, because it costs a tenth of the start of `glasscase verify`

    if os.path.islink(path):  # to a directory, whose name was replaced
        with contextlib.suppress(OSError):
            os.unlink(path)
    shutil.rmtree(path, ignore_errors=True)
