"""The tools that choose inputs end with whoever has started them."""

import os
import signal
import subprocess

import pytest

from glasscase.lock import child


class Terminated(Exception):
    """Raised by the handler of a signal, as the command line's is."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_right_after_the_fork_ends_the_tool(tmp_path, monkeypatch, number):
    """Before anybody has the child's number, a handler that raises would leave it running until its own end."""
    started = []

    class Interrupted(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            started.append(self.pid)
            os.kill(os.getpid(), number)

    def raise_it(*_):
        raise Terminated

    monkeypatch.setattr(child.subprocess, "Popen", Interrupted)
    before = signal.signal(number, raise_it)
    try:
        with pytest.raises(Terminated):
            child.run_tool("sleep", ["sleep", "60"], environment={}, folder=str(tmp_path), say=print)
        assert raise_it is signal.getsignal(number)
    finally:
        signal.signal(number, before)
    assert started
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)


def test_a_signal_while_a_tool_cannot_be_started_is_not_lost(tmp_path, monkeypatch):
    """It is what ends the command, not the tool that is missing."""

    def refuse(*_arguments, **_options):
        os.kill(os.getpid(), signal.SIGTERM)
        raise FileNotFoundError

    def raise_it(*_):
        raise Terminated

    monkeypatch.setattr(child.subprocess, "Popen", refuse)
    before = signal.signal(signal.SIGTERM, raise_it)
    try:
        with pytest.raises(Terminated):
            child.run_tool("none", ["none"], environment={}, folder=str(tmp_path), say=print)
    finally:
        signal.signal(signal.SIGTERM, before)
