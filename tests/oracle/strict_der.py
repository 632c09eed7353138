"""A DER reader for the independent verifier: definite, minimal, canonical; everything else is refused.

Source: ITU-T X.690; RFC 5280. It shares no code with the product.
"""

import calendar
import re
from dataclasses import dataclass

DEPTH_MAX = 16


class Refused(Exception):
    """The input breaks a rule."""


@dataclass(frozen=True)
class Element:
    """One element: tag byte, content, all its bytes."""

    tag: int
    content: bytes
    raw: bytes

    def children(self):
        """Return the elements inside a constructed element."""
        require(self.tag & 0x20, "not constructed")
        return elements(self.content)


def require(condition, why):
    """Raise Refused unless the condition holds."""
    if not condition:
        raise Refused(why)


def elements(data):
    """Return the elements that fill `data` exactly."""
    found = []
    while data:
        one, data = _first(data)
        found.append(one)
    return found


def single(data, tag):
    """Return the one element that fills `data`, which must have this tag; everything in it is checked for DER form."""
    found = elements(data)
    require(len(found) == 1 and found[0].tag == tag, f"not exactly one element of tag {tag:#x}")
    _canonical(found[0], 0)
    return found[0]


def _first(data):
    require(len(data) >= 2, "element cut off")
    tag, size, start = data[0], data[1], 2
    require(tag & 0x1F != 0x1F, "long tag")
    if size & 0x80:
        width = size & 0x7F
        require(1 <= width <= 4 and len(data) >= 2 + width, "length of length")
        start = 2 + width
        size = int.from_bytes(data[2:start], "big")
        require(size >= 0x80 and size >= 1 << (8 * (width - 1)), "length not minimal")
    require(len(data) >= start + size, "element cut off")
    return Element(tag, data[start : start + size], data[: start + size]), data[start + size :]


def _canonical(element, depth):
    """Check the values of universal types all the way down."""
    require(depth <= DEPTH_MAX, "nested too deeply")
    tag, content = element.tag, element.content
    if not tag & 0xC0:
        require(bool(tag & 0x20) == (tag & 0x1F in (16, 17)), "constructed form of a universal type")
    if tag & 0x20:
        for child in elements(content):
            _canonical(child, depth + 1)
    elif tag == 0x01:
        require(content in (b"\x00", b"\xff"), "BOOLEAN not canonical")
    elif tag in (0x02, 0x0A):
        integer(element, tag)
    elif tag == 0x03:
        require(content and content[0] <= 7 and (len(content) > 1 or content[0] == 0), "BIT STRING")
        require(not content[0] or not content[-1] & ((1 << content[0]) - 1), "BIT STRING padding")
    elif tag == 0x05:
        require(not content, "NULL with content")
    elif tag == 0x06:
        oid(element)


def integer(element, tag=0x02):
    """Return the value of an INTEGER (or ENUMERATED) of minimal length."""
    require(element.tag == tag and element.content, "not an INTEGER")
    content = element.content
    require(len(content) == 1 or content[0] not in (0, 0xFF) or (content[0] ^ content[1]) & 0x80, "INTEGER not minimal")
    return int.from_bytes(content, "big", signed=True)


def octets(element, size=None):
    """Return the content of an OCTET STRING, of `size` bytes if given."""
    require(element.tag == 0x04 and (size is None or len(element.content) == size), "OCTET STRING")
    return element.content


def boolean(element):
    """Return the value of a BOOLEAN."""
    require(element.tag == 0x01 and element.content in (b"\x00", b"\xff"), "BOOLEAN")
    return element.content == b"\xff"


def oid(element):
    """Return an OBJECT IDENTIFIER in dotted form."""
    require(element.tag == 0x06 and element.content and not element.content[-1] & 0x80, "OBJECT IDENTIFIER")
    arcs, value, fresh = [], 0, True
    for byte in element.content:
        require(not (fresh and byte == 0x80), "OBJECT IDENTIFIER not minimal")
        fresh = not byte & 0x80
        value = value << 7 | byte & 0x7F
        if fresh:
            arcs.append(value)
            value = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, [first, arcs[0] - 40 * first, *arcs[1:]]))


def moment(element):
    """Return a Time of RFC 5280 in unix seconds: UTCTime until 2049, GeneralizedTime from 2050."""
    text = element.content
    if element.tag == 0x17:
        require(re.fullmatch(rb"[0-9]{12}Z", text), "UTCTime")
        year = int(text[:2])
        year += 1900 if year >= 50 else 2000
        rest = text[2:]
    else:
        require(element.tag == 0x18 and re.fullmatch(rb"[0-9]{14}Z", text), "GeneralizedTime")
        year = int(text[:4])
        require(year >= 2050, "GeneralizedTime before 2050")
        rest = text[4:]
    return seconds([year, *(int(rest[i : i + 2]) for i in range(0, 10, 2))])


def seconds(parts):
    """Return unix seconds of a valid calendar date and time: year, month, day, hour, minute, second."""
    year, month, day, hour, minute, second = parts
    require(1 <= month <= 12 and year >= 1, "month")
    require(1 <= day <= calendar.monthrange(year, month)[1], "day")
    require(hour <= 23 and minute <= 59 and second <= 59, "time of day")
    return calendar.timegm((year, month, day, hour, minute, second))
