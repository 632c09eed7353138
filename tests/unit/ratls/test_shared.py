"""A shared call is made once for all who wait, and an interruption at any moment keeps nobody waiting for ever."""

import concurrent.futures
import gc
import threading
import time

import pytest

from glasscase.errors import CannotVerify
from glasscase.ratls.shared import SharedCalls


class Interrupting:
    """A lock after whose n-th release Ctrl-C arrives, which is where Python looks for it."""

    def __init__(self, nth):
        self._lock, self._left = threading.Lock(), nth

    def __enter__(self):
        self._lock.acquire()

    def __exit__(self, *_):
        self._lock.release()
        self._left -= 1
        if self._left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("fails", [False, True], ids=["succeeds", "fails"])
def test_an_interruption_between_two_steps_keeps_nobody(nth, fails):
    """Whenever Ctrl-C comes, before, in or after the call, those who wait and those who come later get a result."""
    calls = SharedCalls()
    calls._lock = Interrupting(nth)

    def call():
        time.sleep(0.1)
        if fails:
            raise CannotVerify("collateral.source.unreachable", "the collateral server cannot be reached")

    def ask():
        try:
            return calls.run("key", call)
        except (CannotVerify, KeyboardInterrupt) as error:
            return type(error)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("fault", [KeyboardInterrupt, ZeroDivisionError, CannotVerify])
def test_an_error_of_ours_is_shared_and_nothing_else(fault):
    """Who waits for a call gets its result or our error; after any other fault he makes the call himself."""
    calls, made, began, go_on = SharedCalls(), [], threading.Event(), threading.Event()

    def call():
        made.append(1)
        if len(made) > 1:
            return "second"
        began.set()
        go_on.wait(5)
        raise fault("client.collateral.failed", "no") if fault is CannotVerify else fault

    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        first = threads.submit(calls.run, "key", call)
        assert began.wait(5)
        second = threads.submit(calls.run, "key", call)
        time.sleep(0.1)
        go_on.set()
        assert isinstance(first.exception(5), fault)
        if fault is CannotVerify:
            assert second.exception(5) is first.exception()
        else:
            assert "second" == second.result(5)
    assert (1 if fault is CannotVerify else 2) == len(made)


def test_nothing_is_kept_of_calls_that_are_over():
    """A result is for those who waited: the next one calls again, and no key stays behind, however many a server names."""
    calls = SharedCalls()
    assert [0, 1] == [calls.run("key", lambda value=value: value) for value in (0, 1)]

    def fail():
        raise CannotVerify("collateral.source.unreachable", "the collateral server cannot be reached")

    for number in range(100):
        with pytest.raises(CannotVerify):
            calls.run(str(number), fail)
    gc.collect()
    assert 0 == len(calls._turns)
