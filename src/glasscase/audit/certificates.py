"""Certificates, CRLs and keys, described for people; and the evidence file of the predecessor, which is a certificate.

Invariants: a private key is named by its public half only.
Source: RFC 5280; Intel SGX PCK certificate profile; docs/evidence-format.md, "Certificate".
"""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from glasscase.errors import Error, FormatError

_MALFORMED = "inspect.certificate.malformed"
_SGX_EXTENSION = "1.2.840.113741.1.13.1"
_PEM_CERTIFICATES = re.compile(rb"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----", re.ASCII)
_CERTIFICATES_MAX = 16


def describe_pem(content: bytes) -> dict[str, Any]:
    """Return what a PEM file says: one certificate, a chain, a CRL or a key."""
    found = _PEM_CERTIFICATES.findall(content)
    if found:
        if len(found) > _CERTIFICATES_MAX:
            raise _fault("the chain has too many certificates")
        described = [_certificate(_load(pem, pem=True)) for pem in found]
        return described[0] if len(described) == 1 else {"kind": "certificate-chain", "certificates": described}
    if b"-----BEGIN X509 CRL-----" in content:
        return _crl(content, pem=True)
    if b"PRIVATE KEY-----" in content:
        return _private_key(content)
    if b"PUBLIC KEY-----" in content:
        return _public_key(content)
    raise _fault("the PEM block is no certificate, CRL or key")


def describe_der(content: bytes) -> dict[str, Any]:
    """Return what a DER file says: a certificate or a CRL."""
    try:
        return _certificate(_load(content, pem=False))
    except FormatError:
        return _crl(content, pem=False)


def describe_predecessor(value: dict[str, Any]) -> dict[str, Any]:
    """Return what the evidence file of Cosmian Enclave says: its RA-TLS certificate carries the quote."""
    pem = value.get("ratls_certificate")
    if not isinstance(pem, str) or not pem.isascii():
        raise _fault("the predecessor's evidence has no certificate in PEM")
    certificate = _load(pem.encode("ascii"), pem=True)
    return {
        "kind": "cenclave-evidence",
        "verifiable": False,
        "note": "evidence of the predecessor; it is shown, never accepted",
        "keys": sorted(str(key)[:64] for key in value),
        "certificate": _certificate(certificate),
    }


@contextmanager
def _hostile(message: str) -> Iterator[None]:
    """Turn whatever the library raises about hostile bytes into a FormatError, and hide its warnings.

    It reads names, dates and keys only when they are asked for, and has exception types of its own for them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except Error:
            raise
        except Exception:  # noqa: BLE001 - see above
            raise _fault(message) from None


def _load(content: bytes, *, pem: bool) -> Any:
    from cryptography import x509

    with _hostile("the bytes are not a certificate"):
        return x509.load_pem_x509_certificate(content) if pem else x509.load_der_x509_certificate(content)


def _certificate(certificate: Any) -> dict[str, Any]:
    with _hostile("the bytes are not a certificate"):
        return _certificate_facts(certificate)


def _certificate_facts(certificate: Any) -> dict[str, Any]:
    from cryptography.hazmat.primitives.serialization import Encoding

    from glasscase.ratls.cert import EVIDENCE_OID, LEGACY_OID, spki_digest

    extensions = {extension.oid.dotted_string: extension for extension in certificate.extensions}
    role = "other"
    if EVIDENCE_OID.dotted_string in extensions:
        role = "ra-tls"
    elif LEGACY_OID.dotted_string in extensions:
        role = "ra-tls-legacy"
    elif _SGX_EXTENSION in extensions:
        role = "pck"
    try:
        spki = spki_digest(certificate.public_key()).hex()
    except Exception:  # noqa: BLE001 - a key of an unknown algorithm or off its curve is shown as none
        spki = None
    value: dict[str, Any] = {
        "kind": "certificate",
        "role": role,
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "serial": f"{certificate.serial_number:x}",
        "not_before": int(certificate.not_valid_before_utc.timestamp()),
        "not_after": int(certificate.not_valid_after_utc.timestamp()),
        "spki_sha256": spki,
        "extensions": sorted(extensions),
    }
    der = certificate.public_bytes(Encoding.DER)
    if role == "ra-tls":
        value |= _ratls(der)
    elif role == "ra-tls-legacy":
        value |= _legacy(der)
    return value


def _ratls(der: bytes) -> dict[str, Any]:
    from glasscase.audit.messages import describe_claims
    from glasscase.audit.quotes import describe_quote
    from glasscase.ratls.reading import read_certificate

    certificate = read_certificate(der)
    return {"claims": describe_claims(certificate.claims), "quote": describe_quote(certificate.quote)}


def _legacy(der: bytes) -> dict[str, Any]:
    from glasscase.audit.quotes import describe_quote
    from glasscase.ratls.reading import legacy_quote

    note = "Gramine's older quote extension: shown, never enough"
    quote = legacy_quote(der)
    try:
        return {"note": note, "quote": describe_quote(quote) if quote else None}
    except FormatError as error:
        return {"note": note, "quote": None, "quote_fault": error.reason}


def _crl(content: bytes, *, pem: bool) -> dict[str, Any]:
    from cryptography import x509

    with _hostile("the bytes are neither a certificate nor a CRL"):
        crl = x509.load_pem_x509_crl(content) if pem else x509.load_der_x509_crl(content)
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        return {
            "kind": "crl",
            "issuer": crl.issuer.rfc4514_string(),
            "number": number,
            "issued": int(crl.last_update_utc.timestamp()),
            "next_update": int(crl.next_update_utc.timestamp()) if crl.next_update_utc else None,
            "revoked": len(crl),
        }


def _private_key(content: bytes) -> dict[str, Any]:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    with _hostile("the private key cannot be read; it may be encrypted"):
        return {**_key_facts(load_pem_private_key(content, password=None).public_key()), "secret": True}


def _public_key(content: bytes) -> dict[str, Any]:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    with _hostile("the public key cannot be read"):
        return {**_key_facts(load_pem_public_key(content)), "secret": False}


def _key_facts(key: Any) -> dict[str, Any]:
    import hashlib

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    if isinstance(key, Ed25519PublicKey):
        return {"kind": "key", "type": "owner", "id": key.public_bytes_raw().hex()}
    if isinstance(key, RSAPublicKey):
        numbers = key.public_numbers()
        modulus = numbers.n.to_bytes((key.key_size + 7) // 8, "little")
        usable = key.key_size == 3072 and numbers.e == 3
        return {
            "kind": "key",
            "type": "enclave" if usable else "rsa",
            "id": hashlib.sha256(modulus).hexdigest(),
            "bits": key.key_size,
            "exponent": numbers.e,
        }
    return {"kind": "key", "type": type(key).__name__, "id": None}


def _fault(message: str) -> FormatError:
    return FormatError(
        _MALFORMED, message, hint="known: certificates, chains, CRLs, keys in PEM, certificates and CRLs in DER"
    )
