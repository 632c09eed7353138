"""Text from outside as people may see it: no character that moves the cursor, hides or reorders what stands beside it.

Invariants: the result of escape() holds printable characters and plain spaces only; those of without_logins() and
url_without_login() no password of a URL.
"""

import re
import unicodedata
from typing import Any

BRIEF_MAX = 64  # characters of a value that a message shows
_LOGIN = re.compile(r"(?<=://)\S*@")  # also with a `/`, which had to be written %2F
_ONE_LOGIN = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*:/+)?.*@", re.DOTALL)


def escape(text: str) -> str:
    """Return `text` with control, format, surrogate, separator and bidirectional characters spelt as escapes."""
    return "".join(
        character if character == " " or unicodedata.category(character)[0] not in "CZ" else _spell(character)
        for character in text
    )


def brief(value: Any) -> str:
    """Return what a file has in place of what it should, for a message: text quoted and cut, a list or table by its name."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return repr(value) if len(value) <= BRIEF_MAX else f"{value[:BRIEF_MAX]!r}..."
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, list | tuple | dict):
        return "a table" if isinstance(value, dict) else "a list" if value else "an empty list"
    return str(value)


def without_logins(text: str) -> str:
    """Return `text` without the user names and passwords of URLs."""
    return _LOGIN.sub("", text)


def _spell(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def url_without_login(url: str) -> str:
    """Return what was given as one URL, well formed or not, without user name and password, whatever letters these have."""
    return _ONE_LOGIN.sub(r"\1", url)
