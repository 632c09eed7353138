"""Faults of the two revocation lists.

Source: docs/checks.md, area crl.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from glasscase.sim import der, pki
from glasscase.sim.fault_model import (
    Change,
    Fault,
    append,
    append_inside,
    become,
    content_of,
    cut,
    edits,
    flip,
    indefinite_length,
    long_length,
    omit,
    other_key,
    signed_by,
    swap,
)
from glasscase.sim.pki import Crl, Extension
from glasscase.sim.scene import Scene

_SHA384 = der.sequence(der.oid("1.2.840.10045.4.3.3"))
_OID_DELTA_CRL = "2.5.29.27"
_OID_ISSUING_POINT = "2.5.29.28"
_REASON = Extension(pki.OID_CRL_REASON, der.enumerated(1))
# what else than one reason code an entry of a whole CRL could carry
_ENTRY_FAULTS: dict[str, tuple[Extension, ...]] = {
    "with-critical-extension": (Extension("1.3.6.1.4.1.99999.1", der.sequence(), critical=True),),
    "with-other-extension": (Extension("2.5.29.24", der.enumerated(1)),),
    "without-extension": (),
    "reason-critical": (replace(_REASON, critical=True),),
    "reason-twice": (_REASON, _REASON),
    "reason-trailing": (replace(_REASON, content=der.enumerated(1) + b"\5\0"),),
    "reason-unknown": (replace(_REASON, content=der.enumerated(11)),),
    "removed-by-delta": (replace(_REASON, content=der.enumerated(8)),),
}


def faults() -> Iterator[Fault]:
    """Give every fault of this group."""
    yield from _of_crl("root_crl", "crl.root", "root_ca_crl")
    yield from _of_crl("pck_crl", "crl.pck", "pck_crl")
    yield Fault("pck-crl-as-root-crl", "crl.root.bad_issuer", _copy("pck_crl", "root_crl"))
    yield Fault("root-crl-as-pck-crl", "crl.pck.bad_issuer", _copy("root_crl", "pck_crl"))


def _of_crl(name: str, area: str, item: str) -> Iterator[Fault]:
    def fault(what: str, check: str, change: Change) -> Fault:
        return Fault(f"{name.replace('_', '-')}-{what}", f"{area}.{check}", change)

    yield fault("missing", "missing", omit(item))
    yield fault("empty", "missing", edits(f"hex.{name}", become(b"")))
    yield from (fault(what, "malformed", change) for what, change in _encoding_faults(name))
    for what, oid in (("number", pki.OID_CRL_NUMBER), ("authority-key", pki.OID_AUTHORITY_KEY)):
        yield fault(f"without-{what}", "bad_extension", _without(name, oid))
        yield fault(f"{what}-critical", "bad_extension", _with(name, oid, critical=True))
        yield fault(f"{what}-twice", "bad_extension", _twice(name, oid))
    delta = Extension(_OID_DELTA_CRL, der.integer(1), critical=True)
    partial = Extension(_OID_ISSUING_POINT, der.sequence(der.implicit(1, b"\xff")), critical=True)
    unknown = Extension("1.3.6.1.4.1.99999.1", der.sequence())
    for what, extension in (("delta", delta), ("partial", partial), ("unknown-extension", unknown)):
        yield fault(what, "bad_extension", _add(name, extension))
    for what, number in (("negative", -1), ("of-161-bits", 2**160)):
        content = der.integer(number)
        yield fault(f"number-{what}", "bad_extension", _with(name, pki.OID_CRL_NUMBER, content=content))
    yield fault("without-extensions", "bad_extension", _crl(name, lambda crl: replace(crl, extensions=())))
    for what, extensions in _ENTRY_FAULTS.items():
        encoded = b"".join(extension.encode() for extension in extensions)
        odd = der.sequence(der.integer(9), der.time(1700000000), der.sequence(encoded))
        yield fault(f"entry-{what}", "malformed", _odd_entry(name, odd))
    yield fault("entries-empty", "malformed", _odd_entry(name, b""))
    yield fault("other-issuer", "bad_issuer", lambda scene: scene.crl(name, issuer=pki.name("Intel SGX Root CB")))
    yield fault("other-key-id", "bad_key_id", _with(
        name, pki.OID_AUTHORITY_KEY, content=pki.authority_key(bytes(20)).content))  # fmt: skip
    yield fault("signature-bit", "bad_signature", edits(f"der.{name}", flip(-1)))
    yield fault("signed-by-stranger", "bad_signature", signed_by(name, lambda _: other_key()))
    yield fault("signed-by-tcb-signer", "bad_signature", signed_by(name, lambda scene: scene.keys.tcb_signer))
    yield fault("changed-after-signing", "bad_signature", edits(f"der.{name}", swap(b"\x55\x1d\x14\x04\x03\2\1\1",
                b"\x55\x1d\x14\x04\x03\2\1\2")))  # fmt: skip
    yield fault("not-yet-valid", "not_yet_valid", lambda scene: scene.crl(name, this_update=scene.at + 1))
    yield fault("expired-this-second", "expired", _window(name, 0))
    yield fault("expired-long-ago", "expired", _window(name, -86400 * 300))


def _encoding_faults(name: str) -> Iterator[tuple[str, Change]]:
    yield "random-bytes", edits(f"hex.{name}", become(b"c0ffee" * 40))
    yield "odd-hex", edits(f"hex.{name}", cut(1))
    yield "not-hex", edits(f"hex.{name}", become(b"not hexadecimal"))
    yield "trailing-byte", edits(f"der.{name}", append(b"\0"))
    yield "trailing-element", edits(f"der.{name}", append_inside(b"\5\0"))
    yield "trailing-in-signed-part", edits(f"tbs.{name}", append_inside(b"\5\0"))
    yield "truncated", edits(f"der.{name}", cut(1))
    yield "half", edits(f"der.{name}", lambda made: made[: len(made) // 2])
    yield "length-not-minimal", edits(f"der.{name}", long_length)
    yield "indefinite-length", edits(f"der.{name}", indefinite_length)
    yield "version-one", lambda scene: scene.crl(name, version=0)
    yield "version-three", lambda scene: scene.crl(name, version=2)
    yield "without-next-update", lambda scene: scene.crl(name, next_update=None)
    yield "outer-algorithm-other", lambda scene: scene.crl(name, outer_algorithm=_SHA384)
    yield "both-algorithms-other", lambda scene: scene.crl(name, outer_algorithm=_SHA384, inner_algorithm=_SHA384)
    yield "is-a-certificate", lambda scene: scene.edit(f"der.{name}", become(scene.anchor))
    yield "entry-serial-negative", lambda scene: scene.crl(name, revoked=(-5,))
    yield "entry-serial-of-161-bits", lambda scene: scene.crl(name, revoked=(2**160,))
    yield "entry-with-two-numbers", _odd_entry(name, der.sequence(der.integer(9), der.integer(9)))
    yield "entry-without-date", _odd_entry(name, der.sequence(der.integer(9)))


def _crl(name: str, change: Callable[[Crl], Crl]) -> Change:
    def apply(scene: Scene) -> None:
        scene.crls[name] = change(scene.crls[name])

    return apply


def _with(name: str, oid: str, **changes: object) -> Change:
    return _crl(name, lambda crl: pki.with_extension(crl, oid, **changes))


def _without(name: str, oid: str) -> Change:
    return _crl(name, lambda crl: pki.without_extension(crl, oid))


def _twice(name: str, oid: str) -> Change:
    def change(crl: Crl) -> Crl:
        return replace(crl, extensions=(*crl.extensions, *(item for item in crl.extensions if item.oid == oid)))

    return _crl(name, change)


def _add(name: str, extension: Extension) -> Change:
    return _crl(name, lambda crl: replace(crl, extensions=(*crl.extensions, extension)))


def _copy(source: str, target: str) -> Change:
    def apply(scene: Scene) -> None:
        scene.crls[target] = scene.crls[source]
        scene.signers[target] = scene.signers[source]

    return apply


def _window(name: str, after: int) -> Change:
    def apply(scene: Scene) -> None:
        scene.crl(name, this_update=scene.at + after - 86400, next_update=scene.at + after)

    return apply


def _odd_entry(name: str, entry: bytes) -> Change:
    """Put an entry of odd shape in the place of an honest one."""

    def apply(scene: Scene) -> None:
        honest = der.sequence(
            der.integer(9),
            der.time(scene.crls[name].this_update),
            der.sequence(_REASON.encode()),
        )
        scene.crl(name, revoked=(9,))
        scene.edit(f"tbs.{name}", lambda tbs: _replace_entries(tbs, der.sequence(honest), der.sequence(entry)))

    return apply


def _replace_entries(tbs: bytes, honest: bytes, odd: bytes) -> bytes:
    return der.sequence(content_of(tbs).replace(honest, odd, 1))
