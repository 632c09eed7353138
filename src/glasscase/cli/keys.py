"""The verb `keygen`, and how the other verbs read key files.

Invariants: a key file is 0600 from its first byte, never overwritten, and appears together with its public part or not at
all; no key is ever printed.
"""

import os
from typing import Any

import click

from glasscase.cli.output import Output, verb

_KEY_FILE_MAX = 64 << 10  # bytes; a PEM key is smaller


@verb("keygen", help="Make a package, owner or enclave key: FILE (0600) and, where there is one, FILE.pub.")
@click.option("-o", "--output", "path", required=True, metavar="FILE", type=click.Path(), help="Where the key goes.")
@click.option(
    "--kind",
    type=click.Choice(["package", "owner", "enclave"]),
    default="package",
    show_default=True,
    help="package: 32 random bytes, for code and models; owner: Ed25519, signs envelopes; enclave: RSA-3072, signs the enclave.",
)
def keygen(out: Output, path: str, *, kind: str) -> None:
    """Write a new key and say its public name."""
    private, public, identity = _MAKERS[kind]()
    name = f"{path}.pub" if public else None
    _write_pair(path, private, name, public)
    value = {"kind": kind, "path": path, "public": name, "id": identity.hex()}
    lines = [f"{kind} key  {path} (secret, mode 0600)"]
    if name:
        lines.append(f"public     {name}")
    lines.append(f"id         {identity.hex()}")
    out.result(value, "\n".join(lines))


def read_package_key(path: str) -> Any:
    """Return the Key of a file of exactly 32 raw bytes, `-` for stdin.

    Raises UsageError("fs.key.exposed") if others may read it, UsageError("stream.key.malformed") if it is no such key.
    """
    from glasscase.cli.reading import read_argument
    from glasscase.core.chunks import Key
    from glasscase.errors import UsageError
    from glasscase.fs.atomic import read_private

    if path == "-":
        raw = read_argument(path, max_bytes=_KEY_FILE_MAX, what="key")
    else:
        raw = read_private(path, max_bytes=_KEY_FILE_MAX, what="key")
    if raw.startswith(b"-----BEGIN"):
        raise UsageError(
            "stream.key.malformed",
            f"{path!r} is a PEM key, a package key must be given",
            hint="a package key holds 32 raw bytes; glasscase keygen -o FILE makes one",
        )
    return Key(raw)


def _write_pair(path: str, private: bytes, public_path: str | None, public: bytes | None) -> None:
    from glasscase.errors import UsageError
    from glasscase.fs.atomic import write_file

    for name in (path, public_path):
        if name is not None and os.path.lexists(name):
            raise UsageError(
                "fs.output.exists", f"{name!r} exists", hint="a key is never overwritten: choose another name"
            )
    write_file(path, private, mode=0o600, overwrite=False)
    if public_path is None or public is None:
        return
    try:
        write_file(public_path, public, mode=0o644, overwrite=False)
    except BaseException:
        os.unlink(path)
        raise


def _package() -> tuple[bytes, bytes | None, bytes]:
    from glasscase.core.chunks import KEY_SIZE, Key

    raw = os.urandom(KEY_SIZE)
    return raw, None, Key(raw).id


def _owner() -> tuple[bytes, bytes | None, bytes]:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    key = ed25519.Ed25519PrivateKey.generate()
    return (
        _private_pem(key),
        _public_pem(key),
        key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw),
    )


def _enclave() -> tuple[bytes, bytes | None, bytes]:
    import hashlib

    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=3, key_size=3072)  # SGX demands exponent 3
    modulus = key.public_key().public_numbers().n
    return _private_pem(key), _public_pem(key), hashlib.sha256(modulus.to_bytes(384, "little")).digest()


def _private_pem(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    pem: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem


def _public_pem(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    pem: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem


_MAKERS = {"package": _package, "owner": _owner, "enclave": _enclave}
