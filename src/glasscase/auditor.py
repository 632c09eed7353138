"""The auditor's API: load evidence, collateral and policy; judge under an own anchor. See docs/policy.md.

Invariants: nothing here opens a socket, reads a clock or the environment. `at` is required everywhere.
"""

import os
from os import PathLike

from glasscase.collateral.model import FILE_MAX as _COLLATERAL_MAX
from glasscase.collateral.model import Collateral, parse_collateral
from glasscase.errors import UsageError
from glasscase.evidence.format import parse_evidence
from glasscase.evidence.model import EVIDENCE_JSON_MAX as _EVIDENCE_MAX
from glasscase.evidence.model import Evidence
from glasscase.fs.atomic import read_file
from glasscase.verify.anchor import TrustAnchor
from glasscase.verify.check import Check
from glasscase.verify.evidence import verify_evidence
from glasscase.verify.policy import POLICY_MAX as _POLICY_MAX
from glasscase.verify.policy import Policy, parse_policy
from glasscase.verify.quote import Verifier, verify_quote
from glasscase.verify.verdict import Verdict, VerdictStatus, VerifiedEnclave

__all__ = [
    "Check", "Collateral", "Evidence", "Policy", "TrustAnchor", "Verdict", "VerdictStatus", "VerifiedEnclave", "Verifier",
    "load_collateral", "load_evidence", "load_policy", "verify_evidence", "verify_quote",
]  # fmt: skip


def load_collateral(
    source: str | PathLike[str] | bytes, *, fmspc: bytes | None = None, ca: str | None = None
) -> Collateral:
    """Return the collateral in a file (a path) or in bytes, in any form that `--collateral` takes.

    fmspc (6 bytes), ca ("processor" or "platform"): choose in a file that holds many platforms.
    Raises FormatError for another form, StorageError if the file cannot be read.
    """
    return parse_collateral(_read(source, _COLLATERAL_MAX, "collateral"), fmspc=fmspc, ca=ca)


def load_policy(source: str | PathLike[str] | bytes) -> Policy:
    """Return the policy in a TOML file (a path) or in bytes, at most 64 KiB.

    Raises FormatError if it is not exactly of the form of docs/policy.md, StorageError if the file cannot be read.
    """
    return parse_policy(_read(source, _POLICY_MAX, "policy"))


def load_evidence(source: str | PathLike[str] | bytes) -> Evidence:
    """Return the evidence in a file (a path) or in bytes, JSON (at most 48 MiB) or CBOR (32 MiB).

    Raises FormatError if it is not exactly of the form of docs/evidence-format.md, StorageError if the file cannot be read.
    """
    return parse_evidence(_read(source, _EVIDENCE_MAX, "evidence"))


def _read(source: str | PathLike[str] | bytes, max_bytes: int, what: str) -> bytes:
    if isinstance(source, bytes):
        return source
    if isinstance(source, str | os.PathLike):
        return read_file(source, max_bytes=max_bytes, what=what, streams=True)
    raise UsageError("policy.argument.wrong", f"{what} is a path or bytes, not {type(source).__name__}")
