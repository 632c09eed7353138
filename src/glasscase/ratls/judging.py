"""Judging the peer of one handshake: what it showed, the name it was called by, and the whole verdict as of a moment.

Invariants: a LivePeer comes only from a verdict that is VERIFIED and names the very key that the peer has shown; whoever does
not pass is told by PeerRefused; time is an argument.
Source: docs/clients.md.
"""

import contextlib
import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from glasscase.errors import CannotVerify, Error, FormatError, StorageError, VerificationError
from glasscase.evidence.model import Evidence
from glasscase.ratls.shown import OwnEvidence, Shown, read_shown
from glasscase.ratls.sources import CollateralCache, Kept, keep_fresh
from glasscase.verify.anchor import TrustAnchor
from glasscase.verify.evidence import verify_evidence
from glasscase.verify.policy import Policy
from glasscase.verify.verdict import Verdict, VerdictStatus, VerifiedEnclave

SKEW_S = 300  # seconds that this machine's clock may be behind


class PeerRefused(Error, ssl.SSLCertVerificationError):  # noqa: N818 - what happened to the peer
    """The peer of a connection is not the enclave that the policy names. No byte of the application was sent.

    verdict: the verdict that says why, or None if there was nothing to judge. Exit code 2, or 3 if undetermined.
    It is an ssl.SSLCertVerificationError too, so every HTTP client closes the connection and reports it as a TLS fault.
    """

    def __init__(
        self, reason: str, message: str, *, hint: str = "", exit_code: int = 2, verdict: Verdict | None = None
    ) -> None:
        super().__init__(reason, message, hint=hint)
        self.exit_code = exit_code
        self.verdict = verdict


@dataclass(frozen=True)
class LivePeer:
    """A peer that passed. shown: its certificate; valid_until: unix seconds after which its connection must not be used."""

    enclave: VerifiedEnclave
    shown: Shown
    valid_until: int


@dataclass(frozen=True, kw_only=True)
class Judge:
    """One client's question about every peer. own: where an enclave with an own certificate gives its evidence, or None."""

    policy: Policy
    anchor: TrustAnchor
    measurement: Any
    cache: CollateralCache
    own: OwnEvidence | None = None

    def peer(self, der: bytes | None, name: str | None, *, at: int) -> LivePeer:
        """Return the peer that showed the certificate `der` under the name it was called by; raises PeerRefused.

        at: unix seconds, the clock of this machine.
        """
        try:
            if not der:
                raise FormatError("client.certificate.missing", "the server showed no certificate")
            shown = read_shown(der, self.own, at)
            _require_name(shown, name)
            enclave = self._verdict(shown, at).require()
        except VerificationError as error:
            raise PeerRefused(
                error.reason, error.message, hint=error.hint, exit_code=error.exit_code, verdict=error.verdict
            ) from error
        except Error as error:
            raise PeerRefused(error.reason, error.message, hint=error.hint, exit_code=_exit_code(error)) from error
        if enclave.tls_spki_sha256 != shown.spki_sha256:
            raise PeerRefused("client.key.unbound", "the verified claims name another TLS key than this connection's")
        end = shown.not_after
        if enclave.valid_until is not None:
            end = min(end, int(enclave.valid_until.timestamp()))
        return LivePeer(enclave, shown, end)

    def prepare(self, der: bytes | None, name: str | None, *, at: int) -> LivePeer:
        """Return the peer as peer() does, after everything was fetched that is needed for it; peer() never fetches again."""
        with contextlib.suppress(Error):  # peer() meets the same fault and gives it its form
            if self.own is not None:
                self.own.prepare()
            shown = read_shown(der or b"", self.own, at)
            if self._hopeless(shown, at) is None:
                if not self.cache.ahead:  # one thread for one context, however often this is tried
                    keep_fresh(self.cache, *(() if self.own is None else (self.own,)))
                self.cache.prepare(shown.attestation.quote)
        return self.peer(der, name, at=at)

    def _verdict(self, shown: Shown, at: int) -> Verdict:
        quote = shown.attestation.quote
        if not self.cache.holds(quote) and (early := self._hopeless(shown, at)) is not None:
            return early
        verdict = self._at(shown, at)
        # old collateral is our own fault, not the peer's: look once more before refusing
        if verdict.status is VerdictStatus.UNDETERMINED and self.cache.expire(quote):
            verdict = self._at(shown, at)
        # our clock may be a little behind: what begins within SKEW_S is taken, nothing is taken that ends before that
        if verdict.status is not VerdictStatus.VERIFIED:
            ahead = self._at(shown, at + SKEW_S)
            verdict = ahead if ahead.status is VerdictStatus.VERIFIED else verdict
        return verdict

    def _hopeless(self, shown: Shown, at: int) -> Verdict | None:
        """Return the verdict that fails whatever collateral says: then nobody is asked for any."""
        early = [self._judge(shown, moment, None) for moment in (at + SKEW_S, at)]
        return early[-1] if all(verdict.status is VerdictStatus.FAILED for verdict in early) else None

    def _at(self, shown: Shown, at: int) -> Verdict:
        return self._judge(shown, at, self.cache.get(shown.attestation.quote))

    def _judge(self, shown: Shown, at: int, kept: Kept | None) -> Verdict:
        return verify_evidence(
            Evidence(attestation=shown.attestation, bundle_id=bytes(32), created_at=at),
            anchor=self.anchor,
            policy=self.policy,
            at=datetime.fromtimestamp(at, UTC),
            collateral=None if kept is None else kept.collateral,
            prepared=None if kept is None else kept.prepared,
            measurement=self.measurement,
            live=True,
        )


def _require_name(shown: Shown, name: str | None) -> None:
    """Raise FormatError("client.name.mismatch") unless the name that was called stands in the certificate."""
    wanted = _normal(name or "")
    if not wanted or wanted not in {_normal(known) for known in shown.names}:
        raise FormatError(
            "client.name.mismatch",
            f"the enclave was called {name!r}, its certificate names {', '.join(shown.names)[:200]!r}",
            hint="call it by one of its names; the operator sets them with glasscase run --san NAME",
        )


def _normal(name: str) -> str:
    text = name.strip("[]").rstrip(".").lower()
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text


def _exit_code(error: Error) -> int:
    return 3 if isinstance(error, CannotVerify | StorageError) else 2
