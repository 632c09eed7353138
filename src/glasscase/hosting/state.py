"""The operator's record of instances: one directory a name, and who runs there.

Invariants: whoever changes an instance holds its lock; state.json is whole or absent; files that an enclave can write are
read as hostile.
Source: docs/operating.md, "Directories".
"""

import contextlib
import fcntl
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from glasscase.errors import FormatError, StorageError, UsageError
from glasscase.fs import atomic
from glasscase.hosting import processes
from glasscase.hosting.records import RECORD_MAX, EnclaveStatus, InstanceFacts, InstanceRecord

LOCK_WAIT_S = 5.0
NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")


@dataclass(frozen=True)
class Place:
    """The directory of one instance, `instances/NAME` in the state directory."""

    path: Path

    @property
    def name(self) -> str:
        """Return the name of the instance."""
        return self.path.name

    @property
    def instance(self) -> Path:
        """Return the directory that the enclave sees as /instance."""
        return self.path / "instance"

    @property
    def log(self) -> Path:
        """Return the file with the enclave's output."""
        return self.path / "log.txt"

    @property
    def simulated_device(self) -> Path:
        """Return the directory that stands for /dev/attestation where there is no hardware."""
        return self.path / "sim"

    def is_recorded(self) -> bool:
        """Return whether there is a state.json, also if it cannot be looked at: what it is then, its reader says."""
        try:
            os.lstat(self.path / "state.json")
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True
        return True

    def record(self) -> InstanceRecord:
        """Return what state.json says.

        Raises UsageError("hosting.name.unknown") if nothing was ever started here, FormatError("hosting.state.malformed")
        with what to do if the file is not what glasscase writes.
        """
        path = self.path / "state.json"
        try:
            raw = atomic.read_file(path, max_bytes=RECORD_MAX, what="state.json")
        except StorageError as error:
            if error.reason == "fs.file.missing":
                raise unknown(self.name) from None
            raise
        try:
            return InstanceRecord.from_bytes(raw)
        except FormatError as error:
            if error.reason == "format.newer":
                raise
            raise FormatError(
                "hosting.state.malformed", f"{str(path)!r} is damaged: {error.message}",
                hint=f"end its process if it still runs, then: rm -r {atomic.shell_word(self.path)}", what="state.json",
            ) from None  # fmt: skip

    def write_record(self, record: InstanceRecord) -> None:
        """Replace state.json, whole or not at all. Written by root it stays readable to whose directory this is."""
        with atomic.atomic_file(self.path / "state.json", mode=0o600) as file:
            if os.geteuid() == 0:
                with contextlib.suppress(OSError):  # the open file: under its name there may be another by then
                    os.fchown(file.fileno(), self.path.stat().st_uid, -1)
            file.write(record.to_bytes())

    def mark(self, state: str) -> None:
        """Replace the state in state.json."""
        self.write_record(replace(self.record(), state=state))

    def chosen_port(self) -> int:
        """Return the port that the system chose when this instance was last started, 0 if `run` named one."""
        try:
            text = atomic.read_file(self.path / "port", max_bytes=16, what="port")
        except StorageError as error:
            if error.reason != "fs.file.missing":
                raise
            return 0
        return int(text) if text.isdigit() and int(text) < 65536 else 0

    def keep_port(self, port: int) -> None:
        """Keep the port that the system has chosen, for the next start; 0 forgets it."""
        if port:
            atomic.write_file(self.path / "port", b"%d" % port, mode=0o600)
        else:
            (self.path / "port").unlink(missing_ok=True)

    def facts(self) -> InstanceFacts:
        """Return what the instance was told at its last start; raises Error with what to do if that is absent or damaged.

        Not from instance.json, which the enclave can write: a restart would listen wherever it says.
        """
        path = self.path / "facts.json"
        try:
            return InstanceFacts.from_bytes(atomic.read_file(path, max_bytes=RECORD_MAX, what="facts.json"))
        except (StorageError, FormatError) as error:
            error.hint = error.hint or f"glasscase stop {self.name}, and run it again"
            raise

    def write_facts(self, facts: InstanceFacts) -> None:
        """Write the facts for the enclave, and without the beacon for the operator's own commands."""
        own = replace(facts, beacon=None)
        atomic.write_file(self.path / "facts.json", own.to_bytes(), mode=0o600)
        atomic.write_file(self.instance / "instance.json", facts.to_bytes())

    def status(self) -> EnclaveStatus | None:
        """Return what the enclave wrote last, None if it wrote nothing or something that cannot be read."""
        try:
            raw = read_hostile(self.instance / "status.json", max_bytes=RECORD_MAX)
            if raw is None:
                return None
            return EnclaveStatus.from_bytes(raw)
        except FormatError:
            return None


def unknown(name: str) -> UsageError:
    """Return the error for a name that has no instance."""
    return UsageError("hosting.name.unknown", f"there is no instance {name!r}", hint="glasscase status")


def place_of(state_directory: Path, name: str) -> Place:
    """Return the place of a name; raises UsageError("hosting.name.malformed") for what cannot be one."""
    if not NAME.fullmatch(name):
        raise UsageError(
            "hosting.name.malformed",
            f"{name!r} is not a name",
            hint="a lower-case letter, then up to 62 of a-z, 0-9 and -",
        )
    return Place(state_directory / "instances" / name)


def places(state_directory: Path) -> tuple[Place, ...]:
    """Return the places of all instances that were started, sorted by name."""
    root = state_directory / "instances"
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return ()
    found = (Place(root / name) for name in names if NAME.fullmatch(name))
    return tuple(place for place in found if place.is_recorded())


def remove(place: Place) -> None:
    """Remove the directory of an instance, whose lock is held; raises StorageError.

    It loses its name first, so that whoever waits for the lock makes a new directory and shares none with what is being removed.
    """
    gone = place.path.with_name(f".removed-{place.name}")  # no name of an instance
    try:
        shutil.rmtree(gone, ignore_errors=True)  # of a removal that was killed
        os.rename(place.path, gone)
        shutil.rmtree(gone)
    except OSError as error:
        raise atomic.storage_error(error, error.filename or place.path) from None


@contextlib.contextmanager
def locked(place: Place, *, wait_s: float = LOCK_WAIT_S, make: bool = False) -> Iterator[None]:
    """Hold the lock of an instance; make: make its directory if it is not there.

    Raises StorageError("hosting.name.busy") if another command holds it for wait_s, UsageError("hosting.name.unknown") without
    a directory.
    """
    deadline = time.monotonic() + wait_s
    descriptor = _lock(place, deadline, make=make)
    try:
        while not _is_lock_of(descriptor, place):  # `stop --remove` took it away while this waited
            gone, descriptor = descriptor, _lock(place, deadline, make=make)
            os.close(gone)
        yield
    finally:
        os.close(descriptor)


def _lock(place: Place, deadline: float, *, make: bool) -> int:
    """Return the open and locked lock file."""
    path = place.path / "lock"
    try:
        if make:
            place.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError:
        raise unknown(place.name) from None
    except OSError as error:
        raise atomic.storage_error(error, path) from None
    try:
        while True:
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            except OSError:
                if time.monotonic() >= deadline:
                    raise StorageError(
                        "hosting.name.busy",
                        f"another command is working on {place.name!r}",
                        hint="wait for it, or choose another --name",
                        path=str(path),
                    ) from None
                time.sleep(0.05)
    except BaseException:
        os.close(descriptor)
        raise


def _is_lock_of(descriptor: int, place: Place) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(place.path / "lock"))
    except FileNotFoundError:
        return False


def can_write_bundle(record: InstanceRecord) -> bool:
    """Return whether the account of the running process owns the bundle: an enclave could then delete its own files."""
    try:
        return os.stat(f"/proc/{record.process.pid}").st_uid == os.stat(record.bundle).st_uid
    except OSError:
        return False


def state_of(place: Place, record: InstanceRecord) -> str:
    """Return the state of an instance now: `starting`, one of the enclave's own, or how its process ended.

    A process that is gone is `stopped` if a command stopped it or the enclave said so, else `failed`. One that state.json does
    not name yet is `starting` as long as anybody has the log of that start.
    """
    status = place.status()
    if processes.is_alive(record.process):
        return "starting" if status is None else status.state
    if record.state == "starting":
        return "failed" if is_written(place) else "starting"
    if record.state == "stopped" or (status is not None and status.state == "stopped"):
        return "stopped"
    return "failed"


def is_written(place: Place) -> bool:
    """Return whether no writer of the log of an instance is left, also none that state.json does not name."""
    try:
        lock = os.open(place.path / "log.lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True


def read_hostile(path: Path, *, max_bytes: int) -> bytes | None:
    """Return the content of a file in a directory that an enclave can write; None if absent or not a plain file.

    Never follows a link, never waits on a pipe. Raises FormatError("fs.file.oversize") above max_bytes.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        return atomic.read_stream(file, max_bytes=max_bytes, what=path.name)
