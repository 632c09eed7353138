"""The records of the state directory are strict, and files of an enclave are read as hostile."""

import json
import os
from dataclasses import replace

import pytest

from glasscase.errors import FormatError, StorageError, UsageError
from glasscase.hosting import processes, state
from glasscase.hosting.processes import ProcessId
from glasscase.hosting.records import RECORD_MAX, InstanceFacts, InstanceRecord

RECORD = InstanceRecord(
    "one", "simulator", "/b/app.bundle", b"\x01" * 32, b"\x02" * 32, ProcessId(12, 34, "boot"), 56, "running"
)


@pytest.fixture
def place(tmp_path):
    """Return a place with an instance directory."""
    found = state.place_of(tmp_path, "one")
    found.instance.mkdir(parents=True)
    return found


def test_a_record_is_read_as_it_was_written(place):
    """state.json has exactly the fields of the format, and comes back equal."""
    place.write_record(RECORD)

    assert RECORD == place.record()
    assert [
        "v", "name", "backend", "bundle", "bundle_id", "mrenclave", "pid", "pid_start", "boot_id", "since", "state",
    ] == list(json.loads((place.path / "state.json").read_text()))  # fmt: skip
    assert 0o600 == (place.path / "state.json").stat().st_mode & 0o777


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"v": 2}, "format.newer"),
        ({"pid": "12"}, "hosting.state.malformed"),
        ({"pid": 1}, "hosting.state.malformed"),  # its group would be every process there is
        ({"extra": 1}, "hosting.state.malformed"),
        ({"mrenclave": "AA"}, "hosting.state.malformed"),
    ],
)
def test_a_strange_record_is_refused(place, change, reason):
    """A newer version, a wrong type, an unknown key, bad hex: each has its reason."""
    (place.path / "state.json").write_text(json.dumps({**json.loads(RECORD.to_bytes()), **change}))
    with pytest.raises(FormatError) as caught:
        place.record()

    assert reason == caught.value.reason


@pytest.mark.parametrize("name", ["", "One", "1a", "a/b", "..", "a" * 64, "a b", "a\n"])
def test_names_are_validated(tmp_path, name):
    """What is not a NAME never becomes a path."""
    with pytest.raises(UsageError) as caught:
        state.place_of(tmp_path, name)

    assert "hosting.name.malformed" == caught.value.reason


def test_an_unknown_name_is_a_usage_error(tmp_path):
    """A name that was never started is said to be unknown."""
    with pytest.raises(UsageError) as caught:
        state.place_of(tmp_path, "none").record()

    assert "hosting.name.unknown" == caught.value.reason


def test_facts_are_read_as_they_were_written(place):
    """They come back equal whatever the enclave writes into its own copy, which has the beacon too."""
    for facts in (
        InstanceFacts(0, "::1", ("a.example", "::1"), 60),
        InstanceFacts(443, "0.0.0.0", (), 60, '{"id":"SGX"}'),
    ):
        place.write_facts(facts)
        assert facts.to_bytes() == (place.instance / "instance.json").read_bytes()
        for bad in (
            b"",
            b'{"port": 0, "host": "0.0.0.0", "san": [], "timeout": 1}',
            b'{"port": 0, "host": "evil.example"}',
        ):
            (place.instance / "instance.json").write_bytes(bad)
            assert replace(facts, beacon=None) == place.facts()


def test_facts_that_are_gone_are_no_dead_end(place):
    """The error says what to do."""
    with pytest.raises(StorageError) as caught:
        place.facts()
    assert ("fs.file.missing", "glasscase stop one, and run it again") == (caught.value.reason, caught.value.hint)


def test_a_port_that_the_system_chose_is_kept(place):
    """It comes back, 0 forgets it, and what is no port counts as none."""
    assert 0 == place.chosen_port()
    place.keep_port(40123)
    assert 40123 == place.chosen_port()
    for text in ("70000", "-1", "", "4o", "٣"):
        (place.path / "port").write_text(text)
        assert 0 == place.chosen_port()
    place.keep_port(0)
    assert not (place.path / "port").exists()
    place.keep_port(0)


def test_a_status_file_of_an_enclave_is_hostile(place, tmp_path):
    """A link, a pipe, a directory, garbage, too much, a strange state or port is no status; nothing is followed or waited for."""
    path = place.instance / "status.json"
    good = {"v": 1, "state": "serving", "port": 1, "since": 2, "seq": 3, "exp": 4}
    path.write_text(json.dumps(good))
    assert "serving" == place.status().state

    for bad in ({**good, "state": "owned"}, {**good, "port": 70000}, {**good, "x": 1}, {**good, "since": -1}, []):
        path.write_text(json.dumps(bad))
        assert place.status() is None
    path.write_bytes(b"\xff\x00")
    assert place.status() is None
    path.unlink()
    os.mkfifo(path)
    assert place.status() is None
    path.unlink()
    path.write_bytes(b" " * (RECORD_MAX + 1) + json.dumps(good).encode())
    assert place.status() is None
    path.unlink()
    path.mkdir()
    assert place.status() is None
    path.rmdir()
    (tmp_path / "secret").write_text(json.dumps(good))
    path.symlink_to(tmp_path / "secret")
    assert place.status() is None


def test_this_process_lives_and_a_finished_one_does_not():
    """identify and is_alive tell a running process from one that is gone."""
    own = processes.identify(os.getpid())

    assert own is not None and processes.is_alive(own)
    assert processes.resident_bytes(own) > 1 << 20
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert processes.identify(child) is None  # a zombie counts as gone
    os.waitpid(child, 0)
