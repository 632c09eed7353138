"""The process that writes an instance's log: what comes out of the pipe goes to a file, which is bounded by rotation.

It lies beside the enclave as long as anybody holds the other end of the pipe. It is run as a file, so it imports nothing of ours.

Invariants: the enclave never waits for a disk that is full or broken, its words are dropped then; LIMIT bytes and one piece more
at most in one file, and one file before it; a file is ended at the end of a line where there is one.
Source: docs/operating.md, "Logs".
"""

import os
import signal
import sys

LIMIT = 8 << 20  # bytes of one file
PIECE = 64 << 10  # bytes


class Log:
    """The file at `path`, and `previous` where it goes when it is full."""

    def __init__(self, path: str, previous: str, limit: int) -> None:
        self._path, self._previous, self._limit = path, previous, limit
        self._file = self._open(0)  # the launcher has made it
        self._size = os.fstat(self._file).st_size

    def put(self, piece: bytes) -> None:
        """Write a piece, in as many files as it takes; what the disk refuses is dropped."""
        while self._size + len(piece) > self._limit:
            end = piece.rfind(b"\n", 0, max(0, self._limit - self._size)) + 1 or piece.find(b"\n") + 1
            if not end and self._size < 2 * self._limit:
                break  # a line without an end yet
            self._write(piece[:end])
            piece = piece[end:]
            self._rotate()
        self._write(piece)

    def _write(self, piece: bytes) -> None:
        while piece:
            try:
                written = os.write(self._file, piece)
            except OSError:
                return
            self._size += written
            piece = piece[written:]

    def _rotate(self) -> None:
        """Start a new file, unless the name is another writer's by now."""
        try:
            if self._is_at(self._path):
                os.replace(self._path, self._previous)
            # also after a try that could move the file but not make the next one
            mine = self._is_at(self._previous) and not os.path.lexists(self._path)
            new = self._open(os.O_CREAT | os.O_EXCL) if mine else os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            self._size = 0  # tried again after as much again
            return
        os.close(self._file)
        self._file, self._size = new, 0

    def _is_at(self, path: str) -> bool:
        try:
            return os.path.samestat(os.fstat(self._file), os.stat(path, follow_symlinks=False))
        except FileNotFoundError:
            return False

    def _open(self, flags: int) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)


def main(path: str, previous: str, limit: int) -> None:
    """Write what standard input says until it ends."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with the pipe, after the last words
    log = Log(path, previous, limit)
    os.close(1)  # the log too, from the first moment on: who looks for the keeper knows it by that (logs.writers)
    while piece := os.read(0, PIECE):
        log.put(piece)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
