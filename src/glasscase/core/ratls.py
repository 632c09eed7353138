"""An RA-TLS certificate taken apart by the C core.

Source: native/include/glass_ratls.h.
"""

from typing import Any, NamedTuple

from glasscase._native import ffi, lib
from glasscase.core.handles import check, context
from glasscase.errors import FormatError


class CertificateParts(NamedTuple):
    """What a certificate of the one form holds. self_signed: whether its signature holds under its own key.

    evidence, names: content of the extensions 2.23.133.5.4.9 and subjectAltName; dates in unix seconds.
    """

    evidence: bytes
    names: bytes
    common_name: bytes
    not_before: int
    not_after: int
    spki_sha256: bytes  # 32
    self_signed: bool


def certificate_parts(der: bytes) -> CertificateParts:
    """Return the parts of exactly these bytes. Raises FormatError("evidence.certificate.malformed") for any other form."""
    found = ffi.new("glass_ratls_certificate *")
    status = lib.glass_ratls_read(context(), found, der, len(der))
    if status in (lib.GLASS_ERR_FORMAT, lib.GLASS_ERR_LIMIT):
        raise FormatError(
            "evidence.certificate.malformed",
            "the certificate does not have exactly the form of an RA-TLS certificate",
            what="certificate",
        )
    check(status, "the certificate cannot be read")

    def part(span: Any) -> bytes:
        return der[span.offset : span.offset + span.size]

    return CertificateParts(
        evidence=part(found.evidence),
        names=part(found.names),
        common_name=part(found.common_name),
        not_before=found.not_before,
        not_after=found.not_after,
        spki_sha256=bytes(found.spki_sha256),
        self_signed=found.self_signed == 1,
    )
