"""A file that is written through its descriptor and appears whole or not at all.

Invariants: until the block ends without an exception the file has mode 0600 and no name, so that nothing is left of it even
after kill -9; or, where the file system has no such files and for files that are not durable, a `.part-` name, which is removed
whatever fails. With durable=False nothing but open, write and rename is needed, so it works inside an enclave.
"""

import contextlib
import os
from types import TracebackType

from glasscase.fs.atomic import PART, check_output, require_file_name, settle, storage_error, take_place

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


class PartFile:
    """The descriptor of a new file that takes the place of `path` at the end of the block.

    mode: of the file then. durable: wait until the disk has the content and the name.
    Raises StorageError if the disk fails; what had the name before stays.
    """

    def __init__(self, path: str | os.PathLike[str], *, mode: int = 0o600, durable: bool = True) -> None:
        self._path = os.fspath(path)
        require_file_name(self._path)
        folder, slash, _ = self._path.rpartition("/")
        self._folder = folder + slash
        self._part = f"{self._folder}{PART}{os.urandom(8).hex()}"
        self._mode = mode
        self._durable = durable
        self._descriptor = -1
        self._nameless = False

    def __enter__(self) -> int:
        check_output(self._path)
        if self._durable and self._open_nameless():
            return self._descriptor
        try:
            self._descriptor = os.open(self._part, _NEW, 0o600)
        except OSError as error:
            raise storage_error(error, self._path) from None
        return self._descriptor

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        placed = False
        try:
            try:
                if error is None:
                    self._finish()
                    placed = self._nameless and self._give_name()
            finally:
                os.close(self._descriptor)
            if error is None:
                if placed:
                    settle(self._path)
                elif self._durable:
                    take_place(self._part, self._path)
                else:
                    os.rename(self._part, self._path)
                return
        except OSError as failure:
            self._remove()
            raise storage_error(failure, self._path) from None
        except BaseException:
            self._remove()
            raise
        self._remove()
        if isinstance(error, OSError):
            raise storage_error(error, self._path) from None

    def _open_nameless(self) -> bool:
        """Open a file that has no name yet; return whether the system can do that, and can name it later."""
        if not os.access("/proc/self/fd", os.F_OK):
            return False
        try:
            self._descriptor = os.open(self._folder or ".", os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        self._nameless = True
        return True

    def _give_name(self) -> bool:
        """Give the file its final name, or its `.part-` name if the final one is taken; return whether it was the final one."""
        own = f"/proc/self/fd/{self._descriptor}"  # with src_dir_fd Python has this link followed to the file
        for name in (self._path, self._part):
            try:
                os.link(own, name, src_dir_fd=self._descriptor)
            except FileExistsError:
                continue
            except OSError:  # a process that is confined may write here and not link
                break
            return name == self._path
        self._copy()
        return False

    def _copy(self) -> None:
        """Write the content again, to a file with the `.part-` name."""
        copy = os.open(self._part, _NEW, 0o600)
        try:
            size, done = os.fstat(self._descriptor).st_size, 0
            while done < size:
                done += os.sendfile(copy, self._descriptor, done, size - done)
            os.fchmod(copy, self._mode)
            os.fsync(copy)
        finally:
            os.close(copy)

    def _finish(self) -> None:
        if self._mode != 0o600:
            os.fchmod(self._descriptor, self._mode)
        if self._durable:
            os.fsync(self._descriptor)

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._part)


def write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of `data` to a descriptor. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
