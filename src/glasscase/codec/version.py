"""The `v` (in TOML `version`) of every format: the integer 1 and nothing else.

Source: docs/bundle-format.md, "Rules for all".
"""

from typing import Any

from glasscase.errors import FormatError

VERSION = 1


def require_version(value: Any, what: str) -> None:
    """Return if `value` is the integer 1.

    Raises FormatError("format.newer") for a higher integer, before anything else is parsed, and
    FormatError("codec.version.malformed") for anything else.
    """
    if type(value) is int and value == VERSION:
        return
    if type(value) is int and value > VERSION:
        raise FormatError(
            "format.newer",
            f"{what} has version {value}, this tool knows {VERSION}",
            hint="use a newer glasscase",
            what=what,
        )
    found = "no version" if value is None else f"version {value!r:.32}"
    raise FormatError("codec.version.malformed", f"{what} has {found}, expected the integer {VERSION}", what=what)
