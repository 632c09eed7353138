"""Strict JSON: integers of 53 bits, no duplicate keys, no floats; and cJSON, the one spelling of files that are hashed.

Invariants: write_canonical(parse_canonical(b)) == b.
Source: docs/evidence-format.md, "Rules for all".
"""

import json
import re
from typing import Any, NoReturn

from glasscase.errors import FormatError

DEPTH_MAX = 64
INT_MAX = 2**53 - 1
ITEMS_MAX = 1 << 20  # commas and opening brackets of one document, unless its kind says more: what bounds its values
_MALFORMED = "codec.json.malformed"
_CONTROL = re.compile("[\x00-\x1f]")
_SURROGATE = re.compile(r"\\u[dD]")
# a string (possessive, so that no text takes more than linear time; the last one may lack its end) or a bracket
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\Z)|[\[\]{}]', re.DOTALL)


def parse(data: bytes, *, max_bytes: int, what: str, max_items: int = ITEMS_MAX) -> Any:
    """Return the value of a JSON document with strict types.

    max_items: how many commas and opening brackets it may hold, those in its texts too. Raises
    FormatError("codec.json.oversize") above the limits, FormatError("codec.json.malformed") for anything that is not
    UTF-8 JSON with unique keys and integers of 53 bits.
    """
    if len(data) > max_bytes:
        raise FormatError(
            "codec.json.oversize", f"{what} has {len(data)} bytes, at most {max_bytes} are allowed", what=what
        )
    if sum(map(data.count, (b",", b"[", b"{"))) > max_items:
        raise FormatError("codec.json.oversize", f"{what} holds more than {max_items} values", what=what)
    if data.startswith(b"\xef\xbb\xbf"):
        raise FormatError(_MALFORMED, f"{what} begins with a byte order mark", what=what)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(_MALFORMED, f"{what} is not UTF-8", offset=error.start, what=what) from None
    _check_depth(text, what)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_float=_no_float,
            parse_constant=_no_float,
            parse_int=_small_int,
        )
    except _Refused as refused:
        raise FormatError(_MALFORMED, f"{what}: {refused}", what=what) from None
    except (json.JSONDecodeError, RecursionError) as error:
        position = error.pos if isinstance(error, json.JSONDecodeError) else None
        raise FormatError(_MALFORMED, f"{what} is not JSON", offset=position, what=what) from None
    if _SURROGATE.search(text):  # the bytes were UTF-8, so only an escape can spell one
        _check_text(value, what)
    return value


def write(value: Any) -> bytes:
    """Return JSON for people: two spaces, keys as given, one newline at the end.

    Raises FormatError("codec.json.malformed") on text that is not Unicode, ValueError on a float that is no number.
    """
    return _encoded(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False))


def write_canonical(value: Any) -> bytes:
    """Return cJSON: sorted keys, no spaces, one newline at the end.

    Raises FormatError("codec.json.malformed") on floats and on text that is not Unicode.
    """
    _check_value(value)
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return _encoded(text)


def parse_canonical(data: bytes, *, max_bytes: int, what: str, max_items: int = ITEMS_MAX) -> Any:
    """Return the value of a cJSON document; raises FormatError("codec.json.noncanonical") if it is spelt another way."""
    value = parse(data, max_bytes=max_bytes, what=what, max_items=max_items)
    if write_canonical(value) != data:
        raise FormatError("codec.json.noncanonical", f"{what} is not in canonical JSON", what=what)
    return value


def _encoded(text: str) -> bytes:
    try:
        return (text + "\n").encode("utf-8")
    except UnicodeEncodeError:
        raise FormatError(_MALFORMED, "JSON holds no text that is not Unicode") from None


class _Refused(ValueError):  # noqa: N818 - never leaves this module
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise _Refused("a key occurs twice")
        result[key] = value
    return result


def _no_float(_text: str) -> NoReturn:
    raise _Refused("numbers must be integers")


def _small_int(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > INT_MAX or text == "-0":
        raise _Refused("an integer has more than 53 bits")
    return int(text)


def _check_depth(text: str, what: str) -> None:
    depth = 0
    for match in _TOKENS.finditer(text):
        bracket = match[0]
        if bracket in "[{":
            depth += 1
            if depth > DEPTH_MAX:
                raise FormatError(_MALFORMED, f"{what} is nested deeper than {DEPTH_MAX}", what=what)
        elif bracket in "]}":
            depth -= 1


def _check_text(value: Any, what: str) -> None:
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise FormatError(_MALFORMED, f"{what} holds a lone surrogate", what=what) from None
    elif isinstance(value, list):
        for item in value:
            _check_text(item, what)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_text(key, what)
            _check_text(item, what)


def _check_value(value: Any) -> None:
    if value is None or isinstance(value, float):
        raise FormatError(_MALFORMED, f"canonical JSON holds no {type(value).__name__}")
    if isinstance(value, bool):
        return
    if isinstance(value, int) and abs(value) > INT_MAX:
        raise FormatError(_MALFORMED, "an integer has more than 53 bits")
    if isinstance(value, str) and _CONTROL.search(value):
        raise FormatError(_MALFORMED, "canonical JSON holds no control characters")
    if isinstance(value, dict):
        for key, item in value.items():
            _check_value(key)
            _check_value(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_value(item)
