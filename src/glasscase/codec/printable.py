"""Text from outside as people may see it: no character that moves the cursor, hides or reorders what stands beside it.

Invariants: the result of escape() holds printable characters and plain spaces only; that of without_logins() no password of a URL.
"""

import re
import unicodedata

_LOGIN = re.compile(r"(?<=://)\S*@")  # also with a `/`, which had to be written %2F


def escape(text: str) -> str:
    """Return `text` with control, format, surrogate, separator and bidirectional characters spelt as escapes."""
    return "".join(
        character if character == " " or unicodedata.category(character)[0] not in "CZ" else _spell(character)
        for character in text
    )


def without_logins(text: str) -> str:
    """Return `text` without the user names and passwords of URLs."""
    return _LOGIN.sub("", text)


def _spell(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
