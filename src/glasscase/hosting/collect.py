"""Evidence of a running instance: its attestation, with collateral and the host's own notes beside it.

Invariants: nothing here is judged or believed; the attestation is kept byte for byte. The TCB info object whose digest the
claims hold (the beacon) is in the evidence whenever the host has it, so that a verifier can date the quote.
Source: docs/evidence-format.md, "Evidence".
"""

import hashlib
import json
import time
from datetime import datetime
from pathlib import Path

from glasscase.codec import cbor
from glasscase.collateral.model import FILE_MAX, Collateral, parse_collateral, signed_tcb_info
from glasscase.errors import Error, FormatError, StorageError
from glasscase.evidence.attestation import ATTESTATION_MAX, Attestation, Claims
from glasscase.evidence.model import Evidence
from glasscase.fs import atomic
from glasscase.hosting import processes, state
from glasscase.hosting.records import RECORD_MAX, InstanceRecord
from glasscase.hosting.state import Place
from glasscase.ratls import link

COLLATERAL_FILE = "collateral.json"
FRESH_S = 12 * 3600  # seconds for which collateral is used again and a quote is not renewed for its beacon
BUSY_RETRY_S = 0.25
BUSY_DEADLINE_S = 15.0
REQUEST_MAX = 64 * 1024  # bytes of an evidence request


def require_running(place: Place) -> tuple[InstanceRecord, int]:
    """Return record and port of an instance that runs; raises StorageError("hosting.enclave.stopped") otherwise."""
    record = place.record()
    status = place.status()
    if not processes.is_alive(record.process) or status is None:
        raise StorageError(
            "hosting.enclave.stopped", f"{place.name!r} is {state.state_of(place, record)}, it does not answer",
            hint=f"glasscase {'logs' if processes.is_alive(record.process) else 'restart'} {place.name}", path=str(place.path),
        )  # fmt: skip
    return record, status.port


def fetch_attestation(
    place: Place, *, nonce: bytes | None = None, beacon: str | None = None, timeout_s: float = link.TIMEOUT_S
) -> Attestation:
    """Return what the enclave answers: the current attestation, or with nonce or beacon one with a new quote.

    Raises StorageError if it does not run, answer or is busy for too long, FormatError for an answer of another form.
    """
    _record, port = require_running(place)
    host = place.facts().host
    request: dict[str, bytes | str] = {}
    if nonce is not None:
        request["nonce"] = nonce
    if beacon is not None:
        request["beacon"] = beacon
    body = cbor.encode(request) if request else None
    deadline = time.monotonic() + BUSY_DEADLINE_S
    while True:
        answer = link.ask(
            host,
            port,
            "evidence",
            max_bytes=ATTESTATION_MAX,
            body=body,
            content_type="application/cbor" if body else "",
            timeout_s=timeout_s,
        )
        if answer.status != 429 or time.monotonic() > deadline:
            break
        time.sleep(BUSY_RETRY_S)
    if answer.status == 429:
        raise StorageError("hosting.evidence.busy", "the enclave is making another quote", hint="try again")
    if answer.status == 503:
        raise StorageError(
            "hosting.evidence.unavailable", f"the enclave {place.name!r} could not make a quote",
            hint=f"glasscase logs {place.name}; on hardware glasscase doctor says whether aesmd and the quote provider are there",
            path=str(place.log),
        )  # fmt: skip
    if answer.status != 200:
        raise FormatError(
            "hosting.answer.unexpected", f"the enclave answered {answer.status} to a request for evidence"
        )
    return Attestation.from_bytes(answer.body)


def answers(host: str, port: int) -> bool:
    """Return whether an enclave gives evidence there."""
    try:
        answer = link.ask(host, port, "evidence", max_bytes=ATTESTATION_MAX, timeout_s=5)
        return answer.status == 200 and bool(Attestation.from_bytes(answer.body).quote)
    except Error:
        return False


def collect(
    place: Place, *, collateral: Collateral | None, nonce: bytes | None, insecure: tuple[str, ...], now: int
) -> Evidence:
    """Return evidence of an instance. A new quote is made for a nonce, and when the present one cannot be dated.

    collateral: what is embedded; its TCB info is the beacon of a new quote. now: unix seconds.
    """
    record, _port = require_running(place)
    offered = None if collateral is None else beacon_text(collateral)
    attestation = fetch_attestation(place, nonce=nonce, beacon=offered if nonce is not None else None)
    if nonce is None and offered is not None and not _is_dated(attestation, collateral, now):
        attestation = fetch_attestation(place, beacon=offered)
    return Evidence(
        attestation=attestation,
        bundle_id=record.bundle_id,
        created_at=now,
        nonce=nonce,
        collateral=collateral,
        insecure=tuple(sorted(set(insecure))),
    )


def beacon_text(collateral: Collateral) -> str | None:
    """Return the verbatim TCB info object to offer as beacon; None if it does not fit into a request."""
    try:
        text = signed_tcb_info(collateral.tcb_info).decode("utf-8")
    except FormatError:
        return None
    # it travels in instance.json too, where quotes are escaped
    return text if len(json.dumps(text)) < RECORD_MAX - 8192 and len(text) < REQUEST_MAX - 1024 else None


def kept_collateral(place: Place, *, now: int) -> Collateral | None:
    """Return the collateral that was fetched for this instance, None if there is none or it has aged."""
    try:
        data = atomic.read_file(place.path / COLLATERAL_FILE, max_bytes=FILE_MAX, what="collateral")
        found = parse_collateral(data)
    except Error:
        return None
    return found if 0 <= now - found.fetched_at < FRESH_S else None


def keep_collateral(place: Place, collateral: Collateral) -> None:
    """Keep collateral for this instance and offer its TCB info as the beacon of the quotes to come."""
    atomic.write_file(place.path / COLLATERAL_FILE, collateral.to_bytes(), mode=0o600)
    text = beacon_text(collateral)
    if text is not None:
        atomic.write_file(place.instance / "beacon", text.encode("utf-8"))


def require_clock(now: int) -> None:
    """Return if the machine's clock has a time that state.json, collateral and evidence can hold; raises StorageError."""
    if now < 0:
        raise StorageError(
            "hosting.clock.wrong", f"the clock of this machine says {time.strftime('%Y-%m-%d %H:%M:%SZ', time.gmtime(now))}",
            hint="correct the clock: no file of an instance can have a date before 1970",
        )  # fmt: skip


def simulated_collateral(data_directory: Path, *, now: int) -> Collateral:
    """Return the collateral of this account's simulated platform, issued now."""
    from glasscase.sim.platform import SimPlatform

    require_clock(now)
    served = SimPlatform.open(data_directory / "simulator").collateral(at=now)
    found = parse_collateral(json.dumps(served).encode("utf-8"))
    return Collateral(**{**found.items(), "source": "SIMULATED", "fetched_at": now})  # type: ignore[arg-type]


def _is_dated(attestation: Attestation, collateral: Collateral | None, now: int) -> bool:
    """Return whether the claims name the collateral's TCB info and that is recent."""
    if collateral is None:
        return False
    try:
        signed = signed_tcb_info(collateral.tcb_info)
        named = Claims.from_bytes(attestation.claims).session_facts().beacon
        issued = datetime.fromisoformat(json.loads(signed)["issueDate"]).timestamp()
    except (FormatError, ValueError, KeyError, TypeError):
        return False
    return named == hashlib.sha256(signed).digest() and now - issued < FRESH_S
