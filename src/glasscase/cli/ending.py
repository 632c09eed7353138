"""The end of a flow: a process beside it that stops its instances and removes its directory, however the flow has ended.

It waits for the end of its standard input, which the flow holds: a flow that was killed, or that somebody interrupts while it
cleans up, leaves nothing either. It is a process of its own session, which no Ctrl-C of the terminal reaches.

Invariants: no signal but SIGKILL ends it before it has done; each wait has a deadline.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from glasscase.fs.child import module_command

STOP_S = 10  # seconds from SIGTERM to SIGKILL of an instance
BUSY_S = 30  # seconds for a command of the flow that is still at work on an instance
_PR_SET_PDEATHSIG = 1


@contextlib.contextmanager
def ended(base: Path) -> Iterator[None]:
    """Stop all instances of the state directory base/state, and remove `base`, when the block or this process ends."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    try:
        process = subprocess.Popen(
            module_command("glasscase.cli.ending", base), stdin=read_end, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True, cwd="/",
        )  # fmt: skip
        os.close(read_end)
        try:
            yield
        finally:
            os.close(write_end)
            write_end = -1
            process.wait()
    finally:
        if write_end >= 0:
            os.close(write_end)


def with_parent() -> Callable[[], None]:
    """Return what a new child calls first, so that the kernel sends it SIGTERM when this process has ended."""
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it has ended meanwhile
            os._exit(1)

    return ask


def main(base: Path) -> None:
    """Wait until the flow has ended, then leave nothing of it."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 1):
        pass
    _stop_all(base / "state")
    deadline = time.monotonic() + BUSY_S
    while base.exists() and time.monotonic() < deadline:  # a command that ends may still write
        shutil.rmtree(base, ignore_errors=True)
        time.sleep(0.05)


def _stop_all(state_directory: Path) -> None:
    from glasscase.errors import Error
    from glasscase.hosting import state, stopping

    for place in state.places(state_directory):
        with contextlib.suppress(Error, OSError), state.locked(place, wait_s=BUSY_S):
            stopping.stop(place, place.record(), deadline_s=STOP_S)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
