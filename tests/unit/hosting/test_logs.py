"""The log of an instance is bounded, follows over rotations, and has the last words."""

import contextlib
import os
import subprocess
import threading
import time
from types import SimpleNamespace

import pytest

from glasscase.hosting import logs, logwriter, processes, state
from glasscase.hosting.logwriter import Log
from glasscase.hosting.records import InstanceRecord


@pytest.fixture
def process():
    """Return a process that lives until the test ends it."""
    found = subprocess.Popen(["sleep", "600"])
    yield found
    found.kill()
    found.wait()


@pytest.fixture
def place(tmp_path, process):
    """Return the place of an instance of that process."""
    found = state.Place(tmp_path / "one")
    found.path.mkdir()
    identity = processes.identify(process.pid)
    found.write_record(InstanceRecord("one", "simulator", "/b", bytes(32), bytes(32), identity, 1, "running"))
    return found


@pytest.fixture
def small(monkeypatch):
    """Make files of 1,000 bytes."""
    monkeypatch.setattr(logwriter, "LIMIT", 1000)


def end(process):
    """Let the process of the instance be gone."""
    process.kill()
    process.wait()


def sizes(place):
    return {path.name: path.stat().st_size for path in place.path.glob("log*.txt")}


def test_a_log_is_bounded_and_ends_with_its_writers(place, process, small):
    """However much is written there are two files of the limit and one line; the newest lines are all there."""
    said = [f"line {number:04}" for number in range(1000)]
    descriptor = logs.start_writer(place)
    for line in said:
        os.write(descriptor, line.encode() + b"\n")
    os.close(descriptor)
    logs.wait_written(place)
    found = sizes(place)
    assert {"log.txt", "log.1.txt"} == set(found)
    assert max(found.values()) <= 1000 + len("line 0000\n")
    assert logs.last_lines(place).endswith("line 0997 | line 0998 | line 0999")
    end(process)
    shown = list(logs.lines(place))
    assert said[-len(shown) :] == shown
    assert len(shown) >= 100


def test_an_empty_log_says_whether_it_had_room(place, monkeypatch):
    """A full disk, which has taken the words, is named; an enclave that had room and said nothing is not excused."""
    place.log.write_bytes(b"\n")
    for free, told in ((logs.ROOM - 1, "; less than 1 MiB is free on the disk of its log"), (logs.ROOM, "")):
        monkeypatch.setattr(logs.shutil, "disk_usage", lambda _path, free=free: SimpleNamespace(free=free))
        assert told == logs.last_lines(place)


def test_the_next_start_keeps_the_log_before(place, small):
    """log.old.txt is what the start before said last."""
    for word in (b"first\n", b"second\n", b"third\n"):
        descriptor = logs.start_writer(place)
        os.write(descriptor, word)
        os.close(descriptor)
        logs.wait_written(place)

    assert b"third\n" == place.log.read_bytes()
    assert b"second\n" == place.log.with_name("log.old.txt").read_bytes()
    assert {"log.txt", "log.old.txt"} == set(sizes(place))


def test_following_goes_over_rotations_to_the_last_word(place, process, small, monkeypatch):
    """Every line that is written while somebody follows is given once and in order, the last one without its end too."""
    monkeypatch.setattr(logs, "POLL_S", 0.005)
    descriptor = logs.start_writer(place)
    seen, done = [], threading.Event()

    def follow():
        with contextlib.closing(logs.lines(place, follow=True)) as found:
            seen.extend(found)
        done.set()

    thread = threading.Thread(target=follow)
    thread.start()
    said = [f"line {number:04}" for number in range(400)]
    for line in said:
        os.write(descriptor, line.encode() + b"\n")
        time.sleep(0.002)
    os.write(descriptor, b"last word")
    end(process)
    assert not done.wait(0.3)  # the writer is still there
    os.close(descriptor)
    assert done.wait(10)
    thread.join()

    assert "last word" == seen[-1]
    assert sorted(set(seen)) == sorted(seen)
    if logs.LOST not in seen:  # else the machine was too busy to read twice in ten lines' time
        assert [*said, "last word"] == seen


def test_missing_lines_are_said(place, process):
    """A reader that was too slow is told where something is missing."""
    place.log.write_bytes(b"one\n")
    found = logs.lines(place, follow=True)
    assert "one" == next(found)
    for name in ("two", "three"):
        os.replace(place.log, logs.previous(place))
        place.log.write_bytes(name.encode() + b"\n")
    os.replace(place.log, logs.previous(place))
    place.log.write_bytes(b"four\n")
    end(process)

    assert [logs.LOST, "three", "four"] == list(found)


def test_a_line_without_end_and_a_full_disk(tmp_path):
    """A line that never ends is cut at twice the limit; what cannot be written is dropped, and nobody waits."""
    (tmp_path / "log.txt").touch()
    log = Log(str(tmp_path / "log.txt"), str(tmp_path / "log.1.txt"), 1000)
    for _ in range(100):
        log.put(b"x" * 100)
    assert max(path.stat().st_size for path in tmp_path.iterdir()) <= 2100
    os.close(log._file)
    log._file = os.open("/dev/full", os.O_WRONLY)
    log.put(b"lost\n")
    os.close(log._file)


def test_a_writer_that_was_replaced_rotates_nothing(tmp_path):
    """A writer whose log has been moved away never touches the log of its successor."""
    (tmp_path / "log.txt").touch()
    log = Log(str(tmp_path / "log.txt"), str(tmp_path / "log.1.txt"), 100)
    os.replace(tmp_path / "log.txt", tmp_path / "log.old.txt")
    (tmp_path / "log.txt").write_bytes(b"new")
    for _ in range(20):
        log.put(b"late words\n")
    os.close(log._file)

    assert b"new" == (tmp_path / "log.txt").read_bytes()
    assert not (tmp_path / "log.1.txt").exists()


def test_a_rotation_that_fails_half_way_is_made_up_for(tmp_path, monkeypatch):
    """If the file could be moved and the next one not be made, the log does not grow without bound where it is."""
    (tmp_path / "log.txt").touch()
    log = Log(str(tmp_path / "log.txt"), str(tmp_path / "log.1.txt"), 1000)

    def failing(_flags):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(log, "_open", failing)
        for _ in range(15):
            log.put(b"x" * 99 + b"\n")
    assert ["log.1.txt"] == [path.name for path in tmp_path.iterdir()]
    for _ in range(60):
        log.put(b"y" * 99 + b"\n")

    assert {"log.txt", "log.1.txt"} == {path.name for path in tmp_path.iterdir()}
    assert all(path.stat().st_size <= 2000 for path in tmp_path.iterdir())


def test_a_keeper_is_known_before_it_has_run(place, tmp_path, monkeypatch):
    """Whoever ends a start at once finds what writes to the log, however long its keeper takes to begin."""
    slow = tmp_path / "slow.py"
    slow.write_text("import os; os.read(0, 1)")
    monkeypatch.setattr(logwriter, "__file__", str(slow))
    descriptor = logs.start_writer(place)
    writer = subprocess.Popen(["sleep", "60"], stdout=descriptor)
    os.close(descriptor)
    try:
        assert (processes.identify(writer.pid),) == logs.writers(place)
    finally:
        writer.kill()
        writer.wait()
    assert logs.wait_written(place)
