"""One check of a verdict, and what a verdict rests on.

Invariants: plain values without judgement.
Source: docs/policy.md, "Verdicts".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glasscase.evidence.attestation import Claims
    from glasscase.sgx.report import ReportBody
    from glasscase.verify.policy import Policy

PASS = "pass"  # noqa: S105 - an outcome
FAIL = "fail"
NOT_REACHED = "not_reached"
NOT_APPLICABLE = "not_applicable"

# What one of our own rules found: outcome, observed, expected. Values are spelt only when somebody looks.
Finding = tuple[str, Any, Any]
Findings = Mapping[str, Finding]


@dataclass(frozen=True)
class Check:
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


@dataclass(frozen=True, kw_only=True)
class Basis:
    """What a verdict was asked about and rests on: arguments and facts, no judgement.

    valid_until: the earliest end of all windows and policy ages, or None if one of them is not known; limit: what ends then.
    """

    at: datetime
    anchor: str
    simulated: bool
    engine: str
    policy: "Policy | None"
    report: "ReportBody | None" = None
    claims: "Claims | None" = None
    measurement: Any = None
    bundle: Any = None
    bundle_id: bytes | None = None
    not_checked: tuple[str, ...] = ()
    insecure: tuple[str, ...] = ()
    valid_until: datetime | None = None
    limit: str = ""
    nonce_matched: bool = False


def spell(value: Any) -> str:
    """Return a value as people read it: bytes in hex, times in RFC 3339, lists with commas."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(spell(item) for item in value)
    if value is None:
        return ""
    return str(value)
