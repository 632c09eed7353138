"""TOML within bounds: the standard reader takes time and memory that grow with the square of a dotted key's length.

Invariants: what comes back is what tomllib gives; no key has more than PARTS_MAX parts.
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


def loads(text: str) -> dict[str, Any]:
    """Return the document of a TOML text.

    Raises ValueError if it is not TOML or has a key of more than PARTS_MAX parts, RecursionError if it is nested too deeply.
    """
    if text.count(".") >= PARTS_MAX and _LONG.search(_SKIPPED.sub("k", text)):
        raise ValueError(f"a key has more than {PARTS_MAX} parts")
    return tomllib.loads(text)
