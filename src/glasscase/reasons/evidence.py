"""Ids of the area `evidence`: claims, certificates, attestations and evidence files."""

from glasscase.reasons.model import Reason

_CLAIMS = "docs/evidence-format.md, claims"
_CERT = "docs/evidence-format.md, certificate"
_ATTESTATION = "docs/evidence-format.md, attestation"

REASONS: tuple[Reason, ...] = (
    Reason("evidence.claims.malformed", "format", "the claims are not of the one form", _CLAIMS,
           "collect the evidence again; the enclave may be of another version"),
    Reason("evidence.certificate.malformed", "format", "the certificate is not an RA-TLS certificate of the one form",
           _CERT, "connect to an enclave of glasscase, or ask its operator"),
    Reason("evidence.certificate.legacy", "format", "the certificate carries only Gramine's older quote extension", _CERT,
           "it does not bind claims; connect to an enclave of glasscase"),
    Reason("evidence.certificate.unbound", "format", "the certificate's key, dates or names are not those of the claims",
           _CERT, "do not send anything: the certificate was not made by the enclave of that quote"),
    Reason("evidence.attestation.malformed", "format", "the attestation is not of the one form", _ATTESTATION,
           "collect it again; the enclave may be of another version"),
    Reason("evidence.file.malformed", "format", "the evidence is not of the one form", "docs/evidence-format.md, evidence",
           "collect it again: glasscase evidence NAME -o evidence.json"),
)  # fmt: skip
