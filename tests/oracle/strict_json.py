"""A JSON reader for the independent verifier that remembers where each member of an object stands.

Strict: no duplicate keys, unsigned integers of 53 bits only, no depth above 8, nothing behind the value, and, as Intel's signed
documents hold nothing else, printable ASCII without escapes in strings. It shares no code with the product.
"""

import re

from strict_der import Refused, require, seconds

DEPTH_MAX = 8
_SPACE = re.compile(rb"[ \t\r\n]*")
_INTEGER = re.compile(rb"0|[1-9][0-9]*")
_PLAIN = re.compile(rb"[ !#-\[\]-~]*")


class Reader:
    """Reads one document."""

    def __init__(self, data):
        self.data = data
        self.at = 0
        self.spans = {}

    def document(self):
        """Return the value that fills the data."""
        value = self._value(0)
        self._skip()
        require(self.at == len(self.data), "text behind the document")
        return value

    def _skip(self):
        self.at = _SPACE.match(self.data, self.at).end()

    def _peek(self):
        return self.data[self.at] if self.at < len(self.data) else -1

    def _take(self, byte):
        require(self._peek() == byte, f"expected {chr(byte)!r} at {self.at}")
        self.at += 1

    def _value(self, depth):
        require(depth <= DEPTH_MAX, "nested too deeply")
        self._skip()
        head = self._peek()
        if head == 0x7B:
            return self._object(depth)
        if head == 0x5B:
            return self._array(depth)
        if head == 0x22:
            return self._string()
        for word, value in ((b"true", True), (b"false", False), (b"null", None)):
            if self.data.startswith(word, self.at):
                self.at += len(word)
                return value
        match = _INTEGER.match(self.data, self.at)
        require(match, f"no value at {self.at}")
        self.at = match.end()
        require(self.data[self.at : self.at + 1] not in b".eE0123456789" or self.at == len(self.data), "not an integer")
        require(len(match[0]) <= 16 and int(match[0]) < 2**53, "integer too large")
        return int(match[0])

    def _object(self, depth):
        self._take(0x7B)
        members = {}
        self._skip()
        while self._peek() != 0x7D:
            if members:
                self._take(0x2C)
                self._skip()
            key = self._string()
            require(key not in members, f"duplicate key {key!r}")
            self._skip()
            self._take(0x3A)
            self._skip()
            start = self.at
            members[key] = self._value(depth + 1)
            if depth == 0:
                self.spans[key] = (start, self.at)
            self._skip()
        self.at += 1
        return members

    def _array(self, depth):
        self._take(0x5B)
        items = []
        self._skip()
        while self._peek() != 0x5D:
            if items:
                self._take(0x2C)
            items.append(self._value(depth + 1))
            self._skip()
        self.at += 1
        return items

    def _string(self):
        self._take(0x22)
        match = _PLAIN.match(self.data, self.at)
        self.at = match.end()
        if self._peek() == 0x22:
            self.at += 1
            return match[0].decode("ascii")
        raise Refused("escape, control or non-ASCII character, or end inside a string")


def text(value, pattern):
    """Return a string that matches a pattern of ASCII characters."""
    require(isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII), f"bad text {value!r}")
    return value


def whole(value, low, high):
    """Return an integer of a range; true and false are no integers."""
    require(isinstance(value, int) and not isinstance(value, bool) and low <= value <= high, f"bad integer {value!r}")
    return value


def hexadecimal(value, size):
    """Return the `size` bytes that a string spells."""
    return bytes.fromhex(text(value, rf"[0-9a-fA-F]{{{2 * size}}}"))


def date(value):
    """Return unix seconds of YYYY-MM-DDThh:mm:ssZ."""
    match = re.fullmatch(
        r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)Z", value if isinstance(value, str) else "", re.ASCII
    )
    require(match, f"bad date {value!r}")
    return seconds([int(part) for part in match.groups()])
