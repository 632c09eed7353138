"""Domain separation: the one spelling of the labels that precede everything glasscase hashes or derives.

Invariants: no label is a prefix of another, because each ends with a zero byte and holds no other.
Source: docs/evidence-format.md, "Labels".
"""

PREFIX = b"glasscase/v1/"


def label(name: str) -> bytes:
    """Return the label bytes `glasscase/v1/NAME` and a zero byte; name is lower-case ASCII."""
    return PREFIX + name.encode("ascii") + b"\0"
