"""Reading an RA-TLS certificate: exactly the form that glasscase.ratls.cert writes, and bound to its own claims.

Invariants: what comes back has the key, names and dates of its claims and is signed by its own key. It says nothing about the
quote. The C core reads the DER; this module is the verifier's and is not in the enclave.
Source: CCC interoperable RA-TLS; docs/evidence-format.md, "Certificate".
"""

import functools
import re
from typing import Any, NamedTuple

import cbor2

from glasscase.codec import cbor
from glasscase.core.ratls import certificate_parts
from glasscase.errors import FormatError
from glasscase.evidence.attestation import CERTIFICATE_MAX, CLAIMS_MAX, EVIDENCE_TAG, QUOTE_MAX, Claims

NAME = r"[a-z][a-z0-9-]{0,62}"  # of an enclave, as common name
_DNS, _ADDRESS, _SEQUENCE = 0x82, 0x87, 0x30  # DER tags: dNSName [2], iPAddress [7]
_MALFORMED = "evidence.certificate.malformed"
KEPT = 64  # certificates; of a well-behaved server there is one a day
_UNBOUND = "evidence.certificate.unbound"


class RatlsCertificate(NamedTuple):
    """What a well-formed RA-TLS certificate says. spki_sha256: 32 bytes; not_before, not_after: unix seconds."""

    quote: bytes
    claims: bytes
    spki_sha256: bytes
    name: str
    san: tuple[str, ...]
    not_before: int
    not_after: int


@functools.lru_cache(maxsize=KEPT)
def read_certificate(der: bytes) -> RatlsCertificate:
    """Return what an RA-TLS certificate says; what was read is kept by its exact bytes, for time plays no part in it.

    Raises FormatError: "evidence.certificate.malformed" for anything but the one form, "evidence.certificate.legacy" if
    only Gramine's older extension is there, "evidence.certificate.unbound" if the self-signature fails or key, names or
    dates differ from the claims, "evidence.claims.malformed" for the claims themselves.
    """
    try:
        parts = certificate_parts(der)
    except FormatError:
        if _is_legacy(der):
            raise FormatError(
                "evidence.certificate.legacy",
                "the certificate carries only Gramine's older quote extension, which does not bind claims",
                what="certificate",
            ) from None
        raise
    name = parts.common_name.decode("ascii", "replace")
    if not re.fullmatch(NAME, name):
        raise _fault("the subject is not one common name of the allowed form")
    quote, claims = _evidence(parts.evidence)
    facts = Claims.from_bytes(claims)
    session = facts.session_facts()
    san = session.san or (name,)
    if not parts.self_signed:
        raise _unbound("the certificate is not signed by its own key")
    if facts.spki_sha256 != parts.spki_sha256:
        raise _unbound("the claims name another key than the certificate's")
    if (parts.not_before, parts.not_after) != (session.nbf, session.exp):
        raise _unbound("the certificate's dates are not those of the claims")
    if parts.names != encoded_names(san):
        raise _unbound("the certificate's names are not those of the claims")
    return RatlsCertificate(quote, claims, parts.spki_sha256, name, san, parts.not_before, parts.not_after)


def legacy_quote(der: bytes) -> bytes | None:
    """Return the raw quote in Gramine's older extension, to be shown and never trusted, or None.

    Raises FormatError("evidence.certificate.malformed") if this is not a certificate.
    """
    from glasscase.ratls.cert import LEGACY_OID

    found = _extensions(der).get(LEGACY_OID)
    return bytes(found.value.value) if found is not None else None


def _is_legacy(der: bytes) -> bool:
    from glasscase.ratls.cert import EVIDENCE_OID, LEGACY_OID

    try:
        found = _extensions(der)
    except FormatError:
        return False
    return LEGACY_OID in found and EVIDENCE_OID not in found


def _extensions(der: bytes) -> dict[Any, Any]:
    """Return the extensions of a certificate of any form by OID, none of them trusted."""
    from cryptography import x509

    if len(der) > CERTIFICATE_MAX:
        raise _fault(f"the certificate has {len(der)} bytes, at most {CERTIFICATE_MAX} are allowed")
    try:
        return {extension.oid: extension for extension in x509.load_der_x509_certificate(der).extensions}
    except Exception:  # noqa: BLE001 - the library's own exception types for hostile bytes, and warnings that are errors
        raise _fault("the bytes are not an X.509 certificate whose extensions can be read") from None


def encoded_names(san: tuple[str, ...]) -> bytes:
    """Return the content of the extension subjectAltName for host names and addresses, DER, in their order."""
    names = b"".join(_element(*_general_name(name)) for name in san)
    return _element(_SEQUENCE, names)


def _general_name(name: str) -> tuple[int, bytes]:
    if ":" in name or name[-1:].isdigit():  # no other name is an address
        import ipaddress

        try:
            packed = ipaddress.ip_address(name).packed
        except ValueError:
            return _DNS, name.encode("ascii")
        if str(ipaddress.ip_address(packed)) == name:  # an address in another spelling is no name of a certificate
            return _ADDRESS, packed
    return _DNS, name.encode("ascii")


def _element(tag: int, content: bytes) -> bytes:
    """Return one DER element of less than 64 KiB."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    octets = size.to_bytes(1 if size < 0x100 else 2, "big")
    return bytes((tag, 0x80 + len(octets))) + octets + content


def _evidence(content: bytes) -> tuple[bytes, bytes]:
    limit = QUOTE_MAX + CLAIMS_MAX + 64
    value = cbor.decode(content, max_bytes=limit, what="evidence extension", tags=frozenset({EVIDENCE_TAG}))
    if not isinstance(value, cbor2.CBORTag) or not isinstance(value.value, list) or len(value.value) != 2:
        raise _fault("the evidence extension is not a tagged pair")
    quote, claims = value.value
    if not isinstance(quote, bytes) or not isinstance(claims, bytes):
        raise _fault("the evidence extension does not hold a quote and claims")
    if len(quote) > QUOTE_MAX or len(claims) > CLAIMS_MAX:
        raise _fault("the quote or the claims in the evidence extension are too long")
    return quote, claims


def _fault(message: str) -> FormatError:
    return FormatError(_MALFORMED, message, what="certificate")


def _unbound(message: str) -> FormatError:
    return FormatError(_UNBOUND, message, what="certificate")
