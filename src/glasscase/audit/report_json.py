"""What the auditor's report says, as one JSON object: the verdict, what it rests on, and how to repeat it.

Invariants: facts and judgements of the verdict only, nothing is judged here; the same inputs give the same object; no wall clock.
Source: docs/policy.md, "Reports".
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from glasscase.audit.quotes import describe_quote
from glasscase.errors import FormatError
from glasscase.verify import limits

if TYPE_CHECKING:
    from glasscase.bundle.check import CheckedBundle
    from glasscase.verify.verdict import Verdict

# edge of the chain, from the root to the keys -> beginnings of the ids of its checks
EDGES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("trust anchor", "root certificate", ("root.",)),
    ("root certificate", "platform CA", ("pck.chain.", "pck.ca.", "crl.root.")),
    ("platform CA", "PCK certificate", ("pck.leaf.", "pck.sgx.", "crl.chain.", "crl.ca.", "crl.pck.")),
    (
        "PCK certificate",
        "quoting enclave",
        ("qe.report.bad_signature", "quote.qe_report.", "qe.", "quote.certification."),
    ),
    ("quoting enclave", "attestation key", ("qe.report.bad_binding", "qe.report.bad_tail", "quote.key.")),
    ("attestation key", "quote", ("quote.",)),
    ("quote", "claims: TLS and seal key", ("binding.",)),
)
_RANK = {"pass": 0, "not_applicable": 1, "not_reached": 2, "fail": 3}


@dataclass(frozen=True)
class Inputs:
    """What was judged and by what. subject: the file's bytes; quote: the quote in it, b"" if it has none.

    digests: name -> SHA-256 in hex of each input file. command: how to repeat it. program: name -> version or digest.
    """

    subject: bytes
    quote: bytes
    evidence_id: bytes | None
    created_at: int | None
    digests: Mapping[str, str]
    command: Sequence[str]
    program: Mapping[str, str]


def report_document(verdict: "Verdict", inputs: Inputs) -> dict[str, Any]:
    """Return the whole report as an object of text, integers, booleans, lists and objects."""
    checked = verdict.basis.bundle
    return {
        "type": "glasscase-report",
        "verdict": verdict.to_json(),
        "limit": verdict.limit,
        "inputs": {
            "sha256": hashlib.sha256(inputs.subject).hexdigest(),
            "evidence_id": inputs.evidence_id.hex() if inputs.evidence_id else None,
            "created_at": inputs.created_at,
            "files": dict(inputs.digests),
        },
        "program": dict(inputs.program),
        "command": list(inputs.command),
        "quote": _quote(inputs.quote),
        "measurement": _measurement(verdict),
        "chain": [_edge(verdict, *edge) for edge in EDGES],
        "windows": _windows(verdict),
        "platform": _platform(verdict),
        "bundle": None if checked is None else _bundle(checked),
        "not_proven": _not_proven(verdict),
        "raw_quote": inputs.quote.hex(),
    }


def _quote(quote: bytes) -> dict[str, Any] | None:
    try:
        return describe_quote(quote)
    except FormatError:
        return None


def _measurement(verdict: "Verdict") -> dict[str, Any]:
    recomputed = verdict.basis.measurement
    return {
        "quoted": verdict.mrenclave.hex() if verdict.mrenclave else None,
        "recomputed": recomputed.mrenclave.hex() if recomputed is not None else None,
        "measured_areas": sum(area.measured for area in recomputed.areas) if recomputed is not None else 0,
    }


def _edge(verdict: "Verdict", source: str, target: str, prefixes: tuple[str, ...]) -> dict[str, Any]:
    """Return one edge with the worst outcome of its checks, of which each belongs to the first edge that names it best."""
    mine = [check for check in verdict.checks if _belongs(check.id, prefixes)]
    outcome = max((check.outcome for check in mine), key=lambda word: _RANK[word], default="not_applicable")
    if mine and all(check.outcome in ("pass", "not_applicable") for check in mine):
        outcome = "pass" if any(check.outcome == "pass" for check in mine) else "not_applicable"
    return {
        "from": source,
        "to": target,
        "outcome": outcome,
        "checks": len(mine),
        "failed": [check.id for check in mine if check.outcome == "fail"],
    }


def _belongs(name: str, prefixes: tuple[str, ...]) -> bool:
    """Return whether these prefixes hold the longest one of all edges that the id begins with."""
    best = max((p for _, _, others in EDGES for p in others if name.startswith(p)), key=len, default="")
    return best in prefixes


def _windows(verdict: "Verdict") -> list[dict[str, Any]]:
    found = [
        {"name": name, "start": w.start, "end": w.end} for name, w in sorted(verdict.core.windows.items()) if w.end
    ]
    if verdict.pck is not None:
        found.append({"name": "pck_certificate", "start": verdict.pck.not_before, "end": verdict.pck.not_after})
    claims = verdict.basis.claims
    if claims is not None:
        session = claims.session_facts()
        found.append({"name": "session", "start": session.nbf, "end": session.exp})
    return found


def _platform(verdict: "Verdict") -> dict[str, Any]:
    core, pck = verdict.core, verdict.pck
    level = core.needed
    return {
        "status": core.platform_status,
        "qe_status": core.qe_status,
        "advisories": list(verdict.advisories),
        "fmspc": pck.fmspc.hex() if pck else None,
        "ca": pck.ca if pck else None,
        "own": [*pck.component_svn, pck.pcesvn] if pck else [],
        "needed": [*level.component_svn, level.pcesvn] if level else [],
        "short": [row.component for row in core.shortfall],
        "tcb_evaluation": core.tcb_info_evaluation,
        "root_crl": str(core.root_ca_crl_number),
        "pck_crl": str(core.pck_crl_number),
    }


def _bundle(checked: "CheckedBundle") -> dict[str, Any]:
    index, lock = checked.bundle.index, checked.bundle.lock
    packages = () if lock.debian is None else lock.debian.packages
    return {
        "id": checked.bundle.id.hex(),
        "name": index.name,
        "files": len(index.files),
        "bytes": sum(file.size for file in index.files),
        "encrypted": index.encrypted,
        "runtime": f"{lock.runtime.name} {lock.runtime.version}",
        "wheels": [[wheel.name, wheel.version, wheel.sha256.hex()] for wheel in lock.wheels],
        "debian": [[package.name, package.version, package.sha256.hex()] for package in packages],
        "insecure": list(checked.insecure),
        "problems": [[problem.id, problem.text] for problem in checked.problems],
        "blobs_hashed": checked.full,
    }


def _not_proven(verdict: "Verdict") -> list[list[str]]:
    sentences = limits.NEVER_CHECKED | limits.SOMETIMES_NOT_CHECKED
    return [[name, sentences.get(name, name)] for name in verdict.not_checked]
