"""TOML within bounds: the standard reader takes time and memory that grow with the square of a dotted key's length.

Invariants: what comes back is what tomllib gives; no key has more than PARTS_MAX parts, no integer more than 64 bits.
Source: docs/bundle-format.md, "Rules for all".
"""

import re
import tomllib
from typing import Any

PARTS_MAX = 64  # of one dotted key; 20,000 cost the standard reader 1.5 GB
# strings, several lines first, and comments: what may hold dots that separate nothing; a missing end is tomllib's to refuse
# (no group repeats possessively: before 3.11.5, CPython gh-106052, that is not sound; the loops are unambiguous and never fail)
_SKIPPED = re.compile(
    r'"""[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*(?:"{3,5}|\\?\Z)' r"|'''[^']*(?:'(?!'')[^']*)*(?:'{3,5}|\Z)"
    r'|"[^"\\\n]*(?:\\[^\n][^"\\\n]*)*"?' r"|'[^'\n]*'?" r"|#[^\n]*",
    re.DOTALL,
)  # fmt: skip
_LONG = re.compile(rf"(?<![A-Za-z0-9_-])(?:[A-Za-z0-9_-]++[ \t]*+\.[ \t]*+){{{PARTS_MAX}}}")
_WIDE = re.compile(r"0x[0-9A-Fa-f_]{16}|[0-9_]{19}")  # where an integer of more than 64 bits may begin, in any base
_INTEGERS = range(-(2**63), 2**63)
_TOO_WIDE = "an integer has more than 64 bits"


def loads(text: str) -> dict[str, Any]:
    """Return the document of a TOML text.

    Raises ValueError if it is not TOML, has a key of more than PARTS_MAX parts or an integer of more than 64 bits (which is not
    even text, beyond some thousand digits), RecursionError if it is nested too deeply.
    """
    if text.count(".") >= PARTS_MAX and _LONG.search(_SKIPPED.sub("k", text)):
        raise ValueError(f"a key has more than {PARTS_MAX} parts")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:  # of int(), which reads only so many decimal digits
        raise ValueError(_TOO_WIDE) from None
    if _WIDE.search(text):
        _check_integers(document)
    return document


def _check_integers(document: dict[str, Any]) -> None:
    left: list[Any] = [document]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left += value.values()
        elif isinstance(value, list):
            left += value
        elif isinstance(value, int) and value not in _INTEGERS:
            raise ValueError(_TOO_WIDE)
