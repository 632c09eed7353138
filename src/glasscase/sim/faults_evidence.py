"""Faults behind a genuine quote: the enclave is another, was started otherwise, or did not say these claims.

The honest case is a quote over the claims of `honest_claims` and a policy that names the enclave, wants UpToDate and switches
nothing off but the age of the evidence. Here every check of the core passes; the relying party's own must fail.
Source: docs/checks.md, areas policy, enclave, platform, collateral and binding.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import cbor2

from glasscase.sim.documents import utc
from glasscase.sim.fault_model import Change, Fault
from glasscase.sim.scene import Scene

_REPORT_DATA = 320  # offset in the report body
_HOUR_S = 3600
_DAY_S = 24 * _HOUR_S
_SEAL_KEY_SIZE = 1184 + 32
_MALFORMED = "binding.claims.malformed"


def claims(
    *, at: int, instance: dict[str, Any] | None = None, session: dict[str, Any] | None = None, **fields: Any
) -> bytes:
    """Return claims as an enclave writes them at `at`, with changes of the three maps; a value None drops the key."""
    inner = {"v": 1, "instance": b"i" * 16, "suite": 1, "seal": b"s" * _SEAL_KEY_SIZE, "receipt_key": b"r" * 32}
    now = {"v": 1, "seq": 0, "nbf": at - _HOUR_S, "exp": at + _HOUR_S, "san": ["localhost"]}
    outer = {
        "pubkey-hash": _cbor([1, hashlib.sha256(b"public key").digest()]),
        "glasscase-instance": _cbor(_changed(inner, instance or {})),
        "glasscase-session": _cbor(_changed(now, session or {})),
    }
    return _cbor(_changed(outer, fields))


def report_data(said: bytes) -> bytes:
    """Return the 64 bytes that bind claims."""
    return hashlib.sha256(said).digest() + bytes(32)


def faults() -> Iterator[Fault]:
    """Give every fault of this group."""
    yield from _of_enclave()
    yield from _of_platform()
    yield from _of_report_data()
    yield from _of_claims()


def _of_enclave() -> Iterator[Fault]:
    yield Fault("enclave-other-mrenclave", "policy.mrenclave.unlisted", _patch(64, bytes(32)))
    yield Fault("enclave-one-bit-of-mrenclave", "policy.mrenclave.unlisted", _flip(95, 0))
    yield Fault("enclave-other-mrsigner", "policy.mrsigner.mismatch", _patch(128, bytes(32)))
    yield Fault("enclave-other-product", "policy.isv_prod_id.mismatch", _patch(256, b"\x99\0"))
    yield Fault("enclave-older-svn", "policy.isv_svn.low", _patch(258, b"\0\0"))
    yield Fault("enclave-debug", "enclave.debug.set", _flip(48, 1))
    for what, byte, bit in (("not-initialised", 48, 0), ("not-64-bit", 48, 2), ("provision-key", 48, 4),
                            ("einittoken-key", 48, 5), ("cet", 48, 6), ("kss", 48, 7), ("reserved-flag", 48, 3),
                            ("unknown-flag", 50, 0), ("high-flag", 55, 7)):  # fmt: skip
        yield Fault(f"enclave-{what}", "enclave.flags.unexpected", _flip(byte, bit))
    for what, offset in (("config-id", 192), ("config-id-end", 255), ("config-svn", 260), ("extended-product", 32),
                         ("family-id", 304), ("family-id-end", 319)):  # fmt: skip
        yield Fault(f"enclave-{what}", "enclave.kss.nonzero", _flip(offset, 0))


def _of_platform() -> Iterator[Fault]:
    configuration, hardening = "platform.tcb.configuration_needed", "platform.tcb.sw_hardening_needed"
    for status, check in (
        ("OutOfDate", "platform.tcb.out_of_date"),
        ("OutOfDateConfigurationNeeded", "platform.tcb.out_of_date"),
        ("ConfigurationNeeded", configuration),
        ("ConfigurationAndSWHardeningNeeded", configuration),
        ("SWHardeningNeeded", hardening),
    ):
        yield Fault(f"platform-{status}", check, _status("tcb_info", status))
    for status in ("OutOfDate", "OutOfDateConfigurationNeeded", "ConfigurationNeeded"):
        yield Fault(f"quoting-enclave-{status}", "platform.tcb.out_of_date", _status("qe_identity", status))
    yield Fault("tcb-info-eight-days-old", "collateral.tcbinfo.stale", _aged("tcb_info"))
    yield Fault("qe-identity-eight-days-old", "collateral.qeidentity.stale", _aged("qe_identity"))
    yield Fault("pck-crl-forty-days-old", "collateral.pckcrl.stale", lambda scene: scene.crl(
        "pck_crl", this_update=scene.at - 40 * _DAY_S))  # fmt: skip


def _of_report_data() -> Iterator[Fault]:
    mismatch = "binding.report_data.mismatch"
    yield Fault("report-data-of-other-claims", mismatch, lambda scene: _say(scene, claims(at=scene.at, instance={
        "instance": b"j" * 16})))  # fmt: skip
    yield Fault("report-data-zero", mismatch, _patch(_REPORT_DATA, bytes(64)))
    yield Fault("report-data-second-half", mismatch, _flip(_REPORT_DATA + 32, 0))
    yield Fault("report-data-last-bit", mismatch, _flip(_REPORT_DATA + 63, 7))
    yield Fault("report-data-first-bit", mismatch, _flip(_REPORT_DATA, 0))
    yield Fault("report-data-halves-swapped", mismatch, _report(lambda data: data[32:] + data[:32]))
    yield Fault("report-data-twice", mismatch, _report(lambda data: data[:32] * 2))
    yield Fault("report-data-of-app-quote", mismatch, _report(
        lambda data: data[:32] + hashlib.sha256(b"glasscase/v1/app-quote\0").digest()))  # fmt: skip
    yield Fault("report-data-is-sha512", mismatch, lambda scene: _patch(
        _REPORT_DATA, hashlib.sha512(scene.claims).digest())(scene))  # fmt: skip


def _of_claims() -> Iterator[Fault]:
    for what, fields in (
        ("without-key-hash", {"pubkey-hash": None}),
        ("without-instance", {"glasscase-instance": None}),
        ("without-session", {"glasscase-session": None}),
        ("unknown-key", {"extra": b""}),
        ("nonce-of-31", {"nonce": bytes(31)}),
        ("nonce-empty", {"nonce": b""}),
        ("nonce-text", {"nonce": "0" * 32}),
        ("key-hash-of-sha384", {"pubkey-hash": _cbor([7, bytes(48)])}),
        ("key-hash-short", {"pubkey-hash": _cbor([1, bytes(31)])}),
        ("key-hash-bare", {"pubkey-hash": bytes(32)}),
        ("session-of-other-version", {"session": {"v": 2}}),
        ("session-of-26-hours", {"session": {"nbf": 1764000000, "exp": 1764000000 + 26 * _HOUR_S}}),
        ("session-backwards", {"session": {"nbf": 1764000001, "exp": 1764000000}}),
        ("session-with-unknown-key", {"session": {"x": 1}}),
        ("session-without-names", {"session": {"san": None}}),
        ("session-with-33-names", {"session": {"san": [f"host{n}" for n in range(33)]}}),
        ("session-beacon-short", {"session": {"beacon": bytes(31)}}),
        ("instance-of-unknown-suite", {"instance": {"suite": 2}}),
        ("instance-seal-key-short", {"instance": {"seal": bytes(_SEAL_KEY_SIZE - 1)}}),
        ("instance-receipt-key-long", {"instance": {"receipt_key": bytes(33)}}),
        ("instance-id-short", {"instance": {"instance": bytes(15)}}),
    ):
        yield Fault(f"claims-{what}", _MALFORMED, _claims(fields))
    for what, change in (
        ("empty", lambda _: b""),
        ("trailing-byte", lambda said: said + b"\0"),
        ("truncated", lambda said: said[:-1]),
        ("indefinite-map", lambda said: b"\xbf" + said[1:] + b"\xff"),
        ("long-map-head", lambda said: b"\xb8" + bytes([said[0] & 0x1F]) + said[1:]),
        ("tagged", lambda said: b"\xc1" + said),
        ("array", lambda said: b"\x81" + said),
    ):
        yield Fault(f"claims-{what}", _MALFORMED, _claims_bytes(change))


def _cbor(value: Any) -> bytes:
    return cbor2.dumps(value, canonical=True)


def _changed(value: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in {**value, **changes}.items() if item is not None}


def _patch(offset: int, value: bytes) -> Change:
    def apply(scene: Scene) -> None:
        body = scene.quote.body
        scene.set_quote(body=body[:offset] + value + body[offset + len(value) :])

    return apply


def _flip(offset: int, bit: int) -> Change:
    def apply(scene: Scene) -> None:
        _patch(offset, bytes([scene.quote.body[offset] ^ 1 << bit]))(scene)

    return apply


def _report(change: Callable[[bytes], bytes]) -> Change:
    return lambda scene: _patch(_REPORT_DATA, change(scene.quote.body[_REPORT_DATA:]))(scene)


def _say(scene: Scene, said: bytes) -> None:
    """Show other claims than those that were quoted."""
    scene.claims = said


def _claims(fields: dict[str, Any]) -> Change:
    """Show malformed claims that the enclave did quote."""

    def apply(scene: Scene) -> None:
        scene.claims = claims(at=scene.at, **fields)
        _patch(_REPORT_DATA, report_data(scene.claims))(scene)

    return apply


def _claims_bytes(change: Callable[[bytes], bytes]) -> Change:
    def apply(scene: Scene) -> None:
        scene.claims = change(scene.claims)
        _patch(_REPORT_DATA, report_data(scene.claims))(scene)

    return apply


def _status(name: str, status: str) -> Change:
    def apply(scene: Scene) -> None:
        getattr(scene, name)["tcbLevels"][0]["tcbStatus"] = status

    return apply


def _aged(name: str) -> Change:
    return lambda scene: getattr(scene, name).update(issueDate=utc(scene.at - 8 * _DAY_S))
