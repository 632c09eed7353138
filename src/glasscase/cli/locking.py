"""The verb `lock`: every input of a build by SHA-256."""

import os
import time
from dataclasses import replace

import click

from glasscase import __version__
from glasscase.cli import exitcodes
from glasscase.cli.output import Output, refuse_given, verb


@verb("lock", help="Pin every input of the build by SHA-256 in glasscase.lock, and fetch what the cache lacks.")
@click.argument("directory", metavar="[DIR]", default=".", type=click.Path())
@click.option("--update", is_flag=True, help="Choose versions anew and show what changes.")
@click.option("--check", is_flag=True, help="Change nothing; say what is stale (exit 6).")
@click.option("--wheel", metavar="FILE", type=click.Path(), help="glasscase's own wheel [default: the installed one].")
@click.option(
    "--pylock",
    metavar="FILE",
    type=click.Path(),
    help="A pylock.toml (PEP 751) to take the wheels of [default: DIR/pylock.toml, made if it is not there].",
)
@click.option(
    "--python",
    "python_from",
    type=click.Choice(["debian", "host"]),
    help="Python inside: Debian packages, or (simulator only) the host's [default: as before; debian for Gramine].",
)
def lock(
    out: Output, directory: str, *, update: bool, check: bool, wheel: str | None, pylock: str | None,
    python_from: str | None,
) -> int:  # fmt: skip
    """Write glasscase.lock, or with --check compare it."""
    from glasscase.bundle.locking import check_lock, make_lock
    from glasscase.cli.pinned import lock_request
    from glasscase.errors import UsageError
    from glasscase.lock.model import FILE
    from glasscase.lock.pylock import FILE as PYLOCK

    if update and check:
        raise UsageError("cli.usage.wrong", "--update and --check exclude each other", hint="--check changes nothing")
    if check:
        refuse_given(
            "wheel",
            "pylock",
            "python_from",
            because="is for a lock that is made, --check compares the one that is there",
        )
    request = replace(
        lock_request(directory, tool=__version__, wheel=wheel, say=out.say), python_from=python_from, pylock=pylock
    )
    path = os.path.join(directory, FILE)
    if check:
        stale = check_lock(request)
        out.result({"lock": path, "stale": stale}, "\n".join(f"stale  {line}" for line in stale) or "the lock is fresh")
        return exitcodes.DIFFERS if stale else exitcodes.OK
    before = _content(path)
    made, changes = make_lock(request, now=int(time.time()), update=update)
    packages = 0 if made.debian is None else len(made.debian.packages)
    lines = [
        f"locked    {len(made.wheels)} wheels, {packages} Debian packages, runtime {made.runtime.name} {made.runtime.version}",
        *changes,
        f"unchanged {path}" if _content(path) == before else f"wrote     {path} and {PYLOCK}",
    ]
    out.result({"lock": path, "inputs": made.inputs(), "changes": changes}, "\n".join(lines))
    return exitcodes.OK


def _content(path: str) -> bytes | None:
    from glasscase.errors import FormatError, StorageError
    from glasscase.fs.atomic import read_file
    from glasscase.lock.model import MAX_BYTES

    try:
        return read_file(path, max_bytes=MAX_BYTES, what="lock")
    except (StorageError, FormatError):
        return None
