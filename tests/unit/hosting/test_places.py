"""Where the user's files are."""

import os
import stat

import pytest

from glasscase.cli import places
from glasscase.errors import StorageError

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


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_directory_that_cannot_be_made_says_which_variable_names_another(name, tmp_path, monkeypatch):
    """The path may come from HOME, so `check the path` would be about something that nobody has given."""
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv(name, str(tmp_path / "file" / "below"))
    with pytest.raises(StorageError) as caught:
        FUNCTIONS[name][0]()

    assert f"{name}=DIR, one that this account can write to" == caught.value.hint


def test_an_empty_home_falls_back_to_the_account(monkeypatch, tmp_path):
    """HOME="" does not put files into the working directory."""
    monkeypatch.setenv("HOME", "")

    assert places._home().is_absolute()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_directory_with_other_things_in_it_keeps_its_mode(name, tmp_path, monkeypatch):
    """GLASSCASE_STATE=/tmp must not close /tmp to everybody else: an error says what to do, nothing is changed."""
    shared = tmp_path / "shared"
    (shared / "somebody's").mkdir(parents=True)
    shared.chmod(0o1777)
    monkeypatch.setenv(name, str(shared))
    with pytest.raises(StorageError) as caught:
        FUNCTIONS[name][0]()

    assert "fs.directory.shared" == caught.value.reason
    assert 0o1777 == stat.S_IMODE(shared.stat().st_mode)
    assert ["somebody's"] == os.listdir(shared)
    shared.chmod(0o700)
    assert shared == FUNCTIONS[name][0]()


@pytest.mark.parametrize("held", [[], ["inputs", "uv"], ["runtimes", "simulator", "measurements.jsonl"], [".part-x"]])
def test_a_directory_of_ours_that_is_open_is_closed(held, tmp_path, monkeypatch):
    """An empty one, and one with nothing but our files, gets mode 0700."""
    own = tmp_path / "own"
    own.mkdir()
    for name in held:
        (own / name).touch()
    own.chmod(0o755)
    monkeypatch.setenv("GLASSCASE_DATA", str(own))

    assert own == places.data_dir()
    assert 0o700 == stat.S_IMODE(own.stat().st_mode)


def test_a_home_that_we_may_not_look_into_holds_nothing(tmp_path, monkeypatch):
    """Who only reads goes on, as with `sudo -u` and the other's HOME; who writes is told."""
    monkeypatch.setenv("GLASSCASE_DATA", str(tmp_path / "shut" / "data"))

    def refuse(name):
        allowed = getattr(os, name)

        def refusing(path, *arguments, **options):
            if "shut" in str(path):
                raise PermissionError(13, "Permission denied", str(path))
            return allowed(path, *arguments, **options)

        monkeypatch.setattr(os, name, refusing)

    (tmp_path / "shut" / "data").mkdir(parents=True)
    assert tmp_path / "shut" / "data" == places.data_dir_if_any()
    refuse("stat")
    refuse("mkdir")
    assert places.data_dir_if_any() is None
    with pytest.raises(StorageError) as caught:
        places.data_dir()
    assert "fs.file.denied" == caught.value.reason
