"""Deterministic CBOR (RFC 8949 section 4.2.1), the only CBOR that glasscase writes and accepts.

Invariants: decode(encode(v)) == v; encode(decode(b)) == b. Values are unsigned or negative integers of 64 bits, bytes,
text, arrays, maps, true and false; depth at most 8; one key type per map; tags only where the caller names them.
Source: docs/evidence-format.md, "Rules for all".
"""

import io
from collections.abc import Mapping
from typing import Any

import cbor2

from glasscase.errors import FormatError

DEPTH_MAX = 8
ITEMS_MAX = 1 << 16  # values of one object, unless its kind says more: each costs a hundred times its own byte
_INT_MIN = -(2**64)
_INT_MAX = 2**64 - 1
_COSE_KEY_MIN = -24
_COSE_KEY_MAX = 23
_MALFORMED = "codec.cbor.malformed"


def encode(value: Any) -> bytes:
    """Return the one encoding of `value`. Raises FormatError("codec.cbor.malformed") for a type outside the rules."""
    _walk(value, 0, None, cose=True)
    return cbor2.dumps(value, canonical=True)


def decode(
    data: bytes, *, max_bytes: int, what: str, tags: frozenset[int] = frozenset(), cose: bool = False, max_items: int = ITEMS_MAX
) -> Any:  # fmt: skip
    """Return the value of exactly these bytes; arrays come back as lists, maps as dicts.

    max_bytes: the limit of this kind of object. what: its name, for messages. tags: the tags allowed anywhere in it.
    cose: maps may have integer keys -24..23 (COSE headers), else text keys only. max_items: how many values it may hold.
    Raises FormatError("codec.cbor.oversize") above the limits and FormatError("codec.cbor.malformed") for anything that is
    not deterministic CBOR of the allowed types.
    """
    if len(data) > max_bytes:
        raise FormatError(
            "codec.cbor.oversize", f"{what} has {len(data)} bytes, at most {max_bytes} are allowed", what=what
        )
    if not data:
        raise FormatError(_MALFORMED, f"{what} is empty", what=what)
    _scan(data, what, max_items, tags)
    try:
        stream = io.BytesIO(data)
        value = cbor2.CBORDecoder(stream).decode()
        used = stream.tell()
    except (cbor2.CBORDecodeEOF, EOFError):  # a tag without its value
        raise FormatError(_MALFORMED, f"{what} ends too early", offset=len(data), what=what) from None
    except (cbor2.CBORError, ValueError, TypeError, RecursionError, OverflowError, MemoryError):
        raise FormatError(_MALFORMED, f"{what} is not CBOR", what=what) from None
    _walk(value, 0, tags, cose=cose, what=what)
    if used < len(data) or cbor2.dumps(value, canonical=True) != bytes(data):
        raise FormatError(_MALFORMED, f"{what} is not in deterministic CBOR encoding", what=what)
    return _plain(value) if tags else value


def _plain(value: Any) -> Any:
    """Return `value` with lists and dicts everywhere: cbor2 gives what is inside a tag as tuples and frozen maps."""
    if isinstance(value, cbor2.CBORTag):
        return cbor2.CBORTag(value.tag, _plain(value.value))
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _walk(value: Any, depth: int, tags: frozenset[int] | None, *, cose: bool, what: str = "value") -> None:
    if depth > DEPTH_MAX:
        raise FormatError(_MALFORMED, f"{what} is nested deeper than {DEPTH_MAX}", what=what)
    if isinstance(value, bool | bytes):
        return
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise FormatError(_MALFORMED, f"{what} holds text that is not Unicode", what=what) from None
        return
    if isinstance(value, int):
        if not _INT_MIN <= value <= _INT_MAX:
            raise FormatError(_MALFORMED, f"{what} holds an integer outside 64 bits", what=what)
        return
    if isinstance(value, list | tuple):
        for item in value:
            _walk(item, depth + 1, tags, cose=cose, what=what)
        return
    if isinstance(value, Mapping):
        _walk_map(value, depth, tags, cose=cose, what=what)
        return
    if isinstance(value, cbor2.CBORTag) and (tags is None or value.tag in tags):
        _walk(value.value, depth + 1, tags, cose=cose, what=what)
        return
    raise FormatError(_MALFORMED, f"{what} holds a CBOR type that is not allowed: {type(value).__name__}", what=what)


def _walk_map(value: Mapping[Any, Any], depth: int, tags: frozenset[int] | None, *, cose: bool, what: str) -> None:
    kinds = {type(key) for key in value}
    if len(kinds) > 1 or not kinds <= ({str, int} if cose else {str}):
        raise FormatError(_MALFORMED, f"{what} holds a map with keys that are not allowed", what=what)
    for key, item in value.items():
        if isinstance(key, int) and not _COSE_KEY_MIN <= key <= _COSE_KEY_MAX:
            raise FormatError(_MALFORMED, f"{what} holds an integer key outside -24..23", what=what)
        _walk(key, depth + 1, tags, cose=cose, what=what)
        _walk(item, depth + 1, tags, cose=cose, what=what)


def _scan(data: bytes, what: str, max_items: int, tags: frozenset[int]) -> None:
    """Refuse deep nesting, too many values, lengths beyond the end and foreign tags before a parser allocates for them.

    What cbor2 makes of a tag (a decimal, a fraction, a pattern) can take minutes for a megabyte.
    """
    remaining: list[int] = []
    offset = items = 0
    end = len(data)
    while offset < end:
        head = data[offset]
        major, info = head >> 5, head & 31
        offset += 1
        items += 1
        if items > max_items:
            raise FormatError("codec.cbor.oversize", f"{what} holds more than {max_items} values", what=what)
        if info >= 28:  # reserved, or indefinite length
            raise FormatError(_MALFORMED, f"{what} is not in deterministic CBOR encoding", offset=offset - 1, what=what)
        width = 0 if info < 24 else 1 << (info - 24)
        argument = info if info < 24 else int.from_bytes(data[offset : offset + width], "big")
        offset += width
        if offset > end:
            raise FormatError(_MALFORMED, f"{what} ends too early", offset=end, what=what)
        children = 0
        if major in (2, 3):
            offset += argument
            if offset > end:
                raise FormatError(_MALFORMED, f"{what} ends too early", offset=end, what=what)
        elif major in (4, 5):
            children = argument if major == 4 else 2 * argument
            if children > end - offset:
                raise FormatError(_MALFORMED, f"{what} ends too early", offset=end, what=what)
        elif major == 6:
            if argument not in tags:
                raise FormatError(_MALFORMED, f"{what} holds a tag that is not allowed: {argument}", what=what)
            children = 1
        while remaining and remaining[-1] == 0:
            remaining.pop()
        if remaining:
            remaining[-1] -= 1
        if children:
            remaining.append(children)
            if len(remaining) > DEPTH_MAX + 2:
                raise FormatError(_MALFORMED, f"{what} is nested deeper than {DEPTH_MAX}", offset=offset, what=what)
