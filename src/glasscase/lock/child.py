"""Running the tools that choose inputs: uv, pip and apt.

Invariants: a tool gets no input and only the environment that it is given; what has not ended when its caller gives up or is
interrupted is killed; what a tool says is shown without the user names and passwords of URLs.
"""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

TIMEOUT = 900  # seconds of one run
SILENCE = 30  # seconds without a line for the user
# the proxies and certificates of the caller; nothing else of the environment reaches a tool
KEPT = (
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
)  # fmt: skip


def run_tool(
    name: str, command: Sequence[str], *, environment: Mapping[str, str], folder: str, say: Callable[[str], None]
) -> "subprocess.CompletedProcess[bytes]":
    """Return the result of a tool that has ended. folder: its working directory, home and place for temporary files.

    environment: what it gets, beside PATH, HOME, TMPDIR and LC_ALL. say: hears, by `name`, every SILENCE seconds that the
    tool is still at work.
    Raises OSError if it cannot be run, TimeoutError after TIMEOUT seconds.
    """
    own = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": folder, "LC_ALL": "C.UTF-8", "TMPDIR": folder}
    process = None
    try:
        with _signals_held():  # until the child is known here
            process = subprocess.Popen(
                command, env={**environment, **own}, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, process_group=0,
            )  # fmt: skip
        for waited in range(SILENCE, TIMEOUT + 1, SILENCE):
            try:
                out, errors = process.communicate(timeout=SILENCE)
            except subprocess.TimeoutExpired:
                say(f"lock      still waiting for {name} after {waited} s, at most {TIMEOUT} s")
            else:
                return subprocess.CompletedProcess(command, process.returncode, out, errors)
    finally:
        if process is not None:
            with process:  # its end is awaited here
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)  # and what it has started
    raise TimeoutError(f"it has not ended within {TIMEOUT} s")


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Let the signals that have a handler here, which may raise, wait for the end of the block; in the main thread only."""
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    main = threading.current_thread() is threading.main_thread()
    try:
        with contextlib.ExitStack() as stack:
            for number in numbers:
                handler = signal.getsignal(number) if main else None
                if callable(handler):
                    stack.callback(signal.signal, number, handler)
                    signal.signal(number, lambda number, _frame: came.append(number))
            yield
    finally:
        for late in came:
            signal.raise_signal(late)
