"""A certificate chain for certificate mode `own`, as its provider sees it before anything is sealed.

Invariants: the same libssl rules decide that decide in the enclave, which refuses what they refuse.
Source: docs/provisioning.md, "Checks in their order".
"""

import os
import ssl
import tempfile

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import load_der_x509_certificate

from glasscase.fs.atomic import storage_error


def chain_fault(chain: tuple[bytes, ...]) -> str:
    """Return what libssl has against a chain (DER, leaf first), or nothing. Raises ValueError for what is no certificate."""
    key = ec.generate_private_key(ec.SECP256R1())  # another one: that it does not match is said last
    parts = [key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())]
    parts += [load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in chain]
    try:
        with tempfile.TemporaryDirectory(prefix="glasscase-") as directory:
            path = os.path.join(directory, "chain.pem")
            with open(path, "wb") as file:
                file.write(b"".join(parts))
            return _fault(path)
    except OSError as error:
        raise storage_error(error, tempfile.gettempdir()) from None


def _fault(path: str) -> str:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return ""
        return (error.reason or "it cannot be loaded").replace("_", " ").lower()
    return ""
