"""Keeping what was provisioned over a restart, for projects that ask for it with persist = "mrenclave".

One record in one file. Inside Gramine it lies in an encrypted mount whose key we derive from the enclave's own sealing key; it
is encrypted here as well, with a key of its own, because the simulator has no such mounts.

Invariants: without the sealing key of this very MRENCLAVE there is an error, never another way; a record that does not open
counts as absent, so the enclave waits for secrets; what opens is checked again by every rule of provisioning that does not
need the seal key. Not protected: putting back an older record, or running it twice; a microcode update loses it.
Source: docs/provisioning.md, "Persistence".
"""

import contextlib
import os
import secrets
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from glasscase.codec import cbor
from glasscase.codec.labels import label
from glasscase.codec.record import take_map
from glasscase.errors import Error, FormatError, StorageError
from glasscase.fs.atomic import read_file, storage_error
from glasscase.seal.cose import COSE_MAX

SEALING_KEY_SIZE = 16  # bytes of keys/_sgx_mrenclave
MOUNT_KEY_SIZE = 16  # bytes of keys/persist
NONCE_SIZE = 12  # bytes
RECORD_MAX = 4 * COSE_MAX
FILE = "record"
_AAD = label("persist-record")


@dataclass(frozen=True, repr=False)
class Record:
    """What an enclave accepted. envelope: the COSE_Sign object; contents: the plaintext that was in it."""

    envelope: bytes
    contents: bytes


class Store:
    """The record of one enclave. package: SHA-256 of the package header, or zeros; part of the keys.

    attestation: the device's directory; directory: where the file lies. Raises StorageError("enclave.persist.keyless") if
    the device gives no sealing key.
    """

    def __init__(self, attestation: str, directory: str, *, package: bytes) -> None:
        sealing = _sealing_key(attestation)
        self._path = os.path.join(directory, FILE)
        self._key = _derive(sealing, "persist-record", package, 32)
        _write(os.path.join(attestation, "keys", "persist"), _derive(sealing, "persist", package, MOUNT_KEY_SIZE))

    def load(self) -> Record | None:
        """Return the record, or None if there is none that opens."""
        try:
            data = read_file(self._path, max_bytes=RECORD_MAX, what="record")
            plaintext = AESGCM(self._key).decrypt(data[:NONCE_SIZE], data[NONCE_SIZE:], _AAD)
            fields = take_map(
                cbor.decode(plaintext, max_bytes=RECORD_MAX, what="record"),
                what="record",
                reason="enclave.persist.malformed",
                required={"v": int, "envelope": bytes, "contents": bytes},
                optional={},
            )
        except (Error, InvalidTag, ValueError):
            return None
        return Record(fields["envelope"], fields["contents"]) if fields["v"] == 1 else None

    def save(self, record: Record) -> None:
        """Write the record. A crash in the middle leaves one that does not open. Raises StorageError.

        Gramine refuses to open a file of its encrypted mounts that does not decrypt, but lets it be removed.
        """
        plaintext = cbor.encode({"v": 1, "envelope": record.envelope, "contents": record.contents})
        nonce = secrets.token_bytes(NONCE_SIZE)
        content = nonce + AESGCM(self._key).encrypt(nonce, plaintext, _AAD)
        try:
            _write(self._path, content)
        except StorageError as error:
            if error.reason != "fs.file.denied":
                raise
            with contextlib.suppress(OSError):
                os.unlink(self._path)
            _write(self._path, content)


def _derive(sealing: bytes, name: str, package: bytes, size: int) -> bytes:
    return HKDF(SHA256(), size, salt=label(name), info=package).derive(sealing)


def _sealing_key(attestation: str) -> bytes:
    try:
        key = read_file(
            os.path.join(attestation, "keys", "_sgx_mrenclave"), max_bytes=64, what="sealing key", streams=True
        )
    except (StorageError, FormatError):
        key = b""
    if len(key) != SEALING_KEY_SIZE or not any(key):
        raise StorageError(
            "enclave.persist.keyless", "this backend gives the enclave no sealing key, so nothing can be kept",
            hint='set persist = "none" in the project, or run on SGX',
        )  # fmt: skip
    return key


def _write(path: str, content: bytes) -> None:
    """Write a file in place: an encrypted file of Gramine is bound to its name."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            if path.endswith(FILE):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise storage_error(error, path) from None
