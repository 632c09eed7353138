"""A small DER writer for the simulator's certificates and CRLs.

Invariants: it only writes; nothing in it reads DER, so it shares no mistake with the parsers that it serves to test.
Source: ITU-T X.690 section 8 and 10 (definite, minimal lengths).
"""

from datetime import UTC, datetime

SEQUENCE = 0x30
SET = 0x31
UTF8_STRING = 0x0C
PRINTABLE_STRING = 0x13
UTC_TIME = 0x17
GENERALIZED_TIME = 0x18
_UTC_TIME_END = 2524608000  # 2050-01-01T00:00:00Z, from here RFC 5280 wants GeneralizedTime


def tlv(tag: int, content: bytes) -> bytes:
    """Return one element: tag byte, minimal length, content."""
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    width = (size.bit_length() + 7) // 8
    return bytes([tag, 0x80 | width]) + size.to_bytes(width, "big") + content


def sequence(*parts: bytes) -> bytes:
    """Return a SEQUENCE of encoded elements."""
    return tlv(SEQUENCE, b"".join(parts))


def set_of(*parts: bytes) -> bytes:
    """Return a SET of encoded elements, in the order given."""
    return tlv(SET, b"".join(parts))


def explicit(number: int, content: bytes) -> bytes:
    """Return a constructed context tag [number] around encoded content."""
    return tlv(0xA0 | number, content)


def implicit(number: int, content: bytes) -> bytes:
    """Return a primitive context tag [number] with raw content."""
    return tlv(0x80 | number, content)


def integer(value: int) -> bytes:
    """Return an INTEGER in two's complement with the fewest bytes."""
    return tlv(0x02, _twos_complement(value))


def enumerated(value: int) -> bytes:
    """Return an ENUMERATED."""
    return tlv(0x0A, _twos_complement(value))


def boolean(value: bool) -> bytes:  # noqa: FBT001 - the value is the content
    """Return a BOOLEAN: 0xff or 0x00."""
    return tlv(0x01, b"\xff" if value else b"\x00")


def octet_string(content: bytes) -> bytes:
    """Return an OCTET STRING."""
    return tlv(0x04, content)


def bit_string(content: bytes, unused: int = 0) -> bytes:
    """Return a BIT STRING whose last `unused` bits do not count."""
    return tlv(0x03, bytes([unused]) + content)


def oid(text: str) -> bytes:
    """Return an OBJECT IDENTIFIER from its dotted form."""
    arcs = [int(part) for part in text.split(".")]
    content = bytearray()
    for arc in [40 * arcs[0] + arcs[1], *arcs[2:]]:
        digits = [arc & 0x7F]
        while arc := arc >> 7:
            digits.append(0x80 | (arc & 0x7F))
        content += bytes(reversed(digits))
    return tlv(0x06, bytes(content))


def time(at: int) -> bytes:
    """Return UTCTime before 2050 and GeneralizedTime from then on, as RFC 5280 4.1.2.5 says."""
    moment = datetime.fromtimestamp(at, UTC)
    if at < _UTC_TIME_END:
        return tlv(UTC_TIME, moment.strftime("%y%m%d%H%M%SZ").encode("ascii"))
    return tlv(GENERALIZED_TIME, moment.strftime("%Y%m%d%H%M%SZ").encode("ascii"))


def _twos_complement(value: int) -> bytes:
    width = (value if value >= 0 else ~value).bit_length() // 8 + 1
    return value.to_bytes(width, "big", signed=True)
