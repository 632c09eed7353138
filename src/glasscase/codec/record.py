"""Maps with a fixed set of fields: the shape of every object of glasscase, after CBOR or JSON has been decoded.

Invariants: what comes back has every required key, no unknown one, and values of exactly the type that was asked for.
Source: docs/evidence-format.md, "Rules for all".
"""

import unicodedata
from collections.abc import Mapping
from typing import Any

from glasscase.codec.version import require_version
from glasscase.errors import FormatError

UINT_MAX = 2**64 - 1

# A field is int (unsigned), bool, str, bytes, list or dict; or a number N, which means exactly N bytes.
Fields = Mapping[str, "type | int"]


def take_object(value: Any, *, kind: str, what: str, reason: str, required: Fields, optional: Fields) -> dict[str, Any]:
    """Return the fields of an object that begins with `v` and `type`, without these two.

    kind: the text that `type` must hold. Raises FormatError("format.newer") for a higher version before anything else is
    looked at, and FormatError(reason) for whatever else does not fit.
    """
    check_version(value, what=what, reason=reason)
    fields = take_map(value, what=what, reason=reason, required={"v": int, "type": str, **required}, optional=optional)
    if fields.pop("type") != kind:
        raise FormatError(reason, f"{what} has another type than {kind!r}", what=what)
    del fields["v"]
    return fields


def check_version(value: Any, *, what: str, reason: str) -> None:
    """Return if `value` is a map whose `v` is 1; raises FormatError("format.newer") for a higher one, before all else."""
    if not isinstance(value, dict):
        raise FormatError(reason, f"{what} is not a map", what=what)
    require_version(value.get("v"), what)


def take_map(value: Any, *, what: str, reason: str, required: Fields, optional: Fields) -> dict[str, Any]:
    """Return a copy of `value`, a map with exactly the required keys and perhaps the optional ones, of the right types.

    Raises FormatError(reason), naming the first key that does not fit.
    """
    if not isinstance(value, dict):
        raise FormatError(reason, f"{what} is not a map", what=what)
    for key in required:
        if key not in value:
            raise FormatError(reason, f"{what} lacks the key {key!r}", what=what)
    for key, item in value.items():
        field = required.get(key, optional.get(key))
        if field is None:
            raise FormatError(reason, f"{what} has the unknown key {str(key)[:64]!r}", what=what)
        _check(item, field, f"{key} of {what}", reason)
    return dict(value)


def take_list(value: Any, field: type | int, *, what: str, reason: str, limit: int) -> tuple[Any, ...]:
    """Return the items of an array of at most `limit` values, all of one type. Raises FormatError(reason)."""
    if not isinstance(value, list):
        raise FormatError(reason, f"{what} is not an array", what=what)
    if len(value) > limit:
        raise FormatError(reason, f"{what} has {len(value)} items, at most {limit} are allowed", what=what)
    for item in value:
        _check(item, field, f"an item of {what}", reason)
    return tuple(value)


def is_plain_text(text: str) -> bool:
    """Return whether text is NFC and free of control characters."""
    if text.isascii():
        return text.isprintable()
    return unicodedata.is_normalized("NFC", text) and not any(unicodedata.category(c) == "Cc" for c in text)


def _check(item: Any, field: type | int, what: str, reason: str) -> None:
    if isinstance(field, int):
        if not isinstance(item, bytes) or len(item) != field:
            raise FormatError(reason, f"{what} must be {field} bytes", what=what)
    elif field is int:
        if not isinstance(item, int) or isinstance(item, bool) or not 0 <= item <= UINT_MAX:
            raise FormatError(reason, f"{what} must be an unsigned integer", what=what)
    elif not isinstance(item, field):
        raise FormatError(reason, f"{what} must be {field.__name__}", what=what)
    elif isinstance(item, str) and not is_plain_text(item):
        raise FormatError(reason, f"{what} must be NFC text without control characters", what=what)
