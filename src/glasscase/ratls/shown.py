"""What a server showed in a handshake: its key, its names, and the evidence that speaks for that key.

Invariants: the evidence names the very key of the certificate, or there is none. An RA-TLS certificate carries its evidence; an
enclave in certificate mode `own` shows its owner's certificate and is asked for the evidence of its live key beforehand, by a
request that says nothing. Nothing here says that evidence is true.
Source: docs/clients.md, "Own certificates".
"""

import contextlib
import threading
import time
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from glasscase.errors import CannotVerify, Error, FormatError
from glasscase.evidence.attestation import ATTESTATION_MAX, CERTIFICATE_MAX, Attestation, Claims
from glasscase.ratls import link
from glasscase.ratls.cert import spki_digest
from glasscase.ratls.reading import read_certificate
from glasscase.ratls.shared import SharedCalls

REFRESH_S = 3600  # seconds after which prepared evidence is asked for again
_MALFORMED = "client.certificate.malformed"
_OWNERS_HINT = (
    "if the enclave has its owner's certificate: --own-certificate, in Python own_certificate_at=(host, port)"
)


@dataclass(frozen=True)
class Shown:
    """A certificate and its evidence. names: host names and addresses; not_before, not_after: unix seconds."""

    attestation: Attestation
    spki_sha256: bytes
    names: tuple[str, ...]
    not_before: int
    not_after: int


class OwnEvidence:
    """The evidence of an enclave with an own certificate, fetched from its control path and kept while its session lasts."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._lock = threading.Lock()
        self._fetches: SharedCalls[Attestation] = SharedCalls()
        self._kept: Attestation | None = None
        self._since = 0.0  # by the monotonic clock
        self._ahead = False

    def get(self, spki_sha256: bytes, at: int) -> Attestation:
        """Return evidence that names this TLS key, asked for once however many connections want it. at: unix seconds.

        Raises FormatError("client.key.unbound") if the enclave's evidence names another, StorageError if it does not answer;
        after prepare() CannotVerify("client.evidence.pending") instead of asking.
        """
        kept = self._covering(spki_sha256, at)
        if kept is None:
            if self._ahead:
                threading.Thread(target=self._fetch_quietly, name="glasscase-evidence", daemon=True).start()
                raise CannotVerify("client.evidence.pending", "the enclave is asked for new evidence", hint="try again")
            kept = self._fetches.run(spki_sha256.hex(), lambda: self._covering(spki_sha256, at) or self._fetch())
        if Claims.from_bytes(kept.claims).spki_sha256 != spki_sha256:
            raise FormatError(
                "client.key.unbound", "the server's evidence names another TLS key than this connection's"
            )
        return kept

    def prepare(self) -> None:
        """Ask now, and from now on never in the thread of a handshake; raises as get() does."""
        self._fetch()
        self._ahead = True

    def refresh(self) -> None:
        """Ask again, once an hour; raises as get() does."""
        if time.monotonic() - self._since > REFRESH_S:
            self._fetch()

    def _covering(self, spki_sha256: bytes, at: int) -> Attestation | None:
        kept = self._kept
        return kept if kept is not None and _covers(kept, spki_sha256, at) else None

    def _fetch(self) -> Attestation:
        answer = link.ask(self._host, self._port, "evidence", max_bytes=ATTESTATION_MAX)
        if answer.status != 200:
            raise FormatError("client.evidence.missing", f"the server answered {answer.status} instead of evidence")
        found = Attestation.from_bytes(answer.body)
        self._kept, self._since = found, time.monotonic()
        return found

    def _fetch_quietly(self) -> None:
        if self._lock.acquire(blocking=False):  # one at a time
            try:
                with contextlib.suppress(Error):
                    self._fetch()
            finally:
                self._lock.release()


def read_shown(der: bytes, own: OwnEvidence | None, at: int) -> Shown:
    """Return what a server's certificate shows. own: where to ask if it is not an RA-TLS certificate; None refuses that.

    Raises FormatError and StorageError.
    """
    try:
        found = read_certificate(der)
    except FormatError as error:
        if own is not None:
            return _owners(der, own, at)
        if error.reason == "evidence.certificate.malformed":
            error.hint = _OWNERS_HINT
        raise
    attestation = Attestation(found.quote, found.claims, certificate=der)
    return Shown(attestation, found.spki_sha256, found.san, found.not_before, found.not_after)


def _owners(der: bytes, own: OwnEvidence, at: int) -> Shown:
    """Return what a certificate of the owner's CA shows; its chain is not judged, for the evidence names its key."""
    if len(der) > CERTIFICATE_MAX:
        raise FormatError(_MALFORMED, f"the certificate has {len(der)} bytes, at most {CERTIFICATE_MAX} are allowed")
    try:
        certificate = x509.load_der_x509_certificate(der)
        key = certificate.public_key()
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        not_before = int(certificate.not_valid_before_utc.timestamp())
        not_after = int(certificate.not_valid_after_utc.timestamp())
        san = tuple(str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress))
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        x509.InvalidVersion,
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
        Warning,
    ) as error:
        raise FormatError(
            _MALFORMED, f"the certificate cannot be read: {type(error).__name__}", what="certificate"
        ) from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise FormatError(_MALFORMED, "the certificate's key is not that of an enclave", what="certificate")
    if not not_before <= at < not_after:
        raise FormatError("client.certificate.expired", "the owner's certificate is not valid now", what="certificate")
    spki_sha256 = spki_digest(key)
    return Shown(own.get(spki_sha256, at), spki_sha256, san, not_before, not_after)


def _covers(attestation: Attestation, spki_sha256: bytes, at: int) -> bool:
    claims = Claims.from_bytes(attestation.claims)
    return claims.spki_sha256 == spki_sha256 and at < claims.session_facts().exp
