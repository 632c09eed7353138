"""The verdict: every check by name, in a fixed order, and the one way from it to a VerifiedEnclave.

Invariants: the status follows from the checks alone and cannot be set; a failed proof check outranks a failed basis check; a
check that was not reached is never a pass; a verdict has no truth value; only require() of a verified verdict makes a
VerifiedEnclave. Check objects are made when they are looked at.
Source: docs/policy.md, "Verdicts".
"""

from datetime import datetime
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from glasscase.errors import VerificationError
from glasscase.verify import limits
from glasscase.verify.anchor import NotMadeError
from glasscase.verify.catalog import OWN, kind_of, source_of
from glasscase.verify.check import FAIL, NOT_APPLICABLE, NOT_REACHED, PASS, Basis, Check, Finding, Findings, spell

if TYPE_CHECKING:
    from glasscase.core.dcap import CoreVerdict
    from glasscase.core.facts import PckFacts
    from glasscase.evidence.attestation import Claims
    from glasscase.sgx.report import ReportBody
    from glasscase.verify.policy import Policy


_NOTHING_REACHED: dict[str, Finding] = dict.fromkeys(OWN, (NOT_REACHED, "", ""))
_HARMLESS = {PASS, NOT_APPLICABLE}


class VerdictStatus(Enum):
    """The three answers; UNDETERMINED means that it could not be found out."""

    VERIFIED = "verified"
    FAILED = "failed"
    UNDETERMINED = "undetermined"


class Verdict:
    """The answer to one question about one quote. Immutable; it has no truth value.

    status, checks, failed: the judgement. tcb_status, advisories: what Intel says of the platform. at, anchor, engine,
    not_checked, insecure, valid_until: what it rests on.
    """

    def __init__(self, core: "CoreVerdict", basis: Basis, *findings: Findings) -> None:
        """Judge. core: the C core's checks; findings: ours by id, an id that occurs nowhere counts as not reached."""
        self._core = core
        self._findings = dict(_NOTHING_REACHED)
        for part in findings:
            self._findings.update(part)
        if len(self._findings) != len(OWN):
            raise KeyError(f"no check is called {min(self._findings.keys() - OWN.keys())}")
        self.basis = basis
        self.status = _status(core, self._findings)

    def __bool__(self) -> NoReturn:
        """Refuse: a verdict is compared by its status or required."""
        raise TypeError("a verdict has no truth value; look at .status or call .require()")

    def __repr__(self) -> str:
        return f"<Verdict {self.status.value} at {self.at.isoformat()} failed={[check.id for check in self.failed]}>"

    @property
    def at(self) -> datetime:
        """Return the time as of which was judged."""
        return self.basis.at

    @property
    def anchor(self) -> str:
        """Return the trust anchor: "intel", or "insecure-root:" and the SHA-256 of the caller's root."""
        return self.basis.anchor

    @property
    def engine(self) -> str:
        """Return which engine judged: native, intel or both."""
        return self.basis.engine

    @property
    def simulated(self) -> bool:
        """Return whether the anchor is not Intel's, so that nothing here speaks of real hardware."""
        return self.basis.simulated

    @cached_property
    def not_checked(self) -> tuple[str, ...]:
        """Return the names of what this verdict does not say."""
        return limits.not_checked(self.basis)

    @cached_property
    def insecure(self) -> tuple[str, ...]:
        """Return every relaxation that was in force."""
        return limits.insecure(self.basis)

    @property
    def valid_until(self) -> datetime | None:
        """Return when the first of the windows and policy ages ends; None unless verified."""
        return self._end[0] if self.status is VerdictStatus.VERIFIED else None

    @property
    def limit(self) -> str:
        """Return what ends then, in words."""
        return self._end[1]

    @cached_property
    def _end(self) -> tuple[datetime | None, str]:
        return limits.end_of_validity(self.basis, self._core)

    @property
    def tcb_status(self) -> str | None:
        """Return Intel's status of platform and quoting enclave, by the names of the policy file, or None."""
        return self._core.tcb_status

    @property
    def advisories(self) -> tuple[str, ...]:
        """Return the advisories of the matched levels."""
        return tuple(self._core.advisories)

    @property
    def report(self) -> "ReportBody | None":
        """Return the enclave's report body, or None if the quote has none of SGX."""
        return self.basis.report

    @property
    def mrenclave(self) -> bytes | None:
        """Return the quoted MRENCLAVE; it is proven only in a verified verdict."""
        return self.report.mrenclave if self.report else None

    @property
    def pck(self) -> "PckFacts | None":
        """Return the facts of the PCK certificate."""
        return self._core.pck

    @property
    def core(self) -> "CoreVerdict":
        """Return the C core's part: windows, CRL numbers, TCB levels."""
        return self._core

    @cached_property
    def checks(self) -> tuple[Check, ...]:
        """Return every check in the fixed order: the core's, then ours."""
        anchor = "root"
        made = [
            Check(c.id, c.outcome, c.observed, c.expected, source_of(c.id), anchor, kind_of(c.id))
            for c in self._core.checks
        ]
        for name, rests_on in OWN.items():
            outcome, observed, expected = self._findings[name]
            made.append(
                Check(name, outcome, spell(observed), spell(expected), source_of(name), rests_on, kind_of(name))
            )
        return tuple(made)

    @property
    def failed(self) -> tuple[Check, ...]:
        """Return the checks that failed."""
        return tuple(check for check in self.checks if check.outcome == FAIL)

    @property
    def decisive(self) -> Check | None:
        """Return the failed check that a person should read first: a proof before a basis, ours before its consequence."""
        failed = self.failed
        proofs = [check for check in failed if check.kind == "proof"]
        return next(iter(proofs or failed), None)

    def require(self) -> "VerifiedEnclave":
        """Return the enclave if the verdict is verified and its policy names one.

        Raises VerificationError with the id of the decisive check, or with "policy.identity.any" under insecure_any.
        """
        if self.status is not VerdictStatus.VERIFIED:
            check = self.decisive
            reason = check.id if check else "verdict.status.unmet"
            text = (
                f"{check.observed or 'missing'}, expected {check.expected}" if check else "not every check was reached"
            )
            raise VerificationError(
                reason,
                f"the enclave is not verified: {text}",
                verdict=self,
                undetermined=self.status is VerdictStatus.UNDETERMINED,
            )
        policy = self.basis.policy
        if policy is None or policy.insecure_any:
            raise VerificationError(
                "policy.identity.any", "the policy accepts any enclave", verdict=self, undetermined=True
            )
        return VerifiedEnclave._of(self)

    def to_json(self) -> dict[str, Any]:
        """Return the object of `verify --json`."""
        report = self.report
        return {
            "status": self.status.value,
            "at": spell(self.at),
            "anchor": self.anchor,
            "simulated": self.simulated,
            "engine": self.engine,
            "mrenclave": self.mrenclave.hex() if self.mrenclave else None,
            "mrsigner": report.mrsigner.hex() if report else None,
            "isv_prod_id": report.isv_prod_id if report else None,
            "isv_svn": report.isv_svn if report else None,
            "tcb_status": self.tcb_status,
            "advisories": list(self.advisories),
            "fmspc": self.pck.fmspc.hex() if self.pck else None,
            "platforms": list(platform_names(self.pck)),
            "checks": [check.to_json() for check in self.checks],
            "failed": [check.id for check in self.failed],
            "not_checked": list(self.not_checked),
            "insecure": list(self.insecure),
            "valid_until": spell(self.valid_until) if self.valid_until else None,
        }


class VerifiedEnclave:
    """An enclave that a verdict has proven. There is no constructor: Verdict.require() is the only source.

    Sealing and connecting take this type and nothing else. Lengths in bytes: mrenclave, mrsigner, instance_digest,
    receipt_key, tls_spki_sha256 32 each; seal_key as the suite says.
    """

    __slots__ = ("_verdict",)
    _verdict: Verdict

    def __init__(self) -> None:
        """Refuse."""
        raise NotMadeError("only Verdict.require() makes a VerifiedEnclave")

    @classmethod
    def _of(cls, verdict: Verdict) -> "VerifiedEnclave":
        policy = verdict.basis.policy
        if verdict.status is not VerdictStatus.VERIFIED or policy is None or policy.insecure_any:
            raise TypeError("only Verdict.require() makes a VerifiedEnclave")
        enclave = object.__new__(cls)
        object.__setattr__(enclave, "_verdict", verdict)
        return enclave

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError("a VerifiedEnclave cannot be changed")

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a VerifiedEnclave cannot be copied or stored; verify again")

    def __repr__(self) -> str:
        return f"<VerifiedEnclave {self.mrenclave.hex()} until {self.valid_until}>"

    @property
    def verdict(self) -> Verdict:
        """Return the verdict that proves this enclave."""
        return self._verdict

    @property
    def policy(self) -> "Policy":
        """Return the policy under which it was verified."""
        policy = self._verdict.basis.policy
        if policy is None:
            raise TypeError("a verified verdict has a policy")
        return policy

    @property
    def report(self) -> "ReportBody":
        """Return the report body of the quote."""
        report = self._verdict.report
        if report is None:
            raise TypeError("a verified verdict has a report")
        return report

    @property
    def mrenclave(self) -> bytes:
        """Return the proven measurement."""
        return self.report.mrenclave

    @property
    def mrsigner(self) -> bytes:
        """Return the hash of the signer's key."""
        return self.report.mrsigner

    @property
    def isv_prod_id(self) -> int:
        """Return the signer's product number."""
        return self.report.isv_prod_id

    @property
    def isv_svn(self) -> int:
        """Return the release number."""
        return self.report.isv_svn

    @property
    def measurement(self) -> Any:
        """Return the Measurement that was recomputed from the bundle, or None."""
        return self._verdict.basis.measurement

    @property
    def bundle(self) -> Any:
        """Return the checked bundle that was compared with the quote, or None."""
        return self._verdict.basis.bundle

    @property
    def bundle_id(self) -> bytes | None:
        """Return the id of the bundle that was checked, or None."""
        return self._verdict.basis.bundle_id

    @property
    def simulated(self) -> bool:
        """Return whether it rests on another root than Intel's."""
        return self._verdict.simulated

    @property
    def valid_until(self) -> datetime | None:
        """Return the earliest end of what this rests on."""
        return self._verdict.valid_until

    @property
    def at(self) -> datetime:
        """Return the time as of which it was verified."""
        return self._verdict.at

    @property
    def platform_ids(self) -> tuple[str, ...]:
        """Return PPID and, where there is one, platform instance id, in hex, as the policy names them."""
        return platform_names(self._verdict.pck)

    @property
    def claims(self) -> "Claims":
        """Return the claims that the quote binds. Raises VerificationError("verdict.claims.absent") for a raw quote."""
        claims = self._verdict.basis.claims
        if claims is None:
            raise VerificationError(
                "verdict.claims.absent",
                "a raw quote names no key: nothing can be sealed or sent to it",
                verdict=self._verdict,
                undetermined=True,
            )
        return claims

    @property
    def instance_digest(self) -> bytes:
        """Return the name of this seal key in envelopes and receipts."""
        from glasscase.evidence.attestation import instance_digest

        return instance_digest(self.claims.instance)

    @property
    def suite(self) -> int:
        """Return the number of the sealing suite."""
        return self.claims.instance_facts().suite

    @property
    def seal_key(self) -> bytes:
        """Return the public key to seal to."""
        return self.claims.instance_facts().seal_key

    @property
    def receipt_key(self) -> bytes:
        """Return the Ed25519 key that signs receipts."""
        return self.claims.instance_facts().receipt_key

    @property
    def tls_spki_sha256(self) -> bytes:
        """Return SHA-256 of the TLS key's SubjectPublicKeyInfo."""
        return self.claims.spki_sha256

    @property
    def provisioned(self) -> bytes | None:
        """Return SHA-256 of the accepted envelope's payload, or None if the enclave still waits."""
        return self.claims.session_facts().prov


def platform_names(pck: "PckFacts | None") -> tuple[str, ...]:
    """Return PPID and, where there is one, platform instance id, in hex, as a policy names them."""
    if pck is None:
        return ()
    return tuple(value.hex() for value in (pck.ppid, pck.platform_instance_id) if any(value))


def _status(core: "CoreVerdict", findings: Findings) -> VerdictStatus:
    if core.genuine and {finding[0] for finding in findings.values()} <= _HARMLESS:
        return VerdictStatus.VERIFIED
    failed = [*core.failed, *(name for name, finding in findings.items() if finding[0] == FAIL)]
    if any(kind_of(name) == "proof" for name in failed):
        return VerdictStatus.FAILED
    return VerdictStatus.UNDETERMINED
