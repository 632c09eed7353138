"""The log of an instance: what the enclave wrote to stdout and stderr, which is never secret but never trusted either.

Invariants: only whole lines are given while the process runs; nothing waits longer than the process and the writer of its log live.
Source: docs/operating.md, "Logs".
"""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from glasscase.fs.atomic import storage_error
from glasscase.hosting import logwriter, processes
from glasscase.hosting.state import Place, is_written

POLL_S = 0.2
TAIL_MAX = 8 * 1024  # bytes looked at for the last lines
ROOM = 1 << 20  # bytes below which a log may have lost its words
LINE_MAX = 64 * 1024  # bytes of one line; a longer one is given in parts
WRITTEN_S = 5.0  # how long the writer may take after the end of the enclave
DELETED = " (deleted)"  # the kernel's word behind the name of a file that has it no more
LOST = "(lines are missing here: the log was rotated faster than it was read)"


def start_writer(place: Place) -> int:
    """Return the descriptor that an enclave writes to; a process beside it keeps the last part in the log.

    The log of the start before is `log.old.txt`. The writer's lock, inherited with the open file, tells when it is gone.
    """
    with contextlib.suppress(FileNotFoundError):
        os.replace(place.log, place.log.with_name("log.old.txt"))
    previous(place).unlink(missing_ok=True)
    log = os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fresh = place.path / "log.lock.new"  # nobody may hold the new lock before it has its name
    fresh.unlink(missing_ok=True)
    lock = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.replace(fresh, place.path / "log.lock")
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", logwriter.__file__, place.log, previous(place), str(logwriter.LIMIT)],
            stdin=read_end, stdout=log, stderr=subprocess.DEVNULL, start_new_session=True,
            pass_fds=(lock,), umask=0o077, cwd="/", env={},
        )  # fmt: skip
    except BaseException:
        os.close(write_end)
        raise
    finally:
        os.close(read_end)
        os.close(lock)
        os.close(log)
    child.returncode = 0  # it ends by itself when the enclave is gone; its destructor would warn
    return write_end


def previous(place: Place) -> Path:
    """Return the file with the part of the log before the present one."""
    return place.log.with_name("log.1.txt")


def wait_written(place: Place, deadline_s: float = WRITTEN_S) -> bool:
    """Wait until the last words are in the log, after the enclave is gone; return whether they are."""
    deadline = time.monotonic() + deadline_s
    while not (written := is_written(place)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return written


def writers(place: Place) -> tuple[processes.ProcessId, ...]:
    """Return the processes that still write to the log of an instance: those that hold the pipe to the one that keeps it.

    The keeper is who holds the lock and has the log open, by what the kernel says; no text that a process has chosen for itself
    counts. Both may be gone from the directory, as when somebody has removed it.
    """
    folder = os.path.realpath(place.path)
    lock, parts = os.path.join(folder, "log.lock"), {os.path.join(folder, f.name) for f in (place.log, previous(place))}
    pids = {int(name) for name in os.listdir("/proc") if name.isdigit()} - {os.getpid()}
    # who it is, before what it has open: a pid may be somebody else's afterwards
    living = {pid: process for pid in pids if (process := processes.identify(pid)) is not None}
    opened = {pid: _opened(pid) for pid in living}
    keepers = {
        pid
        for pid, files in opened.items()
        if parts & {path.removesuffix(DELETED) for path in files.values()}
        and any(_holds(pid, fd, lock) for fd, path in files.items() if path.removesuffix(DELETED) == lock)
    }
    pipes = {path for pid in keepers if (path := opened[pid].get("0", "")).startswith("pipe:")}
    return tuple(living[pid] for pid, files in opened.items() if pid not in keepers and pipes & set(files.values()))


def lines(place: Place, *, follow: bool = False) -> Iterator[str]:
    """Give the lines of the log, oldest first; with follow, wait for more until the process is gone.

    Raises UsageError("hosting.name.unknown") for a name without an instance.
    """
    record = place.record()
    parts = [part for part in (previous(place), place.log) if part.exists()]
    if not parts:
        return
    rest = b""
    file = _open(parts[0])
    try:
        while True:
            over = not processes.is_alive(record.process) and is_written(
                place
            )  # asked before reading: no last words lost
            follower = _follower(place, file.fileno())
            while chunk := file.read(LINE_MAX):
                *whole, rest = (rest + chunk).split(b"\n")
                yield from (_text(line) for line in whole)
                if len(rest) > LINE_MAX:
                    yield _text(rest)
                    rest = b""
            if follower is not None:
                part, lost = follower
                file.close()
                file = _open(part)
                if lost:
                    yield LOST
            elif not follow or over:
                break
            else:
                time.sleep(POLL_S)
    finally:
        file.close()
    if rest:
        yield _text(rest)


def last_lines(place: Place, count: int = 3) -> str:
    """Return the last lines of the log as one text to append to an error message; of an empty one whether it had room, or nothing."""
    try:
        with open(place.log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_MAX))
            found = [line.strip() for line in file.read(TAIL_MAX).split(b"\n") if line.strip()]
        free = shutil.disk_usage(place.path).free
    except OSError:
        return ""
    if found:
        return "; its last words: " + " | ".join(_text(line)[:300] for line in found[-count:])
    return "; less than 1 MiB is free on the disk of its log" if free < ROOM else ""


def _open(path: Path) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise storage_error(error, path) from None


def _follower(place: Place, descriptor: int) -> tuple[Path, bool] | None:
    """Return the part of the log after an open one, and whether parts between are gone; None for the present part."""
    mine = os.fstat(descriptor)
    try:
        if os.path.samestat(mine, os.stat(place.log)):
            return None
        if os.path.samestat(mine, os.stat(previous(place))):
            return place.log, False
        return previous(place), True
    except FileNotFoundError:
        return None


def _opened(pid: int) -> dict[str, str]:
    """Return what the descriptors of a process are open on; nothing of one that is gone or another account's."""
    found = {}
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found[name] = os.readlink(f"/proc/{pid}/fd/{name}")
    return found


def _holds(pid: int, descriptor: str, lock: str) -> bool:
    """Return whether a descriptor is this very file, or one that had its name, and has locked it for writing.

    Who only looks locks it for reading.
    """
    try:
        found = os.stat(f"/proc/{pid}/fd/{descriptor}")
        if found.st_nlink:
            same = os.path.samestat(found, os.stat(lock))
        else:  # its name means the same in our own file systems only
            same = os.path.samestat(os.stat(f"/proc/{pid}/ns/mnt"), os.stat("/proc/self/ns/mnt"))
        return same and b" WRITE " in Path(f"/proc/{pid}/fdinfo/{descriptor}").read_bytes()
    except OSError:
        return False


def _text(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace")
