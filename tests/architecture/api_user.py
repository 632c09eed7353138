"""A program of a user, in the words of README.md, "Python": `./dev lint` checks its types, nothing runs it."""

import asyncio
import http.client
import io
import ssl
from datetime import datetime, timedelta
from pathlib import Path
from typing import assert_type

from glasscase import __version__, auditor, client, errors, provider, runtime


def judge(quote: bytes, pem: bytes, at: datetime) -> auditor.VerifiedEnclave:
    """Judge a quote, several quotes and evidence."""
    collateral = auditor.load_collateral(Path("collateral.json"))
    policy = auditor.load_policy(b"version = 1")
    anchor = auditor.TrustAnchor.insecure_root(pem)
    verdict = auditor.verify_quote(
        quote, collateral=collateral, anchor=anchor, policy=policy, at=at, engine="native", measurement=None, nonce=None
    )
    verifier = auditor.Verifier(anchor=auditor.TrustAnchor.intel(), policy=policy)
    told: list[str] = []
    for one in (verdict, *verifier.verify_many([(quote, collateral), (quote, None)], at=at, threads=2)):
        status: auditor.VerdictStatus = one.status
        until: datetime | None = one.valid_until
        platform: str | None = one.tcb_status
        told += [f"{check.id} {check.outcome} {status} {until} {platform}" for check in one.failed]
    if verifier.verify_quote(quote, collateral=collateral, at=at).status is auditor.VerdictStatus.FAILED:
        raise errors.CannotVerify("example.quote.refused", " ".join(told))
    evidence = auditor.load_evidence("evidence.json")
    bundle = provider.check_bundle("app.bundle", pins=["pin.toml"]).require_sound()
    judged = auditor.verify_evidence(
        evidence, anchor=anchor, policy=policy, at=at, collateral=None, measurement=bundle, nonce=None, engine="native"
    )
    try:
        return judged.require()
    except errors.VerificationError as error:
        said: tuple[str, str, str, int] = (error.reason, error.message, error.hint, error.exit_code)
        raise errors.CannotVerify(said[0], said[1]) from error


def provide(enclave: auditor.VerifiedEnclave, key: bytes, owner: bytes, at: datetime) -> bytes:
    """Encrypt, read, measure and seal."""
    provider.encrypt_file("a", Path("b"), key=key, threads=2)
    provider.decrypt_file(Path("b"), "c", key=key, threads=2)
    raw: io.RawIOBase = provider.open_encrypted("b", key=key)
    with raw, provider.open_encrypted("b", key=key) as file:
        buffer = bytearray(file.size)
        count: int | None = file.readinto(buffer)
    measurement: provider.Measurement = provider.measure("manifest.sgx", libpal="libpal.so")
    if count and enclave.mrenclave != measurement.mrenclave:
        raise errors.UsageError("example.enclave.other", "another enclave")
    secrets: dict[str, str | bytes] = {"a": "text", "b": b"bytes"}
    sealed = provider.seal(secrets, to=enclave, package_key=key, owner=owner, at=at, not_after=at + timedelta(days=1))
    return sealed.data


async def ask(policy: auditor.Policy) -> int:
    """Talk to an enclave."""
    context = client.context(policy, anchor=None, measurement=None, collateral_source=None)
    plain: ssl.SSLContext = context
    connection = http.client.HTTPSConnection("localhost", context=plain)
    try:
        peer: client.LivePeer = await client.prepare(context, "https://localhost")
        await asyncio.to_thread(connection.connect)
        return peer.valid_until + client.live_peer(connection.sock).valid_until
    except client.PeerRefused as error:
        assert_type(error.verdict, auditor.Verdict | None)
        return error.exit_code
    except errors.StorageError as error:
        return len(error.path) + (error.errno or 0)
    except errors.FormatError as error:
        return len(error.what) + (error.offset or 0)


def inside() -> str:
    """Use what an enclave has."""
    token: str | bytes = runtime.secrets["token"]
    with runtime.open_encrypted("/models/x") as file:
        return f"{file.read(1)!r} {token!r} {runtime.quote(b'x').hex()} {__version__}"
