"""The RA-TLS certificate: X.509, self-signed, with quote and claims in the extension 2.23.133.5.4.9.

Invariants: read_certificate accepts exactly the form that make_certificate writes, and only if the certificate's key, names
and dates are those of the claims and its signature is by its own key. It says nothing about the quote.
Source: CCC interoperable RA-TLS; docs/evidence-format.md, "Certificate".
"""

import datetime
import hashlib
import ipaddress
import re
from dataclasses import dataclass
from typing import Any

import cbor2
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtensionOID, NameOID, ObjectIdentifier, SignatureAlgorithmOID

from glasscase.codec import cbor
from glasscase.errors import FormatError
from glasscase.evidence.attestation import CERTIFICATE_MAX, CLAIMS_MAX, QUOTE_MAX, Claims

EVIDENCE_OID = ObjectIdentifier("2.23.133.5.4.9")
LEGACY_OID = ObjectIdentifier("1.2.840.113741.1337.6")  # Gramine's older form: a raw quote
EVIDENCE_TAG = 60000
NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
# Warning: for a process that makes errors of them
_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion, x509.DuplicateExtension, Warning)
_MALFORMED = "evidence.certificate.malformed"
_UNBOUND = "evidence.certificate.unbound"


@dataclass(frozen=True)
class RatlsCertificate:
    """What a well-formed RA-TLS certificate says. spki_sha256: 32 bytes; not_before, not_after: unix seconds."""

    quote: bytes
    claims: bytes
    spki_sha256: bytes
    name: str
    san: tuple[str, ...]
    not_before: int
    not_after: int


def make_certificate(
    key: ec.EllipticCurvePrivateKey,
    claims: bytes,
    quote: bytes,
    *,
    name: str,
    not_before: int,
    not_after: int,
    san: tuple[str, ...],
) -> bytes:
    """Return the DER of a certificate of `key` that carries [quote, claims]. not_before, not_after: unix seconds."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    evidence = cbor.encode(cbor2.CBORTag(EVIDENCE_TAG, [quote, claims]))
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_time(not_before))
        .not_valid_after(_time(not_after))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(subject_alternative_name(san), critical=False)
        .add_extension(x509.UnrecognizedExtension(EVIDENCE_OID, evidence), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def make_request(key: ec.EllipticCurvePrivateKey, *, name: str, san: tuple[str, ...]) -> bytes:
    """Return the DER of a PKCS#10 request by `key`, for the certificate mode `own`."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    )
    return (
        builder.add_extension(subject_alternative_name(san), critical=False)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


def read_certificate(der: bytes) -> RatlsCertificate:
    """Return what an RA-TLS certificate says.

    Raises FormatError: "evidence.certificate.malformed" for anything but the one form, "evidence.certificate.legacy" if
    only Gramine's older extension is there, "evidence.certificate.unbound" if the self-signature fails or key, names or
    dates differ from the claims, "evidence.claims.malformed" for the claims themselves.
    """
    certificate = _load(der)
    if not der.endswith(bytes([len(certificate.signature) + 1, 0]) + certificate.signature):
        raise _fault("the signature is not a whole number of bytes")  # unused bits are outside of what is signed
    extensions = _extensions(certificate)
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _fault("the certificate's key is not P-256")
    if certificate.signature_algorithm_oid != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
        raise _fault("the certificate is not signed by ECDSA with SHA-256")
    name = _common_name(certificate)
    quote, claims = _evidence(extensions[EVIDENCE_OID])
    facts = Claims.from_bytes(claims)
    session = facts.session_facts()
    spki_sha256 = spki_digest(key)
    found = RatlsCertificate(
        quote=quote,
        claims=claims,
        spki_sha256=spki_sha256,
        name=name,
        san=_names(extensions[ExtensionOID.SUBJECT_ALTERNATIVE_NAME]),
        not_before=int(certificate.not_valid_before_utc.timestamp()),
        not_after=int(certificate.not_valid_after_utc.timestamp()),
    )
    _check_self_signature(certificate)
    if facts.spki_sha256 != spki_sha256:
        raise _unbound("the claims name another key than the certificate's")
    if (found.not_before, found.not_after) != (session.nbf, session.exp):
        raise _unbound("the certificate's dates are not those of the claims")
    if found.san != (session.san or (name,)):
        raise _unbound("the certificate's names are not those of the claims")
    return found


def legacy_quote(der: bytes) -> bytes | None:
    """Return the raw quote in Gramine's older extension, to be shown and never trusted, or None.

    Raises FormatError("evidence.certificate.malformed") if this is not a certificate.
    """
    for extension in _all_extensions(_load(der)):
        if extension.oid == LEGACY_OID:
            return bytes(extension.value.value)
    return None


def spki_digest(key: Any) -> bytes:
    """Return SHA-256 of a public key's SubjectPublicKeyInfo, DER."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def subject_alternative_name(san: tuple[str, ...]) -> x509.SubjectAlternativeName:
    """Return the extension for host names and IP addresses, in their order."""
    names: list[x509.GeneralName] = []
    for name in san:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            names.append(x509.DNSName(name))
    return x509.SubjectAlternativeName(names)


def _time(unix_s: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(unix_s, datetime.UTC)


def _fault(message: str) -> FormatError:
    return FormatError(_MALFORMED, message, what="certificate")


def _unbound(message: str) -> FormatError:
    return FormatError(_UNBOUND, message, what="certificate")


def _load(der: bytes) -> x509.Certificate:
    if len(der) > CERTIFICATE_MAX:
        raise _fault(f"the certificate has {len(der)} bytes, at most {CERTIFICATE_MAX} are allowed")
    try:
        certificate = x509.load_der_x509_certificate(der)
        same = certificate.public_bytes(Encoding.DER) == der
        version, serial = certificate.version, certificate.serial_number
        # these are parsed only when they are asked for, so their faults must end here
        _ = certificate.subject, certificate.issuer, certificate.public_key(), certificate.signature_algorithm_oid
        _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except _UNREADABLE:
        raise _fault("the bytes are not an X.509 certificate in DER") from None
    if not same:
        raise _fault("the certificate is not in DER")
    if version is not x509.Version.v3 or serial <= 0:
        raise _fault("the certificate is not X.509 version 3 with a positive serial number")
    return certificate


def _all_extensions(certificate: x509.Certificate) -> list[x509.Extension[Any]]:
    try:
        return list(certificate.extensions)
    except (*_UNREADABLE, x509.UnsupportedGeneralNameType):
        raise _fault("the certificate's extensions cannot be read, or one stands twice") from None


def _extensions(certificate: x509.Certificate) -> dict[ObjectIdentifier, Any]:
    """Return the three extensions by OID; anything else, or another criticality, is a fault."""
    extensions = _all_extensions(certificate)
    found = {extension.oid: extension for extension in extensions}
    if LEGACY_OID in found and EVIDENCE_OID not in found:
        raise FormatError(
            "evidence.certificate.legacy",
            "the certificate carries only Gramine's older quote extension, which does not bind claims",
            what="certificate",
        )
    wanted = {ExtensionOID.BASIC_CONSTRAINTS: True, ExtensionOID.SUBJECT_ALTERNATIVE_NAME: False, EVIDENCE_OID: False}
    if {extension.oid: extension.critical for extension in extensions} != wanted:
        raise _fault("the certificate does not have exactly the extensions of an RA-TLS certificate")
    constraints = found[ExtensionOID.BASIC_CONSTRAINTS].value
    if constraints.ca or constraints.path_length is not None:
        raise _fault("the certificate claims to be a CA")
    return {oid: extension.value for oid, extension in found.items()}


def _common_name(certificate: x509.Certificate) -> str:
    if certificate.subject.public_bytes() != certificate.issuer.public_bytes():
        raise _fault("subject and issuer differ")
    attributes = list(certificate.subject)
    if len(attributes) != 1 or attributes[0].oid != NameOID.COMMON_NAME or not NAME.fullmatch(str(attributes[0].value)):
        raise _fault("the subject is not one common name of the allowed form")
    return str(attributes[0].value)


def _evidence(extension: x509.UnrecognizedExtension) -> tuple[bytes, bytes]:
    limit = QUOTE_MAX + CLAIMS_MAX + 64
    value = cbor.decode(extension.value, max_bytes=limit, what="evidence extension", tags=frozenset({EVIDENCE_TAG}))
    if not isinstance(value, cbor2.CBORTag) or not isinstance(value.value, list) or len(value.value) != 2:
        raise _fault("the evidence extension is not a tagged pair")
    quote, claims = value.value
    if not isinstance(quote, bytes) or not isinstance(claims, bytes):
        raise _fault("the evidence extension does not hold a quote and claims")
    if len(quote) > QUOTE_MAX or len(claims) > CLAIMS_MAX:
        raise _fault("the quote or the claims in the evidence extension are too long")
    return quote, claims


def _names(extension: x509.SubjectAlternativeName) -> tuple[str, ...]:
    names = []
    for name in extension:
        if not isinstance(name, x509.DNSName | x509.IPAddress):
            raise _fault("the certificate names something that is neither a host nor an address")
        names.append(str(name.value))
    return tuple(names)


def _check_self_signature(certificate: x509.Certificate) -> None:
    try:
        certificate.verify_directly_issued_by(certificate)
    except (InvalidSignature, ValueError, TypeError):
        raise _unbound("the certificate is not signed by its own key") from None
