"""Faults of the quote, its report and the time.

Source: docs/checks.md, areas quote and qe.
"""

import hashlib
import struct
from collections.abc import Callable, Iterator

from glasscase.sim.fault_model import Change, Fault, append, cut, edits, flip, other_key, signed_by
from glasscase.sim.pki import Edit
from glasscase.sim.scene import Scene

HEADER_SIZE = 48
BODY_END = HEADER_SIZE + 384
AUTH_START = BODY_END + 4
KEY_START = AUTH_START + 64
QE_REPORT_START = KEY_START + 64
QE_SIGNATURE_START = QE_REPORT_START + 384
QE_AUTH_START = QE_SIGNATURE_START + 64
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256


def faults() -> Iterator[Fault]:
    """Give every fault of this group."""
    yield from _of_length()
    yield from _of_header()
    yield from _of_body()
    yield from _of_auth()
    yield from _of_signatures()
    yield from _of_quoting_enclave()
    yield from _of_time()


def _bytes(change: Edit) -> Change:
    return edits("quote.bytes", change)


def _of_length() -> Iterator[Fault]:
    truncated = "quote.bytes.truncated"
    for size in (0, 1, 47, 48, 431, 432, 435, 436, 1019):
        yield Fault(f"quote-of-{size}-bytes", truncated, _bytes(_first(size)))
    yield Fault("quote-one-byte-short", truncated, _bytes(cut(1)))
    yield Fault("quote-one-byte-long", "quote.bytes.trailing", _bytes(append(b"\0")))
    yield Fault("quote-oversize", "quote.bytes.oversize", _bytes(append(bytes(65536))))
    yield Fault("quote-auth-size-zero", truncated, _bytes(_u32(BODY_END, 0)))
    yield Fault("quote-auth-size-huge", truncated, _bytes(_u32(BODY_END, 0xFFFFFFFF)))
    yield Fault("quote-auth-size-one-more", truncated, _bytes(_add_u32(BODY_END, 1)))
    yield Fault("quote-auth-trailing", "quote.auth.trailing", edits("quote.auth", append(b"\0")))
    yield Fault("quote-certification-size-zero", "quote.auth.trailing", _certification_size(lambda _: 0))
    yield Fault("quote-certification-size-huge", truncated, _certification_size(lambda _: 0xFFFFFFFF))
    yield Fault("quote-certification-size-one-more", truncated, _certification_size(lambda size: size + 1))
    yield Fault("quote-certification-size-one-less", "quote.auth.trailing", _certification_size(lambda size: size - 1))
    yield Fault("quote-qe-auth-size-huge", "quote.qe_auth.oversize", _bytes(_u16(QE_AUTH_START, 0xFFFF)))
    yield Fault("quote-qe-auth-1025", "quote.qe_auth.oversize", lambda scene: scene.set_quote(qe_auth=bytes(1025)))
    yield Fault("quote-random-bytes", "quote.version.unsupported", _bytes(lambda quote: b"\xa5" * len(quote)))


def _of_header() -> Iterator[Fault]:
    for version in (0, 1, 2, 6, 65535):
        yield Fault(f"quote-version-{version}", "quote.version.unsupported", _header(version=version))
    for kind in (0, 1, 3, 65535):
        yield Fault(f"quote-key-type-{kind}", "quote.key_type.unsupported", _header(key_type=kind))
    yield Fault("quote-vendor-zero", "quote.vendor.unknown", _header(vendor_id=bytes(16)))
    yield Fault("quote-vendor-bit", "quote.vendor.unknown", edits("quote.signed", flip(12)))
    yield Fault("quote-header-reserved", "quote.header.reserved", _header(reserved=1))
    yield Fault("quote-header-tdx", "quote.header.reserved", _header(reserved=0x81))
    yield Fault("quote-4-header-reserved", "quote.header.reserved", _header(version=4, svns_reserved=1))
    yield Fault("quote-5-header-reserved", "quote.header.reserved", _header(version=5, svns_reserved=1 << 24))
    yield Fault("quote-4-tee-unknown", "quote.tee.unknown", _header(version=4, reserved=0x82))
    yield Fault("quote-5-body-type-unknown", "quote.body.mismatch", _header(version=5, body_type=4))
    yield Fault("quote-5-body-of-td", "quote.body.mismatch", _header(version=5, body_type=2))
    yield Fault("quote-5-body-size-less", "quote.body.mismatch", _header(version=5, body_size=383))
    yield Fault("quote-5-body-size-huge", "quote.body.mismatch", _header(version=5, body_size=0xFFFFFFFF))
    yield Fault("quote-4-nested-type", "quote.auth.nested", _header(version=4, nested_type=5))
    yield Fault("quote-5-nested-size", "quote.auth.nested", _nested_size)
    yield Fault("quote-4-user-data-after-signing", "quote.body.bad_signature", _version_4_user_data)
    for what, position in (("qe-svn", 8), ("pce-svn", 10), ("user-data", 28)):
        yield Fault(f"quote-{what}-after-signing", "quote.body.bad_signature", _bytes(flip(position)))


def _of_body() -> Iterator[Fault]:
    signature = "quote.body.bad_signature"
    for what, offset in (("cpusvn", 0), ("miscselect", 16), ("attributes", 48), ("xfrm", 56), ("mrenclave", 64),
                         ("mrsigner", 128), ("config-id", 192), ("isvprodid", 256), ("isvsvn", 258),
                         ("config-svn", 260), ("family-id", 304), ("report-data", 320),
                         ("report-data-end", 383)):  # fmt: skip
        yield Fault(f"quote-{what}-after-signing", signature, _bytes(flip(HEADER_SIZE + offset)))
    yield Fault("quote-debug-removed-after-signing", signature, _bytes(flip(HEADER_SIZE + 48, 1)))
    for what, offset in (("first", 20), ("second", 96), ("third", 160), ("fourth", 262)):
        yield Fault(f"quote-report-reserved-{what}", "quote.report.reserved",
                    edits("quote.signed", flip(HEADER_SIZE + offset)))  # fmt: skip


def _of_auth() -> Iterator[Fault]:
    unsupported = "quote.certification.unsupported"
    for kind in (0, 1, 2, 3, 4, 6, 7, 65535):
        yield Fault(f"quote-certification-type-{kind}", unsupported, _header(certification_type=kind))
    curve = "quote.key.off_curve"
    yield Fault("quote-key-off-curve", curve, _attestation_point(bytes(31) + b"\1" + bytes(31) + b"\1"))
    yield Fault("quote-key-zero", curve, _attestation_point(bytes(64)))
    yield Fault("quote-key-above-prime", curve, _attestation_point(b"\xff" * 64))


def _of_signatures() -> Iterator[Fault]:
    for what, start, check in (
        ("quote-signature", AUTH_START, "quote.body.bad_signature"),
        ("quote-qe-report-signature", QE_SIGNATURE_START, "qe.report.bad_signature"),
    ):
        order = _ORDER.to_bytes(32, "big")
        for label, value in (
            ("zero", bytes(64)),
            ("one-one", (bytes(31) + b"\1") * 2),
            ("r-zero", bytes(32) + b"\1" * 32),
            ("s-zero", b"\1" * 32 + bytes(32)),
            ("r-is-order", order + b"\1" * 32),
            ("s-is-order", b"\1" * 32 + order),
            ("all-ones", b"\xff" * 64),
        ):
            yield Fault(f"{what}-{label}", check, _bytes(_put(start, value)))
        yield Fault(f"{what}-r-bit", check, _bytes(flip(start + 31)))
        yield Fault(f"{what}-s-bit", check, _bytes(flip(start + 63)))
        yield Fault(f"{what}-swapped", check, _bytes(_swap_halves(start)))
    yield Fault("quote-signed-by-stranger", "qe.report.bad_binding", _stranger_key)
    yield Fault("quote-signature-by-stranger", "quote.body.bad_signature", _stranger_signature)
    yield Fault("quote-signature-of-other-quote", "quote.body.bad_signature", _other_quotes_signature)
    yield Fault(
        "qe-report-signed-by-stranger", "qe.report.bad_signature", signed_by("qe_report", lambda _: other_key())
    )
    yield Fault(
        "qe-report-signed-by-ca", "qe.report.bad_signature", signed_by("qe_report", lambda scene: scene.keys.ca)
    )
    yield Fault("qe-report-signed-by-attestation-key", "qe.report.bad_signature",
                signed_by("qe_report", lambda scene: scene.keys.attestation))  # fmt: skip


def _of_quoting_enclave() -> Iterator[Fault]:
    for what, check, field in (
        ("mrsigner", "qe.mrsigner.mismatch", ("mrsigner", bytes(32))),
        ("isvprodid", "qe.isvprodid.mismatch", ("isv_prod_id", 2)),
        ("miscselect", "qe.miscselect.mismatch", ("misc_select", 1)),
        ("debug", "qe.attributes.mismatch", ("attributes_flags", 0x17)),
        ("without-provision-key", "qe.attributes.mismatch", ("attributes_flags", 0x05)),
        ("not-initialised", "qe.attributes.mismatch", ("attributes_flags", 0x14)),
        ("svn-below-every-level", "qe.svn.unsupported", ("isv_svn", 1)),
        ("without-binding", "qe.report.bad_binding", ("report_data", bytes(64))),
    ):
        yield Fault(f"qe-report-{what}", check, _qe_field(*field))
    yield Fault("qe-report-tail", "qe.report.bad_tail", edits("quote.qe_report", flip(352)))
    yield Fault("qe-report-tail-last-bit", "qe.report.bad_tail", edits("quote.qe_report", flip(383, 7)))
    for what, offset in (("first", 20), ("second", 96), ("third", 160), ("fourth", 262)):
        yield Fault(f"qe-report-reserved-{what}", "quote.qe_report.reserved", edits("quote.qe_report", flip(offset)))
    yield Fault("qe-report-changed-after-signing", "qe.report.bad_signature", _bytes(flip(QE_REPORT_START + 64)))
    yield Fault("qe-auth-changed-after-signing", "qe.report.bad_binding", _bytes(flip(QE_AUTH_START + 2)))


def _of_time() -> Iterator[Fault]:
    yield Fault("time-1970", "root.certificate.not_yet_valid", _at(lambda _: 1))
    yield Fault("time-before-the-root", "root.certificate.not_yet_valid", _at(lambda _: 1526899509))
    yield Fault("time-before-the-ca", "pck.ca.not_yet_valid", _at(lambda _: 1526899510))
    yield Fault("time-one-second-early", "crl.root.not_yet_valid", _at(lambda at: at - 1))
    yield Fault("time-one-month-late", "crl.pck.expired", _at(lambda at: at + 30 * 86400))
    yield Fault("time-one-year-late", "crl.root.expired", _at(lambda at: at + 380 * 86400))
    yield Fault("time-2038", "crl.root.expired", _at(lambda _: 2147483648))
    yield Fault("time-2106", "root.certificate.expired", _at(lambda _: 4294967296))
    yield Fault("time-end-of-the-root", "root.certificate.expired", _at(lambda _: 4102444799))


def _header(**fields: int | bytes) -> Change:
    return lambda scene: scene.set_quote(**fields)


def _qe_field(name: str, value: int | bytes) -> Change:
    return lambda scene: scene.set_quote(qe_fields=(*scene.quote.qe_fields, (name, value)))


def _first(size: int) -> Edit:
    return lambda data: data[:size]


def _put(start: int, value: bytes) -> Edit:
    return lambda data: data[:start] + value + data[start + len(value) :] if len(data) > start else data


def _u16(start: int, value: int) -> Edit:
    return _put(start, struct.pack("<H", value))


def _u32(start: int, value: int) -> Edit:
    return _put(start, struct.pack("<I", value))


def _add_u32(start: int, more: int) -> Edit:
    def edit(data: bytes) -> bytes:
        old = int.from_bytes(data[start : start + 4], "little")
        return _u32(start, old + more)(data)

    return edit


def _certification_size(change: Callable[[int], int]) -> Change:
    def apply(scene: Scene) -> None:
        start = QE_AUTH_START + 2 + len(scene.quote.qe_auth) + 2

        def edit(data: bytes) -> bytes:
            old = int.from_bytes(data[start : start + 4], "little")
            return _u32(start, change(old))(data)

        scene.edit("quote.bytes", edit)

    return apply


def _nested_size(scene: Scene) -> None:
    """A byte of the auth data behind what the nested size covers."""
    scene.set_quote(version=5)
    scene.edit("quote.auth", append(b"\0"))


def _version_4_user_data(scene: Scene) -> None:
    scene.set_quote(version=4)
    scene.edit("quote.bytes", flip(28))


def _swap_halves(start: int) -> Edit:
    def edit(data: bytes) -> bytes:
        r, s = data[start : start + 32], data[start + 32 : start + 64]
        return _put(start, s + r)(data)

    return edit


def _attestation_point(point: bytes) -> Change:
    """Put a key that is no point in the quote; the QE report binds it, so nothing else is wrong before it is used."""

    def apply(scene: Scene) -> None:
        digest = hashlib.sha256(point + scene.quote.qe_auth).digest() + bytes(32)
        _qe_field("report_data", digest)(scene)
        scene.edit("quote.bytes", _put(KEY_START, point))

    return apply


def _stranger_key(scene: Scene) -> None:
    """Another attestation key with a good signature, which the QE report does not bind."""
    key = other_key()
    scene.edit("quote.bytes", lambda data: _put(AUTH_START, key.sign_raw(data[:BODY_END]) + key.point[1:])(data))


def _stranger_signature(scene: Scene) -> None:
    key = other_key()
    scene.edit("quote.bytes", lambda data: _put(AUTH_START, key.sign_raw(data[:BODY_END]))(data))


def _other_quotes_signature(scene: Scene) -> None:
    other = scene.keys.attestation.sign_raw(bytes(BODY_END))
    scene.edit("quote.bytes", _put(AUTH_START, other))


def _at(change: Callable[[int], int]) -> Change:
    def apply(scene: Scene) -> None:
        scene.at = change(scene.at)

    return apply
