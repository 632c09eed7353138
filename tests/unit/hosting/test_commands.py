"""The operator's commands when others work on the same instance, and when its files are not what they were."""

import contextlib
import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from glasscase.cli import foreground, main
from glasscase.errors import FormatError, StorageError, UsageError
from glasscase.fs import atomic
from glasscase.hosting import address, collect, launch, logs, processes, starting, state, stopping
from glasscase.hosting.launch import LaunchRequest

from .conftest import USER, crash, start


def command(workplace, *arguments):
    """Start one command of the operator."""
    environment = {**os.environ, "GLASSCASE_STATE": f"{workplace}/state", "GLASSCASE_DATA": f"{workplace}/data"}
    return subprocess.Popen(
        [sys.executable, "-I", "-m", "glasscase", *arguments, "--json"], env=environment, cwd=workplace,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def answer(process):
    """Return exit code and JSON of a command."""
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    return process.returncode, json.loads(out)


def relaunch(workplace, checked, name="one"):
    """Start an instance again, under a lock that is held already; return its record."""
    root = workplace / "state"
    request = LaunchRequest(name, checked.bundle.path, "gramine-sgx", user=USER)
    record = launch.launch(root, request, checked=checked, data_directory=workplace / "data", now=78)
    launch.wait_ready(state.place_of(root, name), record, lambda port: port == 4321, deadline_s=20)
    return record


def test_stop_ends_what_runs_when_its_turn_comes(running, workplace, checked):
    """A stop that waits for a restart stops the process of after the restart, not the one of before."""
    place, record = running
    with state.locked(place):
        process = command(workplace, "stop", "one")
        time.sleep(1)  # it has started and waits
        stopping.stop(place, record)
        record = relaunch(workplace, checked)
    code, said = answer(process)

    assert (0, "stopped", "stopped") == (code, said["how"], said["state"])
    assert not processes.is_alive(record.process)


@pytest.mark.parametrize("what", ["directory", "files"])
def test_an_enclave_whose_directory_was_removed_is_ended(workplace, checked, what):
    """`stop` of its name finds it by the log that it still has, and so does the next start; both only its own."""
    _place, other = start(workplace, checked, "two")
    place, record = start(workplace, checked)

    def lose():
        shutil.rmtree(place.path)
        if what == "files":
            place.path.mkdir()
        assert code_of("status") == 1

    def code_of(verb):
        return answer(command(workplace, verb, "one"))[0]

    lose()
    code, said = answer(command(workplace, "stop", "one"))
    assert (0, "killed", "stopped", None) == (code, said["how"], said["state"], said["url"])
    assert set(answer(command(workplace, "stop", "two"))[1]) == set(said)
    assert not processes.is_alive(record.process)
    assert 1 == code_of("stop")

    _place, other = start(workplace, checked, "two")
    _place, record = start(workplace, checked)
    lose()
    place, again = start(workplace, checked)
    assert not processes.is_alive(record.process)
    for name, process in (("one", again), ("two", other)):
        assert processes.is_alive(process.process)
        assert 0 == answer(command(workplace, "stop", name))[0]


def test_a_lost_enclave_of_another_mount_namespace_is_somebody_elses(workplace, checked, monkeypatch):
    """A container may have a directory of the same name: a name that is gone says nothing of whose it was."""
    place, record = start(workplace, checked)
    shutil.rmtree(place.path)
    stat = os.stat
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", lambda path, **how: stat("/" if path == "/proc/self/ns/mnt" else path, **how))
        assert () == logs.writers(place)
    assert stopping.end_writers(place)
    assert not processes.is_alive(record.process)


def stopped(workplace, monkeypatch, capsys, *options):
    """Return what `stop one` of this process says."""
    monkeypatch.setattr(main.signal, "signal", lambda *_: None)
    monkeypatch.setattr(main, "_no_core_dumps", lambda: None)
    monkeypatch.setenv("GLASSCASE_STATE", str(workplace / "state"))
    capsys.readouterr()
    code = main.run(["stop", "one", "--json", *options])
    return code, json.loads(capsys.readouterr().out)


def test_a_start_that_comes_between_is_stopped_as_what_it_is(workplace, checked, monkeypatch, capsys):
    """Where a name is unknown and then somebody starts it, a stop takes its turn: no launcher is killed in the middle."""
    (workplace / "state").mkdir(mode=0o700)
    writers, records = logs.writers, []

    def slow(place):
        monkeypatch.setattr(logs, "writers", writers)
        records.append(start(workplace, checked)[1])
        return writers(place)

    monkeypatch.setattr(logs, "writers", slow)
    code, said = stopped(workplace, monkeypatch, capsys)

    assert (0, "stopped", records[0].bundle_id.hex()) == (code, said["how"], said["bundle_id"])
    assert not processes.is_alive(records[0].process)


@pytest.mark.parametrize("emptied", [False, True])
def test_a_removal_of_what_is_no_longer_recorded_removes_all(workplace, checked, monkeypatch, capsys, emptied):
    """`--remove` takes what is left of the directory; without it only a directory stays that was there."""
    for options, left in (((), emptied), (("--remove",), False)):
        place, record = start(workplace, checked)
        (place.path / "state.json").unlink()
        if not emptied:
            shutil.rmtree(place.path)
        code, said = stopped(workplace, monkeypatch, capsys, *options)

        assert (0, "killed") == (code, said["how"])
        assert left == place.path.exists()
        assert not processes.is_alive(record.process)


def test_the_end_of_foreground_leaves_another_start_alone(running, workplace, checked):
    """If the instance was restarted by another command, the one that stayed with the former process touches nothing."""
    place, record = running
    with state.locked(place):
        stopping.stop(place, record)
        again = relaunch(workplace, checked)
    (place.path / "run").mkdir()
    foreground.end(SimpleNamespace(place=place, record=record))

    assert processes.is_alive(again.process)
    assert (place.path / "run").exists()
    stopping.stop(place, again)


def test_the_end_of_foreground_after_a_removal(workplace, checked):
    """If another command has stopped and removed the instance, that was a clean end."""
    place, record = start(workplace, checked)
    with state.locked(place):
        stopping.stop(place, record)
        for path in sorted(place.path.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        place.path.rmdir()
    started = SimpleNamespace(place=place, record=record)
    out = SimpleNamespace(say=lambda _text: None)

    assert 0 == foreground.stay(out, started, lambda: None)
    foreground.end(started)
    assert not place.path.exists()


def take_away_while_waiting(place, wait):
    """Call `wait` in a thread while another process holds the lock of an instance, and remove the directory meanwhile."""
    with state.locked(place, make=True):
        pass
    # POSIX locks do not exclude threads of one process: a child holds it
    holder = subprocess.Popen(
        [sys.executable, "-c", "import fcntl, sys; f = open(sys.argv[1], 'r+'); fcntl.lockf(f, fcntl.LOCK_EX); "
         "print(flush=True); sys.stdin.read()", str(place.path / "lock")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    holder.stdout.readline()
    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.3)
    (place.path / "lock").unlink()
    place.path.rmdir()
    holder.communicate(b"")
    waiting.join(10)


def test_a_lock_that_was_removed_is_no_lock(workplace):
    """Who waited for a lock that `stop --remove` took away takes the one that is there then, so that two never hold one each."""
    place = state.place_of(workplace / "state", "one")
    seen = []

    def wait():
        with state.locked(place, make=True):
            seen.append(os.stat(place.path / "lock").st_ino)

    take_away_while_waiting(place, wait)

    assert [os.stat(place.path / "lock").st_ino] == seen


def test_a_name_that_went_away_while_waiting_is_unknown(workplace):
    """Without make nothing is made: the name is said to be unknown."""
    place = state.place_of(workplace / "state", "one")
    caught = []

    def wait():
        try:
            with state.locked(place):
                caught.append(None)
        except Exception as error:
            caught.append(error)

    take_away_while_waiting(place, wait)
    wait()

    assert ["hosting.name.unknown"] * 2 == [getattr(error, "reason", error) for error in caught]
    assert not place.path.exists()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"user": "no-such-account"}, "hosting.user.unknown"), ({"san": ("bad name",)}, "hosting.san.malformed"),
     ({"host": "192.0.2.1"}, "hosting.host.unknown"), ({"host": "192.0.2.1", "port": 4444}, "hosting.host.unknown")],
)  # fmt: skip
def test_a_start_that_is_refused_leaves_no_directory(workplace, checked, changes, reason):
    """What cannot be started leaves nothing in the state directory; what was there before stays."""
    root = workplace / "state"
    options = {"user": USER, **changes}
    request = LaunchRequest("one", checked.bundle.path, "gramine-sgx", **options)
    with pytest.raises(UsageError) as caught:
        starting.start(root, workplace / "data", request, checked, now=1, wait_s=1)
    assert reason == caught.value.reason
    assert [] == list(root.rglob("one*"))

    kept = root / "instances" / "one" / "instance" / "persist" / "record"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"kept")
    with pytest.raises(UsageError):
        starting.start(root, workplace / "data", request, checked, now=1, wait_s=1)
    assert b"kept" == kept.read_bytes()


def test_a_crashed_instance_stays_after_a_refused_start(running, workplace, checked):
    """A start that is refused changes nothing of an instance of before."""
    place, record = running
    crash(record)
    request = LaunchRequest("one", checked.bundle.path, "gramine-sgx", user=USER, host="192.0.2.1")
    with pytest.raises(UsageError):
        starting.start(workplace / "state", workplace / "data", request, checked, now=1, wait_s=1)

    assert "failed" == state.state_of(place, place.record())


def test_a_broken_record_is_no_dead_end(running, workplace, checked):
    """The error names the file and what to do, and no other name is held up by it."""
    place, _record = running
    good = (place.path / "state.json").read_bytes()
    for bad in (b"", b"{", good.replace(b"gramine-sgx", b"another"), good.replace(b"2222", b"AAAA")):
        (place.path / "state.json").write_bytes(bad)
        with pytest.raises(FormatError) as caught:
            place.record()
        assert "hosting.state.malformed" == caught.value.reason
        assert str(place.path / "state.json") in caught.value.message
        assert f"rm -r '{place.path}'" in caught.value.hint
        other = state.place_of(workplace / "state", "two")
        address.require_free(workplace / "state", other, host="127.0.0.1", port=4321)
    (place.path / "state.json").write_bytes(good)
    with pytest.raises(UsageError):
        address.require_free(workplace / "state", other, host="127.0.0.1", port=4321)
    _place, other_record = start(workplace, checked, name="two")
    stopping.stop(_place, other_record)


def restart(workplace):
    """Restart the instance `one`; return what is said of it."""
    return starting.restart(
        workplace / "state", workplace / "data", "one", runtimes=(), now=9, wait_s=20, stop_s=None, full=False
    )


def test_a_restart_starts_the_bundle_and_address_of_before(running, workplace, checked, monkeypatch):
    """Another bundle at the path is refused while the old one runs on; what the enclave wrote does not move it."""
    place, record = running
    monkeypatch.setattr(starting.collect, "answers", lambda host, port: (host, port) == ("127.0.0.1", 4321))
    checked.measurement.pages_added = 1
    other = SimpleNamespace(**{**vars(checked.bundle), "id": b"\x33" * 32})
    monkeypatch.setattr(starting, "check", lambda *_, **__: SimpleNamespace(**{**vars(checked), "bundle": other}))
    with pytest.raises(FormatError) as caught:
        restart(workplace)
    assert "hosting.bundle.changed" == caught.value.reason
    assert processes.is_alive(record.process) and record == place.record()

    facts = place.facts()
    told = json.loads((place.instance / "instance.json").read_bytes())
    (place.instance / "instance.json").write_text(json.dumps({**told, "host": "0.0.0.0", "san": ["evil.example"]}))
    monkeypatch.setattr(starting, "check", lambda *_, **__: checked)
    started = restart(workplace)
    assert facts == place.facts() and "127.0.0.1" == facts.host
    assert told == json.loads((place.instance / "instance.json").read_bytes())
    stopping.stop(place, started.record)


@pytest.mark.skipif(USER is None, reason="needs root")
@pytest.mark.parametrize("case", [(None, "hosting.user.simulator"), (54321, "hosting.user.unknown")])
def test_a_restart_that_this_account_cannot_do_stops_nothing(running, workplace, checked, monkeypatch, case):
    """Root cannot start somebody else's simulator again, nor as an account without a name: it runs on."""
    place, record = running
    uid, reason = case
    monkeypatch.setattr(starting, "check", lambda *_, **__: checked)
    place.write_record(replace(record, backend="simulator"))
    if uid is not None:
        os.chown(place.instance, uid, -1)
    with pytest.raises(UsageError) as caught:
        restart(workplace)
    assert reason == caught.value.reason
    assert caught.value.hint.endswith(f"as {USER}" if uid is None else "--user")
    assert processes.is_alive(record.process)


@pytest.mark.skipif(USER is None, reason="needs root")
def test_what_root_stops_stays_readable_to_its_owner(running):
    """state.json belongs to whose directory it lies in, whoever writes it."""
    place, record = running
    os.chown(place.path, 54321, -1)
    stopping.stop(place, record)
    assert 54321 == (place.path / "state.json").stat().st_uid


@pytest.mark.skipif(USER is None, reason="needs root")
def test_root_gives_away_nothing_that_took_the_place_of_the_record(running, workplace, monkeypatch):
    """Whose directory it is may put another name's file there at once: that one keeps its owner."""
    place, record = running
    foreign = workplace / "foreign"
    foreign.write_bytes(b"root's")
    os.chown(place.path, 54321, -1)
    take = atomic.take_place

    def swapped(part, final):
        take(part, final)
        os.unlink(final)
        os.link(foreign, final)

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "take_place", swapped)
        place.write_record(record)
    assert 0 == foreign.stat().st_uid
    os.unlink(place.path / "state.json")
    place.write_record(record)


def test_a_clock_before_1970_is_named_before_anything_is_done(running, workplace, checked, monkeypatch):
    """state.json, collateral and claims have no such time; what runs goes on."""
    _place, record = running
    monkeypatch.setattr(starting, "check", lambda *_, **__: checked)
    request = LaunchRequest("two", checked.bundle.path, "simulator")
    with pytest.raises(StorageError) as caught:
        starting.start(workplace / "state", workplace / "data", request, checked, now=-1, wait_s=1)
    with pytest.raises(StorageError) as again:
        starting.restart(
            workplace / "state", workplace / "data", "one", runtimes=(), now=-1, wait_s=1, stop_s=None, full=False
        )

    assert ["hosting.clock.wrong"] * 2 == [caught.value.reason, again.value.reason]
    assert "1969-12-31 23:59:59Z" in caught.value.message
    assert not (workplace / "state/instances/two").exists()
    assert processes.is_alive(record.process)


def test_evidence_of_a_time_before_1970_names_the_clock(tmp_path, monkeypatch, capsys):
    """Neither the collateral nor the evidence is to blame; collateral of the simulator is not made then either."""
    monkeypatch.setattr(main.signal, "signal", lambda *_: None)
    monkeypatch.setattr(main, "_no_core_dumps", lambda: None)
    monkeypatch.setenv("GLASSCASE_STATE", str(tmp_path / "state"))
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: -5.5)
        code = main.run(["evidence", "one", "-o", str(tmp_path / "evidence.json"), "--json"])
    with pytest.raises(StorageError) as caught:
        collect.simulated_collateral(tmp_path / "data", now=-1)

    assert "hosting.clock.wrong" == caught.value.reason
    assert (4, "hosting.clock.wrong") == (code, json.loads(capsys.readouterr().out)["error"]["id"])
    assert not (tmp_path / "evidence.json").exists()


def test_a_machine_without_the_default_address_is_told_of_ipv6(workplace, monkeypatch):
    """Where 127.0.0.1 is missing there is IPv6 only; to name it again would lead nowhere."""

    def bind(*_):
        raise OSError(errno.EADDRNOTAVAIL, "no such address")

    monkeypatch.setattr(address.socket, "socket", lambda *_: contextlib.nullcontext(Mock(bind=bind)))
    hints = []
    for host in ("127.0.0.1", "192.0.2.1"):
        with pytest.raises(UsageError) as caught:
            address.require_free(workplace, state.place_of(workplace, "one"), host=host, port=0)
        assert "hosting.host.unknown" == caught.value.reason
        hints.append(caught.value.hint)
    assert "::1" in hints[0] and "127.0.0.1" in hints[1]


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"port":1}', None])
def test_facts_that_cannot_be_read_say_what_to_do(running, workplace, damage):
    """A restart refuses them before it stops anything, and names the commands that write them again."""
    place, record = running
    (place.path / "facts.json").unlink() if damage is None else (place.path / "facts.json").write_bytes(damage)
    with pytest.raises((FormatError, StorageError)) as caught:
        restart(workplace)
    assert "glasscase stop one, and run it again" == caught.value.hint
    assert processes.is_alive(record.process)


def test_a_removal_takes_the_name_away_first(running, monkeypatch):
    """Who waits for the lock meanwhile shares no directory with it; what a killed removal left goes with the next one."""
    place, record = running
    stopping.stop(place, record)
    parent = place.path.parent
    (parent / ".removed-one" / "old").mkdir(parents=True)
    seen = []
    rmtree = state.shutil.rmtree

    def looking(path, **options):
        seen.append((path.name, place.path.exists()))
        rmtree(path, **options)

    monkeypatch.setattr(state.shutil, "rmtree", looking)
    with monkeypatch.context() as patch, pytest.raises(StorageError) as caught:
        patch.setattr(state.os, "rename", Mock(side_effect=PermissionError(13, "Permission denied", str(place.path))))
        state.remove(place)
    assert "fs.file.denied" == caught.value.reason and record.process == place.record().process
    with state.locked(place):
        state.remove(place)

    assert [(".removed-one", True), (".removed-one", True), (".removed-one", False)] == seen
    assert [] == os.listdir(parent)
    place.path.mkdir()  # for the fixture
    place.write_record(record)


@pytest.mark.parametrize("blocked", [PermissionError, OSError])
def test_an_instance_that_cannot_be_looked_at_holds_up_no_other(workplace, monkeypatch, blocked):
    """It is listed as unreadable; a directory without state.json, or a file, is no instance."""
    root = workplace / "state"
    for name in ("shut", "empty"):
        (root / "instances" / name).mkdir(parents=True)
    (root / "instances" / "file").write_text("")
    lstat = os.lstat

    def refusing(path, **options):
        if str(path).endswith("shut/state.json"):
            raise blocked(5, "refused", str(path))
        return lstat(path, **options)

    monkeypatch.setattr(state.os, "lstat", refusing)
    assert ["shut"] == [place.name for place in state.places(root)]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    address.require_free(root, state.place_of(root, "two"), host="127.0.0.1", port=port)
