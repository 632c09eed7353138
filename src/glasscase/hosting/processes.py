"""A process of this machine: who it is, whether it lives, and how it is ended.

Invariants: a process is named by pid, start time and boot, so that no recycled pid is taken for it and no signal reaches it.
Source: docs/operating.md, "Directories".
"""

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

POLL_S = 0.025


@dataclass(frozen=True)
class ProcessId:
    """One process of one boot. start: field 22 of /proc/PID/stat, clock ticks after boot."""

    pid: int
    start: int
    boot_id: str


def boot_id() -> str:
    """Return the id of this boot of the kernel."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def identify(pid: int) -> ProcessId | None:
    """Return the identity of a process that lives now; None for one that is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = text[text.rindex(b")") + 2 :].split()
    if fields[0] in (b"Z", b"X"):
        return None
    return ProcessId(pid, int(fields[19]), boot_id())


def is_alive(process: ProcessId) -> bool:
    """Return whether exactly this process still runs."""
    return process.pid > 0 and identify(process.pid) == process


def resident_bytes(process: ProcessId) -> int | None:
    """Return the resident memory of a process as the host sees it, None if it is gone."""
    try:
        pages = int(Path(f"/proc/{process.pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def send(process: ProcessId, number: signal.Signals) -> None:
    """Send a signal to exactly this process, if it still runs."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(process.pid)
        try:
            if is_alive(process):
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)


def wait_gone(process: ProcessId, deadline_s: float) -> bool:
    """Return whether a process is gone before the deadline; a child is taken from the kernel's table."""
    deadline = time.monotonic() + deadline_s
    while is_alive(process):
        if time.monotonic() >= deadline:
            return False
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process.pid, os.WNOHANG)
        time.sleep(POLL_S)
    return True
