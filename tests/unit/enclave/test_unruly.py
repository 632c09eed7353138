"""Applications that do what they should not to the process around them: the end stays ours, and so does the log."""

import contextlib
import os
import signal
import threading
import time

import pytest

from .conftest import ASGI_APP, make_config

DRAIN_S = 3
GRACE_S = 3
SLACK_S = 4  # seconds for a busy machine
IN_TIME_S = DRAIN_S + 2 * GRACE_S + SLACK_S
SIGNALS = """
import signal
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
    signal.signal(number, lambda *_: print("app: swallowed", flush=True))
"""
SWALLOWING = """
import time
while True:
    try:
        time.sleep(600)
    except BaseException:
        pass
"""


def served(one):
    one.wait_for("serving")
    return one


def at(moment, text):
    """Return the application that does something at import, in its start-up, in its shutdown or in a request."""
    text = text.strip("\n")
    if moment == "import":
        return text + "\n" + ASGI_APP
    place, indent = {
        "start": ('                scope["state"]["started"] = "yes"\n', 16),
        "shutdown": ('                print("app: shut down", flush=True)\n', 16),
        "request": ('        raise ValueError("canary-message")\n', 8),
    }[moment]
    assert place in ASGI_APP
    lines = "".join(" " * indent + line + "\n" for line in text.split("\n"))
    return ASGI_APP.replace(place, place + lines if moment == "start" else lines)


def timed_stop(one, *, seconds=IN_TIME_S + 10):
    start = time.monotonic()
    code = one.stop(seconds=seconds)
    return code, time.monotonic() - start


@pytest.mark.parametrize("moment", ["import", "start"])
def test_signals_that_the_application_takes_are_taken_back(application, moment):
    """An application that sets handlers while it is imported or started does not keep SIGTERM from ending it cleanly."""
    one = served(application(at(moment, SIGNALS), encrypt=False))
    code, _ = timed_stop(one)

    assert (0, "stopped") == (code, one.status_file()["state"])
    assert "app: swallowed" not in one.text()
    assert "app: shut down" in one.text()


def test_an_alarm_that_the_application_takes_does_not_outlast_the_drain(application):
    """A request that blocks the loop and has its own SIGALRM is cut off like any other."""
    text = "import signal, time\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\ntime.sleep(600)"
    one = served(application(at("request", text), encrypt=False))
    threading.Thread(target=provoke, args=(one,), daemon=True).start()
    time.sleep(0.5)
    code, took = timed_stop(one)

    assert (0, "stopped") == (code, one.status_file()["state"])
    assert took < IN_TIME_S


def provoke(one):
    """Ask for what makes the application do it, and do not mind how that ends."""
    with contextlib.suppress(Exception), contextlib.closing(one.connection(timeout=60)) as connection:
        one.ask("GET", "/boom", connection=connection)


@pytest.mark.parametrize("moment", ["import", "start", "request", "shutdown"])
def test_what_swallows_every_exception_is_cut_off(application, moment):
    """A loop that catches BaseException holds up a stop only until the second alarm: exit code 0, `stopped`."""
    one = application(at(moment, SWALLOWING), encrypt=True)
    if moment in ("import", "start"):
        one.wait_for("provisioning")
        time.sleep(1)
    else:
        served(one)
    if moment == "request":
        threading.Thread(target=provoke, args=(one,), daemon=True).start()
        time.sleep(0.5)
    code, took = timed_stop(one)

    assert (0, "stopped") == (code, one.status_file()["state"])
    assert took < IN_TIME_S
    assert [] == [path for path in one.run.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "text", ["import time\ntime.sleep(600)", "await asyncio.sleep(600)", "raise SystemExit('canary')"],
    ids=["blocks", "waits", "exits"],
)  # fmt: skip
def test_a_shutdown_that_does_not_end_is_cut_off(application, text):
    """Whatever the application's shutdown does, SIGTERM is exit code 0 in the time of drain and grace."""
    one = served(application(at("shutdown", text), encrypt=True))
    code, took = timed_stop(one)

    assert (0, "stopped") == (code, one.status_file()["state"])
    assert took < IN_TIME_S
    assert "canary" not in one.text().replace(str(one.folder), "")


@pytest.mark.parametrize("call", ["forget", "enter"])
def test_an_alarm_of_the_application_in_the_last_lines_is_a_failure_too(application, call):
    """An alarm that the application has set may go off while its failure is being noted: exit code 1, `failed`."""
    text = (
        "import signal, sys\n\n\ndef hook(frame, event, argument):\n"
        f"    if event == 'call' and frame.f_code.co_name == '{call}':\n"
        "        sys.setprofile(None)\n        signal.raise_signal(signal.SIGALRM)\n\n\n"
        "sys.setprofile(hook)\nraise SystemExit(0)"
    )
    one = application(at("import", text), encrypt=False)

    assert 1 == one.process.wait(20)
    assert "failed" == one.status_file()["state"]


def test_more_signals_give_no_more_time(application):
    """A supervisor that repeats SIGTERM does not put the end off."""
    one = served(application(at("request", SWALLOWING), encrypt=False))
    threading.Thread(target=provoke, args=(one,), daemon=True).start()
    time.sleep(0.5)
    start = time.monotonic()
    while one.process.poll() is None and time.monotonic() - start < IN_TIME_S + 5:
        one.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)

    assert 0 == one.process.poll()
    assert time.monotonic() - start < IN_TIME_S


@pytest.mark.parametrize(
    "text",
    [
        "import sys; sys.stdout.close()", "import sys; sys.stderr.close()", "import os; os.close(1); os.close(2)",
        "import sys; sys.stdout = sys.stderr = None", "import sys; sys.stdout = object()",
        "import sys; sys.stdout = type('Out', (), {'flush': lambda self: sys.exit(7)})()",
    ],
)  # fmt: skip
def test_closed_streams_change_no_exit_code(application, text):
    """An application without stdout or stderr stops with exit code 0, a thread of its own that never ends or not."""
    thread = "\nimport threading, time\nthreading.Thread(target=time.sleep, args=(600,)).start()\n"
    text = at("import", text + thread).replace('print("app: shut down", flush=True)', "pass")
    one = served(application(text, encrypt=False))
    code, took = timed_stop(one)

    assert (0, "stopped") == (code, one.status_file()["state"])
    assert took < IN_TIME_S


@pytest.mark.parametrize(
    "text",
    [
        "import os; os.closerange(3, 4096)",
        "asyncio.get_running_loop().stop()",
        "[task.cancel() for task in asyncio.all_tasks()]",
        "asyncio.get_running_loop().create_task(left())",
        "asyncio.get_running_loop().call_soon(exit_now)",
        "import signal; signal.setitimer(signal.ITIMER_REAL, 0.2); await asyncio.sleep(5)",
    ],
    ids=["closes descriptors", "stops the loop", "cancels all", "a task exits", "a callback exits", "sets the alarm"],
)
def test_what_ends_the_server_is_a_failure(application, text):
    """A request that pulls the server away ends the enclave as failed, exit code 1, without a word of it."""
    more = "\n\nasync def left():\n    raise SystemExit('canary')\n\n\ndef exit_now():\n    raise KeyboardInterrupt('canary')\n"
    one = served(application(at("request", text) + more, encrypt=True))
    provoke(one)

    assert 1 == one.process.wait(20)
    assert "failed" == one.status_file()["state"]
    assert "canary" not in one.text().replace(str(one.folder), "")


def test_threads_of_the_application_do_not_hold_up_the_end(application):
    """Threads that never end, daemons or not, and atexit functions are left behind."""
    text = (
        "import atexit, threading, time\natexit.register(time.sleep, 600)\n"
        "for _ in range(20):\n    threading.Thread(target=time.sleep, args=(600,)).start()"
    )
    one = served(application(at("import", text), encrypt=False))
    code, took = timed_stop(one)

    assert (0, "stopped") == (code, one.status_file()["state"])
    assert took < IN_TIME_S


def test_a_flood_that_nobody_reads_does_not_outlast_the_drain(enclave):
    """An application that writes without end, to a pipe that is full, is cut off like any other."""
    app = at("request", 'while True:\n    print("x" * 4096)')
    read_end, write_end = os.pipe()
    one = enclave(config=make_config(entry="main:app"), app={"main.py": app}).start(stdout=write_end)
    os.close(write_end)
    one.serve()
    threading.Thread(target=provoke, args=(one,), daemon=True).start()
    time.sleep(1)
    code, took = timed_stop(one)
    os.close(read_end)

    assert (0, "stopped") == (code, one.status_file()["state"])
    assert took < IN_TIME_S


NOISE = """
import concurrent.futures, faulthandler, sys, threading
for speak in (
    lambda: faulthandler.dump_traceback(),
    lambda: faulthandler.dump_traceback(file=sys.stderr, all_threads=True),
    lambda: faulthandler.dump_traceback_later(0.1),
    lambda: faulthandler.enable(),
):
    try:
        speak()
    except Exception:
        pass
def canary_callback(_future):
    raise CanaryError("canary-text")
with concurrent.futures.ThreadPoolExecutor(1) as pool:
    done = pool.submit(canary_callback, None)
    done.add_done_callback(canary_callback)
    concurrent.futures.wait([done])
code = compile("def canary_function(): raise CanaryError('canary')", "<generated canary.Model>", "exec")
exec(code, globals())
threading.Thread(target=canary_function, name="canary-thread").start()
code = compile("def canary_function(): raise Posing('canary')", "/canary/helper.py", "exec")
exec(code, globals())
threading.Thread(target=canary_function).start()
import time
time.sleep(0.5)
import ctypes
ctypes.string_at(1)
"""
CLASSES = """
class CanaryError(Exception):
    pass
class Posing(Exception):
    __module__ = "asyncio.exceptions"
    __qualname__ = "CanaryPosing"
"""


def test_the_ways_around_a_traceback_are_redacted_too(application):
    """faulthandler (a crash too), callbacks of futures, generated code and classes under another name tell nothing."""
    one = served(application(CLASSES + at("request", NOISE), encrypt=True))
    provoke(one)
    one.process.wait(20)
    text = one.text().replace(str(one.folder), "")

    assert -signal.SIGSEGV == one.process.returncode
    assert "redacted: " in text
    for canary in ("canary", "Canary", "app/main.py", "main.py"):
        assert canary not in text, text
