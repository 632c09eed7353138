"""The simulated SGX platform of one data directory: its root, keys, certificates, collateral and quotes.

Invariants: one random root per directory, named `SIMULATED SGX Root CA`, which TrustAnchor.intel() cannot accept; keys are
0600; certificates follow from the keys, so the same directory always gives the same root.pem; no clock is read.
"""

import contextlib
import fcntl
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Self

from glasscase.errors import FormatError
from glasscase.fs.atomic import read_private, storage_error, write_file
from glasscase.sim import pki
from glasscase.sim.pki import SigningKey
from glasscase.sim.quoting import REPORT_BODY_SIZE
from glasscase.sim.scene import PlatformKeys, Scene, honest_scene

_ROOT_FILE = "root.pem"
_SEAL_FILE = "seal.key"
_SEAL_KEY_SIZE = 32  # bytes
_KEY_FILES = {item.name: f"{item.name.replace('_', '-')}.key" for item in fields(PlatformKeys)}
_KEY_MAX = 4096  # bytes
_ANY_TIME = 1735689600  # 2025-01-01; a quote holds no time, so any does to make one
_DAMAGED = "sim.platform.damaged"


class SimPlatform:
    """A software SGX platform. Made by open(); root_pem is the trust anchor to give with --insecure-anchor."""

    def __init__(self, directory: Path, keys: PlatformKeys, seal_key: bytes) -> None:
        self.directory = directory
        self._keys = keys
        self._seal_key = seal_key
        self.root_pem = _root_pem(keys)

    @classmethod
    def open(cls, directory: str | os.PathLike[str]) -> Self:
        """Return the platform of a directory, which is made (0700) with a new random root if it is not there.

        Raises StorageError if the disk fails, UsageError if a key can be read by others, and
        FormatError("sim.platform.damaged") if files are missing or do not belong together.
        """
        path = Path(directory)
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, path) from None
        with _locked(path):
            if not (path / _ROOT_FILE).exists():
                _create(path)
            return cls._load(path)

    def scene(self, *, body: bytes, at: int) -> Scene:
        """Return the scene of a quote over `body` (384 bytes) with collateral issued at `at` (unix seconds), to be changed."""
        return honest_scene(self._keys, body=body, at=at)

    def collateral(self, *, at: int) -> dict[str, str]:
        """Return the seven objects issued at `at` (unix seconds), valid for 30 days: CRLs as hex DER, the rest as text."""
        return self.scene(body=bytes(REPORT_BODY_SIZE), at=at).render().collateral

    def quote(self, body: bytes) -> bytes:
        """Return a version 3 quote over a report body with the PCK chain inside. Raises ValueError unless 384 bytes."""
        if len(body) != REPORT_BODY_SIZE:
            raise ValueError(f"a report body has {REPORT_BODY_SIZE} bytes, not {len(body)}")
        return self.scene(body=body, at=_ANY_TIME).render().quote

    def pck_pem(self) -> str:
        """Return the platform's PCK certificate chain as PEM, leaf first."""
        scene = self.scene(body=bytes(REPORT_BODY_SIZE), at=_ANY_TIME)
        return "".join(pki.pem(scene.certificate_der(name)) for name in scene.chains["quote"])

    def enclave_key(self, label: str, context: bytes, size: int) -> bytes:
        """Return at most 32 secret bytes of this platform, as EGETKEY would for one enclave: the same for the same input."""
        return hmac.new(self._seal_key, label.encode("ascii") + b"\0" + context, hashlib.sha256).digest()[:size]

    @classmethod
    def _load(cls, path: Path) -> Self:
        keys = {}
        for name, file in _KEY_FILES.items():
            if not (path / file).exists():
                raise _damaged(path, f"{file} is missing")
            try:
                keys[name] = SigningKey.from_pem(read_private(path / file, max_bytes=_KEY_MAX, what="simulator key"))
            except ValueError:
                raise _damaged(path, f"{file} is not a P-256 key") from None
        if not (path / _SEAL_FILE).exists():
            raise _damaged(path, f"{_SEAL_FILE} is missing")
        seal_key = read_private(path / _SEAL_FILE, max_bytes=_KEY_MAX, what="simulator key")
        platform = cls(path, PlatformKeys(**keys), seal_key)
        if len(seal_key) != _SEAL_KEY_SIZE:
            raise _damaged(path, f"{_SEAL_FILE} has another length")
        if platform.root_pem.encode("ascii") != (path / _ROOT_FILE).read_bytes():
            raise _damaged(path, f"{_ROOT_FILE} does not belong to root.key")
        return platform


def _create(path: Path) -> None:
    """Write new keys; root.pem comes last, so a killed run is simply done again."""
    for file in (*_KEY_FILES.values(), _SEAL_FILE):
        (path / file).unlink(missing_ok=True)
    keys = PlatformKeys(*(SigningKey.generate() for _ in _KEY_FILES))
    for name, file in _KEY_FILES.items():
        write_file(path / file, getattr(keys, name).to_pem(), mode=0o600)
    write_file(path / _SEAL_FILE, secrets.token_bytes(_SEAL_KEY_SIZE), mode=0o600)
    write_file(path / _ROOT_FILE, _root_pem(keys).encode("ascii"), mode=0o644)


def _root_pem(keys: PlatformKeys) -> str:
    return pki.pem(honest_scene(keys, body=bytes(REPORT_BODY_SIZE), at=_ANY_TIME).certificate_der("root"))


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        handle = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise storage_error(error, path) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _damaged(path: Path, what: str) -> FormatError:
    return FormatError(
        _DAMAGED,
        f"the simulator's directory {os.fspath(path)!r} is damaged: {what}",
        hint="move it away; the next run makes a new one with another root",
        what="simulator directory",
    )
