"""However the application's code ends its import or its start: `failed`, exit code 1, and no word of it in the log."""

import contextlib
import http.client
import signal
import time

import pytest

from .conftest import ASGI_APP, make_config

ENDINGS = {
    "exit with a text": "import sys\nsys.exit('canary')",
    "exit with success": "import sys\nsys.exit(0)",
    "exit with a code": "raise SystemExit(7)",
    "interrupt": "raise KeyboardInterrupt('canary')",
    "cancelled": "import asyncio\nraise asyncio.CancelledError('canary')",
    "generator": "raise GeneratorExit('canary')",
    "exception": "raise ValueError('canary')",
    "chained": "try:\n    raise KeyError('canary')\nexcept KeyError as error:\n    raise ValueError('canary') from error",
    "with a note": "error = ValueError('canary')\nerror.add_note('canary')\nraise error",
    "group": "raise BaseExceptionGroup('canary', [SystemExit('canary')])",
}
STARTS = {
    "exit with a text": "raise SystemExit('canary')",
    "interrupt": "raise KeyboardInterrupt('canary')",
    "failed": "await send({'type': 'lifespan.startup.failed', 'message': 'canary'})",
}


def at_start(text):
    """Return an application that does this in its start-up and would take anything else."""
    return "async def app(scope, receive, send):\n    await receive()\n    " + text


TEXTS = {**ENDINGS, **{f"start: {name}": at_start(text) for name, text in STARTS.items()}}
CLEAR = ("exit with a text", "exception", "start: failed")  # the rest does not depend on it


@pytest.mark.parametrize(
    ("text", "encrypt"),
    [(text, True) for text in TEXTS.values()] + [(TEXTS[name], False) for name in CLEAR],
    ids=[*TEXTS, *(f"clear: {name}" for name in CLEAR)],
)
def test_no_ending_is_a_success_or_tells_its_text(application, text, encrypt):
    """Whatever is raised while the application is imported or started is exit code 1, `failed`, and silent."""
    one = application(text, encrypt=encrypt)

    assert 1 == one.process.wait(20)
    assert "failed" == one.status_file()["state"]
    assert "canary" not in one.text().replace(str(one.folder), "")


def test_a_request_that_exits_does_not_end_the_enclave(application):
    """sys.exit() in a request is an error of that request; its text is in no log."""
    one = application(
        ASGI_APP.replace('raise ValueError("canary-message")', 'raise SystemExit("canary")'), encrypt=True
    )
    one.wait_for("serving")

    assert 500 == one.ask("GET", "/boom")[0]
    assert 200 == one.ask("GET", "/state")[0]
    assert "canary" not in one.text().replace(str(one.folder), "")


@pytest.mark.parametrize(
    "how", ["raise SystemExit('canary')", "raise KeyboardInterrupt('canary')", "raise GeneratorExit('canary')"]
)
def test_a_wsgi_request_that_exits_does_not_end_the_enclave(enclave, how):
    """The same in a thread of a WSGI application, before the answer and while its parts are made."""
    text = (
        "def parts():\n    yield b'x'\n    HOW\n\n"
        "def app(environ, start_response):\n    path = environ['PATH_INFO']\n    if path == '/boom':\n        HOW\n"
        "    start_response('200 OK', [])\n    return parts() if path == '/parts' else [b'fine']\n"
    ).replace("HOW", how)
    one = enclave(config=make_config(interface="wsgi"), app={"demo.py": text}).start()
    one.serve()

    assert 500 == one.ask("GET", "/boom")[0]
    for _ in range(8):  # more than there are threads
        with contextlib.suppress(OSError, http.client.HTTPException):
            one.ask("GET", "/parts")
    assert (200, b"fine") == one.ask("GET", "/")
    assert "canary" not in one.text().replace(str(one.folder), "")


@pytest.mark.parametrize("text", ["import time\ntime.sleep(600)", at_start("import time\n    time.sleep(600)")])
def test_a_start_that_hangs_can_be_stopped(application, text):
    """SIGTERM ends an application that blocks everything while it is imported or started: exit code 0, `stopped`."""
    one = application(text, encrypt=True)
    one.wait_for("provisioning")
    time.sleep(0.5)
    one.process.send_signal(signal.SIGTERM)

    assert 0 == one.process.wait(15)
    assert "stopped" == one.status_file()["state"]


def test_a_blocked_loop_does_not_outlast_the_drain(application):
    """An application that blocks the event loop while it serves is cut off after the drain."""
    one = application(ASGI_APP.replace('await asyncio.sleep(float(body or b"1"))', "time.sleep(600)"), encrypt=True)
    one.wait_for("serving")
    with contextlib.closing(one.connection(timeout=1)) as connection, pytest.raises(OSError, match="timed out"):
        one.ask("POST", "/slow", connection=connection)
    start = time.monotonic()
    one.process.send_signal(signal.SIGTERM)

    assert 0 == one.process.wait(20)
    assert time.monotonic() - start < 3 + 8
    assert "stopped" == one.status_file()["state"]
