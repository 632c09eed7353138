"""Judging evidence: the quote as in verify_quote, and that it binds these claims, this certificate, this time and this release.

Invariants: only what the quote binds is believed; the host's copies (bundle_id, created_at, nonce, insecure) are never looked
at; collateral and beacon are judged by their signatures.
Source: docs/evidence-format.md, "What the quote binds"; docs/policy.md.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from glasscase.collateral.model import Collateral, signed_tcb_info
from glasscase.core import dcap
from glasscase.errors import FormatError, UsageError
from glasscase.evidence.attestation import Claims, instance_digest
from glasscase.evidence.model import Evidence
from glasscase.sgx.report import ReportBody
from glasscase.sgx.reportdata import claims_report_data
from glasscase.verify.anchor import TrustAnchor
from glasscase.verify.check import FAIL, PASS, Finding
from glasscase.verify.engine import NATIVE
from glasscase.verify.policy import Policy
from glasscase.verify.quote import Extra, Question, finish, prepare, question, report_of
from glasscase.verify.rules import DOES_NOT_APPLY, NOT_LOOKED_AT, age_finding, is_signed, judge, when
from glasscase.verify.verdict import Verdict

STATEMENTS_MAX = 256


def verify_evidence(
    evidence: Evidence,
    *,
    anchor: TrustAnchor,
    policy: Policy | None,
    at: datetime,
    collateral: Collateral | None = None,
    measurement: Any = None,
    nonce: bytes | None = None,
    engine: str = NATIVE,
    live: bool = False,
    statements: Sequence[bytes] = (),
    intel_library: str | None = None,
    prepared: dcap.PreparedCollateral | None = None,
) -> Verdict:
    """Return the verdict about one piece of evidence as of `at`.

    at, engine, measurement, intel_library: as for verify_quote. collateral: the verifier's own, else the one in the evidence
    (Intel signs it, so it matters not who carries it). nonce: the verifier's own 32 bytes. live: the evidence comes from the
    handshake that is going on, so its age does not apply and the session must be valid now. statements: DSSE files of
    auditors for policy [statements]. prepared: what prepare() gave for this collateral and anchor, if it was called before.
    Raises UsageError for arguments of the wrong type only.
    """
    asked = question(
        anchor=anchor, policy=policy, at=at, engine=engine, measurement=measurement, nonce=nonce,
        intel_library=intel_library,
    )  # fmt: skip
    if not isinstance(evidence, Evidence):
        raise UsageError("policy.argument.wrong", "evidence is what load_evidence returns")
    if not isinstance(statements, list | tuple) or not all(isinstance(item, bytes) for item in statements):
        raise UsageError("policy.argument.wrong", "statements is a list of the bytes of DSSE files")
    if len(statements) > STATEMENTS_MAX:
        raise UsageError("policy.argument.wrong", f"at most {STATEMENTS_MAX} statements are looked at")
    if (
        prepared is not None and prepared.anchor is not anchor.core
    ):  # else that anchor would judge under this one's name
        raise UsageError("policy.argument.wrong", "prepared was made under another anchor")
    used = collateral if collateral is not None else evidence.collateral
    core = dcap.verify(evidence.quote, collateral=prepared or prepare(used, anchor), at=asked.at_unix)
    case = _Case(evidence, used, asked, core, report_of(evidence.quote), live)
    return finish(core, evidence.quote, used, asked, case.report, _extra(case, statements))


@dataclass(frozen=True)
class _Case:
    """One piece of evidence under judgement. used: the collateral that the core was given."""

    evidence: Evidence
    used: Collateral | None
    asked: Question
    core: dcap.CoreVerdict
    report: ReportBody | None
    live: bool


def _extra(case: _Case, statements: Sequence[bytes]) -> Extra:
    evidence, report, asked, live = case.evidence, case.report, case.asked, case.live
    try:
        claims = Claims.from_bytes(evidence.claims)
        fault = ""
    except FormatError as error:
        claims, fault = None, error.message
    binding = _binding(evidence, claims, fault, report)
    bound = claims if binding["binding.report_data.mismatch"][0] == PASS else None
    matched = bound is not None and asked.nonce is not None and bound.nonce == asked.nonce
    freshness, evidence_end = _freshness(case, bound, matched=matched)
    session = bound.session_facts() if bound is not None else None
    findings = {
        **binding,
        **freshness,
        **_instance(evidence, asked.policy, bound, report),
        **_statements(asked, bound, report, statements),
    }
    return Extra(
        findings=findings,
        claims=bound,
        live=live,
        session_end=session.exp if session is not None else None,
        evidence_end=evidence_end,
    )


def _binding(evidence: Evidence, claims: Claims | None, fault: str, report: ReportBody | None) -> dict[str, Finding]:
    found: dict[str, Finding] = {
        "binding.claims.malformed": judge(claims is not None, fault or "well-formed", "claims of the one form"),
        "binding.report_data.mismatch": NOT_LOOKED_AT,
        "binding.certificate.mismatch": DOES_NOT_APPLY,
        "binding.request.mismatch": DOES_NOT_APPLY,
    }
    if report is not None:
        wanted = claims_report_data(evidence.claims)
        found["binding.report_data.mismatch"] = judge(report.report_data == wanted, report.report_data, wanted)
    attestation = evidence.attestation
    if attestation.certificate is not None:
        found["binding.certificate.mismatch"] = _certificate(attestation.certificate, evidence)
    if attestation.request is not None:
        found["binding.request.mismatch"] = NOT_LOOKED_AT if claims is None else _request(attestation.request, claims)
    return found


def _certificate(der: bytes, evidence: Evidence) -> Finding:
    """Judge the certificate: its extension is this quote and these claims, its key the one that the claims name."""
    from glasscase.ratls.reading import read_certificate

    try:
        certificate = read_certificate(der)
    except FormatError as error:
        return (FAIL, error.message, "the RA-TLS certificate of these claims")
    same = (certificate.quote, certificate.claims) == (evidence.quote, evidence.claims)
    return judge(
        same, "this quote and these claims" if same else "another quote or claims", "this quote and these claims"
    )


def _request(der: bytes, claims: Claims) -> Finding:
    """Judge a PKCS#10 request: signed by the key that the claims name."""
    from cryptography import x509

    from glasscase.ratls.cert import spki_digest

    try:
        request = x509.load_der_x509_csr(der)
        valid = request.is_signature_valid
        digest = spki_digest(request.public_key())
    except (ValueError, TypeError, Warning):
        return (FAIL, "not a certificate request", claims.spki_sha256)
    except Exception as error:  # noqa: BLE001 - the library's own exception types for hostile keys
        return (FAIL, f"not a certificate request: {type(error).__name__}", claims.spki_sha256)
    return judge(valid and digest == claims.spki_sha256, digest if valid else "a bad signature", claims.spki_sha256)


def _freshness(case: _Case, claims: Claims | None, *, matched: bool) -> tuple[dict[str, Finding], int | None]:
    """Return the findings freshness.* and until when the evidence is young enough (unix seconds or None)."""
    asked, policy = case.asked, case.asked.policy
    found: dict[str, Finding] = {
        "freshness.nonce.missing": DOES_NOT_APPLY,
        "freshness.nonce.mismatch": DOES_NOT_APPLY,
        "freshness.unproven": DOES_NOT_APPLY,
        "freshness.evidence.old": DOES_NOT_APPLY,
        "freshness.session.outside": DOES_NOT_APPLY,
    }
    if policy is not None and policy.nonce:
        found["freshness.nonce.missing"] = judge(asked.nonce is not None, asked.nonce or "no nonce", "a nonce")
    if asked.nonce is not None:
        seen = "no claims" if claims is None else claims.nonce or "no nonce"
        found["freshness.nonce.mismatch"] = NOT_LOOKED_AT if case.report is None else judge(matched, seen, asked.nonce)
    if case.live:
        found["freshness.session.outside"] = NOT_LOOKED_AT if claims is None else _session(claims, asked.at_unix)
        return found, None
    if policy is None or policy.evidence_max_age_s is None:
        return found, None
    if matched:
        found["freshness.unproven"] = (PASS, "the verifier's nonce", "a nonce or a beacon")
        found["freshness.evidence.old"] = (PASS, "answers the verifier's nonce", "")
        return found, None
    if not case.core.genuine:  # the age of a quote is a question only once it is one
        found["freshness.unproven"] = found["freshness.evidence.old"] = NOT_LOOKED_AT
        return found, None
    issued = _beacon_issued(case, claims)
    if issued is None or issued > asked.at_unix:
        seen = (
            "neither nonce nor beacon" if issued is None else f"a beacon of {when(issued)}, after the time asked about"
        )
        found["freshness.unproven"] = (FAIL, seen, "a nonce or a beacon")
        found["freshness.evidence.old"] = NOT_LOOKED_AT
        return found, None
    found["freshness.unproven"] = (PASS, f"a beacon of {when(issued)}", "a nonce or a beacon")
    found["freshness.evidence.old"] = age_finding(issued, asked.at_unix, policy.evidence_max_age_s)
    return found, issued + policy.evidence_max_age_s


def _session(claims: Claims, at_unix: int) -> Finding:
    session = claims.session_facts()
    return judge(
        session.nbf <= at_unix < session.exp, when(at_unix), f"from {when(session.nbf)} to {when(session.exp)}"
    )


def _beacon_issued(case: _Case, claims: Claims | None) -> int | None:
    """Return when Intel signed the document that the claims name (unix seconds), or None if nothing proves it."""
    beacon = claims.session_facts().beacon if claims is not None else None
    evidence, used = case.evidence, case.used
    if beacon is None or used is None:
        return None
    carried = evidence.collateral.tcb_info if evidence.collateral is not None else None
    for document in dict.fromkeys((used.tcb_info, evidence.beacon, carried)):
        if not document:
            continue
        try:
            digest = hashlib.sha256(signed_tcb_info(document)).digest()
        except FormatError:
            continue
        if digest != beacon:
            continue
        judged = case.core
        if document != used.tcb_info:
            items = {**used.items(), "tcb_info": document}
            judged = dcap.verify(
                evidence.quote, collateral=dcap.PreparedCollateral(items, case.asked.anchor.core), at=case.asked.at_unix
            )
        window = judged.window("tcb_info")
        if window is not None and is_signed(judged, "tcbinfo"):
            return window.start
    return None


def _instance(
    evidence: Evidence, policy: Policy | None, claims: Claims | None, report: ReportBody | None
) -> dict[str, Finding]:
    """Return the findings instance.*: what the enclave was provisioned with, and by whom."""
    found: dict[str, Finding] = {
        "instance.provision.missing": DOES_NOT_APPLY,
        "instance.envelope.unlisted": DOES_NOT_APPLY,
        "instance.envelope.mismatch": DOES_NOT_APPLY,
        "instance.owner.missing": DOES_NOT_APPLY,
    }
    prov = claims.session_facts().prov if claims is not None else None
    signers: tuple[bytes, ...] = ()
    if evidence.attestation.provision is not None:
        if claims is None or report is None:
            found["instance.envelope.mismatch"] = NOT_LOOKED_AT
        else:
            found["instance.envelope.mismatch"], signers = _provision(evidence, claims, report)
    if policy is None or (policy.provisioned is False and not policy.owners):
        return found
    found["instance.provision.missing"] = (
        NOT_LOOKED_AT if report is None else judge(prov is not None, prov or "not provisioned", "provisioned")
    )
    if isinstance(policy.provisioned, tuple):
        found["instance.envelope.unlisted"] = (
            NOT_LOOKED_AT if prov is None else judge(prov in policy.provisioned, prov, policy.provisioned)
        )
    if policy.owners:
        lacking = [owner for owner in policy.owners if owner not in signers]
        found["instance.owner.missing"] = judge(not lacking, signers or "no envelope in the evidence", policy.owners)
    return found


def _provision(evidence: Evidence, claims: Claims, report: ReportBody) -> tuple[Finding, tuple[bytes, ...]]:
    """Return whether envelope and receipt in the evidence are those of this enclave, and who signed the envelope."""
    from glasscase.seal.envelope import read_signed_envelope
    from glasscase.seal.receipt import read_receipt

    provision = evidence.attestation.provision
    wanted = "the envelope that the claims name and a receipt by the enclave's key"
    if provision is None:
        return DOES_NOT_APPLY, ()
    try:
        envelope = read_signed_envelope(provision.envelope)
        receipt = read_receipt(provision.receipt, receipt_key=claims.instance_facts().receipt_key)
    except FormatError as error:
        return (FAIL, error.message, wanted), ()
    facts = (
        receipt.envelope,
        receipt.instance,
        receipt.mrenclave,
        envelope.context.mrenclave,
        claims.session_facts().prov,
    )
    own = (envelope.digest, instance_digest(claims.instance), report.mrenclave, report.mrenclave, envelope.digest)
    if facts != own:
        return (FAIL, "an envelope or receipt of another enclave, instance or time", wanted), ()
    return (PASS, envelope.digest, wanted), tuple(envelope.signers)


def _statements(
    asked: Question, claims: Claims | None, report: ReportBody | None, statements: Sequence[bytes]
) -> dict[str, Finding]:
    policy = asked.policy
    if policy is None or policy.statements_require == 0:
        return {"statements.threshold.unmet": DOES_NOT_APPLY}
    if report is None or claims is None:
        return {"statements.threshold.unmet": NOT_LOOKED_AT}
    from glasscase.statements.intoto import vouching_keys

    keys = vouching_keys(statements, mrenclave=report.mrenclave, keys=policy.statements_keys, at_unix=asked.at_unix)
    return {
        "statements.threshold.unmet": judge(
            len(keys) >= policy.statements_require,
            f"{len(keys)} of the policy's keys vouch",
            f"at least {policy.statements_require}",
        )
    }
