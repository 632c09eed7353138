"""COSE_Sign and COSE_Sign1 (RFC 9052) with Ed25519, in the two narrow forms of envelope and receipt.

Invariants: the protected headers are exactly ours, the unprotected ones empty; signatures are verified by libsodium only,
which refuses small-order keys and non-canonical signatures. Reading never verifies: the caller asks for it by name.
Source: docs/provisioning.md, "Envelope".
"""

from dataclasses import dataclass
from typing import Any

import cbor2
import nacl.bindings
import nacl.exceptions

from glasscase.codec import cbor
from glasscase.errors import FormatError, UsageError

COSE_MAX = 1024 * 1024  # bytes of any COSE object
SIGN_TAG = 98
SIGN1_TAG = 18
SIGNERS_MAX = 16
SEED_SIZE = 32  # bytes of an Ed25519 private key
KEY_SIZE = 32  # bytes of an Ed25519 public key
SIGNATURE_SIZE = 64  # bytes
_ALGORITHM, _CONTENT_TYPE, _KEY_ID = 1, 3, 4  # COSE header labels
_EDDSA = -8


@dataclass(frozen=True)
class Signature:
    """One signature. key: the signer's Ed25519 public key."""

    key: bytes
    signature: bytes


@dataclass(frozen=True)
class Form:
    """What distinguishes one kind of object: content type, external_aad, and the reason ids for its faults."""

    content_type: str
    aad: bytes
    malformed: str
    oversize: str


def public_key(seed: bytes) -> bytes:
    """Return the Ed25519 public key of a 32-byte private key; raises UsageError("seal.owner.malformed") for another one."""
    if not isinstance(seed, bytes) or len(seed) != nacl.bindings.crypto_sign_SEEDBYTES:
        raise UsageError("seal.owner.malformed", "an owner key is 32 raw bytes here, no text and no PEM")
    key: bytes = nacl.bindings.crypto_sign_seed_keypair(seed)[0]
    return key


def is_valid(key: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether libsodium accepts the Ed25519 signature."""
    try:
        nacl.bindings.crypto_sign_open(signature + message, key)
    except (nacl.exceptions.BadSignatureError, nacl.exceptions.CryptoError, ValueError):
        return False
    return True


def sign(payload: bytes, *, form: Form, seed: bytes) -> Signature:
    """Return the signature of one signer of a COSE_Sign object."""
    key = public_key(seed)
    return Signature(key, _sign(_message_of_signer(payload, form, key), seed))


def signature_holds(payload: bytes, signature: Signature, *, form: Form) -> bool:
    """Return whether `signature` is by its key over this payload as a COSE_Sign object of this form."""
    return is_valid(signature.key, _message_of_signer(payload, form, signature.key), signature.signature)


def encode_sign(payload: bytes, signatures: tuple[Signature, ...], *, form: Form) -> bytes:
    """Return the COSE_Sign object, signatures sorted by key."""
    signers = [
        [cbor.encode({_ALGORITHM: _EDDSA, _KEY_ID: s.key}), {}, s.signature]
        for s in sorted(signatures, key=lambda item: item.key)
    ]
    return cbor.encode(cbor2.CBORTag(SIGN_TAG, [_body(form), {}, payload, signers]))


def read_sign(data: bytes, *, form: Form) -> tuple[bytes, tuple[Signature, ...]]:
    """Return payload and signatures of a COSE_Sign object: 1 to 16, sorted by key, no key twice; nothing is verified.

    Raises FormatError(form.oversize) above 1 MiB, FormatError(form.malformed) for any other form.
    """
    parts = _parts(data, SIGN_TAG, form)
    if len(parts) != 4 or parts[0] != _body(form) or parts[1] != {} or not isinstance(parts[2], bytes):
        raise _malformed(form, "its headers or its payload are not of the one form")
    signers = parts[3]
    if not isinstance(signers, list) or not 1 <= len(signers) <= SIGNERS_MAX:
        raise _malformed(form, f"it does not have 1 to {SIGNERS_MAX} signatures")
    signatures = tuple(_read_signer(signer, form) for signer in signers)
    keys = [signature.key for signature in signatures]
    if keys != sorted(set(keys)):
        raise _malformed(form, "its signatures are not sorted by distinct keys")
    return parts[2], signatures


def encode_sign1(payload: bytes, *, form: Form, seed: bytes) -> bytes:
    """Return the signed COSE_Sign1 object."""
    protected = _protected1(form, public_key(seed))
    signature = _sign(_message1(payload, form, protected), seed)
    return cbor.encode(cbor2.CBORTag(SIGN1_TAG, [protected, {}, payload, signature]))


def read_sign1(data: bytes, *, form: Form, key: bytes) -> bytes | None:
    """Return the payload of a COSE_Sign1 object by `key`, or None if the signature is not by that key over it.

    Raises FormatError(form.oversize) above 1 MiB, FormatError(form.malformed) for any other form.
    """
    parts = _parts(data, SIGN1_TAG, form)
    if len(parts) != 4 or parts[1] != {} or not all(isinstance(parts[index], bytes) for index in (0, 2, 3)):
        raise _malformed(form, "it does not have four parts of the right kinds")
    protected, _, payload, signature = parts
    if protected != _protected1(form, key) or len(signature) != SIGNATURE_SIZE:
        return None
    return payload if is_valid(key, _message1(payload, form, protected), signature) else None


def _sign(message: bytes, seed: bytes) -> bytes:
    secret = nacl.bindings.crypto_sign_seed_keypair(seed)[1]
    signed: bytes = nacl.bindings.crypto_sign(message, secret)
    return signed[:SIGNATURE_SIZE]


def _body(form: Form) -> bytes:
    return cbor.encode({_CONTENT_TYPE: form.content_type})


def _message_of_signer(payload: bytes, form: Form, key: bytes) -> bytes:
    signer = cbor.encode({_ALGORITHM: _EDDSA, _KEY_ID: key})
    return cbor.encode(["Signature", _body(form), signer, form.aad, payload])


def _protected1(form: Form, key: bytes) -> bytes:
    return cbor.encode({_ALGORITHM: _EDDSA, _CONTENT_TYPE: form.content_type, _KEY_ID: key})


def _message1(payload: bytes, form: Form, protected: bytes) -> bytes:
    return cbor.encode(["Signature1", protected, form.aad, payload])


def _malformed(form: Form, message: str) -> FormatError:
    return FormatError(form.malformed, f"this is no {form.content_type}: {message}", what=form.content_type)


def _parts(data: bytes, tag: int, form: Form) -> list[Any]:
    if len(data) > COSE_MAX:
        raise FormatError(form.oversize, f"the object has {len(data)} bytes, at most {COSE_MAX} are allowed")
    try:
        value = cbor.decode(data, max_bytes=COSE_MAX, what="it", tags=frozenset({tag}), cose=True)
    except FormatError as error:
        raise _malformed(form, error.message) from None
    if not isinstance(value, cbor2.CBORTag) or not isinstance(value.value, list):
        raise _malformed(form, f"it is not an array with the tag {tag}")
    return value.value


def _read_signer(signer: object, form: Form) -> Signature:
    if not isinstance(signer, list) or len(signer) != 3 or signer[1] != {}:
        raise _malformed(form, "a signature does not have three parts, or has unprotected headers")
    protected, _, signature = signer
    if not isinstance(protected, bytes) or not isinstance(signature, bytes) or len(signature) != SIGNATURE_SIZE:
        raise _malformed(form, "a signature is not 64 bytes with protected headers")
    key = protected[-KEY_SIZE:]
    if protected != cbor.encode({_ALGORITHM: _EDDSA, _KEY_ID: key}) or len(key) != KEY_SIZE:
        raise _malformed(form, "a signature's protected headers are not Ed25519 and a key")
    return Signature(key, signature)
