"""From a bundle to an instance that answers: check, launch, wait; and once more for a restart.

Invariants: the bundle is checked against its index before each start; whatever interrupts a start leaves no process.
Source: docs/operating.md, "Launch".
"""

import contextlib
import os
import pwd
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from glasscase.bundle.check import CheckedBundle, check_bundle
from glasscase.errors import FormatError, StorageError, UsageError
from glasscase.fs.atomic import shell_word
from glasscase.gramine.pins import RuntimePin
from glasscase.hosting import address, collect, launch, processes, state, stopping
from glasscase.hosting.launch import LaunchRequest
from glasscase.hosting.records import InstanceRecord
from glasscase.hosting.state import Place
from glasscase.ratls import link


@dataclass(frozen=True)
class Started:
    """An instance that answers. port: where; simulated: whether its quotes are by the simulator.

    former_port: where it answered before a restart if that port was taken meanwhile, else 0.
    """

    place: Place
    record: InstanceRecord
    port: int
    simulated: bool
    former_port: int = 0


def check(bundle: Path, *, full: bool, runtimes: Sequence[RuntimePin]) -> CheckedBundle:
    """Return the bundle if it is sound and signed; raises FormatError otherwise.

    full: hash the blobs too. runtimes: the pins that are trusted here.
    """
    checked = check_bundle(bundle, full=full, runtimes=runtimes).require_sound()
    if checked.sigstruct is None:
        raise FormatError(
            "hosting.bundle.unsigned", f"{str(bundle)!r} is not signed, so no enclave can be made of it",
            hint=f"the code provider: glasscase sign {shell_word(bundle)} --key FILE", what="bundle",
        )  # fmt: skip
    return checked


def start(
    state_directory: Path,
    data_directory: Path,
    request: LaunchRequest,
    checked: CheckedBundle,
    *,
    now: int,
    wait_s: float,
) -> Started:
    """Return the instance when it answers. Raises what launch() and wait_ready() raise; nothing then runs.

    What is refused before anything was started leaves no directory.
    """
    collect.require_clock(now)
    place = state.place_of(state_directory, request.name)
    new = not place.path.exists()
    with state.locked(place, make=True), _without_directory(place) if new else contextlib.nullcontext():
        return _start_locked(
            place, state_directory, data_directory, request, checked, now=now, wait_s=wait_s, chosen=request.port == 0
        )


def restart(
    state_directory: Path, data_directory: Path, name: str,
    *, runtimes: Sequence[RuntimePin], now: int, wait_s: float, stop_s: float | None, full: bool,
) -> Started:  # fmt: skip
    """Return the instance after it was stopped and started again with the same bundle, address and account.

    A port that the system chose is used again; if it is taken meanwhile, the system chooses another.
    A bundle that is no longer sound or signed, or another one than before, is refused before anything is stopped.
    """
    collect.require_clock(now)
    place = state.place_of(state_directory, name)
    with state.locked(place):
        record, facts = place.record(), place.facts()
        checked = check(Path(record.bundle), full=full, runtimes=runtimes)
        if checked.bundle.id != record.bundle_id:
            raise FormatError(
                "hosting.bundle.changed", f"another bundle is at {record.bundle!r} than the one that {name!r} was started with",
                hint=f"to start that one: glasscase stop {name}; glasscase run {shell_word(record.bundle)} --name {name}",
                what="bundle",
            )  # fmt: skip
        account = _account_of(place)
        if account is not None and record.backend == "simulator":
            raise UsageError(
                "hosting.user.simulator", f"{name!r} was started by {account}, and the simulator runs as the account that starts it",
                hint=f"restart it as {account}",
            )  # fmt: skip
        request = LaunchRequest(
            name, Path(record.bundle), record.backend, facts.host, facts.port, facts.san, facts.timeout, account
        )
        stopping.finish(place, record, deadline_s=stop_s)
        former = place.chosen_port()
        if former:
            request = replace(request, port=address.port_again(state_directory, place, host=facts.host))
        started = _start_locked(
            place, state_directory, data_directory, request, checked, now=now, wait_s=wait_s,
            chosen=bool(former) or facts.port == 0,
        )  # fmt: skip
        return replace(started, former_port=former if former != started.port else 0)


def _start_locked(
    place: Place, state_directory: Path, data_directory: Path, request: LaunchRequest, checked: CheckedBundle,
    *, now: int, wait_s: float, chosen: bool,
) -> Started:  # fmt: skip
    """chosen: the port was left to the system, now or when the instance was first started."""
    simulated = request.backend != "gramine-sgx"
    keep: Callable[[], Any] = lambda: (place.path / collect.COLLATERAL_FILE).unlink(missing_ok=True)  # noqa: E731
    if simulated:
        collateral = collect.simulated_collateral(data_directory, now=now)
        request = replace(request, beacon=collect.beacon_text(collateral))
        keep = lambda: collect.keep_collateral(place, collateral)  # noqa: E731
    with _nothing_left(place):
        record = launch.launch(state_directory, request, checked=checked, data_directory=data_directory, now=now)
        keep()
        if not chosen:
            place.keep_port(0)
        deadline_s = wait_s + launch.fill_s(request.backend, checked.measurement.pages_added)
        port = launch.wait_ready(
            place, record, lambda found: collect.answers(request.host, found), deadline_s=deadline_s
        )
        if chosen:
            place.keep_port(port)
    return Started(place, record, port, simulated)


@contextlib.contextmanager
def _nothing_left(place: Place) -> Any:
    """Stop what was started if the block is left by an exception, Ctrl-C included; an instance of before stays."""
    before = _process_of(place)
    try:
        yield
    except BaseException:
        after = _process_of(place)
        if after is not None and after != before:
            stopping.finish(place, place.record(), deadline_s=0)
        raise


@contextlib.contextmanager
def _without_directory(place: Place) -> Any:
    """Remove a directory that was made for the block if that fails before anything was started."""
    try:
        yield
    except BaseException:
        if not place.is_recorded():
            with contextlib.suppress(StorageError):
                state.remove(place)
        raise


def _process_of(place: Place) -> processes.ProcessId | None:
    return place.record().process if place.is_recorded() else None


def _account_of(place: Place) -> str | None:
    """Return the account that owns the instance's directory, if that is not our own; raises UsageError for one without a name."""
    owner = place.instance.stat().st_uid
    try:
        return None if owner == os.geteuid() else pwd.getpwuid(owner).pw_name
    except KeyError:
        raise UsageError(
            "hosting.user.unknown", f"the account {owner} that {place.name!r} was started by has no name here",
            hint=f"glasscase stop {place.name}, and run it again with --user",
        ) from None  # fmt: skip


def url(started: Started) -> str:
    """Return the URL of a started instance."""
    return link.url(started.place.facts().host, started.port)
