"""A measurement that cannot be made is not one that was passed."""

import os
import shutil

import pytest

from bench import _peers, serving


@pytest.mark.parametrize("user", [0, 1000])
def test_a_missing_load_generator_is_no_success(monkeypatch, capsys, user):
    """Without wrk, which root has installed, there are no figures: exit code 3, and what to install."""
    asked = []
    monkeypatch.setattr(os, "getuid", lambda: user)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(_peers.subprocess, "run", lambda words, **_: asked.append(words[-1]))

    assert 3 == serving.main([])
    assert "apt-get install wrk" in capsys.readouterr().err
    assert (["wrk"] if user == 0 else []) == asked


def test_the_ratio_is_that_of_the_medians(capsys):
    """One lucky round of either server moves nothing."""
    rates = {"enclave": [(90, 1), (91, 1), (500, 1)], "plain uvicorn": [(100, 1), (1, 1), (900, 1)]}

    assert 0.91 == serving.line("requests per second", 0, rates)
    assert "0.91x" in capsys.readouterr().out
