"""The operator's verbs that carry something between an enclave and its owners: evidence, provision."""

import contextlib
import os
import time
from typing import TYPE_CHECKING

import click

from glasscase.cli import exitcodes
from glasscase.cli.operating import SIMULATED, view_of
from glasscase.cli.output import Output, verb
from glasscase.errors import Error

if TYPE_CHECKING:
    from glasscase.collateral.model import Collateral
    from glasscase.hosting.state import Place

SERVING_S = 60
ENVELOPE_MAX = 1 << 20  # bytes
RECEIPT_ROOM = 16 << 10  # bytes that the disk keeps for a receipt beforehand; one by 16 owners has about 1 KiB


@verb("evidence", help="Write quote, claims and collateral of a running instance into one file, for a verifier.")
@click.argument("name")
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="E",
    help="Where the evidence goes: NAME.cbor is written as CBOR, any other as JSON; - is stdout.",
)
@click.option(
    "--nonce", metavar="HEX", help="32 bytes of the verifier, as 64 hex digits: a new quote over them is made."
)
@click.option(
    "--collateral-source",
    metavar="S",
    help="Where collateral comes from: intel, a URL of a PCCS, a file, or none [default: intel, or the simulator's].",
)
def evidence(out: Output, name: str, *, output: str, nonce: str | None, collateral_source: str | None) -> int:
    """Ask the enclave, add collateral, write."""
    from glasscase.cli.places import state_dir
    from glasscase.cli.reading import result_beside, write_argument
    from glasscase.cli.verifying import nonce_argument
    from glasscase.evidence.format import to_json
    from glasscase.hosting import collect, state

    now = int(time.time())
    collect.require_clock(now)
    asked = nonce_argument(nonce)
    place = state.place_of(state_dir(), name)
    record, _port = collect.require_running(place)
    collateral = _collateral(place, record.backend, collateral_source, now)
    found = collect.collect(
        place, collateral=collateral, nonce=asked, insecure=_insecure(record.bundle, record.backend), now=now
    )
    write_argument(out, output, found.to_cbor() if output.endswith(".cbor") else to_json(found))
    value = {
        **view_of(place),
        "evidence": output,
        "evidence_id": found.evidence_id.hex(),
        "nonce": None if asked is None else asked.hex(),
        "collateral": None if collateral is None else collateral.source,
    }
    text = f"wrote     {output}\nevidence  {found.evidence_id.hex()}"
    result_beside(out, output, value, text + (f"\n{SIMULATED}" if record.backend != "gramine-sgx" else ""))
    return exitcodes.OK


@verb("provision", help="Hand a sealed envelope to a running instance and wait until it serves.")
@click.argument("name")
@click.argument("sealed", metavar="SEALED", type=click.Path())
@click.option("-o", "--output", metavar="FILE", help="Where the receipt goes.")
@click.option(
    "--wait", type=click.IntRange(0), default=SERVING_S, show_default=True, help="Seconds to wait for serving."
)
def provision(out: Output, name: str, sealed: str, *, output: str | None, wait: int) -> int:
    """Send, take the receipt, wait."""
    from glasscase.cli.places import state_dir
    from glasscase.cli.reading import check_output, read_argument, result_beside, write_argument
    from glasscase.codec.hexid import to_base64url
    from glasscase.fs.atomic import atomic_file
    from glasscase.hosting import provision as provisioning
    from glasscase.hosting import state

    place = state.place_of(state_dir(), name)
    check_output(out, output)
    envelope = read_argument(sealed, max_bytes=ENVELOPE_MAX, what="envelope")
    # made before anything is sent: a place that takes no file must not be found out after the enclave has accepted
    with contextlib.nullcontext() if output in (None, "-") else atomic_file(output) as file:
        if file is not None:
            os.posix_fallocate(file.fileno(), 0, RECEIPT_ROOM)
        accepted = provisioning.provision(place, envelope, timeout_s=300)
        if file is not None:
            file.write(accepted.receipt)
            file.truncate()
    if output == "-":
        write_argument(out, output, accepted.receipt)
    reached = provisioning.wait_serving(place, deadline_s=wait)
    value = {
        **view_of(place),
        "receipt": to_base64url(accepted.receipt),
        "envelope": accepted.facts.envelope.hex(),
        "owners": [owner.hex() for owner in accepted.facts.owners],
    }
    text = f"accepted  {accepted.facts.envelope.hex()}\nstate     {reached}"
    result_beside(out, output, value, text + (f"\n{SIMULATED}" if value["simulated"] else ""))
    return exitcodes.OK


def _collateral(place: "Place", backend: str, source: str | None, now: int) -> "Collateral | None":
    """Return the collateral to embed: what was named, else what was kept, else fetched anew (or the simulator's)."""
    from glasscase.cli.fetching import INTEL, fetched_collateral, is_service
    from glasscase.cli.places import data_dir
    from glasscase.cli.verifying import collateral_argument
    from glasscase.hosting import collect
    from glasscase.verify.anchor import TrustAnchor

    if source == "none":
        return None
    if source is not None and not is_service(source):
        found: Collateral = collateral_argument(source, collect.fetch_attestation(place).quote)
        return found
    kept = collect.kept_collateral(place, now=now) if source is None else None
    if kept is not None:
        return kept
    if backend == "gramine-sgx" or source is not None:
        quote = collect.fetch_attestation(place).quote
        found = fetched_collateral(quote, anchor=TrustAnchor.intel(), source=source or INTEL, now=now)
    else:
        found = collect.simulated_collateral(data_dir(), now=now)
    collect.keep_collateral(place, found)
    return found


def _insecure(bundle: str, backend: str) -> tuple[str, ...]:
    """Return the bundle's own list of weakenings, a copy for the reader's eyes only."""
    from glasscase.bundle.index import open_bundle

    found: set[str] = {"simulated"} if backend != "gramine-sgx" else set()
    with contextlib.suppress(Error):
        found |= set(open_bundle(bundle).index.insecure)
    return tuple(sorted(found))
