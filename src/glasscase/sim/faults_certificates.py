"""Faults of certificates, chains and revocation.

Source: docs/checks.md, areas pck, root, crl, tcbinfo and qe.
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
    certificate,
    certificate_by,
    chain,
    copy_certificate,
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
from glasscase.sim.pki import Certificate, Extension
from glasscase.sim.scene import Scene

_UNKNOWN_OID = "1.3.6.1.4.1.99999.1"
_SHA384 = der.sequence(der.oid("1.2.840.10045.4.3.3"))
_SECP256K1 = der.sequence(der.oid("1.2.840.10045.2.1"), der.oid("1.3.132.0.10"))
# certificate -> (area of its checks, check of an unreadable chain, stage of its chain, is an authority)
_ROLES = {
    "ca": ("pck.ca", "pck.chain.malformed", True),
    "pck": ("pck.leaf", "pck.chain.malformed", False),
    "tcb_signer": ("tcbinfo.signer", "tcbinfo.chain.malformed", False),
}
_ROLE_CHECK = {"ca": "pck.chain.bad_roles", "pck": "pck.chain.bad_roles", "tcb_signer": "tcbinfo.chain.bad_roles"}


def faults() -> Iterator[Fault]:
    """Give every fault of this group."""
    for name in _ROLES:
        yield from _of_certificate(name)
    yield from _of_root()
    yield from _of_revocation()
    yield from _of_chains()
    for stage, check in (
        ("quote", "pck.chain.malformed"),
        ("pck_crl", "crl.chain.malformed"),
        ("tcb_info", "tcbinfo.chain.malformed"),
        ("qe_identity", "qe.chain.malformed"),
    ):
        yield from _of_pem(stage, check)


def _of_certificate(name: str) -> Iterator[Fault]:
    area, malformed, authority = _ROLES[name]

    def fault(what: str, check: str, change: Change) -> Fault:
        return Fault(f"{name.replace('_', '-')}-{what}", check, change)

    yield fault("expired-this-second", f"{area}.expired", _window(name, after=0))
    yield fault("expired-long-ago", f"{area}.expired", _window(name, after=-86400 * 400))
    yield fault("not-yet-valid", f"{area}.not_yet_valid", _window(name, before=1))
    yield fault("signature-bit", f"{area}.bad_signature", edits(f"der.{name}", flip(-1)))
    yield fault("signed-by-stranger", f"{area}.bad_signature", signed_by(name, lambda _: other_key()))
    yield fault("changed-after-signing", f"{area}.bad_signature", edits(f"der.{name}", swap(b"18052110", b"18052111")))
    yield fault("issuer-other-name", f"{area}.bad_issuer", certificate(name, issuer=pki.name("Intel SGX Root CB")))
    yield fault("issuer-is-itself", f"{area}.bad_issuer", _issued_by_itself(name))
    yield fault("authority-key-wrong", f"{area}.bad_key_id", _extension(name, pki.OID_AUTHORITY_KEY,
                content=pki.authority_key(bytes(20)).content))  # fmt: skip
    yield from (fault(*item) for item in _extension_faults(name, area))
    yield from (fault(*item) for item in _role_faults(name, area, authority=authority))
    yield from (fault(what, malformed, change) for what, change in _encoding_faults(name))


def _extension_faults(name: str, area: str) -> Iterator[tuple[str, str, Change]]:
    check = f"{area}.bad_extension"
    for label, oid in (
        ("authority-key", pki.OID_AUTHORITY_KEY),
        ("crl-points", pki.OID_CRL_POINTS),
        ("subject-key", pki.OID_SUBJECT_KEY),
        ("key-usage", pki.OID_KEY_USAGE),
        ("constraints", pki.OID_BASIC_CONSTRAINTS),
    ):
        yield f"without-{label}", check, _without(name, oid)
    yield "key-usage-not-critical", check, _extension(name, pki.OID_KEY_USAGE, critical=False)
    yield "constraints-not-critical", check, _extension(name, pki.OID_BASIC_CONSTRAINTS, critical=False)
    yield "subject-key-critical", check, _extension(name, pki.OID_SUBJECT_KEY, critical=True)
    yield (
        "extension-twice",
        check,
        certificate_by(name, lambda c: replace(c, extensions=(*c.extensions, c.extensions[2]))),
    )
    yield "unknown-critical-extension", check, _add(name, Extension(_UNKNOWN_OID, der.sequence(), critical=True))
    yield "unknown-extension", check, _add(name, Extension(_UNKNOWN_OID, der.sequence()))
    yield "key-usage-trailing", check, _extension(name, pki.OID_KEY_USAGE, content=bytes.fromhex("030206c000"))
    yield "constraints-trailing", check, _extension(name, pki.OID_BASIC_CONSTRAINTS, content=bytes.fromhex("300000"))
    for label, oid in (("authority-key", pki.OID_AUTHORITY_KEY), ("subject-key", pki.OID_SUBJECT_KEY)):
        yield f"{label}-trailing", check, _changed_content(name, oid, append(b"\5\0"))
    yield "authority-key-with-serial", check, _changed_content(
        name, pki.OID_AUTHORITY_KEY, append_inside(der.implicit(2, b"\1")))  # fmt: skip
    if name != "pck":
        yield "with-sgx-extension", check, _with_sgx(name)


def _role_faults(name: str, area: str, *, authority: bool) -> Iterator[tuple[str, str, Change]]:
    usage, limits = f"{area}.bad_key_usage", f"{area}.bad_constraints"
    ca_true = der.sequence(der.boolean(True), der.integer(0))
    if authority:
        yield "constraints-not-ca", limits, _extension(name, pki.OID_BASIC_CONSTRAINTS, content=der.sequence())
        yield "path-length-one", limits, _path_length(name, 1)
        yield "without-path-length", limits, _extension(
            name, pki.OID_BASIC_CONSTRAINTS, content=der.sequence(der.boolean(True)))  # fmt: skip
        yield "cannot-sign-certificates", usage, _usage(name, "03020102")
        yield "cannot-sign-crls", usage, _usage(name, "03020204")
        yield "signs-data-too", usage, _usage(name, "03020186")
    else:
        for what, content in (
            ("is-ca", ca_true),
            ("is-ca-without-path-length", der.sequence(der.boolean(True))),
            ("path-length-without-ca", der.sequence(der.integer(0))),
        ):
            yield what, limits, _extension(name, pki.OID_BASIC_CONSTRAINTS, content=content)
        yield "cannot-sign", usage, _usage(name, "03020640")
        yield "signs-certificates-too", usage, _usage(name, "030202c4")
    names = _ROLE_CHECK[name]
    subject = {"ca": pki.PLATFORM_CA_NAME, "pck": pki.PCK_NAME, "tcb_signer": pki.TCB_SIGNING_NAME}[name]
    yield "subject-with-tail", names, certificate(name, subject=pki.name(subject + " 2"))
    yield "subject-with-head", names, certificate(name, subject=pki.name("The " + subject))
    yield "subject-lower-case", names, certificate(name, subject=pki.name(subject.lower()))
    yield "subject-with-nul", names, certificate(name, subject=pki.name(subject + "\0"))


def _encoding_faults(name: str) -> Iterator[tuple[str, Change]]:
    yield "outer-algorithm-other", certificate(name, outer_algorithm=_SHA384)
    yield "both-algorithms-other", certificate(name, outer_algorithm=_SHA384, inner_algorithm=_SHA384)
    yield "algorithm-with-null", certificate(name, outer_algorithm=append_inside(b"\5\0")(pki.ECDSA_SHA256))
    yield "version-one", certificate(name, version=0)
    yield "version-four", certificate(name, version=3)
    yield "other-curve", certificate(name, key_algorithm=_SECP256K1)
    yield (
        "compressed-key",
        certificate_by(name, lambda c: replace(c, point=bytes([2 + c.point[64] % 2]) + c.point[1:33])),
    )
    yield "hybrid-key", certificate_by(name, lambda c: replace(c, point=bytes([6 + c.point[64] % 2]) + c.point[1:]))
    yield "key-too-long", certificate_by(name, lambda c: replace(c, point=c.point + b"\0"))
    yield "serial-negative", certificate(name, serial=-5)
    yield "serial-zero", certificate(name, serial=0)
    yield "serial-of-161-bits", certificate(name, serial=2**160)
    yield "trailing-byte", edits(f"der.{name}", append(b"\0"))
    yield "trailing-element", edits(f"der.{name}", append_inside(b"\5\0"))
    yield "trailing-in-signed-part", edits(f"tbs.{name}", append_inside(b"\5\0"))
    yield "boolean-one", edits(f"tbs.{name}", swap(b"\1\1\xff", b"\1\1\1"))
    yield "length-not-minimal", edits(f"der.{name}", long_length)
    yield "signed-length-not-minimal", edits(f"tbs.{name}", long_length)
    yield "indefinite-length", edits(f"der.{name}", indefinite_length)
    yield "truncated", edits(f"der.{name}", cut(1))
    yield "month-thirteen", edits(f"tbs.{name}", swap(b"180521", b"181321"))
    yield "day-thirty-in-february", edits(f"tbs.{name}", swap(b"180521", b"180230"))
    yield "time-with-offset", edits(f"tbs.{name}", _utc_with_offset)
    yield "time-without-seconds", edits(f"tbs.{name}", swap(b"\x17\r180521105010Z", b"\x17\r1805211050Z\0\0"))


def _of_root() -> Iterator[Fault]:
    unknown = "root.certificate.unknown"
    yield Fault("root-of-stranger", unknown, _stranger_root)
    yield Fault("root-same-key-other-dates", unknown, certificate("root", not_after=2524607999))
    yield Fault("root-same-key-other-serial", unknown, certificate("root", serial=7))
    yield Fault("root-signature-bit", unknown, edits("der.root", flip(-1)))
    yield Fault("root-without-crl-points", unknown, _without("root", pki.OID_CRL_POINTS))
    yield Fault("root-not-self-signed", unknown, signed_by("root", lambda scene: scene.keys.ca))
    yield Fault("root-with-other-name", "pck.chain.bad_roles", certificate("root", subject=pki.name("SGX Root CA")))
    yield Fault("root-expired-this-second", "root.certificate.expired", _trusted_root_window(after=0))
    yield Fault("root-not-yet-valid", "root.certificate.not_yet_valid", _trusted_root_window(before=1))


def _of_revocation() -> Iterator[Fault]:
    yield Fault("root-revoked-by-itself", "root.certificate.revoked", _revoke("root", "root_crl"))
    yield Fault("ca-revoked", "pck.ca.revoked", _revoke("ca", "root_crl"))
    yield Fault("pck-revoked", "pck.leaf.revoked", _revoke("pck", "pck_crl"))
    yield Fault("pck-revoked-last-of-many", "pck.leaf.revoked", _revoke("pck", "pck_crl", others=2000))
    yield Fault("tcb-signer-revoked", "tcbinfo.signer.revoked", _revoke("tcb_signer", "root_crl"))
    yield Fault("pck-revoked-small-serial", "pck.leaf.revoked", _revoke_serial("pck", 0x80, crl="pck_crl"))


def _of_chains() -> Iterator[Fault]:
    yield Fault("pck-chain-of-two", "pck.chain.malformed", chain("quote", "pck", "ca"))
    yield Fault("pck-chain-of-one", "pck.chain.malformed", chain("quote", "pck"))
    yield Fault("pck-chain-empty", "pck.chain.malformed", chain("quote"))
    yield Fault("pck-chain-of-four", "pck.chain.malformed", chain("quote", "pck", "ca", "root", "root"))
    yield Fault("pck-chain-leaf-twice", "pck.chain.bad_roles", chain("quote", "pck", "pck", "root"))
    yield Fault("pck-chain-without-root", "pck.chain.bad_roles", chain("quote", "pck", "ca", "ca"))
    yield Fault("pck-chain-with-tcb-signer", "pck.chain.bad_roles", chain("quote", "tcb_signer", "ca", "root"))
    for name, area, leaf in (("pck_crl", "crl", "ca"), ("tcb_info", "tcbinfo", "tcb_signer"),
                             ("qe_identity", "qe", "tcb_signer")):  # fmt: skip
        label = name.replace("_", "-")
        yield Fault(f"{label}-chain-missing", f"{area}.chain.missing", omit(f"{name}_issuer_chain"))
        yield Fault(f"{label}-chain-of-one", f"{area}.chain.malformed", chain(name, leaf))
        yield Fault(f"{label}-chain-of-three", f"{area}.chain.malformed", chain(name, leaf, "root", "root"))
        yield Fault(f"{label}-chain-without-root", f"{area}.chain.bad_roles", chain(name, leaf, leaf))
        yield Fault(f"{label}-chain-with-pck", f"{area}.chain.bad_roles", chain(name, "pck", "root"))
        yield Fault(f"{label}-chain-root-of-stranger", f"{area}.chain.untrusted", _stranger_root_in(name))
        yield Fault(f"{label}-chain-root-resigned", f"{area}.chain.untrusted", _resigned_root_in(name))
    yield Fault("tcb-info-chain-of-pck-ca", "tcbinfo.chain.bad_roles", chain("tcb_info", "ca", "root"))
    yield Fault("tcb-info-signed-by-pck-ca-chain", "tcbinfo.signer.bad_issuer", _signer_below_ca)
    yield Fault("pck-issued-by-root", "pck.leaf.bad_issuer", _pck_below_root)
    yield Fault("pck-crl-chain-of-processor-ca", "crl.ca.mismatch", _processor_crl)
    yield Fault("pck-crl-chain-of-namesake", "crl.ca.mismatch", _crl_of_namesake)
    yield from _of_copy("crl-ca", "crl.ca", "ca", "pck_crl")
    yield from _of_copy("qe-signer", "qe.signer", "tcb_signer", "qe_identity")


def _of_copy(label: str, area: str, old: str, chain_name: str) -> Iterator[Fault]:
    """Give faults of a certificate that stands in one chain only, beside an honest one of the same role elsewhere."""
    new = f"{chain_name}_{old}"

    def fault(what: str, check: str, change: Change) -> Fault:
        def apply(scene: Scene) -> None:
            if new not in scene.certificates:
                copy_certificate(scene, old, new, chain_name)
            change(scene)

        return Fault(f"{label}-{what}", f"{area}.{check}", apply)

    limits = der.sequence(der.boolean(True), der.integer(1))
    key_id = pki.authority_key(bytes(20)).content
    yield fault("without-crl-points", "bad_extension", _without(new, pki.OID_CRL_POINTS))
    yield fault("path-length-one", "bad_constraints", _extension(new, pki.OID_BASIC_CONSTRAINTS, content=limits))
    yield fault("signs-crls-only", "bad_key_usage", _usage(new, "03020102"))
    yield fault("issuer-other-name", "bad_issuer", certificate(new, issuer=pki.name("Intel SGX Root CB")))
    yield fault("authority-key-wrong", "bad_key_id", _extension(new, pki.OID_AUTHORITY_KEY, content=key_id))
    yield fault("by-stranger", "bad_signature", signed_by(new, lambda _: other_key()))
    yield fault("revoked", "revoked", _revoke_serial(new, 4711))
    yield fault("not-yet-valid", "not_yet_valid", _window(new, before=1))
    yield fault("expired", "expired", _window(new, after=0))


def _of_pem(stage: str, check: str) -> Iterator[Fault]:
    end = b"-----END CERTIFICATE-----\n"
    nothing = check if stage == "quote" else check.replace("malformed", "missing")
    yield Fault(f"{stage.replace('_', '-')}-pem-empty", nothing, edits(f"pem.{stage}", become(b"")))
    for what, change in (
        ("crlf", lambda text: text.replace(b"\n", b"\r\n")),
        ("text-before", lambda text: b"hello\n" + text),
        ("text-between", swap(end, end + b"hello\n")),
        ("text-after", append(b"hello\n")),
        ("blank-line", swap(end, end + b"\n")),
        ("other-label", lambda text: text.replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE")),
        ("without-end", swap(end, b"")),
        ("line-of-65", _one_longer_line),
        ("space-in-base64", lambda text: text[:100] + b" " + text[101:]),
        ("star-in-base64", lambda text: text[:100] + b"*" + text[101:]),
        ("lower-case-marker", swap(b"-----BEGIN", b"-----begin")),
        ("nul-inside", swap(end, end + b"\0")),
    ):
        yield Fault(f"{stage.replace('_', '-')}-pem-{what}", check, edits(f"pem.{stage}", change))


def _window(name: str, *, before: int | None = None, after: int | None = None) -> Change:
    def apply(scene: Scene) -> None:
        if before is not None:
            scene.certificate(name, not_before=scene.at + before)
        if after is not None:
            scene.certificate(name, not_after=scene.at + after)

    return apply


def _trusted_root_window(*, before: int | None = None, after: int | None = None) -> Change:
    def apply(scene: Scene) -> None:
        _window("root", before=before, after=after)(scene)
        scene.trust_changed_root()

    return apply


def _extension(name: str, oid: str, **changes: object) -> Change:
    return certificate_by(name, lambda described: pki.with_extension(described, oid, **changes))


def _changed_content(name: str, oid: str, change: Callable[[bytes], bytes]) -> Change:
    def apply(described: Certificate) -> Certificate:
        (found,) = (item for item in described.extensions if item.oid == oid)
        return pki.with_extension(described, oid, content=change(found.content))

    return certificate_by(name, apply)


def _without(name: str, oid: str) -> Change:
    return certificate_by(name, lambda described: pki.without_extension(described, oid))


def _usage(name: str, content: str) -> Change:
    return _extension(name, pki.OID_KEY_USAGE, content=bytes.fromhex(content))


def _path_length(name: str, length: int) -> Change:
    return _extension(name, pki.OID_BASIC_CONSTRAINTS, content=pki.ca_extensions(length)[1].content)


def _add(name: str, extension: Extension) -> Change:
    return certificate_by(name, lambda described: replace(described, extensions=(*described.extensions, extension)))


def _with_sgx(name: str) -> Change:
    return lambda scene: _add(name, scene.certificates["pck"].extensions[-1])(scene)


def _issued_by_itself(name: str) -> Change:
    return certificate_by(name, lambda described: replace(described, issuer=described.subject))


def _utc_with_offset(tbs: bytes) -> bytes:
    return tbs.replace(b"\x17\r180521105010Z", b"\x17\x111805211050+0000Z"[:15], 1)


def _stranger_root(scene: Scene) -> None:
    """A whole PKI with the right names below another root."""
    key = other_key()
    for name in ("root", "ca", "tcb_signer", "root_crl"):
        scene.signers[name] = key
    scene.certificate("root", point=key.point)


def _root_copy(scene: Scene, name: str, **changes: object) -> None:
    copy_certificate(scene, "root", f"{name}_root", name, **changes)


def _stranger_root_in(name: str) -> Change:
    def apply(scene: Scene) -> None:
        key = other_key()
        _root_copy(scene, name, point=key.point)
        scene.signers[f"{name}_root"] = key

    return apply


def _resigned_root_in(name: str) -> Change:
    return lambda scene: _root_copy(scene, name, not_after=2524607999)


def _revoke(name: str, crl: str, *, others: int = 0) -> Change:
    def apply(scene: Scene) -> None:
        more = tuple(range(1, others + 1))
        scene.crl(crl, revoked=(*scene.crls[crl].revoked, *more, scene.certificates[name].serial))

    return apply


def _revoke_serial(name: str, serial: int, *, crl: str = "root_crl") -> Change:
    def apply(scene: Scene) -> None:
        scene.certificate(name, serial=serial)
        scene.crl(crl, revoked=(*scene.crls[crl].revoked, serial))

    return apply


def _signer_below_ca(scene: Scene) -> None:
    scene.certificate("tcb_signer", issuer=scene.certificates["ca"].subject)
    scene.signers["tcb_signer"] = scene.keys.ca


def _pck_below_root(scene: Scene) -> None:
    scene.certificate("pck", issuer=scene.certificates["root"].subject)
    scene.signers["pck"] = scene.keys.root


def _processor_crl(scene: Scene) -> None:
    """A genuine PCK CRL of the other CA with its own chain."""
    _crl_of_other_ca(scene, pki.name(pki.PROCESSOR_CA_NAME))


def _crl_of_namesake(scene: Scene) -> None:
    """A genuine PCK CRL of a CA of the same name with another key, as after an exchange of keys."""
    _crl_of_other_ca(scene, scene.certificates["ca"].subject)


def _crl_of_other_ca(scene: Scene, subject: bytes) -> None:
    key = other_key()
    extensions = (*pki.common_extensions(scene.keys.root, key, pki.ROOT_CRL_URL), *pki.ca_extensions(0))
    changes = {"subject": subject, "point": key.point, "serial": pki.key_serial(key), "extensions": extensions}
    copy_certificate(scene, "ca", "other_ca", "pck_crl", **changes)
    scene.crl("pck_crl", issuer=subject, extensions=pki.crl_extensions(1, key))
    scene.signers["pck_crl"] = key


def _one_longer_line(text: bytes) -> bytes:
    lines = text.split(b"\n")
    lines[1], lines[2] = lines[1] + lines[2][:1], lines[2][1:]
    return b"\n".join(lines)
