"""Certificates and CRLs in the exact form that Intel gives them, from plain descriptions, signed with our own keys.

Invariants: a description says every byte that is signed, so a fault is one changed field; encoding the same description
with the same key gives the same bytes (deterministic ECDSA).
Source: Intel SGX PCK Certificate and Certificate Revocation List Profile Specification; RFC 5280.
"""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from glasscase.sim import der

Edit = Callable[[bytes], bytes]

ROOT_NAME = "SIMULATED SGX Root CA"
PLATFORM_CA_NAME = "Intel SGX PCK Platform CA"
PROCESSOR_CA_NAME = "Intel SGX PCK Processor CA"
PCK_NAME = "Intel SGX PCK Certificate"
TCB_SIGNING_NAME = "Intel SGX TCB Signing"

ROOT_CRL_URL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
PCK_CRL_URL = "https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl?ca={ca}&encoding=der"

OID_AUTHORITY_KEY = "2.5.29.35"
OID_CRL_POINTS = "2.5.29.31"
OID_SUBJECT_KEY = "2.5.29.14"
OID_KEY_USAGE = "2.5.29.15"
OID_BASIC_CONSTRAINTS = "2.5.29.19"
OID_CRL_NUMBER = "2.5.29.20"
OID_CRL_REASON = "2.5.29.21"
OID_SGX = "1.2.840.113741.1.13.1"
KEY_USAGE_CA = bytes.fromhex("03020106")  # keyCertSign, cRLSign
KEY_USAGE_SIGNER = bytes.fromhex("030206c0")  # digitalSignature, nonRepudiation

ECDSA_SHA256 = der.sequence(der.oid("1.2.840.10045.4.3.2"))
_EC_P256 = der.sequence(der.oid("1.2.840.10045.2.1"), der.oid("1.2.840.10045.3.1.7"))
_NAME_TAIL = (
    ("2.5.4.10", der.UTF8_STRING, "Intel Corporation"),
    ("2.5.4.7", der.UTF8_STRING, "Santa Clara"),
    ("2.5.4.8", der.UTF8_STRING, "CA"),
    ("2.5.4.6", der.PRINTABLE_STRING, "US"),
)


@dataclass(frozen=True)
class SigningKey:
    """A P-256 private key that signs ECDSA with SHA-256."""

    private: ec.EllipticCurvePrivateKey

    @classmethod
    def generate(cls) -> Self:
        """Return a new random key."""
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Return the key of a PKCS#8 PEM. Raises ValueError for anything else than a P-256 key."""
        private = serialization.load_pem_private_key(pem, password=None)
        if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
            raise ValueError("not a P-256 key")
        return cls(private)

    def to_pem(self) -> bytes:
        """Return the key as PKCS#8 PEM, not encrypted."""
        return self.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    @property
    def point(self) -> bytes:
        """Return the public key as 65 bytes: 04, x, y."""
        return self.private.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )

    @property
    def key_id(self) -> bytes:
        """Return the 20 bytes that stand in subject and authority key identifiers."""
        return hashlib.sha256(self.point).digest()[:20]

    def derive(self, label: str, size: int) -> bytes:
        """Return `size` (at most 32) public bytes that belong to this key: serial numbers and platform ids."""
        return hashlib.sha256(b"glasscase simulator " + label.encode("ascii") + b"\0" + self.point).digest()[:size]

    def sign_der(self, message: bytes) -> bytes:
        """Return the ECDSA signature as DER SEQUENCE of r and s."""
        return self.private.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))

    def sign_raw(self, message: bytes) -> bytes:
        """Return the ECDSA signature as 64 bytes, r then s."""
        r, s = utils.decode_dss_signature(self.sign_der(message))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


@dataclass(frozen=True)
class Extension:
    """One X.509 extension: dotted id, criticality, DER content."""

    oid: str
    content: bytes
    critical: bool = False

    def encode(self) -> bytes:
        """Return the Extension SEQUENCE; a criticality of false is not written, as DER wants."""
        flag = der.boolean(True) if self.critical else b""
        return der.sequence(der.oid(self.oid), flag, der.octet_string(self.content))


@dataclass(frozen=True)
class Certificate:
    """Everything in a certificate but the signature. serial: positive; times: unix seconds; point: 65 bytes."""

    serial: int
    issuer: bytes
    subject: bytes
    not_before: int
    not_after: int
    point: bytes
    extensions: tuple[Extension, ...]
    version: int = 2
    inner_algorithm: bytes = ECDSA_SHA256
    outer_algorithm: bytes = ECDSA_SHA256
    key_algorithm: bytes = _EC_P256

    def encode(self, signer: SigningKey, *, edit_tbs: Edit | None = None) -> bytes:
        """Return the DER certificate signed by `signer`. edit_tbs: changes the signed part before it is signed."""
        tbs = der.sequence(
            der.explicit(0, der.integer(self.version)) if self.version else b"",
            der.integer(self.serial),
            self.inner_algorithm,
            self.issuer,
            der.sequence(der.time(self.not_before), der.time(self.not_after)),
            self.subject,
            der.sequence(self.key_algorithm, der.bit_string(self.point)),
            der.explicit(3, der.sequence(*(item.encode() for item in self.extensions))) if self.extensions else b"",
        )
        return _signed(tbs, signer, self.outer_algorithm, edit_tbs)


@dataclass(frozen=True)
class Crl:
    """Everything in a CRL but the signature. revoked: serial numbers, all at this_update; next_update None leaves it out."""

    issuer: bytes
    this_update: int
    next_update: int | None
    extensions: tuple[Extension, ...]
    revoked: tuple[int, ...] = ()
    version: int = 1
    inner_algorithm: bytes = ECDSA_SHA256
    outer_algorithm: bytes = ECDSA_SHA256

    def encode(self, signer: SigningKey, *, edit_tbs: Edit | None = None) -> bytes:
        """Return the DER CRL signed by `signer`. edit_tbs: changes the signed part before it is signed."""
        reason = der.sequence(Extension(OID_CRL_REASON, der.enumerated(1)).encode())
        entries = (der.sequence(der.integer(serial), der.time(self.this_update), reason) for serial in self.revoked)
        tbs = der.sequence(
            der.integer(self.version) if self.version else b"",
            self.inner_algorithm,
            self.issuer,
            der.time(self.this_update),
            b"" if self.next_update is None else der.time(self.next_update),
            der.sequence(*entries) if self.revoked else b"",
            der.explicit(0, der.sequence(*(item.encode() for item in self.extensions))) if self.extensions else b"",
        )
        return _signed(tbs, signer, self.outer_algorithm, edit_tbs)


Described = TypeVar("Described", Certificate, Crl)


def with_extension(described: Described, oid: str, **changes: Any) -> Described:
    """Return a certificate or CRL with fields of one extension changed."""
    items = tuple(replace(item, **changes) if item.oid == oid else item for item in described.extensions)
    return replace(described, extensions=items)


def without_extension(described: Described, oid: str) -> Described:
    """Return a certificate or CRL without one extension."""
    return replace(described, extensions=tuple(item for item in described.extensions if item.oid != oid))


def name(common_name: str, tail: tuple[tuple[str, int, str], ...] = _NAME_TAIL) -> bytes:
    """Return a distinguished name in Intel's order: CN, O, L, ST, C."""
    parts = (("2.5.4.3", der.UTF8_STRING, common_name), *tail)
    return der.sequence(
        *(der.set_of(der.sequence(der.oid(oid), der.tlv(tag, text.encode("utf-8")))) for oid, tag, text in parts)
    )


def authority_key(key_id: bytes) -> Extension:
    """Return an authority key identifier that names a key."""
    return Extension(OID_AUTHORITY_KEY, der.sequence(der.implicit(0, key_id)))


def common_extensions(issuer: SigningKey, subject: SigningKey, url: str) -> tuple[Extension, ...]:
    """Return the first three extensions of every Intel certificate: authority key, CRL distribution point, subject key."""
    point = der.explicit(0, der.explicit(0, der.implicit(6, url.encode("ascii"))))
    return (
        authority_key(issuer.key_id),
        Extension(OID_CRL_POINTS, der.sequence(der.sequence(point))),
        Extension(OID_SUBJECT_KEY, der.octet_string(subject.key_id)),
    )


def ca_extensions(path_length: int) -> tuple[Extension, ...]:
    """Return key usage and basic constraints of a certificate authority."""
    constraints = der.sequence(der.boolean(True), der.integer(path_length))
    return (
        Extension(OID_KEY_USAGE, KEY_USAGE_CA, critical=True),
        Extension(OID_BASIC_CONSTRAINTS, constraints, critical=True),
    )


def signer_extensions() -> tuple[Extension, ...]:
    """Return key usage and basic constraints of a leaf."""
    return (
        Extension(OID_KEY_USAGE, KEY_USAGE_SIGNER, critical=True),
        Extension(OID_BASIC_CONSTRAINTS, der.sequence(), critical=True),
    )


def crl_extensions(number: int, issuer: SigningKey) -> tuple[Extension, ...]:
    """Return CRL number and authority key identifier."""
    return (Extension(OID_CRL_NUMBER, der.integer(number)), authority_key(issuer.key_id))


def key_serial(key: SigningKey) -> int:
    """Return the serial number of an authority's certificate: its subject key identifier, as at Intel."""
    return int.from_bytes(key.key_id, "big")


def pem(certificate: bytes) -> str:
    """Return a DER certificate as PEM: 64 columns, a newline after the last line."""
    text = base64.b64encode(certificate).decode("ascii")
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""])


def _signed(tbs: bytes, signer: SigningKey, algorithm: bytes, edit_tbs: Edit | None) -> bytes:
    signed = edit_tbs(tbs) if edit_tbs else tbs
    return der.sequence(signed, algorithm, der.bit_string(signer.sign_der(signed)))
