"""Public keys and certificates that are measured: the owners' Ed25519 keys and the client CA.

Invariants: an owner key is a canonical point of the prime-order group, so that every library judges its signatures alike.
"""

import os
from collections.abc import Sequence

from nacl.bindings import crypto_core_ed25519_is_valid_point

from glasscase.bundle.project import Project
from glasscase.errors import UsageError
from glasscase.fs.atomic import read_file

PEM_MAX = 64 << 10  # bytes


def read_owner_keys(directory: str, project: Project, given: Sequence[str]) -> tuple[bytes, ...]:
    """Return the raw owner keys, sorted. given: files named on the command line, which take the place of the project's.

    Raises UsageError("bundle.owner.malformed") for anything but distinct, sound Ed25519 public keys in PEM.
    """
    paths = list(given) or [os.path.join(directory, path) for path in project.keys.owners]
    keys = [_owner_key(path) for path in paths]
    if len(set(keys)) != len(keys):
        raise UsageError("bundle.owner.malformed", "an owner key is named twice", hint="each owner counts once")
    if project.keys.threshold > len(keys):
        raise UsageError(
            "bundle.owner.malformed", f"keys.threshold is {project.keys.threshold}, there are {len(keys)} owner keys",
            hint="name more owners or lower the threshold",
        )  # fmt: skip
    return tuple(sorted(keys))


def read_client_ca(directory: str, path: str | None) -> tuple[bytes, ...]:
    """Return the certificates of a PEM file as DER, in its order; empty without a file."""
    if path is None:
        return ()
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    pem = read_file(os.path.join(directory, path), max_bytes=PEM_MAX, what="the client CA")
    try:
        found = x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise UsageError("bundle.project.malformed", f"{path!r} holds no certificates in PEM") from None
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in found)


def _owner_key(path: str) -> bytes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    pem = read_file(path, max_bytes=PEM_MAX, what="the owner key")
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    raw = key.public_bytes_raw() if isinstance(key, Ed25519PublicKey) else b""
    if not raw or not crypto_core_ed25519_is_valid_point(raw):
        raise UsageError(
            "bundle.owner.malformed", f"{path!r} is not a sound Ed25519 public key in PEM",
            hint="use the .pub file of: glasscase keygen --kind owner -o FILE",
        )  # fmt: skip
    return raw
