"""Files that the predecessor, Cosmian Enclave, has written: read, so that they can be encrypted anew. Nothing is written so.

Invariants: nothing comes out that is not authentic under the key. What these formats do not bind stays unbound: file names,
order, number and age of files, and for a sealed box the sender; whoever migrates checks the result.
Source: the predecessor's own code: cenclave-lib-crypto 1.0.0, xsalsa20_poly1305.py (nonce || tag || ciphertext, one more suffix
`.enc`, files that were not to be encrypted beside them) and seal_box.py; cenclave 1.0.0a10, command/code_provider/keygen.py
(32 raw bytes; public key || private key), encrypt.py (Fernet, key file in base64url) and unseal.py (private key alone).
"""

import binascii
from enum import StrEnum

from glasscase.errors import FormatError, UsageError

FILE_MAX = 2 << 30  # bytes; the formats are authenticated as a whole, so a file is held in memory
SUFFIX = ".enc"
_KEY_SIZE = 32
_FERNET_TEXT = 44  # characters of base64url


class Kind(StrEnum):
    """The three forms. SECRETBOX: `.enc` files of packages; FERNET: `encrypt`; SEALED_BOX: `seal`."""

    SECRETBOX = "secretbox"
    FERNET = "fernet"
    SEALED_BOX = "sealed-box"


def decrypt(data: bytes, key: bytes, kind: Kind) -> bytes:
    """Return the plaintext of a file in one of the forms.

    key: the content of the predecessor's key file: 32 raw bytes (SECRETBOX), 44 characters of base64url (FERNET), or public
    and private X25519 key, 64 bytes, or the private one alone (SEALED_BOX).
    Raises UsageError("stream.key.malformed") for another key, FormatError("stream.legacy.unauthentic") if it does not open.
    """
    return {Kind.SECRETBOX: _secretbox, Kind.FERNET: _fernet, Kind.SEALED_BOX: _sealed_box}[kind](data, key)


def _secretbox(data: bytes, key: bytes) -> bytes:
    from nacl.exceptions import CryptoError
    from nacl.secret import SecretBox

    _check(len(key) == _KEY_SIZE, "exactly 32 raw bytes")
    try:
        return SecretBox(key).decrypt(data)
    except (CryptoError, ValueError):
        raise _refused("a SecretBox file (.enc)") from None


def _fernet(data: bytes, key: bytes) -> bytes:
    from cryptography.fernet import Fernet, InvalidToken

    text = key.strip()
    _check(len(text) == _FERNET_TEXT, "44 characters of base64url")
    try:
        return Fernet(text).decrypt(data.strip())
    except (ValueError, binascii.Error):
        raise _bad_key("44 characters of base64url") from None
    except InvalidToken:
        raise _refused("a Fernet file") from None


def _sealed_box(data: bytes, key: bytes) -> bytes:
    from nacl.exceptions import CryptoError
    from nacl.public import PrivateKey, SealedBox

    _check(len(key) in (_KEY_SIZE, 2 * _KEY_SIZE), "32 or 64 raw bytes")
    private = PrivateKey(key[-_KEY_SIZE:])
    if len(key) == 2 * _KEY_SIZE:
        _check(bytes(private.public_key) == key[:_KEY_SIZE], "a public key and the private key that belongs to it")
    try:
        return SealedBox(private).decrypt(data)
    except (CryptoError, ValueError):
        raise _refused("a sealed box") from None


def _check(good: bool, expected: str) -> None:  # noqa: FBT001
    if not good:
        raise _bad_key(expected)


def _bad_key(expected: str) -> UsageError:
    return UsageError("stream.key.malformed", f"the key is not {expected}", hint="name the predecessor's key file")


def _refused(what: str) -> FormatError:
    return FormatError(
        "stream.legacy.unauthentic", f"the input is not {what} under this key", hint="check file, key and --legacy KIND"
    )
