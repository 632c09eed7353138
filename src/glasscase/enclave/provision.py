"""Provisioning: whether an envelope is accepted, once.

Invariants: every check has passed before anything is kept, written or handed on; one envelope is accepted in the life of an
instance, the same payload again gets the stored receipt, anything else is refused; after acceptance the seal key is gone.
Callers turn every failure into one uniform answer: the reasons here are for tests, not for the host.
Source: docs/provisioning.md, "Checks in their order".
"""

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from glasscase.config.enclave import EnclaveConfig
from glasscase.enclave.keys import InstanceKeys
from glasscase.errors import FormatError
from glasscase.ratls.cert import spki_digest
from glasscase.seal.envelope import (
    NO_PACKAGE,
    Contents,
    Context,
    Envelope,
    check_contents,
    check_signatures,
    open_envelope,
    read_envelope,
)
from glasscase.seal.receipt import Receipt
from glasscase.sgx.report import ReportBody


@dataclass(frozen=True, repr=False)
class Acceptance:
    """What was accepted. package: the opened package or None. fresh: False if this payload had been accepted before."""

    envelope: bytes
    receipt: bytes
    digest: bytes
    contents: Contents
    package: Any
    fresh: bool


class Provisioner:
    """The one decision of an instance. own: the enclave's own report. clock: unix seconds.

    package: SHA-256 of the measured package header, or zeros. open_package: opens the encrypted package with the contents'
    keys, doing every check of docs/bundle-format.md on it, or None without one. live_spki_sha256: of the live TLS key, for
    a certificate chain. can_serve: whether TLS takes the chain with that key.
    """

    def __init__(
        self,
        config: EnclaveConfig,
        own: ReportBody,
        keys: InstanceKeys,
        *,
        clock: Callable[[], int],
        open_package: Callable[[Contents], Any] | None,
        live_spki_sha256: Callable[[], bytes],
        can_serve: Callable[[tuple[bytes, ...]], bool],
    ) -> None:
        self._config = config
        self._own = own
        self._keys = keys
        self._clock = clock
        self._open_package = open_package
        self._live_spki_sha256 = live_spki_sha256
        self._can_serve = can_serve
        self.package = hashlib.sha256(config.package).digest() if config.package is not None else NO_PACKAGE
        self._lock = threading.Lock()
        self._accepted: Acceptance | None = None
        self._closed = False

    def accept(self, data: bytes) -> Acceptance:
        """Return what was accepted, now or before for the same payload.

        Raises an Error with a reason of the area `seal` (or of the package) if any check fails; then nothing has changed.
        """
        with self._lock:
            envelope = read_envelope(data)
            if self._accepted is not None:
                if envelope.digest != self._accepted.digest:
                    raise FormatError("seal.envelope.second", "another envelope has been accepted already")
                return Acceptance(**{**vars(self._accepted), "fresh": False})
            if self._closed:
                raise FormatError("seal.envelope.late", "the time to wait for secrets is over")
            self._check_envelope(envelope, instance=self._keys.digest)
            contents = open_envelope(envelope, seal_key=self._keys.seal)
            self._check_chain(contents.chain)
            return self._keep(data, envelope, contents)

    def close(self) -> Acceptance | None:
        """Accept nothing from now on; return what was accepted until now, if anything."""
        with self._lock:
            self._closed = True
            return self._accepted

    def restore(self, data: bytes, contents: Contents) -> Acceptance:
        """Return the acceptance of an envelope that an earlier instance of this enclave opened and kept.

        All rules hold again but those of the instance and its seal key. Raises as accept does.
        """
        with self._lock:
            if self._accepted is not None:
                raise FormatError("seal.envelope.second", "another envelope has been accepted already")
            envelope = read_envelope(data)
            self._check_envelope(envelope, instance=envelope.context.instance)
            check_contents(contents, envelope.context)
            self._check_chain(contents.chain)
            return self._keep(data, envelope, contents)

    def _keep(self, data: bytes, envelope: Envelope, contents: Contents) -> Acceptance:
        """Do the last check, that of the package, and accept."""
        package = self._open_package(contents) if self._open_package is not None else None
        receipt = self._receipt(envelope)
        self._keys.seal.wipe()
        self._accepted = Acceptance(data, receipt, envelope.digest, contents, package, fresh=True)
        return self._accepted

    def _check_envelope(self, envelope: Envelope, *, instance: bytes) -> None:
        check_signatures(envelope, owners=self._config.owners, threshold=self._config.threshold)
        self._check_context(envelope.context, instance)
        self._check_time(envelope.context)

    def _check_context(self, context: Context, instance: bytes) -> None:
        for name, own, theirs in (
            ("mrenclave", self._own.mrenclave, context.mrenclave),
            ("instance", instance, context.instance),
            ("package", self.package, context.package),
            ("isv_svn", self._own.isv_svn, context.isv_svn),
        ):
            if own != theirs:
                raise FormatError(f"seal.context.{name}", f"the envelope is for another {name}")

    def _check_time(self, context: Context) -> None:
        now = self._clock()
        if now < self._config.build_epoch:
            raise FormatError("seal.time.unbuilt", "the clock is before the build of this enclave")
        if now < context.issued_at:
            raise FormatError("seal.time.early", "the clock is before the time at which the envelope was made")
        if now > context.not_after:
            raise FormatError("seal.time.expired", "the envelope has expired")

    def _check_chain(self, chain: tuple[bytes, ...]) -> None:
        if bool(chain) != (self._config.server.certificate == "own"):
            raise FormatError("seal.chain.wrong", "a certificate chain must be there exactly in certificate mode own")
        try:
            certificates = [x509.load_der_x509_certificate(der) for der in chain]
            own = not certificates or spki_digest(certificates[0].public_key()) == self._live_spki_sha256()
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise FormatError("seal.chain.wrong", "a certificate of the chain cannot be read") from None
        if not own:
            raise FormatError("seal.chain.wrong", "the chain's first certificate is not for the key made inside")
        if chain and not self._can_serve(chain):
            raise FormatError("seal.chain.wrong", "TLS does not take a certificate of the chain")

    def _receipt(self, envelope: Envelope) -> bytes:
        receipt = Receipt(
            instance=self._keys.digest,
            envelope=envelope.digest,
            owners=envelope.context.owners,
            secrets=envelope.context.secrets,
            package=self.package,
            mrenclave=self._own.mrenclave,
            host_time=self._clock(),
        )
        return receipt.sign(self._keys.receipt_seed)
