"""The verb `reproduce`."""

import re
from typing import TYPE_CHECKING, Any

import click

from glasscase.cli import exitcodes
from glasscase.cli.output import Output, verb

if TYPE_CHECKING:
    from glasscase.audit.reproduce import Reproduction
    from glasscase.bundle.check import CheckedBundle

SHOWN = 20  # differences on the terminal
COMPILE = "Run the bundle's own Python here, to make its compiled files again: only for a provider whose programs you would run."


@verb("reproduce", help="Build a bundle again from its lock (and source) and compare everything; exit 6 if it differs.")
@click.argument("bundle", metavar="BUNDLE", type=click.Path())
@click.option("--source", metavar="DIR", type=click.Path(), help="The project the bundle is said to be built from.")
@click.option(
    "--opening", metavar="O", help="Opening of the code commitment: 64 hex digits, or the file of `disclose`."
)
@click.option(
    "--key", metavar="K", type=click.Path(), help="The package key, instead of the opening: the provider's own way."
)
@click.option("--wheel", metavar="FILE", type=click.Path(), help="glasscase's own wheel [default: the installed one].")
@click.option("--compile", "compile_again", is_flag=True, help=COMPILE)
def reproduce(out: Output, bundle: str, **options: Any) -> int:
    """Rebuild and say what is the same."""
    checked, result = rebuild_bundle(out, bundle, **options)
    value = {
        "same": result.same,
        "differences": [{"what": d.what, "bundle": d.bundle, "rebuilt": d.rebuilt} for d in result.differences],
        "method": result.method,
        "mrenclave": checked.measurement.mrenclave.hex(),
        "rebuilt": result.mrenclave.hex(),
        "bundle_id": checked.bundle.id.hex(),
        "not_checked": list(result.not_checked),
        "insecure": list(checked.insecure),
    }
    lines = [f"DIFFERS   {d.what}\n  bundle  {d.bundle}\n  rebuilt {d.rebuilt}" for d in result.differences[:SHOWN]]
    if len(result.differences) > SHOWN:
        lines.append(f"... and {len(result.differences) - SHOWN} more")
    lines += [f"NOT CHECKED  {text}" for text in result.not_checked]
    verdict = "SAME" if result.same else "DIFFERS"
    lines.append(f"{verdict}      MRENCLAVE {result.mrenclave.hex()} (method: {result.method})")
    out.result(value, "\n".join(lines))
    return exitcodes.OK if result.same else exitcodes.DIFFERS


def rebuild_bundle(
    out: Output, bundle: str, *, source: str | None, opening: str | None, key: str | None, wheel: str | None,
    compile_again: bool,
) -> "tuple[CheckedBundle, Reproduction]":  # fmt: skip
    """Return the checked bundle and what a rebuild of it gives; the options are those of `reproduce`."""
    from glasscase.audit.reproduce import ReproduceRequest
    from glasscase.audit.reproduce import reproduce as rebuild
    from glasscase.bundle.check import check_bundle
    from glasscase.bundle.locking import fetch_inputs
    from glasscase.cli.pinned import lock_request, runtime_named, trusted_pins

    checked = check_bundle(bundle, full=True, runtimes=trusted_pins()).require_sound()
    lock = checked.bundle.lock
    request = lock_request(source or ".", tool=lock.tool, wheel=wheel, say=out.say)
    runtime = runtime_named(lock.runtime.name)
    fetch_inputs(request, lock, runtime, has_project=source is not None)
    result = rebuild(
        ReproduceRequest(
            checked=checked,
            runtime=runtime,
            cache=request.cache,
            source=source,
            opening=_opening(opening),
            key=key,
            say=out.say,
            compile_again=compile_again,
        )
    )
    return checked, result


def _opening(given: str | None) -> bytes | None:
    if given is None:
        return None
    if re.fullmatch(r"[0-9a-f]{64}", given):
        return bytes.fromhex(given)
    from glasscase.audit.reproduce import read_opening
    from glasscase.cli.reading import read_argument
    from glasscase.errors import StorageError

    try:
        content = read_argument(given, max_bytes=1 << 16, what="opening")
    except StorageError as error:
        if error.reason == "fs.file.missing":
            error.hint = "64 hex digits, or the file that glasscase disclose wrote"
        raise
    return read_opening(content)
