"""How an enclave is started and stopped, with a stand-in for Gramine's loader."""

import errno
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from glasscase.cli.ending import ended
from glasscase.config.enclave import EnclaveConfig, GramineOptions, ServerOptions
from glasscase.errors import FormatError, StorageError, UsageError
from glasscase.hosting import address, launch, logs, processes, state, stopping
from glasscase.hosting.launch import LaunchRequest

from .conftest import USER, crash, start


def config_of(drain):
    return EnclaveConfig(
        name="one", entry="app:app", interface="asgi", health=None, encrypt=False, models="digest", build_epoch=1, owners=(b"o" * 32,),
        threshold=1, package=None, commitment=None, gramine=GramineOptions("simulator", "512M", 32, 1, 1),
        server=ServerOptions(drain=drain), env={},
    )  # fmt: skip


def facts_of(place):
    return json.loads((place.instance / "facts").read_text())


def test_the_loader_is_started_as_gramine_wants_it(running, bundle):
    """argv, directory, links, session, environment and standard input are exactly those of the specification."""
    place, record = running
    facts = facts_of(place)

    runtime = bundle.resolve() / "runtime"  # Gramine: "Path to in-enclave PAL must be absolute"
    assert [f"{runtime}/loader", f"{runtime}/libpal.so", "init", "app"] == facts["argv"]
    assert str(place.path.resolve()) == facts["cwd"]
    assert {name: str(bundle.resolve() / name) for name in ("runtime", "rootfs", "blobs")} == facts["links"]
    assert set() == set(facts["env"]) - {"PWD", "LC_CTYPE"}  # set by the shell of the stand-in
    assert record.process.pid == facts["pid"] == facts["sid"]
    assert "" == facts["stdin"]
    assert 0o077 == facts["umask"]
    assert facts["fds"][:3] == [0, 1, 2] and len(facts["fds"]) <= 4
    assert b"manifest" == (place.path / "app.manifest.sgx").read_bytes()
    assert b"signature" == (place.path / "app.sig").read_bytes()
    assert not (place.path / "app.manifest").exists()
    assert not (place.path / "app.sig").is_symlink()


def test_the_enclave_may_have_the_descriptors_of_its_manifest(workplace, checked):
    """Gramine counts 4,096 for the program, but each is one of the host's, of which a shell or a service has 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != hard < launch.DESCRIPTORS:
        pytest.skip("this account may have fewer")
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        place, record = start(workplace, checked)
        here = resource.getrlimit(resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    stopping.stop(place, record, deadline_s=10)

    assert [launch.DESCRIPTORS, hard] == facts_of(place)["descriptors"]
    assert (1024, hard) == here


@pytest.mark.skipif(USER is None, reason="needs root")
def test_the_enclave_runs_as_an_account_that_owns_only_its_instance(running):
    """As root the process has the uid of --user, which owns instance/ and nothing else."""
    place, _record = running
    uid = facts_of(place)["uid"]

    assert 0 != uid
    assert uid == place.instance.stat().st_uid
    assert 0 == place.path.stat().st_uid == (place.path / "app.sig").stat().st_uid
    assert 0o710 == place.path.stat().st_mode & 0o777


@pytest.mark.skipif(USER is None, reason="needs root")
def test_the_enclave_has_the_groups_of_its_account(workplace, checked, monkeypatch):
    """/dev/sgx_enclave belongs to root and the group sgx: an account in it must keep it, and gets none of ours."""
    monkeypatch.setattr(launch.os, "getgrouplist", lambda _name, gid: [gid, 54321])
    place, record = start(workplace, checked)
    try:
        groups = facts_of(place)["groups"]
    finally:
        stopping.stop(place, record, deadline_s=10)

    assert {54321, place.path.stat().st_gid} == set(groups)


@pytest.mark.skipif(USER is None, reason="needs root")
def test_root_must_name_an_account(workplace, checked):
    """Without --user, or with --user root, nothing is started."""
    for user in (None, "root"):
        with pytest.raises(UsageError) as caught:
            start(workplace, checked, user=user)
        assert "hosting.user.root" == caught.value.reason
    assert () == state.places(workplace / "state")


def test_the_facts_of_the_instance_go_in_as_a_file(running):
    """instance.json holds port, host, names and time-out; the names include the host and the loopback ones."""
    place, _record = running

    assert {
        "port": 0,
        "host": "127.0.0.1",
        "san": ["api.example", "127.0.0.1", "localhost", "::1"],
        "timeout": 3600,
    } == json.loads((place.instance / "instance.json").read_text())


def test_stop_returns_when_the_process_is_gone(running):
    """SIGTERM ends it, the state is stopped, the simulator's directories are gone, a second stop finds nothing."""
    place, record = running
    how = stopping.stop(place, record)

    assert "stopped" == how
    assert not os.path.exists(f"/proc/{record.process.pid}") or processes.identify(record.process.pid) is None
    assert "stopped" == state.state_of(place, place.record())
    assert not (place.path / "run").exists() and not place.simulated_device.exists()
    assert "gone" == stopping.stop(place, record)
    assert ["started", "stopping"] == list(logs.lines(place))


@pytest.mark.parametrize(("drain", "deadline"), [(1, 16), (30, 45), (600, 615), (None, 45)])
def test_a_stop_waits_for_the_drain_of_the_bundle(running, monkeypatch, drain, deadline):
    """Without a deadline of the operator's no drain is cut short; a bundle that is gone has the default."""
    place, record = running
    config = Path(record.bundle) / "rootfs/opt/glasscase/enclave.cbor"
    config.parent.mkdir(parents=True)
    if drain is not None:
        config.write_bytes(config_of(drain).to_bytes())
    seen = []
    with monkeypatch.context() as patch:
        patch.setattr(stopping, "_end", lambda _process, *, name, deadline_s: seen.append(deadline_s))
        patch.setattr(stopping, "clear", lambda _place: False)
        stopping.finish(place, record)
        stopping.stop(place, record, deadline_s=7)

    assert [deadline, 7] == seen
    config.write_bytes(b"damaged")
    assert 45 == stopping.stop_s(record)


def in_session(session):
    """Return the processes of a session that are no zombies."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (process := processes.identify(int(entry.name))) is not None:
            try:
                fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
            except OSError:
                continue
            found += [process] if int(fields[3]) == session else []
    return found


def test_a_deaf_process_is_killed_after_the_deadline(workplace, checked):
    """An enclave that ignores SIGTERM gets SIGKILL, and so does whatever else is in its session."""
    root = workplace / "state" / "instances" / "one"
    root.mkdir(parents=True)
    (root / "mode").write_text("deaf")
    place, record = start(workplace, checked)
    how = stopping.stop(place, record, deadline_s=0.3)

    assert "killed" == how
    assert not processes.is_alive(record.process)
    deadline = time.monotonic() + 10
    while (left := in_session(record.process.pid)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [] == left


def test_an_enclave_that_dies_is_reported_with_its_last_words(workplace, checked):
    """The error names the reason and carries the log's last line; the state is failed or stopped, nothing runs."""
    root = workplace / "state" / "instances" / "one"
    root.mkdir(parents=True)
    (root / "mode").write_text("die")
    stale = root / "instance" / "status.json"
    stale.parent.mkdir(mode=0o700)
    stale.write_text(json.dumps({"v": 1, "state": "waiting", "port": 4321, "since": 5, "seq": 1, "exp": 9}))
    with pytest.raises(StorageError) as caught:
        start(workplace, checked)
    assert not stale.exists()

    place = state.place_of(workplace / "state", "one")

    assert "hosting.enclave.died" == caught.value.reason
    assert "cannot open /dev/sgx_enclave" in caught.value.message
    assert "failed" == state.state_of(place, place.record())
    assert not (place.path / "run").exists()


@pytest.mark.parametrize("error", [StorageError("fs.file.full", "no space"), KeyboardInterrupt()])
def test_an_enclave_that_nobody_could_find_again_is_ended(workplace, checked, monkeypatch, error):
    """If state.json cannot be written, the process that was just started ends, and the disk's error is what is said."""
    started = []
    write = state.Place.write_record

    def write_record(place, record):
        if record.process.pid:
            started.append(record.process)
            raise error
        write(place, record)

    monkeypatch.setattr(state.Place, "write_record", write_record)
    with pytest.raises(type(error)) as caught:
        start(workplace, checked)

    assert caught.value is error
    assert started and not any(map(processes.is_alive, started))
    assert () == state.places(workplace / "state")


def lose(workplace, checked):
    """Start an enclave in a process that is killed before it has written state.json; return the enclave's process."""
    launcher = os.fork()
    if launcher == 0:
        write = state.Place.write_record

        def write_record(place, record):
            if record.process.pid:
                (workplace / "lost").write_text(str(record.process.pid))
                os.kill(os.getpid(), signal.SIGKILL)
            write(place, record)

        state.Place.write_record = write_record
        try:
            start(workplace, checked)
        finally:
            os._exit(1)
    assert signal.SIGKILL == os.WTERMSIG(os.waitpid(launcher, 0)[1])
    lost = processes.identify(int((workplace / "lost").read_text()))
    assert lost is not None
    return lost


@pytest.fixture
def impatient(monkeypatch):
    """Wait only a moment for the log of an enclave that has gone."""
    monkeypatch.setattr(logs.wait_written, "__defaults__", (0.3,))


def test_an_enclave_whose_launcher_was_killed_is_ended(workplace, checked, impatient):
    """state.json does not name its process: `status` shows it all the same, the next start ends it, and so does a stop."""
    lost = lose(workplace, checked)
    (place,) = state.places(workplace / "state")
    assert "starting" == state.state_of(place, place.record())
    assert "killed" == stopping.stop(place, place.record())
    assert not processes.is_alive(lost)
    assert logs.wait_written(place, 10)
    assert "stopped" == state.state_of(place, place.record())
    assert "gone" == stopping.stop(place, place.record())

    lost = lose(workplace, checked)
    place, record = start(workplace, checked)
    assert not processes.is_alive(lost) and processes.is_alive(record.process)

    crash(record)
    lost = lose(workplace, checked)
    crash(SimpleNamespace(process=lost))
    assert logs.wait_written(place, 10)
    assert "failed" == state.state_of(place, place.record())


def test_what_a_killed_command_was_writing_goes_with_the_next_start(workplace, checked):
    """A file without its name yet holds nothing that anybody reads; nobody else may write there while the lock is held."""
    place = state.place_of(workplace / "state", "one")
    place.instance.mkdir(parents=True)
    parts = [folder / ".part-0123456789abcdef" for folder in (place.path, place.instance)]
    for part in parts:
        part.write_bytes(b"half")
    (place.path / ".part-directory").mkdir()
    _place, record = start(workplace, checked)
    stopping.stop(place, record)

    assert [False, False] == [part.exists() for part in parts]
    assert (place.path / ".part-directory").exists()


def test_a_start_that_fails_leaves_the_record_of_before(running, workplace, checked, bundle):
    """What cannot be executed was never started: state.json says what it said."""
    place, record = running
    stopping.stop(place, record)
    before = place.record()
    (bundle / "runtime" / "loader").chmod(0o644)
    with pytest.raises(StorageError) as caught:
        start(workplace, checked)
    assert "hosting.process.refused" == caught.value.reason
    assert before == place.record()


def test_an_enclave_that_is_not_seen_from_here_is_not_called_stopped(running, impatient, monkeypatch):
    """In another pid namespace its process is nobody's, but its log is still held: a stop is refused and changes nothing."""
    place, record = running
    (place.path / "run").mkdir()
    with monkeypatch.context() as patch, pytest.raises(StorageError) as caught:
        patch.setattr(processes, "identify", lambda _pid: None)
        stopping.stop(place, record)
    assert (place.path / "run").exists()
    assert "hosting.process.stuck" == caught.value.reason and str(place.log) in caught.value.hint
    assert record == place.record() and processes.is_alive(record.process)


def test_a_former_enclave_that_cannot_be_ended_is_not_joined(running, workplace, checked, impatient, monkeypatch):
    """Where the kernel does not show us who holds the log, no second enclave is put into the directory."""
    place, record = running
    named = (place.path / "state.json").read_bytes()
    (place.path / "state.json").unlink()
    with monkeypatch.context() as patch, pytest.raises(StorageError) as caught:
        patch.setattr(logs, "writers", lambda _place: ())
        start(workplace, checked)
    assert "hosting.process.stuck" == caught.value.reason and str(place.log) in caught.value.hint
    assert processes.is_alive(record.process)
    assert not (place.path / "state.json").exists()
    (place.path / "state.json").write_bytes(named)


def test_who_only_looks_at_a_log_is_not_its_writer(running):
    """Nobody who has the lock's file open, or shares a pipe with such a one, is taken for the enclave."""
    place, record = running
    code = "import fcntl, sys, time; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB) if sys.argv[2:] else 0"
    code += "; print(flush=True); time.sleep(60)"
    (place.path / "another").write_bytes(b"")
    others = [
        subprocess.Popen([sys.executable, "-c", code, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for words in ([place.path / "log.lock"], [place.path / "another", "lock"])
    ]
    try:
        assert [b"\n"] * 2 == [other.stdout.readline() for other in others]
        assert (record.process,) == logs.writers(place)
    finally:
        for other in others:
            other.kill()
            other.communicate()


def test_who_locks_the_log_of_an_enclave_that_is_gone_is_not_its_keeper(running, impatient):
    """A stranger may hold the lock and read a pipe: who writes to that one is not killed for it, and the stop says who to look for."""
    place, record = running
    crash(record)
    assert logs.wait_written(place, 10)
    read_end, write_end = os.pipe()
    code = "import fcntl, sys, time; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)"
    code += "; print(flush=True); time.sleep(60)"
    stranger = subprocess.Popen(
        [sys.executable, "-c", code, place.path / "log.lock"], stdin=read_end, stdout=subprocess.PIPE
    )
    friend = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], stdout=write_end)
    os.close(read_end)
    os.close(write_end)
    try:
        assert b"\n" == stranger.stdout.readline()
        assert () == logs.writers(place)
        with pytest.raises(StorageError) as caught:
            stopping.stop(place, record)
        assert "hosting.process.stuck" == caught.value.reason
        assert friend.poll() is None and stranger.poll() is None
    finally:
        for process in (stranger, friend):
            process.kill()
            process.communicate()


@pytest.mark.parametrize("name", ["log.txt", "log.1.txt"])
def test_a_keeper_is_known_by_a_log_that_was_rotated_or_removed(running, name):
    """The file that it has open says who it is, also by the names that it has later."""
    place, record = running
    if name != place.log.name:
        os.replace(place.log, place.path / name)
    assert (record.process,) == logs.writers(place)
    (place.path / name).unlink()
    assert (record.process,) == logs.writers(place)


def test_a_pid_that_is_used_again_is_not_taken_for_a_writer(running, monkeypatch):
    """Where a writer ends while it is looked at, nobody who has its pid afterwards is named."""
    place, record = running
    real, opened = processes.identify, logs._opened
    recycled = processes.ProcessId(record.process.pid, record.process.start + 1, record.process.boot_id)

    with monkeypatch.context() as patch:

        def looked_at(pid):
            found = opened(pid)
            if int(pid) == recycled.pid:
                patch.setattr(processes, "identify", lambda pid: recycled if pid == recycled.pid else real(pid))
            return found

        patch.setattr(logs, "_opened", looked_at)
        named = logs.writers(place)
        assert recycled == processes.identify(record.process.pid)
    assert (record.process,) == named


def test_a_signal_while_the_process_is_started_leaves_none(workplace, checked, monkeypatch):
    """Ctrl-C between the start of the process and its record ends the process."""
    started = []
    identify = processes.identify

    def interrupted(pid):
        if not (workplace / "state/instances/one/state.json").exists():
            return identify(pid)  # who looks for what an earlier start has left
        started.append(identify(pid))
        monkeypatch.setattr(processes, "identify", identify)
        raise KeyboardInterrupt

    monkeypatch.setattr(processes, "identify", interrupted)
    with pytest.raises(KeyboardInterrupt):
        start(workplace, checked)

    assert started[0] is not None and not processes.is_alive(started[0])
    assert () == state.places(workplace / "state")


def test_an_enclave_that_never_answers_is_stopped(workplace, checked, monkeypatch):
    """After the deadline the process is gone and the error says so."""
    root = workplace / "state"
    place = state.place_of(root, "one")
    place.path.mkdir(parents=True)
    request = LaunchRequest("one", checked.bundle.path, "gramine-sgx", user=USER)
    record = launch.launch(root, request, checked=checked, data_directory=workplace, now=1)
    with pytest.raises(StorageError) as caught:
        launch.wait_ready(place, record, lambda _port: False, deadline_s=0.5)

    assert "hosting.enclave.silent" == caught.value.reason
    assert not processes.is_alive(record.process)


@pytest.mark.parametrize("name", ["*", "a.*.b", "*.", "a..b", ".a", "a.", "-a", "a-", "a:80", "1.2.3", "1.2.3.256", "fe80::1%lo",
                                  "a/b", "https://a", "a@b", "a" * 64, "a.b\n"])  # fmt: skip
def test_what_is_no_host_name_or_address_is_refused(name):
    """A certificate with such a name would be right for nobody."""
    with pytest.raises(UsageError) as caught:
        address.certificate_names("127.0.0.1", (name,))
    assert "hosting.san.malformed" == caught.value.reason and "--san" in caught.value.message


def test_names_and_addresses_are_taken():
    """As they are, addresses in their one spelling, each once, and the host's own after them."""
    names = ("*.x.y", "a", "A-1.b_c", "xn--4ca.example", "1a", "a" * 63, "[0:0::1]", "10.0.0.1", "2001:DB8::1")
    found = address.certificate_names("192.0.2.7", (*names, "a"))
    assert (*names[:6], "::1", "10.0.0.1", "2001:db8::1", "192.0.2.7") == found


@pytest.mark.parametrize("san", [("bad name",), ("",), ("a\n",), tuple(f"h{n}" for n in range(32)), ("ö.example",)])
def test_names_that_no_certificate_can_hold_are_refused(workplace, checked, san):
    """They are the caller's fault, said before anything is started."""
    with pytest.raises(UsageError) as caught:
        start(workplace, checked, san=san)

    assert "hosting.san.malformed" == caught.value.reason
    assert not (workplace / "state/instances/one/state.json").exists()


def test_a_name_cannot_run_twice(running, workplace, checked):
    """The second start is refused and the first one runs on."""
    _place, record = running
    with pytest.raises(UsageError) as caught:
        start(workplace, checked)

    assert "hosting.name.running" == caught.value.reason
    assert processes.is_alive(record.process)


def test_two_names_cannot_share_a_port(running, workplace, checked):
    """The port that another instance answers on is refused, and so is one that another program holds."""
    with pytest.raises(UsageError) as caught:
        start(workplace, checked, name="two", port=4321)
    assert "hosting.port.taken" == caught.value.reason
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(UsageError) as caught:
            start(workplace, checked, name="two", port=other.getsockname()[1])
    assert "hosting.port.taken" == caught.value.reason
    assert ["one"] == [place.name for place in state.places(workplace / "state")]


def test_a_port_that_an_account_may_not_have_is_not_said_to_be_taken(workplace, checked, monkeypatch):
    """Below 1024 an ordinary account is refused by the system: nobody else has the port."""

    def refuse(*_address):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(UsageError) as caught:
        start(workplace, checked, port=80)

    assert "hosting.port.denied" == caught.value.reason
    assert "this account may not listen on port 80" in caught.value.message and "not free" not in caught.value.message


def test_a_port_is_had_again_while_it_is_free(running, workplace):
    """What the system chose is asked for again; another instance or program on it, or a named port, gives 0."""
    place = state.place_of(workplace / "state", "two")
    place.path.mkdir()

    def again():
        return address.port_again(workplace / "state", place, host="127.0.0.1")

    assert 0 == again()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        place.keep_port(port)
        assert 0 == again()
    assert port == again()
    place.keep_port(4321)  # of the instance that runs
    assert 0 == again()


def test_an_end_that_the_enclave_has_said_is_no_crash(running):
    """Who sends SIGTERM from outside of glasscase stops it as well: the enclave said `stopped` before it went."""
    place, record = running
    os.kill(record.process.pid, signal.SIGTERM)
    deadline = time.monotonic() + 10
    while processes.is_alive(record.process) and time.monotonic() < deadline:
        time.sleep(0.02)

    assert ("running", "stopped") == (place.record().state, state.state_of(place, place.record()))


def test_a_link_in_the_place_of_instance_is_refused(workplace, checked):
    """As root the directory is given to the enclave's account: a link there could give away any other."""
    root = workplace / "state" / "instances" / "one"
    root.mkdir(parents=True)
    (workplace / "other").mkdir()
    (root / "instance").symlink_to(workplace / "other")
    with pytest.raises(StorageError):
        start(workplace, checked)

    assert os.geteuid() == (workplace / "other").stat().st_uid
    assert [] == list((workplace / "other").iterdir())


def test_a_dead_process_is_seen_as_dead(running):
    """After SIGKILL from outside the state is failed, although state.json still says running."""
    place, record = running
    crash(record)

    assert "failed" == state.state_of(place, place.record())
    assert "running" == place.record().state


def test_clearing_up_after_a_crash_does_not_hide_it(running):
    """finish() ends a process that runs; of one that has crashed it takes the rest away, and the state stays failed."""
    place, record = running
    (place.path / "run").mkdir()
    crash(record)
    stopping.finish(place, record)

    assert "failed" == state.state_of(place, place.record())
    assert not (place.path / "run").exists()
    assert "gone" == stopping.stop(place, record)
    assert "stopped" == state.state_of(place, place.record())


def test_finishing_stops_what_runs(running):
    """finish() of an instance that runs is a clean stop."""
    place, record = running
    stopping.finish(place, record)

    assert not processes.is_alive(record.process)
    assert "stopped" == state.state_of(place, place.record())


def test_state_of_an_earlier_boot_or_a_recycled_pid_is_stale(running):
    """The same pid with another start time or boot id is not our process, and no stop touches it."""
    place, record = running
    crash(record)
    text = json.loads((place.path / "state.json").read_text())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True) as other:
        found = processes.identify(other.pid)
        for change in ({"boot_id": "00000000-0000-0000-0000-000000000000"}, {"pid_start": found.start + 1}):
            named = {"pid": found.pid, "pid_start": found.start, "boot_id": found.boot_id}
            (place.path / "state.json").write_text(json.dumps({**text, **named, **change}))
            assert "failed" == state.state_of(place, place.record())
            assert "gone" == stopping.stop(place, place.record())
        assert other.poll() is None
        other.communicate(b"\n")


def test_the_lock_of_an_instance_is_exclusive(workplace):
    """A second command for one name waits, then says who is in the way."""
    place = state.place_of(workplace, "one")
    place.path.mkdir(parents=True)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from glasscase.hosting import state\n"
            "with state.locked(state.Place(Path(sys.argv[1]))):\n print(flush=True); sys.stdin.read()",
            str(place.path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        holder.stdout.readline()
        with pytest.raises(StorageError) as caught:
            with state.locked(place, wait_s=0.2):
                pass
        assert "hosting.name.busy" == caught.value.reason
    finally:
        holder.communicate(b"")
    with state.locked(place, wait_s=0.2):
        pass


def test_persisted_state_of_another_bundle_is_not_overwritten(running, workplace, checked):
    """A start of another bundle under a name that keeps state is refused."""
    place, record = running
    stopping.stop(place, record)
    (place.instance / "persist").mkdir()
    (place.instance / "persist" / "record").write_bytes(b"x")
    checked.bundle.id = b"\x33" * 32
    with pytest.raises(FormatError) as caught:
        start(workplace, checked)

    assert "hosting.persist.foreign" == caught.value.reason
    assert b"x" == (place.instance / "persist" / "record").read_bytes()


def test_a_bundle_of_the_simulator_is_refused_by_gramine(workplace, checked):
    """The stand-in runtime cannot be loaded by a real machine, and the answer says so before anything starts."""
    checked.bundle.index.runtime.name = "simulator"
    with pytest.raises(UsageError) as caught:
        start(workplace, checked)

    assert "hosting.runtime.simulated" == caught.value.reason


def test_a_loader_that_cannot_be_executed_is_a_clear_error(workplace, checked, bundle):
    """Gramine's exit 126 case: the file has no x bit."""
    (bundle / "runtime" / "loader").chmod(0o644)
    with pytest.raises(StorageError) as caught:
        start(workplace, checked)

    assert "hosting.process.refused" == caught.value.reason


def test_a_big_enclave_has_time_to_be_filled():
    """Without EDMM each page is added before the first instruction: 64 GiB take minutes, and no such time elsewhere."""
    assert 1024 == launch.fill_s("gramine-sgx", (64 << 30) // 4096)
    assert 8 == launch.fill_s("gramine-sgx", (512 << 20) // 4096)
    assert 0 == launch.fill_s("gramine-direct", 1 << 20) == launch.fill_s("simulator", 1 << 20)


def test_direct_runs_with_a_software_device(workplace, checked, bundle):
    """gramine-direct: the direct loader on the derived manifest; the enclave's account gets quotes of the true MRENCLAVE."""
    direct = workplace / "data" / "runtimes" / "gramine" / "direct"
    direct.mkdir(parents=True)
    (workplace / "data").chmod(0o700)  # as glasscase makes it: the account of the enclave reads nothing in it
    for name in ("loader", "libpal.so"):
        target = direct / name
        target.write_bytes((bundle / "runtime" / name).read_bytes())
        target.chmod(0o755)
    (bundle / "app.manifest.sgx").write_bytes(b"[fs]\nmounts = []\n[sgx]\nallowed_files = []\n")
    checked.sigstruct = SimpleNamespace(
        mrsigner=b"\x44" * 32, isv_prod_id=1, isv_svn=2, attributes_flags=5, xfrm=3, misc_select=0
    )
    root = workplace / "state"
    place = state.place_of(root, "one")
    place.path.mkdir(parents=True)
    request = LaunchRequest("one", bundle, "gramine-direct", user=USER)
    with state.locked(place):
        record = launch.launch(root, request, checked=checked, data_directory=workplace / "data", now=1)
        launch.wait_ready(place, record, lambda port: port == 4321, deadline_s=20)
        facts = facts_of(place)
        how = stopping.stop(place, record, deadline_s=10)

    assert ["direct/loader", "direct/libpal.so", "init", "app"] == facts["argv"]
    assert {"mrenclave": "22" * 32, "mrsigner": "44" * 32, "data": bytes(range(64)).hex()} == facts["quoted"]
    assert 16 == facts["sealing"]
    assert 16 == facts["mount_key"]  # the account may set it, as inside Gramine
    assert b"file:sim" in (place.path / "app.manifest").read_bytes()
    assert "stopped" == how
    assert not place.simulated_device.exists()


def test_the_instances_of_a_flow_end_with_it(workplace, checked):
    """When the flow is over its instance is stopped, and its directory is gone."""
    with ended(workplace):
        _place, record = start(workplace, checked)
        assert processes.is_alive(record.process)
    assert not processes.is_alive(record.process)
    assert not workplace.exists()
    workplace.mkdir()
