"""One check of a verdict, and what a verdict rests on.

Invariants: plain values without judgement.
Source: docs/policy.md, "Verdicts".
"""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from glasscase.evidence.attestation import Claims
    from glasscase.sgx.report import ReportBody
    from glasscase.verify.expected import Expected
    from glasscase.verify.policy import Policy

PASS = "pass"  # noqa: S105 - an outcome
FAIL = "fail"
NOT_REACHED = "not_reached"
NOT_APPLICABLE = "not_applicable"

# What one of our own rules found: outcome, observed, expected. Values are spelt only when somebody looks.
Finding = tuple[str, Any, Any]
Findings = Mapping[str, Finding]


class Check(NamedTuple):
    """One named check. outcome: pass, fail, not_reached, not_applicable.

    source: where the rule comes from. anchor: what the outcome rests on: root, bytes, policy or evidence. kind: proof or
    basis.
    """

    id: str
    outcome: str
    observed: str
    expected: str
    source: str
    anchor: str
    kind: str

    def to_json(self) -> dict[str, str]:
        """Return the object that `verify --json` shows."""
        return {name: getattr(self, name) for name in ("id", "outcome", "observed", "expected", "source", "anchor")}


class Basis(NamedTuple):
    """What a verdict was asked about and rests on: arguments and facts, no judgement.

    live: inside a handshake. session_end, evidence_end: unix seconds, when claims and evidence become too old, or None.
    """

    at: datetime
    anchor: str
    simulated: bool
    engine: str
    policy: "Policy | None"
    report: "ReportBody | None"
    claims: "Claims | None"
    expected: "Expected | None"
    live: bool
    session_end: int | None
    evidence_end: int | None

    @property
    def measurement(self) -> Any:
        """Return the Measurement that the quote was compared with, or None."""
        return self.expected.measurement if self.expected is not None else None

    @property
    def bundle(self) -> Any:
        """Return the checked bundle that the quote was compared with, or None."""
        return self.expected.bundle if self.expected is not None else None

    @property
    def bundle_id(self) -> bytes | None:
        """Return the id of that bundle, or None."""
        return self.expected.bundle_id if self.expected is not None else None


def spell(value: Any) -> str:
    """Return a value as people read it: bytes in hex, times in RFC 3339, lists with commas; a function's result."""
    if isinstance(value, str):
        return value
    if callable(value):
        return spell(value())
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(spell(item) for item in value)
    if value is None:
        return ""
    return str(value)
