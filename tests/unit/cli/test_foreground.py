"""The command that stays with its enclave."""

from types import SimpleNamespace

import pytest

from glasscase.cli import foreground
from glasscase.errors import Interrupted


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (Interrupted("cli.signal.received", "stopped by SIGTERM"), "stopped by SIGTERM"),
        (KeyboardInterrupt(), "stopped by SIGINT"),
    ],
)
def test_a_signal_while_the_start_is_shown_is_a_clean_end(monkeypatch, tmp_path, asked, words):
    """Who reads the URL and asks for the end at once, Ctrl-C too, gets exit code 0, before READY too."""
    ended, said = [], []

    def show():
        raise asked

    monkeypatch.setattr(foreground, "end", ended.append)
    place = SimpleNamespace(path=tmp_path, status=lambda: SimpleNamespace(state="stopped"))
    started = SimpleNamespace(place=place)

    assert foreground.stay(SimpleNamespace(say=said.append), started, show) == 0
    assert ([started], [words]) == (ended, said)


def test_a_signal_just_after_ready_is_a_clean_end(monkeypatch, tmp_path):
    """A service manager that stops the service the moment it is ready gets STOPPING and exit code 0 too."""
    told, ended = [], []

    def notify(message):
        told.append(message)
        if message == "READY=1":
            raise Interrupted("cli.interrupted", "stopped by signal 15")

    monkeypatch.setattr(foreground, "notify", notify)
    monkeypatch.setattr(foreground, "end", ended.append)
    place = SimpleNamespace(path=tmp_path, status=lambda: SimpleNamespace(state="stopped"))
    started = SimpleNamespace(place=place)
    out = SimpleNamespace(say=lambda _text: None)

    assert foreground.stay(out, started, lambda: None) == 0
    assert ["READY=1", "STOPPING=1"] == told
    assert [started] == ended
