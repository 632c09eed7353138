"""An ssl.SSLContext that verifies the enclave inside the TLS handshake, before the first byte of a request.

Invariants: no byte of the application leaves a socket of this context before its peer has passed verification, in the very
connection that carries it, nor after that verification has lapsed; nobody who holds the context can switch that off; sessions
are never resumed, for a resumed one shows no certificate. A peer that fails is refused with the verdict that says why, and its
connection is closed.
Source: docs/clients.md; CCC interoperable RA-TLS.
"""

import os
import socket
import ssl
import time
from typing import Any, Self

from glasscase.collateral.model import Collateral
from glasscase.errors import UsageError
from glasscase.ratls import link
from glasscase.ratls.address import is_place, read_url
from glasscase.ratls.judging import Judge, LivePeer, PeerRefused
from glasscase.ratls.shown import OwnEvidence
from glasscase.ratls.sources import CollateralCache, CollateralSource
from glasscase.verify.anchor import TrustAnchor
from glasscase.verify.expected import expected_of
from glasscase.verify.policy import Policy

PREPARE_S = 30.0  # seconds to connect to an enclave that is looked at beforehand
TIMEOUT_MAX_S = 1_000_000
_CUT = "the connection was cut before the peer had ended it"


class RatlsContext(ssl.SSLContext):
    """The context of one policy, for every client that takes an ssl.SSLContext. Made by context()."""

    _judge: Judge

    def __new__(cls, *_arguments: Any, **_named: Any) -> Self:
        """Return a client context; OpenSSL's own checks of chains and names are off, ours cannot be switched off."""
        self = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        ssl.SSLContext.check_hostname.__set__(self, False)  # type: ignore[attr-defined]
        ssl.SSLContext.verify_mode.__set__(self, ssl.CERT_NONE)  # type: ignore[attr-defined]
        self.minimum_version = ssl.TLSVersion.TLSv1_3
        self.options |= ssl.OP_NO_TICKET
        # which Python before 3.11.4 sets, so that a cut looks like an end
        self.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
        return self

    def __init__(self, judge: Judge) -> None:
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

    @property
    def sslsocket_class(self) -> type[ssl.SSLSocket]:  # type: ignore[override]
        """Return the class of sockets that verify; there is no setter."""
        return _RatlsSocket

    @property
    def sslobject_class(self) -> type[ssl.SSLObject]:  # type: ignore[override]
        """Return the class of objects that verify; there is no setter."""
        return _RatlsObject

    def examine(self, connection: "ssl.SSLSocket | ssl.SSLObject") -> LivePeer:
        """Return the verified peer of a connection whose handshake is done; raises PeerRefused."""
        if connection.version() != "TLSv1.3" or connection.session_reused:
            raise PeerRefused(
                "client.tls.refused",
                f"the connection is {connection.version()}, {'resumed' if connection.session_reused else 'not resumed'}; "
                "TLS 1.3 with a full handshake is needed",
            )
        name = connection.server_hostname
        return self._judge.peer(connection.getpeercert(binary_form=True), str(name) if name else None, at=_now())

    def prepare(self, url: str, *, timeout: float = PREPARE_S) -> LivePeer:
        """Fetch all that judging the enclave at `url` needs, judge it once, and return it as a peer.

        From then on no handshake of this context fetches anything: a thread of its own keeps what was fetched fresh, and a
        peer of another platform is refused until its collateral is there. Blocks; in an event loop use client.prepare().
        timeout: seconds to connect. Raises PeerRefused, StorageError if nobody answers there, UsageError for what is no URL or no
        time.
        """
        where = read_url(url)
        _check_timeout(timeout)
        return self._judge.prepare(
            link.shown_certificate(where.host, where.port, timeout_s=timeout), where.host, at=_now()
        )


class _RatlsSocket(ssl.SSLSocket):
    """A socket that carries nothing before its peer has passed, in whatever order its methods are called.

    lapsed: whether something was not sent any more; nothing is read then either, for there is no answer to it.
    """

    live_peer: LivePeer | None = None
    lapsed = False

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - the standard library's signature
        self.suppress_ragged_eofs = False  # an end that TLS does not vouch for is somebody else's
        super().do_handshake(block)
        if self.live_peer is None:
            self.live_peer = _context_of(self).examine(self)

    def send(self, data: Any, flags: int = 0) -> int:
        _require_valid(self, self._require_peer())
        return super().send(data, flags)

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Send a file with send(): from Python 3.15 on the kernel could encrypt it, past us."""
        return self._sendfile_use_send(file, offset, count)  # type: ignore[attr-defined, no-any-return]

    def write(self, data: Any) -> int:
        _require_valid(self, self._require_peer())
        return super().write(data)

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002 - the standard library's signature
        self._require_peer()
        _require_not_lapsed(self)
        try:
            return super().read(len, buffer)
        except ssl.SSLError as error:
            if _is_cut(error):
                raise ssl.SSLEOFError(ssl.SSL_ERROR_EOF, _CUT) from None
            raise

    def shutdown(self, how: int) -> None:
        """Close one direction and keep TLS: the standard library would send what is written later in clear."""
        socket.socket.shutdown(self, how)

    def unwrap(self) -> socket.socket:
        """End TLS and the connection with it, and return the closed socket: what is written later would go out in clear."""
        try:
            return super().unwrap()
        finally:
            self.close()

    def _require_peer(self) -> LivePeer | None:
        """Finish the handshake first: OpenSSL would do it silently, and past us, at the first byte."""
        if self.live_peer is None:
            self.do_handshake()
        return self.live_peer


class _RatlsObject(ssl.SSLObject):
    """The same for clients that move the bytes themselves, such as asyncio. ended: whether the peer has ended TLS itself."""

    live_peer: LivePeer | None = None
    lapsed = False
    ended = False

    def do_handshake(self) -> None:
        super().do_handshake()
        if self.live_peer is None:
            self.live_peer = _context_of(self).examine(self)

    def write(self, data: Any) -> int:
        _require_valid(self, self._require_peer())
        return super().write(data)

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002 - the standard library's signature
        self._require_peer()
        _require_not_lapsed(self)
        try:
            got = super().read(len, buffer)
        except ssl.SSLError as error:
            if _is_cut(error):  # as it stands clients take it for the end of an answer
                raise ssl.SSLError(_CUT) from None
            raise
        self.ended = self.ended or (len > 0 and not got)
        return got

    def _require_peer(self) -> LivePeer | None:
        if self.live_peer is None:
            self.do_handshake()
        return self.live_peer


def _is_cut(error: ssl.SSLError) -> bool:
    """Return whether the connection ended without TLS's own end; Python before 3.11.4 has no class for it."""
    return isinstance(error, ssl.SSLEOFError) or getattr(error, "reason", "") == "UNEXPECTED_EOF_WHILE_READING"


def context(
    policy: Policy,
    anchor: TrustAnchor | None = None,
    measurement: Any = None,
    collateral_source: CollateralSource = None,
    *,
    own_certificate_at: tuple[str, int] | None = None,
) -> RatlsContext:
    """Return a context whose connections reach only an enclave that satisfies `policy` now.

    anchor: TrustAnchor.intel() unless given. measurement: the Measurement or CheckedBundle that `bundle = true` means.
    collateral_source: see CollateralSource; None asks Intel's service. own_certificate_at: host and port of an enclave in
    certificate mode `own`, which is asked there for the evidence of its key. Raises UsageError for a policy without platforms,
    for one that no handshake can meet, and for arguments of the wrong type.
    """
    trusted = TrustAnchor.intel() if anchor is None else anchor
    _check_arguments(policy, trusted, collateral_source, own_certificate_at)
    if not policy.names_platforms:
        raise UsageError(
            "client.platforms.unnamed",
            "the policy names no platforms, so any machine with a leaked key would do",
            hint='[platform] platforms = ["any-intel"] waives it in words, or name the platforms you have agreed on',
        )
    beyond = _beyond_a_handshake(policy, envelope=own_certificate_at is not None)
    if beyond:
        raise UsageError(
            "client.policy.unmeetable",
            f"the policy asks for {beyond}, which a TLS handshake does not carry",
            hint="check that with glasscase verify EVIDENCE, and connect under a policy without it",
        )
    expected_of(measurement)  # what cannot be compared is the caller's fault, and is said now
    if policy.bundle and measurement is None:
        raise UsageError(
            "client.bundle.missing",
            "the policy says bundle = true, and no bundle was given",
            hint="give the bundle, or name the enclave by mrenclave or mrsigner in the policy",
        )
    cache = CollateralCache(collateral_source, anchor=trusted, now=_now)
    own = None if own_certificate_at is None else OwnEvidence(*own_certificate_at)
    return RatlsContext(Judge(policy=policy, anchor=trusted, measurement=measurement, cache=cache, own=own))


def _check_arguments(policy: Any, anchor: Any, source: Any, own: Any) -> None:
    """Raise UsageError("policy.argument.wrong") now for what would end each handshake later."""
    known = source is None or isinstance(source, str | os.PathLike | Collateral) or callable(source)
    for right, words in (
        (isinstance(policy, Policy), "policy is what load_policy returns"),
        (isinstance(anchor, TrustAnchor), "anchor is TrustAnchor.intel() or TrustAnchor.insecure_root(pem)"),
        (known, "collateral_source is None, a path, a URL, Collateral or a function"),
        (own is None or _is_own(own), "own_certificate_at is (host, port)"),
    ):
        if not right:
            raise UsageError("policy.argument.wrong", words)


def _check_timeout(timeout: Any) -> None:
    """Raise UsageError("policy.argument.wrong") unless the system can wait so long."""
    if not isinstance(timeout, int | float) or not 0 < timeout <= TIMEOUT_MAX_S:
        raise UsageError(
            "policy.argument.wrong", f"timeout is seconds, above 0 and at most {TIMEOUT_MAX_S}, not {timeout!r}"
        )


def _is_own(value: Any) -> bool:
    if not isinstance(value, tuple) or len(value) != 2:
        return False
    host, port = value
    return isinstance(host, str) and type(port) is int and is_place(host, port)


def _beyond_a_handshake(policy: Policy, *, envelope: bool) -> str:
    """Return what of the policy no peer could show, or nothing. envelope: the evidence comes with the accepted envelope."""
    parts = {
        "[instance] owners": bool(policy.owners) and not envelope,
        "[freshness] nonce": policy.nonce,
        "[statements] require": policy.statements_require > 0,
    }
    return ", ".join(name for name, asked in parts.items() if asked)


def live_peer(connection: Any) -> LivePeer:
    """Return the verified peer of a socket or object of this module's context; raises UsageError for any other."""
    found = getattr(connection, "live_peer", None)
    if not isinstance(found, LivePeer):
        raise UsageError("client.connection.foreign", "this connection was not made by glasscase.client.context()")
    return found


def _now() -> int:
    return int(time.time())


def _require_valid(connection: _RatlsSocket | _RatlsObject, peer: LivePeer | None) -> None:
    """Raise PeerRefused("client.verification.lapsed") once the verification of an open connection is over."""
    connection.lapsed = connection.lapsed or peer is None or _now() >= peer.valid_until
    _require_not_lapsed(connection)


def _require_not_lapsed(connection: _RatlsSocket | _RatlsObject) -> None:
    if connection.lapsed:
        raise PeerRefused(
            "client.verification.lapsed",
            "the verification of this connection has ended, so nothing more is sent on it",
            hint="connect again: the new handshake is judged as of now",
            exit_code=3,
        )


def _context_of(connection: Any) -> RatlsContext:
    found = connection.context
    if not isinstance(found, RatlsContext):
        raise UsageError("client.connection.foreign", "the context of a verified connection cannot be exchanged")
    return found
