"""A call that takes time, made once for all who want its result meanwhile.

Invariants: one call at a time for one key, and nobody waits for the call of another key; an error of ours is that of all who
wait, while an interruption is only its own thread's.
"""

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Generic, TypeVar

from glasscase.errors import Error

_T = TypeVar("_T")


class SharedCalls(Generic[_T]):
    """The calls that are under way. May be shared between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # never held during a call
        self._running: dict[str, Future[_T]] = {}

    def run(self, key: str, call: Callable[[], _T]) -> _T:
        """Return what `call` returns, or what the call under way for this key does; raises what that one raises."""
        while True:
            with self._lock:
                running = self._running.get(key)
                if running is None:
                    mine = self._running[key] = Future()
                    break
            with contextlib.suppress(CancelledError):  # its thread was interrupted: now it is on this one
                return running.result()
        try:
            result = call()
        except Error as error:
            self._end(key)
            mine.set_exception(error)
            raise
        except BaseException:
            self._end(key)
            mine.cancel()
            raise
        self._end(key)
        mine.set_result(result)
        return result

    def _end(self, key: str) -> None:
        with self._lock:
            del self._running[key]
