"""HPKE (RFC 9180, base mode) of suite 1: ML-KEM-768 with X25519, HKDF-SHA256, AES-256-GCM.

Invariants: a private key leaves this module never; a failure to open says nothing about its cause.
Source: docs/provisioning.md, "Envelope".
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric import mlkem, x25519

from glasscase.errors import FormatError

MLKEM_SIZE = 1184  # bytes of the ML-KEM-768 public key
X25519_SIZE = 32  # bytes
PUBLIC_SIZE = MLKEM_SIZE + X25519_SIZE
OVERHEAD = 1120 + 16  # bytes: encapsulated key and tag
_SUITE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


class SealKey:
    """A seal key pair made inside the enclave. public: ML-KEM-768 key || X25519 key."""

    def __init__(self) -> None:
        """Draw a new pair from the system's random numbers."""
        kem, curve = mlkem.MLKEM768PrivateKey.generate(), x25519.X25519PrivateKey.generate()
        self.public: bytes = kem.public_key().public_bytes_raw() + curve.public_key().public_bytes_raw()
        self._private: hpke.MLKEM768X25519PrivateKey | None = hpke.MLKEM768X25519PrivateKey(kem, curve)

    def __repr__(self) -> str:
        """Return a text without the key."""
        return "<seal key>"

    @property
    def alive(self) -> bool:
        """Return whether the private part is still there."""
        return self._private is not None

    def open(self, ciphertext: bytes, *, info: bytes) -> bytes:
        """Return the plaintext; raises FormatError("seal.ciphertext.unauthentic") for any cause of failure."""
        if self._private is not None:
            try:
                return _SUITE.decrypt(ciphertext, self._private, info)
            except (InvalidTag, ValueError):
                pass
        raise FormatError("seal.ciphertext.unauthentic", "the envelope does not open with this key")

    def wipe(self) -> None:
        """Forget the private part: libcrypto cleanses it when its last reference goes."""
        self._private = None


def seal_to(public: bytes, plaintext: bytes, *, info: bytes) -> bytes:
    """Return encapsulated key || sealed plaintext for a public key of the suite.

    Raises FormatError("seal.key.malformed") if the key is not one.
    """
    if len(public) != PUBLIC_SIZE:
        raise FormatError("seal.key.malformed", f"the seal key has {len(public)} bytes, expected {PUBLIC_SIZE}")
    try:
        key = hpke.MLKEM768X25519PublicKey(
            mlkem.MLKEM768PublicKey.from_public_bytes(public[:MLKEM_SIZE]),
            x25519.X25519PublicKey.from_public_bytes(public[MLKEM_SIZE:]),
        )
        return _SUITE.encrypt(plaintext, key, info)
    except ValueError:
        raise FormatError("seal.key.malformed", "the seal key is not a valid key of suite 1") from None
