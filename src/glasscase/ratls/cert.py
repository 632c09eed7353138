"""Making the RA-TLS certificate: X.509, self-signed, with quote and claims in the extension 2.23.133.5.4.9.

Invariants: glasscase.ratls.reading accepts exactly the form that make_certificate writes.
Source: CCC interoperable RA-TLS; docs/evidence-format.md, "Certificate".
"""

import datetime
import hashlib
import ipaddress
from typing import Any

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID, ObjectIdentifier

from glasscase.codec import cbor
from glasscase.evidence.attestation import EVIDENCE_TAG

EVIDENCE_OID = ObjectIdentifier("2.23.133.5.4.9")
LEGACY_OID = ObjectIdentifier("1.2.840.113741.1337.6")  # Gramine's older form: a raw quote


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
