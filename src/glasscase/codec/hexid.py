"""Exact-length hex and unpadded base64url, the two spellings of bytes in JSON and TOML.

Invariants: decoding then encoding gives the same text; nothing else is accepted.
Source: docs/evidence-format.md, "Rules for all".
"""

import base64
import binascii
import re

from glasscase.errors import FormatError

_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")


def from_hex(text: str, size: int, what: str) -> bytes:
    """Return the `size` bytes that `text` spells in exactly 2 * size lower-case hex digits.

    Raises FormatError("codec.hex.malformed") otherwise. what: the name of the field, for the message.
    """
    if not re.fullmatch(rf"[0-9a-f]{{{2 * size}}}", text, re.ASCII):
        raise FormatError("codec.hex.malformed", f"{what} must be {2 * size} lower-case hex digits", what=what)
    return bytes.fromhex(text)


def to_base64url(data: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def from_base64url(text: str, what: str) -> bytes:
    """Return the bytes of base64url without padding; unused bits must be zero.

    Raises FormatError("codec.base64.malformed") otherwise.
    """
    try:
        if not _BASE64URL.fullmatch(text):
            raise ValueError
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (ValueError, binascii.Error):
        raise FormatError("codec.base64.malformed", f"{what} must be base64url without padding", what=what) from None
    if to_base64url(data) != text:
        raise FormatError("codec.base64.malformed", f"{what} has unused base64url bits that are not zero", what=what)
    return data
