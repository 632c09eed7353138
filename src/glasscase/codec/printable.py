"""Text from outside as people may see it: no character that moves the cursor, hides or reorders what stands beside it.

Invariants: the result holds printable characters and plain spaces only.
"""

import unicodedata


def escape(text: str) -> str:
    """Return `text` with control, format, surrogate, separator and bidirectional characters spelt as escapes."""
    return "".join(
        character if character == " " or unicodedata.category(character)[0] not in "CZ" else _spell(character)
        for character in text
    )


def _spell(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
