"""DSSE envelopes: statements signed by auditors and owners with Ed25519.

Invariants: a signature counts only for the key that it verifies under; the `keyid` in the file is never believed.
Source: DSSE specification; docs/policy.md, "Statements".
"""

import base64
import binascii
import json
from dataclasses import dataclass

import nacl.bindings
import nacl.exceptions

from glasscase.codec import strictjson
from glasscase.errors import FormatError

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_MAX = 1024 * 1024  # bytes
SIGNATURES_MAX = 16
_MALFORMED = "statements.envelope.malformed"


@dataclass(frozen=True)
class SignedStatement:
    """A payload and the signatures over it, not yet checked. signatures: 64 bytes each."""

    payload: bytes
    signatures: tuple[bytes, ...]

    def signers(self, keys: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Return those of the keys (32 bytes each) under which a signature verifies."""
        message = pae(self.payload)
        return tuple(key for key in keys if any(_verifies(key, message, signature) for signature in self.signatures))


def pae(payload: bytes) -> bytes:
    """Return the bytes that are signed: DSSE's pre-authentication encoding of the one payload type."""
    kind = PAYLOAD_TYPE.encode("ascii")
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def read_dsse(data: bytes) -> SignedStatement:
    """Return the statement in a DSSE file; raises FormatError("statements.envelope.malformed")."""
    value = strictjson.parse(data, max_bytes=STATEMENT_MAX, what="statement")
    if not isinstance(value, dict) or set(value) != {"payloadType", "payload", "signatures"}:
        raise _fault("the statement is not a DSSE envelope")
    if value["payloadType"] != PAYLOAD_TYPE:
        raise _fault("the statement has another payload type than in-toto")
    signatures = value["signatures"]
    if not isinstance(signatures, list) or not 0 < len(signatures) <= SIGNATURES_MAX:
        raise _fault(f"the statement has no signature or more than {SIGNATURES_MAX}")
    found = []
    for entry in signatures:
        if not isinstance(entry, dict) or not {"sig"} <= set(entry) <= {"sig", "keyid"}:
            raise _fault("a signature of the statement has other keys than keyid and sig")
        signature = _base64(entry["sig"])
        if len(signature) != 64:
            raise _fault("a signature of the statement does not have 64 bytes")
        found.append(signature)
    return SignedStatement(_base64(value["payload"]), tuple(found))


def sign_dsse(payload: bytes, *, seed: bytes) -> bytes:
    """Return the DSSE file of a payload signed by the Ed25519 key with this 32-byte seed."""
    public, secret = nacl.bindings.crypto_sign_seed_keypair(seed)
    signature = nacl.bindings.crypto_sign(pae(payload), secret)[:64]
    value = {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode("ascii"),
        "signatures": [{"keyid": public.hex(), "sig": base64.b64encode(signature).decode("ascii")}],
    }
    return (json.dumps(value, indent=2) + "\n").encode("ascii")


def _base64(text: object) -> bytes:
    try:
        if not isinstance(text, str):
            raise ValueError
        data = base64.b64decode(text.encode("ascii"), validate=True)
        if base64.b64encode(data).decode("ascii") != text:
            raise ValueError
    except (ValueError, binascii.Error, UnicodeEncodeError):
        raise _fault("a value of the statement is not base64") from None
    return data


def _verifies(key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        nacl.bindings.crypto_sign_open(signature + message, key)
    except (nacl.exceptions.BadSignatureError, nacl.exceptions.CryptoError, ValueError, TypeError):
        return False
    return True


def _fault(message: str) -> FormatError:
    return FormatError(_MALFORMED, message, what="statement")
