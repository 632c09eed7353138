"""The state of one enclave program and where it is shown: status.json and GET status.

Invariants: `failed` and `stopped` are final; every change is written out before it is acted on, as well as the disk allows.
Source: docs/provisioning.md, "States".
"""

import threading
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from glasscase.enclave.instancefile import write_status


class State(StrEnum):
    """Where an enclave is in its life."""

    BOOTED = "booted"
    WAITING = "waiting"
    PROVISIONING = "provisioning"
    SERVING = "serving"
    FAILED = "failed"
    STOPPED = "stopped"


FINAL = frozenset({State.FAILED, State.STOPPED})


class StateKeeper:
    """The current state. directory: where status.json goes; clock: unix seconds."""

    def __init__(self, directory: str, *, clock: Callable[[], int]) -> None:
        self._directory = directory
        self._clock = clock
        self._lock = threading.RLock()  # a signal handler may come in between
        self._state = State.BOOTED
        self._since = clock()
        self._port = 0
        self._seq = 0
        self._exp = 0

    @property
    def state(self) -> State:
        """Return the current state."""
        return self._state

    def enter(self, state: State, *, port: int | None = None) -> None:
        """Go to `state` and write it out; a final state is never left."""
        with self._lock:
            if self._state in FINAL:
                return
            if state != self._state:
                self._state, self._since = state, self._clock()
            self._port = self._port if port is None else port
            self._write()

    def renewed(self, *, seq: int, exp: int) -> None:
        """Note the number and the end of the live session, and write them out."""
        with self._lock:
            self._seq, self._exp = seq, exp
            self._write()

    def view(self) -> dict[str, Any]:
        """Return what GET status answers."""
        with self._lock:
            return {"v": 1, "state": str(self._state), "since": self._since, "seq": self._seq, "exp": self._exp}

    def _write(self) -> None:
        status = {
            "state": str(self._state), "port": self._port, "since": self._since, "seq": self._seq, "exp": self._exp,
        }  # fmt: skip
        write_status(self._directory, status)
