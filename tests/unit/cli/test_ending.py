"""Whatever ends a flow, nothing of it is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

FLOW = """
import subprocess, sys, time
from pathlib import Path
from glasscase.cli.ending import ended, with_parent
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
