"""Stop an enclave and see it gone, with everything that was started beside it.

Invariants: stop returns when the process is gone; what still writes to the log of an instance is ended, also what no file names.
Source: docs/operating.md, "Stop".
"""

import contextlib
import fcntl
import os
import shutil
import signal
import time
from pathlib import Path

from glasscase.bundle.index import CONFIG
from glasscase.config.enclave import MAX_BYTES, EnclaveConfig
from glasscase.errors import Error, StorageError
from glasscase.fs import atomic
from glasscase.hosting import logs, processes, state
from glasscase.hosting.processes import ProcessId
from glasscase.hosting.records import InstanceRecord
from glasscase.hosting.state import Place

POLL_S = 0.025
DEVICE_WAIT_S = 5.0
GONE_S = 10.0  # after SIGKILL
DRAIN_S = 30  # where the bundle does not say it any more
STOP_MARGIN_S = 15.0  # after the drain, for the application's own shutdown


def stop_s(record: InstanceRecord) -> float:
    """Return the seconds that a stop takes at most: the drain of the bundle that runs, and a margin."""
    try:
        path = Path(record.bundle) / CONFIG
        config = EnclaveConfig.from_bytes(atomic.read_file(path, max_bytes=MAX_BYTES, what="enclave.cbor"))
    except Error:  # the bundle is gone or another one: a stop goes on
        return DRAIN_S + STOP_MARGIN_S
    return config.server.drain + STOP_MARGIN_S


def stop(place: Place, record: InstanceRecord, *, deadline_s: float | None = None) -> str:
    """Return how the process went when it is gone: `stopped`, `killed` after the deadline, or `gone` before.

    SIGTERM first; SIGKILL to the whole session after deadline_s, without it after stop_s(). `killed` too if only a process that
    state.json does not name was found. Hold the instance's lock.
    """
    how = _end(record.process, name=record.name, deadline_s=stop_s(record) if deadline_s is None else deadline_s)
    if clear(place) and how == "gone":
        how = "killed"
    if how == "gone":
        require_written(place)  # one that runs in another container is not seen here
    place.mark("stopped")
    return how


def finish(place: Place, record: InstanceRecord, *, deadline_s: float | None = None) -> None:
    """Stop an instance that runs. One that has ended by itself keeps its state, so that a crash is not taken for a stop.

    Hold the instance's lock.
    """
    if processes.is_alive(record.process):
        stop(place, record, deadline_s=deadline_s)
    else:
        clear(place)


def end_writers(place: Place) -> bool:
    """Kill what still holds the log of an instance, whatever state.json names; return whether there was any.

    Also of a name whose directory was removed or emptied while it ran.
    """
    found = logs.writers(place)
    for process in found:
        processes.send(process, signal.SIGKILL)
    for process in found:
        processes.wait_gone(process, GONE_S)
    return bool(found)


def clear(place: Place) -> bool:
    """Wait for what ends with the enclave, and remove what only a running one needs: the simulator's plaintext and device files.

    Whatever still writes to the log then is named nowhere, as an enclave whose launcher was killed before it wrote state.json,
    or a child that an enclave left behind. It is killed; return whether there was any.
    """
    ended = not logs.wait_written(place) and end_writers(place)
    if ended:
        logs.wait_written(place)
    _wait_device(place)
    if state.is_written(place):  # else it runs where it is not seen from here
        for name in ("run", "sim"):
            shutil.rmtree(place.path / name, ignore_errors=True)
    return ended


def require_written(place: Place) -> None:
    """Return if nobody writes to the log of an instance any more; raises StorageError("hosting.process.stuck")."""
    if not state.is_written(place):
        raise StorageError(
            "hosting.process.stuck", f"a process of an earlier start of {place.name!r} still runs, and this command cannot end it",
            hint=f"glasscase stop {place.name} where it was started, or end the process that has its log open: {place.log}",
            path=str(place.log),
        )  # fmt: skip


def _end(process: ProcessId, *, name: str, deadline_s: float) -> str:
    """Return how a process went, as stop() does; raises StorageError("hosting.process.stuck") if it does not go."""
    if not processes.is_alive(process):
        return "gone"
    if deadline_s > 0:
        processes.send(process, signal.SIGTERM)
    if processes.wait_gone(process, deadline_s):
        return "stopped"
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    if not processes.wait_gone(process, GONE_S):
        raise StorageError("hosting.process.stuck", f"process {process.pid} does not end after SIGKILL", path=name)
    return "killed"


def _wait_device(place: Place) -> None:
    """Wait until the software device has ended; it does so by itself when the enclave is gone."""
    try:
        lock = os.open(place.path / "device.lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    deadline = time.monotonic() + DEVICE_WAIT_S
    try:
        while time.monotonic() < deadline:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(POLL_S)
    finally:
        os.close(lock)
