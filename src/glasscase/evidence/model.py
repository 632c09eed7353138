"""Evidence: what an enclave answered, with what the host adds so that it can be judged alone and later.

Invariants: from_cbor(to_cbor(e)) == e and back, byte for byte; evidence holds data only, never a root, an expected value or a
policy. bundle_id, created_at, nonce, collateral, beacon and insecure are the host's copies: no check believes them.
Source: docs/evidence-format.md, "Evidence".
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from glasscase.codec import cbor
from glasscase.codec.record import take_list, take_object
from glasscase.codec.strictjson import INT_MAX
from glasscase.collateral.model import DOCUMENT_MAX, Collateral
from glasscase.errors import FormatError
from glasscase.evidence.attestation import Attestation, attested_fields, take_attested

KIND = "glasscase-evidence"
EVIDENCE_CBOR_MAX = 32 * 1024 * 1024  # bytes
EVIDENCE_JSON_MAX = 48 * 1024 * 1024  # bytes
INSECURE_MAX = 64

_MALFORMED = "evidence.file.malformed"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One attestation with the host's copies. bundle_id, nonce: 32 bytes; created_at: unix seconds.

    beacon: the whole served TCB info document whose signed part the claims name, if it is not the collateral's.
    """

    attestation: Attestation
    bundle_id: bytes
    created_at: int
    nonce: bytes | None = None
    collateral: Collateral | None = None
    beacon: str | None = None
    insecure: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.bundle_id) != 32 or (self.nonce is not None and len(self.nonce) != 32):
            raise FormatError(_MALFORMED, "bundle_id and nonce have 32 bytes", what="evidence")
        if not 0 <= self.created_at <= INT_MAX:
            raise FormatError(_MALFORMED, "created_at is no time that JSON can hold", what="evidence")
        if list(self.insecure) != sorted(set(self.insecure)):
            raise FormatError(_MALFORMED, "insecure is not sorted without repeats", what="evidence")
        if self.beacon is not None and not 0 < len(self.beacon.encode("utf-8", "surrogatepass")) <= DOCUMENT_MAX:
            raise FormatError(_MALFORMED, f"beacon must have between 1 and {DOCUMENT_MAX} bytes", what="evidence")

    @property
    def quote(self) -> bytes:
        """Return the raw quote."""
        return self.attestation.quote

    @property
    def claims(self) -> bytes:
        """Return the claims buffer."""
        return self.attestation.claims

    @cached_property
    def evidence_id(self) -> bytes:
        """Return SHA-256 of the CBOR form. Quotes can be re-signed by anybody who sees them, so it is no identity."""
        return hashlib.sha256(self.to_cbor()).digest()

    def fields(self) -> dict[str, Any]:
        """Return the keys of the CBOR form."""
        value: dict[str, Any] = {
            "v": 1,
            "type": KIND,
            **attested_fields(self.attestation),
            "bundle_id": self.bundle_id,
            "created_at": self.created_at,
            "insecure": list(self.insecure),
        }
        if self.nonce is not None:
            value["nonce"] = self.nonce
        if self.collateral is not None:
            value["collateral"] = self.collateral.fields()
        if self.beacon is not None:
            value["beacon"] = self.beacon
        return value

    def to_cbor(self) -> bytes:
        """Return the form that has the id. Raises FormatError("evidence.file.malformed") above 32 MiB."""
        data = cbor.encode(self.fields())
        if len(data) > EVIDENCE_CBOR_MAX:
            raise FormatError(
                _MALFORMED, f"the evidence has {len(data)} bytes, at most {EVIDENCE_CBOR_MAX} are allowed"
            )
        return data

    @classmethod
    def from_cbor(cls, data: bytes) -> "Evidence":
        """Return the evidence of exactly these bytes.

        Raises FormatError: "format.newer", "evidence.file.malformed", or one of codec.cbor, collateral and attestation.
        """
        return cls.from_fields(cbor.decode(data, max_bytes=EVIDENCE_CBOR_MAX, what="evidence"))

    @classmethod
    def from_fields(cls, value: Any) -> "Evidence":
        """Return the evidence of decoded keys, bytes as bytes."""
        # `beacon` is verbatim text of Intel's and may hold line ends, which text of ours may not
        verbatim = value.get("beacon") if isinstance(value, dict) else None
        plain = {**value, "beacon": "-"} if isinstance(verbatim, str) else value
        fields = take_object(
            plain,
            kind=KIND,
            what="evidence",
            reason=_MALFORMED,
            required={"quote": bytes, "claims": bytes, "bundle_id": 32, "created_at": int, "insecure": list},
            optional={
                "certificate": bytes, "request": bytes, "provision": dict, "nonce": 32, "collateral": dict, "beacon": str,
            },
        )  # fmt: skip
        return cls(
            attestation=take_attested(fields),
            bundle_id=fields["bundle_id"],
            created_at=fields["created_at"],
            nonce=fields.get("nonce"),
            collateral=Collateral.from_fields(fields["collateral"]) if "collateral" in fields else None,
            beacon=verbatim,
            insecure=take_list(fields["insecure"], str, what="insecure", reason=_MALFORMED, limit=INSECURE_MAX),
        )
