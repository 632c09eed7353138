"""The ledger of releases: an append-only chain of lines, one for each release or retirement of a measurement.

Invariants: every line names the SHA-256 of the line before, so lines cannot be changed, dropped or reordered unseen; cutting
off the end is seen only by whoever remembers a head. Without witnesses there is no protection from showing two chains.
Source: docs/policy.md, "Ledger".
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from glasscase.codec import strictjson
from glasscase.codec.hexid import from_hex
from glasscase.codec.labels import label
from glasscase.codec.record import take_map
from glasscase.errors import FormatError

LEDGER_MAX = 64 * 1024 * 1024  # bytes
LINE_MAX = 4096  # bytes
NAME = "measurements.jsonl"
NO_KEY = bytes(32)
_MALFORMED = "ledger.line.malformed"


@dataclass(frozen=True)
class Line:
    """One line. prev, bundle_id, mrenclave: 32 bytes. kind: "release" or "retire". time: unix seconds."""

    n: int
    prev: bytes
    kind: str
    bundle_id: bytes
    mrenclave: bytes
    isv_svn: int
    time: int

    def to_bytes(self) -> bytes:
        """Return the cJSON line with its newline."""
        value = {name: item.hex() if isinstance(item, bytes) else item for name, item in vars(self).items()}
        return strictjson.write_canonical(value)

    @property
    def digest(self) -> bytes:
        """Return SHA-256 of the line: the head of a ledger that ends with it."""
        return hashlib.sha256(self.to_bytes()).digest()


def genesis(public_key: bytes) -> bytes:
    """Return what stands as `prev` in the first line: SHA-256(label "ledger" || key); NO_KEY for an unsigned ledger."""
    return hashlib.sha256(label("ledger") + public_key).digest()


def parse_ledger(data: bytes, *, public_key: bytes) -> tuple[Line, ...]:
    """Return the lines of a whole chain.

    Raises FormatError("ledger.line.malformed") for a line of another form, FormatError("ledger.chain.broken") if a number
    or a digest does not continue the chain.
    """
    if len(data) > LEDGER_MAX:
        raise FormatError(_MALFORMED, f"the ledger has {len(data)} bytes, at most {LEDGER_MAX} are allowed")
    if data and not data.endswith(b"\n"):
        raise FormatError(_MALFORMED, "the ledger's last line is not complete")
    lines: list[Line] = []
    prev = genesis(public_key)
    for n, text in enumerate(data.split(b"\n")[:-1]):
        line = _parse_line(text + b"\n", f"line {n} of the ledger")
        if line.n != n or line.prev != prev:
            raise FormatError("ledger.chain.broken", f"line {n} of the ledger does not continue the chain")
        lines.append(line)
        prev = line.digest
    return tuple(lines)


def next_line(
    lines: tuple[Line, ...], *, public_key: bytes, kind: str, bundle_id: bytes, mrenclave: bytes, isv_svn: int, time: int
) -> Line:  # fmt: skip
    """Return the line that continues a ledger."""
    prev = lines[-1].digest if lines else genesis(public_key)
    return Line(len(lines), prev, kind, bundle_id, mrenclave, isv_svn, time)


def released(lines: Iterable[Line]) -> frozenset[bytes]:
    """Return the measurements that were released and not retired since."""
    known: set[bytes] = set()
    for line in lines:
        (known.add if line.kind == "release" else known.discard)(line.mrenclave)
    return frozenset(known)


def require_head(lines: tuple[Line, ...], *, n: int, head: bytes) -> None:
    """Return if the chain still holds line `n` with this digest: it has grown from what somebody remembers.

    Raises FormatError("ledger.head.differs") if the chain is shorter or another one.
    """
    if not 0 <= n < len(lines) or lines[n].digest != head:
        raise FormatError(
            "ledger.head.differs", f"the ledger has {len(lines)} lines and does not continue the head of line {n}"
        )


def _parse_line(text: bytes, what: str) -> Line:
    value: Any = strictjson.parse_canonical(text, max_bytes=LINE_MAX, what=what)
    fields = take_map(
        value,
        what=what,
        reason=_MALFORMED,
        required={
            "n": int, "prev": str, "kind": str, "bundle_id": str, "mrenclave": str, "isv_svn": int, "time": int,
        },
        optional={},
    )  # fmt: skip
    if fields["kind"] not in ("release", "retire"):
        raise FormatError(_MALFORMED, f"{what} is of kind {fields['kind'][:32]!r}, expected release or retire")
    for name in ("prev", "bundle_id", "mrenclave"):
        fields[name] = from_hex(fields[name], 32, f"{name} of {what}")
    return Line(**fields)
