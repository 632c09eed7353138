"""The operator's verbs that start, show and end an instance: run, restart, status, logs, stop."""

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from glasscase.cli import exitcodes
from glasscase.cli.output import Output, escape, verb
from glasscase.errors import Error, StorageError, UsageError

if TYPE_CHECKING:
    from glasscase.hosting.starting import Started
    from glasscase.hosting.state import Place

READY_S = 60
STATUS_S = 3  # status of an instance that hangs still comes
VIEW = (
    "name", "state", "url", "mrenclave", "since", "receipt", "backend", "simulated", "bundle", "bundle_id", "pid", "expires",
    "memory", "warnings",
)  # fmt: skip
SIMULATED = "SIMULATED  this instance is not in an enclave; its quotes are by the simulator and protect nothing"

_stop_timeout = click.option(
    "--timeout",
    type=click.IntRange(0),
    metavar="SECONDS",
    help="Seconds before SIGKILL [default: 15 more than the enclave's drain].",
)


@verb("run", help="Start the enclave of a bundle and return when it answers. Its files are checked first.")
@click.argument("bundle", type=click.Path())
@click.option("--name", required=True, metavar="NAME", help="How this instance is called from now on.")
@click.option(
    "--backend",
    type=click.Choice(["gramine-sgx", "gramine-direct", "simulator"]),
    help="What runs the bundle [default: gramine-sgx if this machine has it, else one must be named].",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    help="Port to listen on; 0 lets the system choose.",
)
@click.option("--san", multiple=True, metavar="NAME", help="Name or address for the certificate; repeatable.")
@click.option(
    "--timeout",
    type=click.IntRange(1, 30 * 86400),
    default=3600,
    show_default=True,
    help="Seconds that the enclave waits for secrets before it ends.",
)
@click.option("--user", metavar="U", help="Account of the enclave process; required as root with Gramine.")
@click.option(
    "--check",
    type=click.Choice(["index", "full"]),
    default="index",
    show_default=True,
    help="What is hashed before: all but the encrypted blobs, or all.",
)
@click.option(
    "--wait",
    type=click.IntRange(1),
    default=READY_S,
    show_default=True,
    help="Seconds to wait for an answer; on SGX the time to fill the enclave comes on top.",
)
@click.option("--detach", is_flag=True, help="Return when it answers, as also without this; for scripts that say so.")
@click.option("--foreground", is_flag=True, help="Stay, show the log, and stop the enclave on SIGTERM or Ctrl-C.")
def run(out: Output, bundle: str, *, detach: bool, foreground: bool, check: str, wait: int, **options: Any) -> int:
    """Check, launch, wait."""
    from glasscase.cli.foreground import end, stay
    from glasscase.cli.pinned import trusted_pins
    from glasscase.cli.places import data_dir, state_dir
    from glasscase.codec.record import is_plain_text
    from glasscase.hosting import backends, starting
    from glasscase.hosting.launch import LaunchRequest
    from glasscase.hosting.state import place_of

    if detach and foreground:
        raise UsageError("cli.usage.wrong", "--detach and --foreground exclude each other", hint="leave one away")
    path = Path(os.path.abspath(bundle))
    if not path.exists():
        raise StorageError("fs.file.missing", f"there is no bundle {bundle!r}")
    if not is_plain_text(str(path)) or any("\ud800" <= char <= "\udfff" for char in str(path)):
        raise UsageError(
            "fs.path.unsuitable", f"{str(path)!r} holds control characters, is not UTF-8 or not in Unicode's form NFC",
            hint="move the bundle to a plain path: state.json names it",
        )  # fmt: skip
    backend = backends.choose(options["backend"])
    place_of(state_dir(), options["name"])
    request = LaunchRequest(
        options["name"], path, backend, _address(options["host"]), options["port"], options["san"], options["timeout"],
        options["user"],
    )  # fmt: skip
    out.say(f"check     {bundle}")
    checked = starting.check(path, full=check == "full", runtimes=trusted_pins())
    out.say(f"start     {backend}, as {request.name}")
    started: Started | None = None
    told = False
    try:
        started = starting.start(state_dir(), data_dir(), request, checked, now=int(time.time()), wait_s=wait)
        if foreground:
            return stay(out, started, lambda: _show_started(out, started))
        _show_started(out, started)
        told = True
        return exitcodes.OK
    finally:
        if started is not None and not told:
            end(started)


@verb("restart", help="Stop an instance and start it again with the same bundle, address, port and account.")
@click.argument("name")
@click.option(
    "--check",
    type=click.Choice(["index", "full"]),
    default="index",
    show_default=True,
    help="What is hashed before: all but the encrypted blobs, or all.",
)
@click.option(
    "--wait",
    type=click.IntRange(1),
    default=READY_S,
    show_default=True,
    help="Seconds to wait for an answer; on SGX the time to fill the enclave comes on top.",
)
@_stop_timeout
def restart(out: Output, name: str, *, check: str, wait: int, timeout: int | None) -> int:
    """Stop, check, launch, wait."""
    from glasscase.cli.pinned import trusted_pins
    from glasscase.cli.places import data_dir, state_dir
    from glasscase.hosting import starting

    started = starting.restart(
        state_dir(), data_dir(), name, runtimes=trusted_pins(), now=int(time.time()), wait_s=wait, stop_s=timeout,
        full=check == "full",
    )  # fmt: skip
    if started.former_port:
        out.say(f"notice    port {started.former_port} is taken meanwhile, so the URL is another one")
    _show_started(out, started)
    return exitcodes.OK


@verb("status", help="Show one instance, or all of them.")
@click.argument("name", required=False)
def status(out: Output, name: str | None) -> int:
    """Print what state.json, the process and the enclave's own status say."""
    from glasscase.cli.places import state_place
    from glasscase.hosting import state

    if name is not None:
        place = state.place_of(state_place(), name)
        view = view_of(place)
        rows = [f"{key:<11}{_plain(key, value)}" for key, value in view.items() if value not in (None, [])]
        out.result(view, "\n".join(rows + ([SIMULATED] if view["simulated"] else [])))
        return exitcodes.OK
    views = []
    for place in state.places(state_place()):
        try:
            views.append(view_of(place))
        except Error as error:
            views.append({"name": place.name, "state": "unreadable", "error": error.reason})
    lines = [
        f"{view['name']:<20} {view['state']:<13} {view.get('backend', ''):<15} {view.get('url') or ''}"
        for view in views
    ]
    out.result({"instances": views}, "\n".join(lines) if lines else "no instances")
    return exitcodes.OK


@verb("logs", help="Show what an instance wrote to its log.")
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Show more as it comes, until the instance ends.")
def logs(out: Output, name: str, *, follow: bool) -> int:
    """Print the lines, escaped."""
    from glasscase.cli.places import state_place
    from glasscase.hosting import logs as hosting_logs
    from glasscase.hosting import state

    if follow and out.json:
        raise UsageError("cli.usage.wrong", "--follow and --json exclude each other", hint="--json is one object")
    place = state.place_of(state_place(), name)
    lines = hosting_logs.lines(place, follow=follow)
    if out.json:
        out.result({"name": name, "lines": list(lines)}, "")
        return exitcodes.OK
    for line in lines:
        out.result({}, escape(line) or " ")
    return exitcodes.OK


@verb("stop", help="Stop an instance: SIGTERM, then SIGKILL after a deadline. Returns when the process is gone.")
@click.argument("name")
@_stop_timeout
@click.option("--remove", is_flag=True, help="Remove its directory too: log, evidence notes, persisted state.")
def stop(out: Output, name: str, *, timeout: int | None, remove: bool) -> int:
    """End the process."""
    from glasscase.cli.places import state_dir
    from glasscase.hosting import logs, state, stopping

    place = state.place_of(state_dir(), name)
    new = not place.path.exists()
    lost = not place.is_recorded() and bool(logs.writers(place))  # its directory was removed while it ran
    with state.locked(place, make=lost):
        if lost and not place.is_recorded():
            stopping.end_writers(place)
            how = "killed"
            view: dict[str, Any] = {**dict.fromkeys(VIEW), "name": name, "state": "stopped", "warnings": [], "how": how}
            remove = remove or new
        else:
            record = place.record()
            how = stopping.stop(place, record, deadline_s=timeout)
            view = {**view_of(place), "how": how}
        if remove:
            state.remove(place)
    out.result(view, {"gone": f"{name} did not run"}.get(how, f"{name} {how}"))
    return exitcodes.OK


def view_of(place: "Place") -> dict[str, Any]:
    """Return what `status` says of one instance."""
    from glasscase.hosting import processes, state
    from glasscase.ratls import link

    record = place.record()
    now = state.state_of(place, record)
    found = place.status()
    alive = processes.is_alive(record.process)
    url = None
    if alive and found is not None and found.port:
        url = link.url(place.facts().host, found.port)
    receipt = None
    if url is not None and now == "serving":
        receipt = _receipt(place)
    return {
        "name": record.name,
        "state": now,
        "url": url,
        "mrenclave": record.mrenclave.hex(),
        "since": found.since if found is not None else record.since,
        "receipt": receipt,
        "backend": record.backend,
        "simulated": record.backend != "gramine-sgx",
        "bundle": record.bundle,
        "bundle_id": record.bundle_id.hex(),
        "pid": record.process.pid if alive else None,
        "expires": found.exp if alive and found is not None else None,
        "memory": processes.resident_bytes(record.process) if alive else None,
        "warnings": ["bundle.writable.by_enclave"] if alive and state.can_write_bundle(record) else [],
    }


def _receipt(place: "Place") -> str | None:
    """Return the stored receipt as the enclave gives it now; None if it cannot be asked."""
    from glasscase.codec.hexid import to_base64url
    from glasscase.hosting.collect import fetch_attestation

    with contextlib.suppress(Error):
        provision = fetch_attestation(place, timeout_s=STATUS_S).provision
        return None if provision is None else to_base64url(provision.receipt)
    return None


def _show_started(out: Output, started: "Started") -> None:
    from glasscase.cli.places import data_dir

    value: dict[str, Any] = {**view_of(started.place), "former_port": started.former_port or None}
    lines = [
        f"name      {value['name']}",
        f"url       {value['url']}",
        f"MRENCLAVE {value['mrenclave']}",
        f"state     {value['state']}",
    ]
    if started.simulated:
        from glasscase.sim.platform import SimPlatform

        value["insecure_anchor"] = SimPlatform.open(data_dir() / "simulator").root_pem
        value["notice"] = "SIMULATED"
        lines.append(SIMULATED)
    out.result(value, "\n".join(lines))


def _address(host: str) -> str:
    """Return an address to listen on; raises UsageError for what is none."""
    import ipaddress

    if host == "localhost":
        return "127.0.0.1"
    try:
        found = ipaddress.ip_address(host.strip("[]"))
        if getattr(found, "scope_id", None) is None:  # the enclave takes no interface names
            return str(found)
        raise ValueError
    except ValueError:
        raise UsageError(
            "cli.usage.wrong", f"--host {host!r} is not an address", hint="--host 127.0.0.1, or 0.0.0.0"
        ) from None


def _plain(key: str, value: Any) -> str:
    if key in ("since", "expires"):
        return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(min(value, 253402300799)))
    if key == "memory":
        return f"{value >> 20} MiB"
    return escape(", ".join(value) if isinstance(value, list) else str(value))
