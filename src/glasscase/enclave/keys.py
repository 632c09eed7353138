"""The keys that are made inside the enclave and never leave it: TLS, seal and receipt.

Invariants: every key is drawn here from the system's random numbers; none comes from a file, and none is written but the
TLS key, for a moment, as libssl reads keys from files only.
Source: docs/provisioning.md, "Keys".
"""

import contextlib
import os
import secrets
import ssl

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import load_der_x509_certificate

from glasscase.evidence.attestation import SUITE_HYBRID, Instance, instance_digest
from glasscase.fs.atomic import storage_error
from glasscase.ratls.cert import spki_digest
from glasscase.seal.cose import SEED_SIZE, public_key
from glasscase.seal.hpke import SealKey


class InstanceKeys:
    """Seal key pair and receipt key of one instance. instance: the encoded facts; digest: their instance digest."""

    def __init__(self) -> None:
        """Draw them."""
        self.seal = SealKey()
        self._receipt_seed = secrets.token_bytes(SEED_SIZE)
        facts = Instance(secrets.token_bytes(16), SUITE_HYBRID, self.seal.public, public_key(self._receipt_seed))
        self.instance: bytes = facts.to_bytes()
        self.digest: bytes = instance_digest(self.instance)

    def __repr__(self) -> str:
        """Return a text without the keys."""
        return "<instance keys>"

    @property
    def receipt_seed(self) -> bytes:
        """Return the private receipt key, for the one receipt."""
        return self._receipt_seed


class TlsKey:
    """A P-256 key pair. spki_sha256: SHA-256 of its SubjectPublicKeyInfo."""

    def __init__(self) -> None:
        """Draw it."""
        self.private = ec.generate_private_key(ec.SECP256R1())
        self.spki_sha256: bytes = spki_digest(self.private.public_key())

    def __repr__(self) -> str:
        """Return a text without the key."""
        return "<TLS key>"

    def load_into(self, context: ssl.SSLContext, chain: tuple[bytes, ...], *, directory: str) -> None:
        """Make new handshakes of `context` use this key with a certificate chain (DER, leaf first).

        directory: private memory; the file is 0600, has a fresh name and is gone afterwards. Raises StorageError, also for a
        chain that libssl does not take.
        """
        parts = [self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())]
        parts += [load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in chain]
        path = os.path.join(directory, f".tls-{secrets.token_hex(8)}")
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(b"".join(parts))
            context.load_cert_chain(path)
        except OSError as error:  # ssl.SSLError is one too
            raise storage_error(error, path) from None
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)


def server_context(client_ca: tuple[bytes, ...]) -> ssl.SSLContext:
    """Return a server context for TLS 1.3 without session tickets: a resumed session would show no certificate.

    client_ca: DER certificates; with them a client that shows a certificate must show one of theirs.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    if client_ca:
        for der in client_ca:
            context.load_verify_locations(cadata=der)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context
