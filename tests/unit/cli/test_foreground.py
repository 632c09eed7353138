"""The command that stays with its enclave."""

from types import SimpleNamespace

from glasscase.cli import foreground
from glasscase.errors import Interrupted


def test_a_signal_just_after_ready_is_a_clean_end(monkeypatch):
    """A service manager that stops the service the moment it is ready gets STOPPING and exit code 0 too."""
    told, ended = [], []

    def notify(message):
        told.append(message)
        if message == "READY=1":
            raise Interrupted("cli.interrupted", "stopped by signal 15")

    monkeypatch.setattr(foreground, "notify", notify)
    monkeypatch.setattr(foreground, "end", ended.append)
    started = SimpleNamespace(place=SimpleNamespace(status=lambda: SimpleNamespace(state="stopped")))
    out = SimpleNamespace(say=lambda _text: None)

    assert foreground.stay(out, started) == 0
    assert ["READY=1", "STOPPING=1"] == told
    assert [started] == ended
