"""Judging a raw quote under a policy.

Invariants: hostile quotes and collateral give a verdict and never raise; wrong use raises an Error. A verdict depends on its
arguments alone: no clock, no network, no environment, nothing remembered but signatures that have been checked.
Source: docs/policy.md.
"""

import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from glasscase.collateral.model import Collateral
from glasscase.core import dcap
from glasscase.errors import FormatError, UsageError
from glasscase.sgx.attributes import REPORT_BODY_SIZE
from glasscase.sgx.report import ReportBody
from glasscase.verify.anchor import TrustAnchor
from glasscase.verify.catalog import OWN
from glasscase.verify.check import FAIL, Basis, Finding
from glasscase.verify.engine import NATIVE, check_engine, engine_findings
from glasscase.verify.expected import Expected, expected_of
from glasscase.verify.policy import Policy
from glasscase.verify.rules import (
    DOES_NOT_APPLY,
    NOT_LOOKED_AT,
    collateral_findings,
    enclave_findings,
    identity_findings,
    judge,
    platform_findings,
)
from glasscase.verify.verdict import Verdict

PREPARED_MAX = 64  # collateral objects whose checked signatures a Verifier keeps
NONCE_SIZE = 32
HEADER_SIZE = 48  # bytes of a quote before its body
_TEE_SGX = bytes(4)
_VERSION_5 = b"\x05\x00"
_BODY_OFFSET = {b"\x03\x00": HEADER_SIZE, b"\x04\x00": HEADER_SIZE}
_SGX_BODY = b"\x01\x00\x80\x01\x00\x00"  # type 1, 384 bytes
# the checks that need claims
_WITHOUT_CLAIMS: dict[str, Finding] = {
    name: DOES_NOT_APPLY for name in OWN if name.partition(".")[0] in ("binding", "freshness", "instance", "statements")
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Question(NamedTuple):
    """What is asked about one quote, checked: the arguments that every entry point shares."""

    anchor: TrustAnchor
    policy: Policy | None
    at: datetime
    at_unix: int  # whole seconds
    engine: str
    expected: Expected | None
    nonce: bytes | None
    intel_library: str | None


_SECOND = datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC) - _EPOCH


def question(
    *,
    anchor: Any,
    policy: Any,
    at: Any,
    engine: Any = NATIVE,
    measurement: Any = None,
    nonce: Any = None,
    intel_library: Any = None,
) -> Question:
    """Return the checked arguments. Raises UsageError("policy.argument.wrong") for a wrong type or form."""
    if not isinstance(anchor, TrustAnchor):
        raise _wrong("anchor is TrustAnchor.intel() or TrustAnchor.insecure_root(pem)")
    if policy is not None and not isinstance(policy, Policy):
        raise _wrong("policy is what load_policy returns")
    if not isinstance(at, datetime) or at.tzinfo is None or at.utcoffset() is None:
        raise _wrong("at is a datetime with a time zone")
    if at < _EPOCH:
        raise _wrong("at is before 1970")
    try:
        moment = at.astimezone(UTC)
    except OverflowError:
        raise _wrong("at is after the year 9999 in UTC") from None
    if nonce is not None and (not isinstance(nonce, bytes) or len(nonce) != NONCE_SIZE):
        raise _wrong(f"nonce is {NONCE_SIZE} bytes")
    if intel_library is not None and (not isinstance(intel_library, str) or not intel_library):
        raise _wrong("intel_library is a path")
    return Question(
        anchor=anchor,
        policy=policy,
        at=moment,
        at_unix=(at - _EPOCH) // _SECOND,
        engine=check_engine(engine),
        expected=expected_of(measurement),
        nonce=nonce,
        intel_library=intel_library,
    )


def verify_quote(
    quote: bytes,
    *,
    collateral: Collateral | None,
    anchor: TrustAnchor,
    policy: Policy | None,
    at: datetime,
    engine: str = NATIVE,
    measurement: Any = None,
    nonce: bytes | None = None,
    intel_library: str | None = None,
) -> Verdict:
    """Return the verdict about one raw quote as of `at`.

    at: a datetime with a time zone. collateral None or policy None: the verdict is undetermined and shows the facts. engine:
    "native", "intel" or "both". measurement: what provider.check_bundle() or provider.measure() gives, compared with the
    quoted MRENCLAVE; a policy with bundle_id needs the former. nonce: 32 bytes that the report data must hold, followed by zeros.
    intel_library: a path, where Intel's library is not the installed one.
    Raises UsageError for arguments of the wrong type only.
    """
    asked = question(
        anchor=anchor, policy=policy, at=at, engine=engine, measurement=measurement, nonce=nonce,
        intel_library=intel_library,
    )  # fmt: skip
    return judge_quote(quote, prepare(collateral, anchor), collateral, asked)


class Verifier:
    """Judges many quotes under one anchor and policy; signatures of collateral are checked once and kept, verdicts never.

    May be shared between threads.
    """

    def __init__(self, *, anchor: TrustAnchor, policy: Policy | None) -> None:
        question(anchor=anchor, policy=policy, at=_EPOCH)
        self._anchor = anchor
        self._policy = policy
        self._prepared: dict[Collateral | None, dcap.PreparedCollateral] = {}
        self._lock = threading.Lock()

    def verify_quote(
        self,
        quote: bytes,
        *,
        collateral: Collateral | None,
        at: datetime,
        engine: str = NATIVE,
        measurement: Any = None,
        nonce: bytes | None = None,
    ) -> Verdict:
        """Return the verdict about one quote; see verify_quote."""
        asked = question(
            anchor=self._anchor, policy=self._policy, at=at, engine=engine, measurement=measurement, nonce=nonce
        )
        return judge_quote(quote, self._prepare(collateral), collateral, asked)

    def verify_many(
        self, pairs: Iterable[tuple[bytes, Collateral | None]], *, at: datetime, threads: int = 1
    ) -> tuple[Verdict, ...]:
        """Return the verdicts about (quote, collateral) pairs in their order. threads: 1 to 64, without the GIL.

        Raises UsageError for arguments of the wrong type only, as verify_quote.
        """
        asked = question(anchor=self._anchor, policy=self._policy, at=at)
        if not isinstance(threads, int) or isinstance(threads, bool) or not 1 <= threads <= 64:
            raise _wrong("threads is a number from 1 to 64")
        listed = [(_quote_bytes(quote), collateral, self._prepare(collateral)) for quote, collateral in _pairs(pairs)]
        cores = dcap.verify_many(
            [(quote, prepared) for quote, _, prepared in listed], at=asked.at_unix, threads=threads
        )
        return tuple(
            _finish_quote(core, quote, collateral, asked)
            for core, (quote, collateral, _) in zip(cores, listed, strict=True)
        )

    def _prepare(self, collateral: Collateral | None) -> dcap.PreparedCollateral:
        found = self._prepared.get(_collateral(collateral))
        if found is None:
            found = prepare(collateral, self._anchor)
            with self._lock:
                if len(self._prepared) >= PREPARED_MAX:
                    self._prepared.pop(next(iter(self._prepared)))
                self._prepared[collateral] = found
        return found


def judge_quote(
    quote: bytes, prepared: dcap.PreparedCollateral, collateral: Collateral | None, asked: Question
) -> Verdict:
    """Return the verdict about a quote without claims."""
    raw = _quote_bytes(quote)
    core = dcap.verify(raw, collateral=prepared, at=asked.at_unix)
    return _finish_quote(core, raw, collateral, asked)


def _finish_quote(core: dcap.CoreVerdict, quote: bytes, collateral: Collateral | None, asked: Question) -> Verdict:
    report = report_of(quote)
    return finish(core, quote, collateral, asked, report, quote_only_findings(asked, core, report))


class Extra(NamedTuple):
    """What the judge of evidence adds to the judge of quotes. session_end, evidence_end: unix seconds or None."""

    findings: dict[str, Finding]
    claims: Any = None
    live: bool = False
    session_end: int | None = None
    evidence_end: int | None = None


def finish(  # noqa: PLR0917 - all of them are the case
    core: dcap.CoreVerdict,
    quote: bytes,
    collateral: Collateral | None,
    asked: Question,
    report: ReportBody | None,
    extra: Extra,
) -> Verdict:
    """Return the verdict: the core's checks, our rules and `extra`, nothing left out."""
    policy, expected = asked.policy, asked.expected
    return Verdict(
        core,
        Basis(
            at=asked.at,
            anchor=asked.anchor.name,
            simulated=asked.anchor.simulated,
            engine=asked.engine,
            policy=policy,
            report=report,
            claims=extra.claims,
            expected=expected,
            live=extra.live,
            session_end=extra.session_end,
            evidence_end=extra.evidence_end,
        ),
        engine_findings(
            asked.engine,
            quote,
            collateral,
            core,
            anchor=asked.anchor,
            at_unix=asked.at_unix,
            library=asked.intel_library,
        ),
        identity_findings(policy, report, expected),
        enclave_findings(policy, report, expected),
        platform_findings(policy, core),
        collateral_findings(policy, core, asked.at_unix),
        extra.findings,
    )


def quote_only_findings(asked: Question, core: dcap.CoreVerdict, report: ReportBody | None) -> Extra:
    """Return what can be said of binding, freshness and instance without claims: little, and that strictly."""
    policy = asked.policy
    findings = dict(_WITHOUT_CLAIMS)
    matched = False
    if asked.nonce is not None:
        answer = asked.nonce + bytes(32)
        # a nonce of zeros would be answered by report data that says nothing
        matched = report is not None and report.report_data == answer and any(asked.nonce)
        findings["freshness.nonce.mismatch"] = (
            NOT_LOOKED_AT if report is None else judge(matched, report.report_data, answer)
        )
    if policy is not None:
        if policy.nonce:
            findings["freshness.nonce.missing"] = judge(asked.nonce is not None, asked.nonce or "no nonce", "a nonce")
        if policy.evidence_max_age_s is not None:
            findings["freshness.unproven"] = NOT_LOOKED_AT
            if core.genuine:  # the age of a quote is a question only once it is one
                findings["freshness.unproven"] = judge(
                    matched, "the verifier's nonce" if matched else "neither nonce nor beacon", "a nonce or a beacon"
                )
        if policy.provisioned is not False or policy.owners:
            findings["instance.provision.missing"] = (FAIL, "a quote without claims", "claims that name an envelope")
        if policy.statements_require:
            findings["statements.threshold.unmet"] = (FAIL, "no statement", f"{policy.statements_require} statements")
    return Extra(findings=findings)


def report_of(quote: bytes) -> ReportBody | None:
    """Return the report body of what has the shape of an SGX quote, else None. The core says whether it is genuine."""
    version, tee = quote[:2], quote[4:8]
    if tee != _TEE_SGX:
        return None
    start = _BODY_OFFSET.get(version)
    if version == _VERSION_5 and quote[HEADER_SIZE : HEADER_SIZE + len(_SGX_BODY)] == _SGX_BODY:
        start = HEADER_SIZE + len(_SGX_BODY)
    if start is None:
        return None
    try:
        return ReportBody.from_bytes(quote[start : start + REPORT_BODY_SIZE])
    except FormatError:
        return None


def prepare(collateral: Collateral | None, anchor: TrustAnchor) -> dcap.PreparedCollateral:
    """Return the core's handle of the collateral, its signatures checked; an absent object is a failed check later."""
    known = _collateral(collateral)
    return dcap.PreparedCollateral(known.items() if known is not None else {}, anchor.core)


def _collateral(collateral: Any) -> Collateral | None:
    if collateral is not None and not isinstance(collateral, Collateral):
        raise _wrong("collateral is what load_collateral returns")
    return collateral


def _pairs(pairs: Any) -> list[tuple[Any, Any]]:
    try:
        return [(quote, collateral) for quote, collateral in pairs]
    except (TypeError, ValueError):
        raise _wrong("pairs holds (quote, collateral) tuples") from None


def _quote_bytes(quote: Any) -> bytes:
    if not isinstance(quote, bytes | bytearray | memoryview):
        raise _wrong("quote is bytes")
    return bytes(quote)


def _wrong(message: str) -> UsageError:
    return UsageError("policy.argument.wrong", message)
