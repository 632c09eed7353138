"""Start an enclave and see it answer.

Invariants: nothing is started before every file of the bundle was checked against its index and MRENCLAVE recomputed; the
enclave has a session of its own; a start that fails leaves no process.
Source: docs/operating.md, "Launch".
"""

import contextlib
import fcntl
import os
import pwd
import resource
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from glasscase.errors import FormatError, StorageError, UsageError
from glasscase.fs import atomic
from glasscase.hosting import address, backends, logs, processes, state, stopping
from glasscase.hosting.processes import ProcessId
from glasscase.hosting.records import InstanceFacts, InstanceRecord
from glasscase.hosting.state import Place

POLL_S = 0.05
DEVICE_READY_S = 20.0
DESCRIPTORS = 8192  # of the host, for the 4096 that the manifest lets the program have and for Gramine itself
FILL_RATE = 16384  # pages a second (64 MiB): of a machine that pages enclave memory out while it fills another enclave


@dataclass(frozen=True)
class LaunchRequest:
    """What `run` was asked for. port 0 lets the system choose. user: account of the enclave process, or None.

    timeout: seconds after which an enclave without secrets gives up. beacon: the verbatim TCB info object of now, or None.
    """

    name: str
    bundle: Path
    backend: str
    host: str = "127.0.0.1"
    port: int = 0
    san: tuple[str, ...] = ()
    timeout: int = 3600
    user: str | None = None
    beacon: str | None = None


def launch(
    state_directory: Path, request: LaunchRequest, *, checked: Any, data_directory: Path, now: int
) -> InstanceRecord:
    """Start the enclave of a checked bundle and return its record; the process runs, but need not answer yet.

    checked: the glasscase.bundle.check.CheckedBundle of request.bundle. Hold the instance's lock. Raises UsageError for a
    name or port that is in use and for root without --user, StorageError if the process cannot be started.
    """
    place = state.place_of(state_directory, request.name)
    _require_runtime(request, checked.bundle.index.runtime.name)
    names = address.certificate_names(request.host, request.san)
    account = _account(request)
    _require_stopped(place)
    stopping.clear(place)  # after a crash just now, or a launcher that was killed
    if not place.is_recorded():
        stopping.end_writers(place)
    stopping.require_written(place)
    address.require_free(state_directory, place, host=request.host, port=request.port)
    _require_persist(place, request, checked)
    _make_directories(place, account, request.backend, persist=checked.config.gramine.persist == "mrenclave")
    _remove_parts(place)
    runtime = backends.runtime_directory(data_directory, checked.bundle.index.runtime)
    backends.prepare(place, request.bundle, request.backend, runtime_directory=runtime)
    place.write_facts(InstanceFacts(request.port, request.host, names, request.timeout, request.beacon))
    for name in ("status.json", "beacon"):
        (place.instance / name).unlink(missing_ok=True)
    command = backends.command(place, request.backend)
    record = InstanceRecord(
        request.name, request.backend, str(request.bundle), checked.bundle.id, checked.measurement.mrenclave,
        ProcessId(0, 0, processes.boot_id()), now, "starting",
    )  # fmt: skip
    with _record_of_before(place):
        try:
            log = logs.start_writer(place)
            try:
                place.write_record(record)  # first, so that every command finds what a killed one has left running
                process = _start(place, command, checked, account, data_directory=data_directory, log=log)
            finally:
                os.close(log)
            record = replace(record, process=process, state="running")
            place.write_record(record)
        except BaseException:  # also a signal between the two
            stopping.end_writers(place)
            stopping.clear(place)
            raise
    return record


@contextlib.contextmanager
def _record_of_before(place: Place) -> Iterator[None]:
    """Put state.json back to what it was, or take it away, if the block fails: nothing was started then."""
    before = place.record() if place.is_recorded() else None
    try:
        yield
    except BaseException:
        with contextlib.suppress(StorageError, OSError):
            if before is None:
                (place.path / "state.json").unlink(missing_ok=True)
            else:
                place.write_record(before)
        raise


def fill_s(backend: str, pages_added: int) -> float:
    """Return the seconds that may pass before an enclave of so many pages runs its first instruction; none without SGX."""
    return pages_added / FILL_RATE if backend == "gramine-sgx" else 0.0


def wait_ready(place: Place, record: InstanceRecord, answers: Callable[[int], bool], *, deadline_s: float) -> int:
    """Return the port when the enclave answers; `answers(port)` asks it once.

    Raises StorageError("hosting.enclave.died") with its last lines if the process ends, "hosting.enclave.silent" after
    deadline_s; in both cases nothing is left running.
    """
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        status = place.status()
        if not processes.is_alive(record.process):
            stopping.clear(place)
            raise StorageError(
                "hosting.enclave.died", f"the enclave {place.name!r} ended while it started{logs.last_lines(place)}",
                hint=f"glasscase logs {place.name}", path=str(place.log),
            )  # fmt: skip
        if status is not None and status.state not in ("booted", "failed", "stopped") and answers(status.port):
            return status.port
        time.sleep(POLL_S)
    stopping.stop(place, record, deadline_s=0)
    raise StorageError(
        "hosting.enclave.silent",
        f"the enclave {place.name!r} did not answer within {deadline_s:.0f} seconds and was stopped{logs.last_lines(place)}",
        hint=f"glasscase logs {place.name}", path=str(place.log),
    )  # fmt: skip


def _account(request: LaunchRequest) -> pwd.struct_passwd | None:
    """Return the account of the enclave process; None for our own."""
    if request.user is None:
        if os.geteuid() == 0 and request.backend != "simulator":
            raise UsageError(
                "hosting.user.root",
                "as root, --user is required: an enclave process must own nothing in the bundle",
                hint="--user nobody, or an account made for it",
            )
        return None
    try:
        account = pwd.getpwnam(request.user)
    except KeyError:
        raise UsageError("hosting.user.unknown", f"there is no account {request.user!r}") from None
    if account.pw_uid == 0:
        raise UsageError("hosting.user.root", "--user must not be root", hint="--user nobody")
    if os.geteuid() not in (0, account.pw_uid):
        raise UsageError("hosting.user.unknown", f"only root can start a process as {request.user!r}")
    return account


def _require_runtime(request: LaunchRequest, runtime_name: str) -> None:
    if request.backend != "simulator" and runtime_name == "simulator":
        raise UsageError(
            "hosting.runtime.simulated",
            f"this bundle was built with the simulator's runtime, {request.backend} needs Gramine's",
            hint="glasscase build --runtime NAME, or --backend simulator",
        )
    if request.backend == "simulator" and request.user is not None:
        raise UsageError(
            "hosting.user.simulator", "the simulator runs as the account that starts it", hint="leave --user away"
        )


def _require_stopped(place: Place) -> None:
    if place.is_recorded() and processes.is_alive(place.record().process):
        raise UsageError("hosting.name.running", f"{place.name!r} runs already", hint=f"glasscase stop {place.name}")


def _require_persist(place: Place, request: LaunchRequest, checked: Any) -> None:
    """Refuse a start that would put another bundle over persisted state."""
    kept = place.instance / "persist"
    with contextlib.suppress(UsageError):
        record = place.record()
        if kept.is_dir() and any(kept.iterdir()) and record.bundle_id != checked.bundle.id:
            raise FormatError(
                "hosting.persist.foreign",
                f"{request.name!r} holds persisted state of another bundle, which this one could not read",
                hint=f"choose another --name, or: glasscase stop {request.name} --remove",
            )


def _make_directories(place: Place, account: pwd.struct_passwd | None, backend: str, *, persist: bool) -> None:
    # Gramine mounts its encrypted files over instance/persist, which must be there
    owned = [place.instance, *([place.instance / "persist"] if persist else [])]
    try:
        for path in (*owned, *([place.path / "run"] if backend == "simulator" else [])):
            path.mkdir(mode=0o700, exist_ok=True)
            if stat.S_ISLNK(os.lstat(path).st_mode):
                raise StorageError("fs.file.denied", f"{str(path)!r} is a link", path=str(path))
        if account is not None and os.geteuid() == 0:
            # the account may pass through the instance's directory and own only what it must write
            os.chown(place.path, 0, account.pw_gid)
            place.path.chmod(0o710)
            for path in owned:
                os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
    except OSError as error:
        raise atomic.storage_error(error, place.path) from None


def _remove_parts(place: Place) -> None:
    """Remove what a command that was killed had begun to write."""
    for folder in (place.path, place.instance):
        for name in os.listdir(folder):
            if name.startswith(atomic.PART):
                with contextlib.suppress(OSError):
                    os.unlink(folder / name)


def _start(
    place: Place, command: backends.Command, checked: Any, account: pwd.struct_passwd | None,
    *, data_directory: Path, log: int,
) -> ProcessId:  # fmt: skip
    """Start the device process, if one is needed, and the enclave, which holds the pipe that keeps the device alive."""
    keep: tuple[int, ...] = ()
    try:
        if command.simulated:
            shared = account is not None and os.geteuid() == 0
            keep = (_start_device(place, checked, data_directory, log, shared=shared),)
        identity: dict[str, Any] = {}
        if account is not None and os.geteuid() == 0:
            # its groups too: /dev/sgx_enclave is open to the group sgx only
            groups = os.getgrouplist(account.pw_name, account.pw_gid)
            identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": groups}
        with _many_descriptors():
            child = subprocess.Popen(
                command.argv, cwd=command.directory, env=dict(command.environment), stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True, pass_fds=keep, umask=0o077, **identity,
            )  # fmt: skip
        child.returncode = 0  # it outlives this process on purpose; its destructor would warn
        return processes.identify(child.pid) or ProcessId(child.pid, 0, processes.boot_id())
    except OSError as error:
        raise StorageError(
            "hosting.process.refused",
            f"{command.argv[0]!r} cannot be started: {(error.strerror or 'failed').lower()}",
            hint="the account of the enclave must be able to read the bundle and run its loader",
            path=command.argv[0], errno=error.errno,
        ) from None  # fmt: skip
    finally:
        for descriptor in keep:
            os.close(descriptor)


@contextlib.contextmanager
def _many_descriptors() -> Iterator[None]:
    """Let what is started in the block open as many files and connections as a bundle's manifest allows.

    Gramine's own limit is above the 1,024 that a process usually has; the program inside would be refused more with EACCES.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft == resource.RLIM_INFINITY or soft >= most:
        yield
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _start_device(place: Place, checked: Any, data_directory: Path, log: int, *, shared: bool) -> int:
    """Start the software device and return the descriptor that keeps it alive: it ends when the last copy is closed.

    Its lock, inherited with the open file, tells stop() when it is gone.
    """
    from glasscase.sim import device

    shutil.rmtree(place.simulated_device, ignore_errors=True)
    signed = checked.sigstruct
    argv = device.command(
        place.simulated_device, data_directory / "simulator",
        mrenclave=checked.measurement.mrenclave, mrsigner=signed.mrsigner, isv_prod_id=signed.isv_prod_id,
        isv_svn=signed.isv_svn, attributes_flags=signed.attributes_flags, xfrm=signed.xfrm,
        misc_select=signed.misc_select, shared=shared,
    )  # fmt: skip
    lock = os.open(place.path / "device.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        child = subprocess.Popen(
            argv, stdin=read_end, stdout=log, stderr=log, start_new_session=True, pass_fds=(lock,), umask=0o077
        )
        _wait_device_ready(place, child)
    except BaseException:
        os.close(write_end)
        raise
    finally:
        os.close(read_end)
        os.close(lock)
    return write_end


def _wait_device_ready(place: Place, child: "subprocess.Popen[bytes]") -> None:
    """Return when the device has written all its files, of which the first quote is the last."""
    deadline = time.monotonic() + DEVICE_READY_S
    while not (place.simulated_device / "quote").exists():
        if child.poll() is not None or time.monotonic() >= deadline:
            raise StorageError(
                "hosting.device.failed",
                f"the software device did not start{logs.last_lines(place)}",
                hint="the directory simulator/ of GLASSCASE_DATA holds its keys",
                path=str(place.simulated_device),
            )
        time.sleep(POLL_S / 5)
    child.returncode = 0  # it ends by itself when the enclave is gone; its destructor would warn
