"""What an enclave says of itself: instance, session, claims, and the attestation that carries them with the quote.

Invariants: from_bytes(to_bytes(x)) == x and the other way round, byte for byte; all parsing is strict. Nothing here says
that a statement is true: only the quote over the claims does, once it has been verified.
Source: docs/evidence-format.md.
"""

import functools
import hashlib
from dataclasses import dataclass
from typing import Any

from glasscase.codec import cbor
from glasscase.codec.labels import label
from glasscase.codec.record import check_version, is_plain_text, take_list, take_map, take_object
from glasscase.errors import FormatError

QUOTE_MAX = 64 * 1024  # bytes
CLAIMS_MAX = 8 * 1024  # bytes
KEPT = 64  # claims that were read and are kept by their exact bytes; time plays no part in reading
CERTIFICATE_MAX = 128 * 1024  # bytes
ATTESTATION_MAX = 4 * 1024 * 1024  # bytes: quote, claims, certificate, request, envelope and receipt
COSE_MAX = 1024 * 1024  # bytes
EVIDENCE_TAG = 60000  # CBOR tag of [quote, claims] in an RA-TLS certificate
SAN_MAX = 32
SAN_NAME_MAX = 253  # bytes
SESSION_MAX_S = 25 * 3600  # seconds between nbf and exp

SUITE_HYBRID = 1  # HPKE base, MLKEM768-X25519, HKDF-SHA256, AES-256-GCM
SEAL_KEY_SIZES = {SUITE_HYBRID: 1184 + 32}  # bytes of the public key: ML-KEM-768 || X25519
SHA256_ALGORITHM = 1  # IANA named information hash

_CLAIMS = "evidence.claims.malformed"
_ATTESTATION = "evidence.attestation.malformed"


@dataclass(frozen=True)
class Instance:
    """The facts that are constant for the life of one seal key.

    instance_id: 16 random bytes drawn inside. seal_key: public key of the suite. receipt_key: Ed25519 public key, 32 bytes.
    """

    instance_id: bytes
    suite: int
    seal_key: bytes
    receipt_key: bytes

    def to_bytes(self) -> bytes:
        """Return the CBOR that stands in the claims as `glasscase-instance`."""
        return cbor.encode(
            {
                "v": 1,
                "instance": self.instance_id,
                "suite": self.suite,
                "seal": self.seal_key,
                "receipt_key": self.receipt_key,
            }
        )

    @classmethod
    @functools.lru_cache(maxsize=KEPT)
    def from_bytes(cls, data: bytes) -> "Instance":
        """Return the instance facts of exactly these bytes; raises FormatError("evidence.claims.malformed")."""
        value = cbor.decode(data, max_bytes=CLAIMS_MAX, what="instance claims")
        check_version(value, what="instance claims", reason=_CLAIMS)
        fields = take_map(
            value,
            what="instance claims",
            reason=_CLAIMS,
            required={"v": int, "instance": 16, "suite": int, "seal": bytes, "receipt_key": 32},
            optional={},
        )
        size = SEAL_KEY_SIZES.get(fields["suite"])
        if size is None:
            raise FormatError(_CLAIMS, f"instance claims name the unknown suite {fields['suite']}")
        if len(fields["seal"]) != size:
            raise FormatError(_CLAIMS, f"the seal key has {len(fields['seal'])} bytes, suite needs {size}")
        return cls(fields["instance"], fields["suite"], fields["seal"], fields["receipt_key"])


@dataclass(frozen=True)
class Session:
    """The facts of one TLS key and quote. nbf, exp: unix seconds; beacon, prev, prov: 32 bytes or None.

    beacon: SHA-256 of the signed TCB info that the host offered. prev: SHA-256 of the claims before. prov: SHA-256 of the
    accepted envelope's payload.
    """

    seq: int
    nbf: int
    exp: int
    san: tuple[str, ...]
    beacon: bytes | None = None
    prev: bytes | None = None
    prov: bytes | None = None

    def to_bytes(self) -> bytes:
        """Return the CBOR that stands in the claims as `glasscase-session`."""
        value: dict[str, Any] = {"v": 1, "seq": self.seq, "nbf": self.nbf, "exp": self.exp, "san": list(self.san)}
        for name in ("beacon", "prev", "prov"):
            if getattr(self, name) is not None:
                value[name] = getattr(self, name)
        return cbor.encode(value)

    @classmethod
    @functools.lru_cache(maxsize=KEPT)
    def from_bytes(cls, data: bytes) -> "Session":
        """Return the session facts of exactly these bytes; raises FormatError("evidence.claims.malformed")."""
        value = cbor.decode(data, max_bytes=CLAIMS_MAX, what="session claims")
        check_version(value, what="session claims", reason=_CLAIMS)
        fields = take_map(
            value,
            what="session claims",
            reason=_CLAIMS,
            required={"v": int, "seq": int, "nbf": int, "exp": int, "san": list},
            optional={"beacon": 32, "prev": 32, "prov": 32},
        )
        del fields["v"]
        fields["san"] = check_san(fields["san"])
        if not fields["nbf"] < fields["exp"] <= fields["nbf"] + SESSION_MAX_S:
            raise FormatError(_CLAIMS, f"the session lasts from {fields['nbf']} to {fields['exp']}, at most 25 hours")
        return cls(**fields)


@dataclass(frozen=True)
class Claims:
    """The claims buffer: its SHA-256 is the first half of the report data.

    spki_sha256: SHA-256 of the TLS key's SubjectPublicKeyInfo. instance, session: the encoded maps. nonce: 32 bytes of the
    verifier, or None.
    """

    spki_sha256: bytes
    instance: bytes
    session: bytes
    nonce: bytes | None = None

    def to_bytes(self) -> bytes:
        """Return canonical CBOR; raises FormatError("evidence.claims.malformed") above 8 KiB."""
        value: dict[str, Any] = {
            "pubkey-hash": cbor.encode([SHA256_ALGORITHM, self.spki_sha256]),
            "glasscase-instance": self.instance,
            "glasscase-session": self.session,
        }
        if self.nonce is not None:
            value["nonce"] = self.nonce
        data = cbor.encode(value)
        if len(data) > CLAIMS_MAX:
            raise FormatError(_CLAIMS, f"the claims have {len(data)} bytes, at most {CLAIMS_MAX} are allowed")
        return data

    @classmethod
    @functools.lru_cache(maxsize=KEPT)
    def from_bytes(cls, data: bytes) -> "Claims":
        """Return the claims of exactly these bytes, instance and session checked too.

        Raises FormatError("evidence.claims.malformed"), or a FormatError of codec.cbor.
        """
        value = cbor.decode(data, max_bytes=CLAIMS_MAX, what="claims")
        fields = take_map(
            value,
            what="claims",
            reason=_CLAIMS,
            required={"pubkey-hash": bytes, "glasscase-instance": bytes, "glasscase-session": bytes},
            optional={"nonce": 32},
        )
        pair = cbor.decode(fields["pubkey-hash"], max_bytes=64, what="pubkey-hash")
        if not isinstance(pair, list) or len(pair) != 2 or isinstance(pair[0], bool) or pair[0] != SHA256_ALGORITHM:
            raise FormatError(_CLAIMS, "pubkey-hash is not [1, SHA-256]")
        if not isinstance(pair[1], bytes) or len(pair[1]) != 32:
            raise FormatError(_CLAIMS, "pubkey-hash does not hold 32 bytes")
        claims = cls(pair[1], fields["glasscase-instance"], fields["glasscase-session"], fields.get("nonce"))
        claims.instance_facts()
        claims.session_facts()
        return claims

    def instance_facts(self) -> Instance:
        """Return the decoded instance facts."""
        return Instance.from_bytes(self.instance)

    def session_facts(self) -> Session:
        """Return the decoded session facts."""
        return Session.from_bytes(self.session)


def instance_digest(instance: bytes) -> bytes:
    """Return SHA-256(label "instance" || instance bytes): the name of this seal key in envelopes and receipts."""
    return hashlib.sha256(label("instance") + instance).digest()


@dataclass(frozen=True)
class Provision:
    """What the enclave accepted, verbatim: the COSE_Sign envelope and the COSE_Sign1 receipt."""

    envelope: bytes
    receipt: bytes


@dataclass(frozen=True)
class Attestation:
    """The enclave's own answer. certificate: RA-TLS certificate, DER; request: PKCS#10, DER (certificate mode `own`)."""

    quote: bytes
    claims: bytes
    certificate: bytes | None = None
    request: bytes | None = None
    provision: Provision | None = None

    def to_bytes(self) -> bytes:
        """Return the CBOR that the enclave serves."""
        return cbor.encode({"v": 1, "type": "glasscase-attestation", **attested_fields(self)})

    @classmethod
    def from_bytes(cls, data: bytes) -> "Attestation":
        """Return the attestation of exactly these bytes; raises FormatError("evidence.attestation.malformed")."""
        value = cbor.decode(data, max_bytes=ATTESTATION_MAX, what="attestation")
        fields = take_object(
            value,
            kind="glasscase-attestation",
            what="attestation",
            reason=_ATTESTATION,
            required={"quote": bytes, "claims": bytes},
            optional={"certificate": bytes, "request": bytes, "provision": dict},
        )
        return take_attested(fields)


def attested_fields(attestation: Attestation) -> dict[str, Any]:
    """Return the keys that attestation and evidence share, ready for CBOR."""
    value: dict[str, Any] = {"quote": attestation.quote, "claims": attestation.claims}
    if attestation.certificate is not None:
        value["certificate"] = attestation.certificate
    if attestation.request is not None:
        value["request"] = attestation.request
    if attestation.provision is not None:
        value["provision"] = {
            "envelope": attestation.provision.envelope,
            "receipt": attestation.provision.receipt,
        }
    return value


def take_attested(fields: dict[str, Any]) -> Attestation:
    """Return the attestation in the decoded keys quote, claims, certificate?, request?, provision? (all limits checked).

    The claims are not parsed: a verifier reports their faults as checks.
    """
    limits = {"quote": QUOTE_MAX, "claims": CLAIMS_MAX, "certificate": CERTIFICATE_MAX, "request": CERTIFICATE_MAX}
    for name, limit in limits.items():
        size = len(fields.get(name, b"-"))
        if not 0 < size <= limit:
            raise FormatError(_ATTESTATION, f"{name} has {size} bytes, between 1 and {limit} are allowed")
    provision = None
    if "provision" in fields:
        parts = take_map(
            fields["provision"],
            what="provision",
            reason=_ATTESTATION,
            required={"envelope": bytes, "receipt": bytes},
            optional={},
        )
        for name, data in parts.items():
            if not 0 < len(data) <= COSE_MAX:
                raise FormatError(_ATTESTATION, f"{name} has {len(data)} bytes, between 1 and {COSE_MAX} are allowed")
        provision = Provision(**parts)
    return Attestation(fields["quote"], fields["claims"], fields.get("certificate"), fields.get("request"), provision)


def check_san(names: Any) -> tuple[str, ...]:
    """Return the names as a tuple: at most 32 of at most 253 ASCII bytes each, none twice.

    Raises FormatError("evidence.claims.malformed").
    """
    san: tuple[str, ...] = take_list(names, str, what="san", reason=_CLAIMS, limit=SAN_MAX)
    for name in san:
        if not name.isascii() or not 0 < len(name) <= SAN_NAME_MAX or not is_plain_text(name) or " " in name:
            raise FormatError(_CLAIMS, f"{name[:64]!r} is not a host name or address")
    if len(set(san)) != len(san):
        raise FormatError(_CLAIMS, "a name stands twice in san")
    return san
