"""An ssl.SSLContext that verifies the enclave inside the TLS handshake, before the first byte of a request.

Invariants: no byte of the application leaves a socket of this context before its peer has passed verification, in the very
connection that carries it; nobody who holds the context can switch that off; sessions are never resumed, for a resumed one
shows no certificate. A peer that fails is refused with the verdict that says why, and its connection is closed.
Source: docs/clients.md; CCC interoperable RA-TLS.
"""

import ipaddress
import os
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self, TypeAlias

from glasscase.collateral.fetch import fetch_collateral
from glasscase.collateral.model import FILE_MAX, Collateral, parse_collateral
from glasscase.errors import CannotVerify, Error, FormatError, StorageError, UsageError, VerificationError
from glasscase.evidence.attestation import Attestation
from glasscase.evidence.model import Evidence
from glasscase.fs import atomic
from glasscase.ratls.cert import RatlsCertificate, read_certificate
from glasscase.verify.anchor import TrustAnchor
from glasscase.verify.evidence import verify_evidence
from glasscase.verify.policy import Policy
from glasscase.verify.verdict import Verdict, VerdictStatus, VerifiedEnclave

REFRESH_S = 12 * 3600  # seconds after which collateral is fetched again
SKEW_S = 300  # seconds that this machine's clock may be behind
RETRY_S = 30  # seconds before a fetch that did not help is repeated

# a file, a URL or "intel", objects already at hand, or a function from the quote to them
CollateralSource: TypeAlias = str | os.PathLike[str] | Collateral | Callable[[bytes], Collateral] | None


class PeerRefused(Error, ssl.SSLCertVerificationError):  # noqa: N818 - what happened to the peer
    """The peer of a connection is not the enclave that the policy names. No byte of the application was sent.

    verdict: the verdict that says why, or None if there was nothing to judge. Exit code 2, or 3 if undetermined.
    It is an ssl.SSLCertVerificationError too, so every HTTP client closes the connection and reports it as a TLS fault.
    """

    def __init__(self, reason: str, message: str, *, hint: str = "", exit_code: int = 2, verdict: Any = None) -> None:
        super().__init__(reason, message, hint=hint)
        self.exit_code = exit_code
        self.verdict = verdict


@dataclass(frozen=True)
class LivePeer:
    """A peer that passed. valid_until: unix seconds after which this connection must not be used any more."""

    enclave: VerifiedEnclave
    certificate: RatlsCertificate
    valid_until: int


class CollateralCache:
    """Collateral for the platforms of one context: fetched once, kept in memory, fetched again when it ages.

    source: see CollateralSource. anchor: what it must be signed under. clock: seconds that only grow.
    """

    def __init__(
        self, source: CollateralSource, *, anchor: TrustAnchor, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetch = _fetcher(source, anchor)
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, Collateral]] = {}

    def get(self, quote: bytes) -> Collateral:
        """Return collateral for the platform of a quote; raises CannotVerify or StorageError if there is none."""
        with self._lock:
            platform = _platform(quote)
            kept = self._kept.get(platform)
            if kept is None or self._clock() - kept[0] > REFRESH_S:
                kept = (self._clock(), self._fetch(quote))
                self._kept[platform] = kept
            return kept[1]

    def expire(self, quote: bytes) -> bool:
        """Forget what is kept for the platform of a quote, unless it is new; return whether another get() may help."""
        with self._lock:
            platform = _platform(quote)
            kept = self._kept.get(platform)
            if kept is None or self._clock() - kept[0] < RETRY_S:
                return False
            del self._kept[platform]
            return True


class RatlsContext(ssl.SSLContext):
    """The context of one policy, for every client that takes an ssl.SSLContext. Made by context()."""

    _judge: Callable[[bytes | None, str | None], LivePeer]

    def __new__(cls, *_arguments: Any, **_named: Any) -> Self:
        """Return a client context; OpenSSL's own checks of chains and names are off, ours cannot be switched off."""
        self = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        ssl.SSLContext.check_hostname.__set__(self, False)  # type: ignore[attr-defined]
        ssl.SSLContext.verify_mode.__set__(self, ssl.CERT_NONE)  # type: ignore[attr-defined]
        self.minimum_version = ssl.TLSVersion.TLSv1_3
        self.options |= ssl.OP_NO_TICKET
        return self

    def __init__(self, judge: Callable[[bytes | None, str | None], LivePeer]) -> None:
        self._judge = judge

    @property  # type: ignore[override]
    def verify_mode(self) -> ssl.VerifyMode:
        """Return CERT_REQUIRED: peers are always verified."""
        return ssl.CERT_REQUIRED

    @verify_mode.setter
    def verify_mode(self, value: ssl.VerifyMode) -> None:
        """Change nothing: clients set this on every context that they are given."""

    @property
    def check_hostname(self) -> bool:
        """Return True: the name is compared with the certificate's names."""
        return True

    @check_hostname.setter
    def check_hostname(self, value: bool) -> None:
        """Change nothing: clients set this on every context that they are given."""

    def examine(self, connection: "ssl.SSLSocket | ssl.SSLObject") -> LivePeer:
        """Return the verified peer of a connection whose handshake is done; raises PeerRefused."""
        if connection.version() != "TLSv1.3" or connection.session_reused:
            raise PeerRefused(
                "client.tls.refused",
                f"the connection is {connection.version()}, {'resumed' if connection.session_reused else 'not resumed'}; "
                "TLS 1.3 with a full handshake is needed",
            )
        name = connection.server_hostname
        return self._judge(connection.getpeercert(binary_form=True), str(name) if name else None)


class _RatlsSocket(ssl.SSLSocket):
    """A socket that carries nothing before its peer has passed, in whatever order its methods are called."""

    live_peer: LivePeer | None = None

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - the standard library's signature
        super().do_handshake(block)
        if self.live_peer is None:
            self.live_peer = _context_of(self).examine(self)

    def send(self, data: Any, flags: int = 0) -> int:
        self._require_peer()
        return super().send(data, flags)

    def write(self, data: Any) -> int:
        self._require_peer()
        return super().write(data)

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002 - the standard library's signature
        self._require_peer()
        return super().read(len, buffer)

    def _require_peer(self) -> None:
        """Finish the handshake first: OpenSSL would do it silently, and past us, at the first byte."""
        if self.live_peer is None:
            self.do_handshake()


class _RatlsObject(ssl.SSLObject):
    """The same for clients that move the bytes themselves, such as asyncio."""

    live_peer: LivePeer | None = None

    def do_handshake(self) -> None:
        super().do_handshake()
        if self.live_peer is None:
            self.live_peer = _context_of(self).examine(self)

    def write(self, data: Any) -> int:
        self._require_peer()
        return super().write(data)

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002 - the standard library's signature
        self._require_peer()
        return super().read(len, buffer)

    def _require_peer(self) -> None:
        if self.live_peer is None:
            self.do_handshake()


RatlsContext.sslsocket_class = _RatlsSocket
RatlsContext.sslobject_class = _RatlsObject


def context(
    policy: Policy,
    anchor: TrustAnchor | None = None,
    measurement: Any = None,
    collateral_source: CollateralSource = None,
) -> RatlsContext:
    """Return a context whose connections reach only an enclave that satisfies `policy` now.

    anchor: TrustAnchor.intel() unless given. measurement: Measurement, CheckedBundle or 32 bytes for `bundle = true`.
    collateral_source: see CollateralSource; None asks Intel's service. Raises UsageError for a policy that names no enclave.
    """
    trusted = TrustAnchor.intel() if anchor is None else anchor
    if not policy.names_platforms:
        raise UsageError(
            "client.platforms.unnamed",
            "the policy names no platforms, so any machine with a leaked key would do",
            hint='[platform] platforms = ["any-intel"] waives it in words, or name the platforms you have agreed on',
        )
    cache = CollateralCache(collateral_source, anchor=trusted)

    def judge(der: bytes | None, name: str | None) -> LivePeer:
        return judge_peer(der, name, policy=policy, anchor=trusted, measurement=measurement, cache=cache)

    return RatlsContext(judge)


def live_peer(connection: Any) -> LivePeer:
    """Return the verified peer of a socket or object of this module's context; raises UsageError for any other."""
    found = getattr(connection, "live_peer", None)
    if not isinstance(found, LivePeer):
        raise UsageError("client.connection.foreign", "this connection was not made by glasscase.client.context()")
    return found


def judge_peer(
    der: bytes | None,
    name: str | None,
    *,
    policy: Policy,
    anchor: TrustAnchor,
    measurement: Any,
    cache: CollateralCache,
    now: int | None = None,
) -> LivePeer:
    """Return the peer that showed the certificate `der` under the name it was called by; raises PeerRefused.

    now: unix seconds, for tests; otherwise the clock of this machine.
    """
    at = int(time.time()) if now is None else now
    try:
        if not der:
            raise FormatError("client.certificate.missing", "the server showed no certificate")
        certificate = read_certificate(der)
        _require_name(certificate, name)
        enclave = _verify(certificate, der, policy=policy, anchor=anchor, measurement=measurement, cache=cache, at=at)
    except VerificationError as error:
        raise PeerRefused(
            error.reason, error.message, hint=error.hint, exit_code=error.exit_code, verdict=error.verdict
        ) from error
    except Error as error:
        raise PeerRefused(error.reason, error.message, hint=error.hint, exit_code=_exit_code(error)) from error
    if enclave.tls_spki_sha256 != certificate.spki_sha256:
        raise PeerRefused("client.key.unbound", "the verified claims name another TLS key than this connection's")
    end = certificate.not_after
    if enclave.valid_until is not None:
        end = min(end, int(enclave.valid_until.timestamp()))
    return LivePeer(enclave, certificate, end)


def _verify(
    certificate: RatlsCertificate,
    der: bytes,
    *,
    policy: Policy,
    anchor: TrustAnchor,
    measurement: Any,
    cache: CollateralCache,
    at: int,
) -> VerifiedEnclave:
    attestation = Attestation(certificate.quote, certificate.claims, certificate=der)
    evidence = Evidence(attestation=attestation, bundle_id=bytes(32), created_at=at)

    def judge(when: int) -> Verdict:
        return verify_evidence(
            evidence,
            anchor=anchor,
            policy=policy,
            at=datetime.fromtimestamp(when, UTC),
            collateral=cache.get(certificate.quote),
            measurement=measurement,
            live=True,
        )

    verdict = judge(at)
    # old collateral is our own fault, not the peer's: look once more before refusing
    if verdict.status is VerdictStatus.UNDETERMINED and cache.expire(certificate.quote):
        verdict = judge(at)
    # our clock may be a little behind: what begins within SKEW_S is taken, nothing is taken that ends before that
    if verdict.status is not VerdictStatus.VERIFIED:
        ahead = judge(at + SKEW_S)
        verdict = ahead if ahead.status is VerdictStatus.VERIFIED else verdict
    return verdict.require()


def _require_name(certificate: RatlsCertificate, name: str | None) -> None:
    """Raise FormatError("client.name.mismatch") unless the name that was called stands in the certificate."""
    wanted = _normal(name or "")
    if not wanted or wanted not in {_normal(known) for known in certificate.san}:
        raise FormatError(
            "client.name.mismatch",
            f"the enclave was called {name!r}, its certificate names {', '.join(certificate.san)[:200]!r}",
            hint="call it by one of its names; the operator sets them with glasscase run --san NAME",
        )


def _normal(name: str) -> str:
    text = name.strip("[]").rstrip(".").lower()
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text


def _fetcher(source: CollateralSource, anchor: TrustAnchor) -> Callable[[bytes], Collateral]:
    if isinstance(source, Collateral):
        return lambda _quote: source
    if callable(source):
        return source
    text = "intel" if source is None else os.fspath(source)
    if text == "intel" or text.startswith(("https://", "http://")):
        return lambda quote: fetch_collateral(quote, anchor=anchor.core, source=text, at=int(time.time()))
    return lambda _quote: parse_collateral(atomic.read_file(text, max_bytes=FILE_MAX, what="collateral"))


def _platform(quote: bytes) -> str:
    """Return a name for the platform of a quote, for the cache only; not a verified fact."""
    from glasscase.core.dcap import parse_quote

    pck = parse_quote(quote).pck
    return "" if pck is None else f"{pck.fmspc.hex()}/{pck.ca}"


def _exit_code(error: Error) -> int:
    return 3 if isinstance(error, CannotVerify | StorageError) else 2


def _context_of(connection: Any) -> RatlsContext:
    found = connection.context
    if not isinstance(found, RatlsContext):
        raise UsageError("client.connection.foreign", "the context of a verified connection cannot be exchanged")
    return found
