"""Calls that take time: made once for all who want the result meanwhile, or made apart from an event loop.

Invariants: one call at a time for one key, and nobody waits for the call of another key; an error of ours is that of all who
wait, while an interruption, whenever it comes, is only its own thread's: what is held meanwhile are locks in `with` alone.
"""

import asyncio
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from glasscase.errors import Error

_T = TypeVar("_T")


class _Turn(Generic[_T]):
    """Whose turn it is to call for a key, and what the last one got, or None."""

    def __init__(self) -> None:
        self.lock = threading.Lock()  # held during a call
        self.last: Future[_T] | None = None


class SharedCalls(Generic[_T]):
    """The calls that are under way. May be shared between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # never held during a call
        self._turns: weakref.WeakValueDictionary[str, _Turn[_T]] = weakref.WeakValueDictionary()  # of who is in run()

    def run(self, key: str, call: Callable[[], _T]) -> _T:
        """Return what `call` returns, or what the call under way for this key does; raises what that one raises."""
        with self._lock:
            turn = self._turns.setdefault(key, _Turn())
            before = turn.last
        with turn.lock:
            last = turn.last
            if last is None or last is before:  # no call has ended while this thread waited, if it did
                last = turn.last = _outcome(call)
            return last.result()


def _outcome(call: Callable[[], _T]) -> "Future[_T]":
    """Return the result of a call or its error; anything but an error of ours passes."""
    made: Future[_T] = Future()
    try:
        made.set_result(call())
    except Error as error:
        made.set_exception(error)
    return made


async def apart(call: Callable[[], _T]) -> _T:
    """Return what `call` returns, from a thread of its own; raises what that one raises.

    Nobody waits for the thread once this is cancelled, while asyncio.to_thread() keeps the program until the call has ended.
    """
    made: Future[_T] = Future()
    made.set_running_or_notify_cancel()

    def make() -> None:
        try:
            made.set_result(call())
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to who awaits
            made.set_exception(error)

    threading.Thread(target=make, name="glasscase-apart", daemon=True).start()
    return await asyncio.wrap_future(made)
