"""Just enough of OpenPGP to name the key that signed an InRelease; apt itself has checked the signature.

Invariants: a fingerprint is returned only if the pinned keyring holds that key.
Source: RFC 9580, sections 4, 5.2, 5.5 and 6; RFC 4880 for version 4 fingerprints.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator

from glasscase.errors import FormatError

_SIGNATURE, _PUBLIC_KEY, _PUBLIC_SUBKEY = 2, 6, 14
_ISSUER_FINGERPRINT = 33
_ARMOR = re.compile(rb"-----BEGIN PGP [A-Z ]+-----\r?\n(.*?)-----END PGP", re.DOTALL)


def keyring_fingerprints(keyring: bytes) -> dict[bytes, bytes]:
    """Return fingerprint -> fingerprint of the primary key, for every key and subkey of version 4 in a keyring."""
    found: dict[bytes, bytes] = {}
    primary = b""
    for tag, body in _packets(_dearmor(keyring)):
        if tag in (_PUBLIC_KEY, _PUBLIC_SUBKEY) and body[:1] == b"\x04":
            fingerprint = hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body, usedforsecurity=False).digest()
            primary = fingerprint if tag == _PUBLIC_KEY else primary
            found[fingerprint] = primary
    return found


def signer(inrelease: bytes, keyring: bytes) -> bytes:
    """Return the 20-byte fingerprint of the primary key of the keyring that signed a clear-signed document.

    Raises FormatError("lock.debian.unsigned") if no signature names a key of the keyring.
    """
    known = keyring_fingerprints(keyring)
    at = inrelease.rfind(b"-----BEGIN PGP SIGNATURE-----")
    for tag, body in _packets(_dearmor(inrelease[at:]) if at >= 0 else b""):
        if tag == _SIGNATURE and body[:1] == b"\x04":
            size = int.from_bytes(body[4:6], "big")
            for kind, value in _subpackets(body[6 : 6 + size]):
                if kind == _ISSUER_FINGERPRINT and value[1:] in known:
                    return known[value[1:]]
    raise FormatError(
        "lock.debian.unsigned", "no signature of the InRelease names a key of the keyring", what="InRelease"
    )


def _dearmor(data: bytes) -> bytes:
    blocks = _ARMOR.findall(data)
    if not blocks:
        return data
    out = b""
    for block in blocks:
        lines = (b"\n" + block.replace(b"\r", b"")).partition(b"\n\n")[2].split(b"\n")
        body = b"".join(line for line in lines if not line.startswith(b"="))
        try:
            out += base64.b64decode(body, validate=True)
        except binascii.Error:
            raise _broken() from None
    return out


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        head = data[at]
        at += 1
        if head & 0x40:
            tag = head & 0x3F
            size, at = _new_length(data, at)
        else:
            tag, width = (head >> 2) & 0xF, 1 << (head & 3)
            if not head & 0x80 or width == 8:
                raise _broken()
            size, at = int.from_bytes(data[at : at + width], "big"), at + width
        if at + size > len(data):
            raise _broken()
        yield tag, data[at : at + size]
        at += size


def _new_length(data: bytes, at: int) -> tuple[int, int]:
    first = data[at] if at < len(data) else 255
    if first < 192:
        return first, at + 1
    if first < 224:
        return ((first - 192) << 8) + int.from_bytes(data[at + 1 : at + 2], "big") + 192, at + 2
    if first == 255:
        return int.from_bytes(data[at + 1 : at + 5], "big"), at + 5
    raise _broken()  # partial lengths do not occur in keys and signatures


def _subpackets(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        size, at = _new_length(data, at)
        if size < 1 or at + size > len(data):
            raise _broken()
        yield data[at] & 0x7F, data[at + 1 : at + size]
        at += size


def _broken() -> FormatError:
    return FormatError("lock.debian.unsigned", "keyring or signature is not OpenPGP", what="OpenPGP")
