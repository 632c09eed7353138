"""Where real evidence that Intel's library accepts is not accepted here: docs/checks.md lists it, the corpus tests use it.

Invariants: only these; any other valid instant of the corpus passes.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stricter:
    """One written exception. check: the id that fails, or the end of it; why: the rule."""

    what: str
    check: str
    why: str


VERSION_2 = Stricter(
    "TCB info version 2", "tcbinfo.version.unsupported", "Intel retired version 2, and it does not name its TEE"
)
LAST_SECOND = Stricter(
    "the exact second of expiry",
    ".expired",
    "valid is start <= at < end; Intel's library accepts at == end and sets a flag",
)
NO_CHAIN = Stricter(
    "certification data other than type 5",
    "quote.certification.unsupported",
    "the PCK chain must stand in the quote; one that comes beside it is not used",
)
TRAILING = Stricter(
    "bytes after the signature data",
    "quote.bytes.trailing",
    "a quote is byte-exact; Intel's library ignores what follows",
)
EXCEPTIONS: tuple[Stricter, ...] = (VERSION_2, LAST_SECOND, NO_CHAIN, TRAILING)
