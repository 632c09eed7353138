"""Claims, quote and certificate of the running enclave, and their renewal.

Invariants: each renewal has a new TLS key (certificate mode `own`: the key stays), new claims with the next number and the
digest of the claims before, and a new quote over exactly these claims; nothing changes unless all of it was made.
Source: docs/provisioning.md, "Claims and renewal".
"""

import hashlib
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from glasscase.enclave.keys import InstanceKeys, TlsKey, server_context
from glasscase.enclave.quoting import Quoter
from glasscase.errors import StorageError
from glasscase.evidence.attestation import SESSION_MAX_S, Attestation, Claims, Provision, Session
from glasscase.ratls.cert import make_certificate, make_request
from glasscase.sgx.reportdata import claims_report_data

LIFETIME_S = 24 * 3600  # seconds that a certificate is good for
BACKDATE_S = 300  # seconds: a client's clock may be behind ours


@dataclass(frozen=True)
class Identity:
    """What does not change: name of the enclave, names in the certificate, and whether the certificate is the owner's."""

    name: str
    san: tuple[str, ...]
    own_certificate: bool


class Attester:
    """Makes claims and quotes, and keeps the current attestation and the live TLS context.

    clock: unix seconds. directory: private memory for the TLS key's file. in_turn: runs a call so that no handshake begins
    meanwhile, because libssl takes a certificate and its key one after the other. All methods may be called from any thread.
    """

    def __init__(
        self,
        identity: Identity,
        keys: InstanceKeys,
        quoter: Quoter,
        context: ssl.SSLContext,
        *,
        clock: Callable[[], int],
        directory: str,
        in_turn: Callable[[Callable[[], None]], None] = lambda call: call(),
        lifetime_s: int = LIFETIME_S,
    ) -> None:
        self._identity = identity
        self._keys = keys
        self._quoter = quoter
        self._context = context
        self._clock = clock
        self._directory = directory
        self._in_turn = in_turn
        self._lifetime_s = lifetime_s
        self._lock = threading.Lock()
        self._seq = 0
        self._previous: bytes | None = None
        self._beacon: bytes | None = None
        self._provision: Provision | None = None
        self._prov: bytes | None = None
        self._tls = TlsKey()
        self._chain: tuple[bytes, ...] = ()
        self._session: Session | None = None
        self._renewed_at = 0.0  # by the monotonic clock
        self._current: Attestation | None = None

    @property
    def session(self) -> Session:
        """Return the session of the live certificate."""
        if self._session is None:
            raise RuntimeError("no claims have been made yet")
        return self._session

    @property
    def live_spki_sha256(self) -> bytes:
        """Return SHA-256 of the live TLS key's SubjectPublicKeyInfo."""
        return self._tls.spki_sha256

    def current(self) -> bytes:
        """Return the encoded current attestation: that of the live certificate."""
        if self._current is None:
            raise RuntimeError("no attestation has been made yet")
        return self._current.to_bytes()

    def renew(self, *, nonce: bytes | None = None, beacon: bytes | None = None) -> None:
        """Make new claims, quote and certificate, and let new handshakes see them; open connections stay.

        nonce: 32 bytes for these claims. beacon: a newer beacon digest, kept for later claims too.
        """
        with self._lock:
            self._beacon = beacon or self._beacon
            key = self._tls if self._identity.own_certificate else TlsKey()
            now = self._clock()
            session = self._next(now - BACKDATE_S, now + self._lifetime_s)
            claims, quote = self._attest(key, session, nonce)
            name, san = self._identity.name, self._identity.san
            certificate = make_certificate(
                key.private, claims, quote, name=name, not_before=session.nbf, not_after=session.exp,
                san=san or (name,),
            )  # fmt: skip
            request = (
                make_request(key.private, name=name, san=san or (name,)) if self._identity.own_certificate else None
            )
            chain = self._chain or (certificate,)
            self._in_turn(lambda: key.load_into(self._context, chain, directory=self._directory))
            self._tls = key
            self._session = session
            self._renewed_at = time.monotonic()
            self._current = Attestation(
                quote, claims, certificate=certificate, request=request, provision=self._provision
            )

    def is_due(self) -> bool:
        """Return whether half of the live session is over, by the host's clock or by the time that has passed."""
        half = (self.session.nbf + self.session.exp) // 2
        return self._clock() >= half or time.monotonic() - self._renewed_at >= self._lifetime_s / 2

    def attest(self, *, nonce: bytes | None, beacon: bytes | None) -> bytes:
        """Return an encoded attestation with new claims over the live TLS key and without a certificate."""
        with self._lock:
            self._beacon = beacon or self._beacon
            end = self.session.exp
            nbf = min(self._clock() - BACKDATE_S, end - 1)  # the host may have moved its clock either way
            session = self._next(nbf, min(end, max(nbf, 0) + SESSION_MAX_S))
            claims, quote = self._attest(self._tls, session, nonce)
            request = self._current.request if self._current else None
            return Attestation(quote, claims, request=request, provision=self._provision).to_bytes()

    def can_serve(self, chain: tuple[bytes, ...]) -> bool:
        """Return whether TLS takes a chain (DER, leaf first) with the live key; nothing is served by this."""
        with self._lock:
            try:
                self._tls.load_into(server_context(()), chain, directory=self._directory)
            except (StorageError, ValueError):
                return False
            return True

    def accept(self, provision: Provision, *, prov: bytes, chain: tuple[bytes, ...]) -> None:
        """Keep what was accepted for all later claims. prov: SHA-256 of the payload. chain: mode `own`, DER, leaf first."""
        with self._lock:
            self._provision = provision
            self._prov = prov
            self._chain = chain

    def _next(self, nbf: int, exp: int) -> Session:
        return Session(
            seq=self._seq + 1, nbf=max(nbf, 0), exp=exp, san=self._identity.san,
            beacon=self._beacon, prev=self._previous, prov=self._prov,
        )  # fmt: skip

    def _attest(self, key: TlsKey, session: Session, nonce: bytes | None) -> tuple[bytes, bytes]:
        claims = Claims(key.spki_sha256, self._keys.instance, session.to_bytes(), nonce).to_bytes()
        quote = self._quoter.quote(claims_report_data(claims))
        self._seq = session.seq
        self._previous = hashlib.sha256(claims).digest()
        return claims, quote
