"""SIGSTRUCT, the 1808-byte signed description of an enclave.

Invariants: a Sigstruct always carries a signature that has been checked; to_bytes(from_bytes(b)) == b; signing is
deterministic (RSA-3072, e = 3, PKCS#1 v1.5, SHA-256).
Layout: Intel SDM vol. 3D, table "Layout of Enclave Signature Structure (SIGSTRUCT)".
"""

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from glasscase.errors import FormatError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

SIGSTRUCT_SIZE = 1808  # bytes
KEY_SIZE = 384  # bytes of the modulus, the signature, q1 and q2
EXPONENT = 3
MASK64 = 0xFFFF_FFFF_FFFF_FFFF
MASK32 = 0xFFFF_FFFF
VENDORS = (0, 0x8086)
_HEADER = bytes.fromhex("06000000e10000000000010000000000")
_HEADER2 = bytes.fromhex("01010000600000006000000001000000")
_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})", re.ASCII)
_NO_DATE = "0000-00-00"
# PKCS#1 v1.5 padding of a SHA-256 digest in 384 bytes
_PADDING = b"\0\1" + b"\xff" * 330 + b"\0" + bytes.fromhex("3031300d060960864801650304020105000420")
# offset, size and name of every signed integer, then of every signed byte string
_INTEGERS = (
    (16, 4, "vendor"), (20, 4, "date_bcd"), (40, 4, "swdefined"), (900, 4, "misc_select"), (904, 4, "misc_mask"),
    (928, 8, "attributes_flags"), (936, 8, "xfrm"), (944, 8, "flags_mask"), (952, 8, "xfrm_mask"),
    (1024, 2, "isv_prod_id"), (1026, 2, "isv_svn"),
)  # fmt: skip
_STRINGS = ((912, 16, "isv_family_id"), (960, 32, "mrenclave"), (1008, 16, "isv_ext_prod_id"))
_ZEROS = ((44, 128), (908, 912), (992, 1008), (1028, 1040))


@dataclass(frozen=True, kw_only=True)
class SigstructBody:
    """What is signed. mrenclave: 32 bytes; date: "YYYY-MM-DD", or "0000-00-00" for none."""

    mrenclave: bytes
    attributes_flags: int
    xfrm: int
    xfrm_mask: int
    misc_select: int
    isv_prod_id: int
    isv_svn: int
    date: str = _NO_DATE
    flags_mask: int = MASK64
    misc_mask: int = MASK32
    vendor: int = 0
    swdefined: int = 0
    isv_family_id: bytes = bytes(16)
    isv_ext_prod_id: bytes = bytes(16)

    def __post_init__(self) -> None:
        """Check that every field fits its place; raises FormatError("sgx.sigstruct.malformed")."""
        for _, size, name in _INTEGERS:
            value = self.date_bcd if name == "date_bcd" else getattr(self, name)
            if not 0 <= value < 1 << (8 * size):
                raise _malformed(f"{name} does not fit {size} bytes")
        for _, size, name in _STRINGS:
            if len(getattr(self, name)) != size:
                raise _malformed(f"{name} must have {size} bytes")
        if self.vendor not in VENDORS:
            raise _malformed(f"vendor is {self.vendor:#x}")

    @property
    def date_bcd(self) -> int:
        """Return the date as it stands in the structure: 0xYYYYMMDD."""
        return int(parse_date(self.date).replace("-", ""), 16)

    def signed_message(self) -> bytes:
        """Return the 256 bytes that the signature covers."""
        whole = self.structure()
        return bytes(whole[0:128] + whole[900:1028])

    def structure(self) -> bytearray:
        """Return the 1808 bytes with zeros where key and signature stand."""
        whole = bytearray(SIGSTRUCT_SIZE)
        whole[0:16] = _HEADER
        whole[24:40] = _HEADER2
        for offset, size, name in _INTEGERS:
            value = self.date_bcd if name == "date_bcd" else getattr(self, name)
            whole[offset : offset + size] = value.to_bytes(size, "little")
        for offset, size, name in _STRINGS:
            whole[offset : offset + size] = getattr(self, name)
        return whole


@dataclass(frozen=True)
class Sigstruct:
    """A body with the signature of `modulus` (big endian, 384 bytes) over it. signature: big endian, 384 bytes."""

    body: SigstructBody
    modulus: bytes
    signature: bytes

    def __post_init__(self) -> None:
        """Check the signature; raises FormatError("sgx.sigstruct.unauthentic")."""
        if len(self.modulus) != KEY_SIZE or len(self.signature) != KEY_SIZE or self.modulus[0] < 0x80:
            raise _malformed("modulus and signature must have 3072 bits")
        n, s = int.from_bytes(self.modulus, "big"), int.from_bytes(self.signature, "big")
        expected = _PADDING + hashlib.sha256(self.body.signed_message()).digest()
        if s >= n or pow(s, EXPONENT, n).to_bytes(KEY_SIZE, "big") != expected:
            raise FormatError(
                "sgx.sigstruct.unauthentic", "the signature of the SIGSTRUCT does not hold", what="SIGSTRUCT"
            )

    @property
    def mrsigner(self) -> bytes:
        """Return SHA-256 of the modulus in little endian, 32 bytes."""
        return hashlib.sha256(self.modulus[::-1]).digest()

    @property
    def mrenclave(self) -> bytes:
        """Return the measurement that it is for, 32 bytes."""
        return self.body.mrenclave

    @property
    def isv_prod_id(self) -> int:
        """Return the product number."""
        return self.body.isv_prod_id

    @property
    def isv_svn(self) -> int:
        """Return the security version number."""
        return self.body.isv_svn

    @property
    def attributes_flags(self) -> int:
        """Return the lower 64 bits of ATTRIBUTES."""
        return self.body.attributes_flags

    @property
    def xfrm(self) -> int:
        """Return the upper 64 bits of ATTRIBUTES."""
        return self.body.xfrm

    @property
    def flags_mask(self) -> int:
        """Return which bits of attributes_flags must be equal."""
        return self.body.flags_mask

    @property
    def xfrm_mask(self) -> int:
        """Return which bits of xfrm must be equal."""
        return self.body.xfrm_mask

    @property
    def misc_select(self) -> int:
        """Return MISCSELECT."""
        return self.body.misc_select

    @property
    def misc_mask(self) -> int:
        """Return which bits of MISCSELECT must be equal."""
        return self.body.misc_mask

    @property
    def date(self) -> str:
        """Return the date as text, "0000-00-00" for none."""
        return self.body.date

    def to_bytes(self) -> bytes:
        """Return the 1808 bytes."""
        n, s = int.from_bytes(self.modulus, "big"), int.from_bytes(self.signature, "big")
        whole = self.body.structure()
        whole[128:512] = self.modulus[::-1]
        whole[512:516] = EXPONENT.to_bytes(4, "little")
        whole[516:900] = self.signature[::-1]
        whole[1040:1424] = (s * s // n).to_bytes(KEY_SIZE, "little")
        whole[1424:1808] = (s * (s * s % n) // n).to_bytes(KEY_SIZE, "little")
        return bytes(whole)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Sigstruct":
        """Return the structure of exactly 1808 bytes, signature checked.

        Raises FormatError("sgx.sigstruct.malformed") for other bytes, FormatError("sgx.sigstruct.unauthentic") if the
        signature or its two quotients do not hold.
        """
        if len(data) != SIGSTRUCT_SIZE:
            raise _malformed(f"it has {len(data)} bytes, not {SIGSTRUCT_SIZE}")
        if data[0:16] != _HEADER or data[24:40] != _HEADER2 or any(any(data[a:b]) for a, b in _ZEROS):
            raise _malformed("its headers or reserved bytes are wrong")
        if int.from_bytes(data[512:516], "little") != EXPONENT:
            raise _malformed("its exponent is not 3")
        fields: dict[str, Any] = {name: bytes(data[at : at + size]) for at, size, name in _STRINGS}
        fields |= {name: int.from_bytes(data[at : at + size], "little") for at, size, name in _INTEGERS}
        digits = f"{fields.pop('date_bcd'):08x}"
        try:
            date = parse_date(f"{digits[:4]}-{digits[4:6]}-{digits[6:]}")
        except UsageError:
            raise _malformed(f"its date is {digits!r}") from None
        body = SigstructBody(date=date, **fields)
        sigstruct = cls(body=body, modulus=bytes(data[128:512][::-1]), signature=bytes(data[516:900][::-1]))
        if sigstruct.to_bytes() != data:
            raise FormatError(
                "sgx.sigstruct.unauthentic", "the quotients of the SIGSTRUCT do not hold", what="SIGSTRUCT"
            )
        return sigstruct


def sign_sigstruct(body: SigstructBody, key_pem: bytes, *, passphrase: bytes | None = None) -> Sigstruct:
    """Return `body` signed with an RSA-3072 private key with exponent 3 in PEM.

    passphrase: of an encrypted key; must be None for one that is not.
    Raises UsageError("sgx.key.unusable") for any other key.
    """
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    key = _private_key(key_pem, passphrase)
    signature = key.sign(body.signed_message(), padding.PKCS1v15(), hashes.SHA256())
    return Sigstruct(body=body, modulus=_modulus(key.public_key()), signature=signature)


def attach_signature(body: SigstructBody, public_key_pem: bytes, signature: bytes) -> Sigstruct:
    """Return `body` with a signature made elsewhere: 384 bytes, PKCS#1 v1.5 of SHA-256 over body.signed_message().

    Raises UsageError("sgx.key.unusable"), FormatError("sgx.sigstruct.unauthentic") if it is not a signature of this body.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(public_key_pem)
    except (ValueError, UnsupportedAlgorithm):
        raise _unusable("it is not a public key in PEM") from None
    return Sigstruct(body=body, modulus=_modulus(key), signature=bytes(signature))


def parse_date(text: str) -> str:
    """Return `text` if it is "0000-00-00" or a day of the calendar, "YYYY-MM-DD"; raises UsageError("sgx.date.wrong")."""
    match = _DATE.fullmatch(text)
    year, month, day = (int(part) for part in match.groups()) if match else (0, 0, -1)
    if text != _NO_DATE and not (1 <= month <= 12 and 1 <= day <= _days(year, month)):
        raise UsageError("sgx.date.wrong", f"the date {text!r} must be YYYY-MM-DD or {_NO_DATE}")
    return text


def _days(year: int, month: int) -> int:
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return 29 if month == 2 and leap else (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]


def _private_key(key_pem: bytes, passphrase: bytes | None) -> "RSAPrivateKey":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(key_pem, password=passphrase)
    except TypeError:
        why = (
            "it is encrypted: --passphrase-file"
            if passphrase is None
            else "it is not encrypted but a passphrase is given"
        )
        raise _unusable(why) from None
    except (ValueError, UnsupportedAlgorithm):
        also = "" if passphrase is None else ", or the passphrase is not its own"
        raise _unusable(f"it is not a private key in PEM{also}") from None
    if not isinstance(key, RSAPrivateKey):
        raise _unusable("it is not an RSA key")
    _modulus(key.public_key())
    return key


def _modulus(key: object) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    numbers = key.public_numbers() if isinstance(key, RSAPublicKey) else None
    if numbers is None or numbers.e != EXPONENT or numbers.n.bit_length() != 8 * KEY_SIZE:
        raise _unusable("it is not RSA with 3072 bits and exponent 3")
    return numbers.n.to_bytes(KEY_SIZE, "big")


def _unusable(why: str) -> UsageError:
    return UsageError(
        "sgx.key.unusable",
        f"the key cannot sign an enclave: {why}",
        hint="glasscase keygen --kind enclave -o enclave.key",
    )


def _malformed(why: str) -> FormatError:
    return FormatError("sgx.sigstruct.malformed", f"this is not a usable SIGSTRUCT: {why}", what="SIGSTRUCT")
