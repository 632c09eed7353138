"""Where the user's files are."""

import os
import stat

import pytest

from glasscase.cli import places

FUNCTIONS = {
    "GLASSCASE_STATE": (places.state_dir, "XDG_STATE_HOME", ".local/state"),
    "GLASSCASE_CACHE": (places.cache_dir, "XDG_CACHE_HOME", ".cache"),
    "GLASSCASE_DATA": (places.data_dir, "XDG_DATA_HOME", ".local/share"),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_own_variable_wins_over_xdg_and_home(name, tmp_path, monkeypatch):
    """The GLASSCASE_ variable, then an absolute XDG one, then HOME; always an own directory of mode 0700."""
    function, xdg, fallback = FUNCTIONS[name]
    monkeypatch.setenv("HOME", str(tmp_path / "home with space"))
    monkeypatch.setenv(xdg, "relative/does/not/count")
    monkeypatch.delenv(name, raising=False)

    assert tmp_path / "home with space" / fallback / "glasscase" == function()
    monkeypatch.setenv(xdg, str(tmp_path / "xdg"))
    assert tmp_path / "xdg" / "glasscase" == function()
    monkeypatch.setenv(name, str(tmp_path / "own"))
    assert tmp_path / "own" == function()
    assert stat.S_IMODE(os.stat(tmp_path / "own").st_mode) == 0o700


def test_an_empty_home_falls_back_to_the_account(monkeypatch, tmp_path):
    """HOME="" does not put files into the working directory."""
    monkeypatch.setenv("HOME", "")

    assert places._home().is_absolute()
