"""Whatever ends a flow, nothing of it is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

FLOW = """
import signal, subprocess, sys, time
from pathlib import Path
from glasscase.cli.ending import ended, with_parent
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets jobs in the background ignore it
with ended(Path(sys.argv[1])):
    child = subprocess.Popen(["sleep", "60"], preexec_fn=with_parent(), start_new_session=True)
    print(child.pid, flush=True)
    time.sleep(60)
"""


def is_there(pid):
    try:
        return b") Z " not in Path(f"/proc/{pid}/stat").read_bytes()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("numbers", [[signal.SIGKILL], [signal.SIGTERM], [signal.SIGINT, signal.SIGINT]], ids=str)
def test_a_flow_that_is_killed_leaves_nothing(tmp_path, numbers):
    """Its directory goes, and so do the commands that it has started, also if it cannot clean up itself."""
    base = tmp_path / "flow"
    (base / "work").mkdir(parents=True)
    flow = subprocess.Popen(
        [sys.executable, "-I", "-c", FLOW, base],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    child = int(flow.stdout.readline())
    for number in numbers:
        os.killpg(flow.pid, number)
        time.sleep(0.05)
    flow.wait(20)
    flow.stdout.close()
    deadline = time.monotonic() + 20
    while (base.exists() or is_there(child)) and time.monotonic() < deadline:
        time.sleep(0.02)

    assert not base.exists()
    assert not is_there(child)


def test_only_the_end_of_the_flow_ends_its_ending(tmp_path):
    """A signal that stops everything of a session or service does not stop the clean-up."""
    base = tmp_path / "flow"
    base.mkdir()
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    ending = subprocess.Popen([sys.executable, "-I", "-m", "glasscase.cli.ending", base], stdin=subprocess.PIPE)
    deadline = time.monotonic() + 20
    while not all(ignored(ending.pid, number) for number in numbers) and time.monotonic() < deadline:
        time.sleep(0.02)
    for number in numbers:
        ending.send_signal(number)
    ending.communicate(timeout=20)

    assert 0 == ending.returncode
    assert not base.exists()


def ignored(pid, number):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("SigIgn:")[2].split()[0], 16) >> (number - 1) & 1
