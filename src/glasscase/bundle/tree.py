"""Writing the files of a bundle: modes, times and names normalised as each file is written.

Invariants: every file is 0644 or 0755, every directory 0755, every time 0; each path is written once; the digests are of
the bytes that were written.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterable

from glasscase.bundle.index import EXECUTABLE, PLAIN, FileEntry
from glasscase.errors import FormatError
from glasscase.fs.atomic import sync_file_system
from glasscase.fs.walk import FILES_MAX, check_distinct, check_path


class TreeWriter:
    """Files below one new directory. The caller owns the directory and removes it if anything fails."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._entries: dict[str, FileEntry] = {}
        self._folders: set[str] = set()

    def add(self, path: str, data: bytes, *, executable: bool = False) -> FileEntry:
        """Write one file and return its entry. Raises FormatError("bundle.file.twice") for a path that is taken."""
        return self.add_stream(path, (data,), executable=executable)

    def add_stream(self, path: str, chunks: Iterable[bytes], *, executable: bool = False) -> FileEntry:
        """Write one file from pieces and return its entry."""
        check_path(path)
        if path in self._entries or path in self._folders or len(self._entries) >= FILES_MAX:
            raise FormatError("bundle.file.twice", f"two inputs give the file {path!r}")
        full = self._place(path)
        digest, size = hashlib.sha256(), 0
        descriptor = os.open(full, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                _write(descriptor, chunk)
            os.fchmod(descriptor, 0o755 if executable else 0o644)
            os.utime(descriptor, (0, 0))
        finally:
            os.close(descriptor)
        return self._record(path, size, digest.digest(), executable=executable)

    def adopt(self, path: str, *, size: int, sha256: bytes) -> FileEntry:
        """Take a plain file that another module has written at its place into the tree, normalised."""
        full = os.path.join(self.root, path)
        os.chmod(full, 0o644)
        os.utime(full, (0, 0))
        folder = path.rpartition("/")[0]
        while folder:
            self._folders.add(folder)
            folder = folder.rpartition("/")[0]
        return self._record(path, size, sha256, executable=False)

    def include(self, entry: FileEntry) -> None:
        """List a file of another tree without writing it, for a comparison."""
        self._entries[entry.path] = entry

    def entry(self, path: str) -> FileEntry | None:
        """Return the entry of a file that was written, or None."""
        return self._entries.get(path)

    def read(self, path: str) -> bytes:
        """Return the content of a small file that was written."""
        with open(os.path.join(self.root, path), "rb") as file:
            return file.read()

    def entries(self) -> tuple[FileEntry, ...]:
        """Return every file, sorted by the bytes of the paths; raises FormatError("fs.path.clash") for names that fold."""
        check_distinct(self._entries)
        return tuple(sorted(self._entries.values(), key=lambda entry: entry.path.encode("utf-8")))

    def finish(self) -> None:
        """Make everything durable, and set the modes and times of the directories."""
        for folder in sorted(self._folders, reverse=True):
            full = os.path.join(self.root, folder)
            os.chmod(full, 0o755)  # noqa: S103 - a bundle is public
            os.utime(full, (0, 0))
        os.utime(self.root, (0, 0))
        sync_file_system(self.root)

    def _place(self, path: str) -> str:
        folder = path.rpartition("/")[0]
        missing: list[str] = []
        while folder and folder not in self._folders:
            if folder in self._entries:
                raise FormatError("bundle.file.twice", f"{folder!r} is a file and a directory")
            missing.append(folder)
            folder = folder.rpartition("/")[0]
        for name in reversed(missing):
            with contextlib.suppress(FileExistsError):
                os.mkdir(os.path.join(self.root, name), 0o755)
            self._folders.add(name)
        return os.path.join(self.root, path)

    def _record(self, path: str, size: int, sha256: bytes, *, executable: bool) -> FileEntry:
        entry = FileEntry(path, size, EXECUTABLE if executable else PLAIN, sha256)
        self._entries[path] = entry
        return entry


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def settle(root: str) -> None:
    """Set modes and times of the directories below `root`, which nobody else writes to, and make everything durable."""
    for folder, _, _ in os.walk(root, topdown=False):
        os.chmod(folder, 0o755)  # noqa: S103 - a bundle is public
        os.utime(folder, (0, 0))
    sync_file_system(root)
