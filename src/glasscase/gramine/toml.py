"""The TOML writer of Gramine manifests: the same bytes as the one that Gramine's tools use.

Invariants: the output depends on the document alone; parsing it gives the document back, apart from the spelling of dates.
Source: docs/bundle-format.md, "The manifest's text".
"""

import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time
from typing import Any

from glasscase.errors import FormatError

LINE_MAX = 100  # characters of an inline table with its indent and comma
INDENT = "    "
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_ESCAPED = re.compile(r'[\x00-\x08\x0a-\x1f\x7f"\\]')
_SHORT = {"\b": "\\b", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def write_toml(document: Mapping[str, Any]) -> bytes:
    """Return the document in UTF-8, keys and tables in the order given.

    Raises FormatError("gramine.toml.unwritable") for a value that TOML does not have, or text that is not Unicode.
    """
    try:
        return "".join(_table(document, "", in_array=False)).encode("utf-8")
    except UnicodeEncodeError:
        raise FormatError("gramine.toml.unwritable", "the document holds text that is not Unicode") from None


def _table(table: Mapping[str, Any], name: str, *, in_array: bool) -> Iterator[str]:
    """Give the lines of one table: its header if it needs one, its literals, then its sub-tables."""
    literals: list[tuple[str, Any]] = []
    tables: list[tuple[str, Mapping[str, Any], bool]] = []
    for key, value in table.items():
        if isinstance(value, Mapping):
            tables.append((key, value, False))
        elif _is_array_of_tables(value) and not all(_fits_a_line(item) for item in value):
            tables.extend((key, item, True) for item in value)
        else:
            literals.append((key, value))
    started = False
    if in_array or (name and (literals or not tables)):
        started = True
        yield f"[[{name}]]\n" if in_array else f"[{name}]\n"
    for key, value in literals:
        started = True
        yield f"{_key(key)} = {_literal(value, 0)}\n"
    for key, value, as_item in tables:
        if started:
            yield "\n"
        started = True
        yield from _table(value, f"{name}.{_key(key)}" if name else _key(key), in_array=as_item)


def _is_array_of_tables(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _fits_a_line(table: Mapping[str, Any]) -> bool:
    line = f"{INDENT}{_inline(table)},"
    return len(line) <= LINE_MAX and "\n" not in line


def _literal(value: Any, level: int) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, datetime | date) or (isinstance(value, time) and value.tzinfo is None):
        return str(value)
    if isinstance(value, list | tuple):
        return _array(value, level)
    if isinstance(value, Mapping):
        return _inline(value)
    raise FormatError("gramine.toml.unwritable", f"TOML has no value of the type {type(value).__name__}")


def _array(items: list[Any] | tuple[Any, ...], level: int) -> str:
    if not items:
        return "[]"
    indent = INDENT * (level + 1)
    lines = "".join(f"{indent}{_literal(item, level + 1)},\n" for item in items)
    return f"[\n{lines}{INDENT * level}]"


def _inline(table: Mapping[str, Any]) -> str:
    if not table:
        return "{}"
    return "{ " + ", ".join(f"{_key(key)} = {_literal(value, 0)}" for key, value in table.items()) + " }"


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _string(key)


def _string(text: str) -> str:
    return '"' + _ESCAPED.sub(lambda match: _SHORT.get(match[0], f"\\u{ord(match[0]):04x}"), text) + '"'
