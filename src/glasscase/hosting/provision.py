"""Hand a sealed envelope to a running enclave and take its receipt.

Invariants: the operator sees ciphertext only; an answer counts as accepted only with a receipt that names this very envelope
and is signed by the receipt key in the enclave's own claims. Whether those claims are true is the sealer's question.
Source: docs/operating.md, "Control paths".
"""

import time
from dataclasses import dataclass

from glasscase.errors import FormatError, StorageError
from glasscase.evidence.attestation import Claims
from glasscase.hosting import logs, state
from glasscase.hosting.collect import fetch_attestation, require_running
from glasscase.hosting.state import Place
from glasscase.ratls import link
from glasscase.seal.envelope import read_envelope
from glasscase.seal.receipt import Receipt, read_receipt

POLL_S = 0.1
RECEIPT_MAX = 1 << 20  # bytes


@dataclass(frozen=True)
class Accepted:
    """An envelope that the enclave took. receipt: the COSE_Sign1 object verbatim; facts: what it says."""

    receipt: bytes
    facts: Receipt


def provision(place: Place, envelope: bytes, *, timeout_s: float) -> Accepted:
    """Return the receipt for an envelope; the same envelope again gives the same receipt.

    Raises FormatError("hosting.provision.malformed") for what is no envelope, before anything is sent,
    FormatError("hosting.provision.refused") if the enclave refuses it, StorageError if it does not answer.
    """
    try:
        digest = read_envelope(envelope).digest
    except FormatError as error:
        if error.reason == "format.newer":
            raise
        raise FormatError(
            "hosting.provision.malformed", f"this is not a sealed envelope ({error.message.split(': ', 1)[-1]})",
            hint="give the file that glasscase seal wrote", what="envelope",
        ) from None  # fmt: skip
    _record, port = require_running(place)
    receipt_key = Claims.from_bytes(fetch_attestation(place).claims).instance_facts().receipt_key
    answer = link.ask(
        place.facts().host, port, "provision", max_bytes=RECEIPT_MAX, body=envelope, content_type="application/cose",
        timeout_s=timeout_s,
    )  # fmt: skip
    if answer.status == 403:
        raise FormatError(
            "hosting.provision.refused",
            f"the enclave {place.name!r} refused the envelope; nothing changed in it",
            hint="was it sealed to evidence of this very instance, by its owners, is it in time (glasscase inspect shows that), "
            "and was none accepted before?",
            what="envelope",
        )
    if answer.status != 200:
        raise FormatError("hosting.answer.unexpected", f"the enclave answered {answer.status} to an envelope")
    facts = read_receipt(answer.body, receipt_key=receipt_key)
    if facts.envelope != digest:
        raise FormatError("hosting.answer.unexpected", "the receipt is for another envelope", what="receipt")
    return Accepted(answer.body, facts)


def wait_serving(place: Place, *, deadline_s: float) -> str:
    """Return the state, `serving` unless the deadline came first.

    Raises StorageError("hosting.enclave.died") if the enclave ends instead.
    """
    record = place.record()
    deadline = time.monotonic() + deadline_s
    while True:
        found = state.state_of(place, record)
        if found == "serving" or time.monotonic() > deadline:
            return found
        if found in ("failed", "stopped"):
            logs.wait_written(place)
            raise StorageError(
                "hosting.enclave.died",
                f"the enclave {place.name!r} took the secrets and ended{logs.last_lines(place)}",
                hint=f"glasscase logs {place.name}", path=str(place.log),
            )  # fmt: skip
        time.sleep(POLL_S)
