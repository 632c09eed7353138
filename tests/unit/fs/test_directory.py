"""Directories appear whole or not at all."""

import ctypes
import errno
import os
import signal
import stat
import subprocess
import sys

import pytest

from glasscase.errors import StorageError, UsageError
from glasscase.fs.directory import atomic_directory


def names(folder):
    return sorted(os.listdir(folder))


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS])
def test_a_directory_is_replaced_where_names_cannot_swap(tmp_path, monkeypatch, number):
    """A file system without RENAME_EXCHANGE gets the new directory too, and nothing else is left."""

    class Libc:
        def renameat2(self, *_arguments):
            ctypes.set_errno(number)
            return -1

    for name in ("old", "new"):
        with atomic_directory(tmp_path / "d", overwrite=True) as part:
            open(os.path.join(part, name), "w").close()
        monkeypatch.setattr(ctypes, "CDLL", lambda *_arguments, **_options: Libc())

    assert names(tmp_path) == ["d"]
    assert names(tmp_path / "d") == ["new"]


def test_a_link_to_a_directory_is_replaced_and_not_what_it_leads_to(tmp_path):
    """The new directory has the link's name, the old one its own and all that was in it; nothing else is left."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "x").touch()
    (tmp_path / "d").symlink_to("old")
    with atomic_directory(tmp_path / "d", overwrite=True) as part:
        open(os.path.join(part, "new"), "w").close()

    assert names(tmp_path) == ["d", "old"]
    assert (["new"], ["x"]) == (names(tmp_path / "d"), names(tmp_path / "old"))
    assert not (tmp_path / "d").is_symlink()


def test_a_directory_appears_complete_or_not_at_all(tmp_path):
    """An exception leaves no directory; success leaves exactly it, 0755."""
    with pytest.raises(RuntimeError):
        with atomic_directory(tmp_path / "d") as part:
            open(os.path.join(part, "x"), "w").close()
            raise RuntimeError
    assert names(tmp_path) == []
    with atomic_directory(tmp_path / "d") as part:
        open(os.path.join(part, "x"), "w").close()

    assert names(tmp_path) == ["d"]
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o755


def test_leftovers_of_a_killed_run_are_removed(tmp_path):
    """After kill -9 nothing has the final name, and the next run removes the remains."""
    code = f"""
import os, time
from glasscase.fs.directory import atomic_directory
with atomic_directory({str(tmp_path / "d")!r}) as part:
    open(os.path.join(part, "x"), "w").close()
    print("ready", flush=True)
    time.sleep(60)
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    running = names(tmp_path)
    with atomic_directory(tmp_path / "d", overwrite=True):
        pass
    assert running[0] in names(tmp_path), "a running build was disturbed"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    with atomic_directory(tmp_path / "d", overwrite=True):
        pass

    assert names(tmp_path) == ["d"]


def test_a_clash_inside_a_new_directory_is_not_blamed_on_its_name(tmp_path):
    """What the block cannot make there says nothing about the name that the directory will have."""
    with pytest.raises(StorageError) as caught, atomic_directory(tmp_path / "out") as part:
        os.mkdir(os.path.join(part, "a"))
        os.mkdir(os.path.join(part, "a"))

    assert "fs.file.failed" == caught.value.reason
    assert [] == os.listdir(tmp_path)


def test_a_name_that_is_taken_meanwhile_is_kept(tmp_path):
    """Whoever makes the directory first keeps it, and the other is told."""
    with pytest.raises(UsageError) as caught, atomic_directory(tmp_path / "out"):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "theirs").touch()

    assert "fs.output.exists" == caught.value.reason
    assert ["out"] == os.listdir(tmp_path)
    assert ["theirs"] == os.listdir(tmp_path / "out")
