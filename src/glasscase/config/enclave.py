"""enclave.cbor, the measured configuration of one enclave.

Invariants: from_bytes(to_bytes(c)) == c and to_bytes(from_bytes(b)) == b; every value has been checked when an
EnclaveConfig exists; `package` and `commitment` are there exactly if the application is encrypted.
Source: docs/bundle-format.md, "enclave.cbor". Imported inside the enclave: standard library and codec only.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from glasscase.codec import cbor
from glasscase.codec.version import VERSION, require_version
from glasscase.errors import FormatError

TYPE = "glasscase-enclave"
MAX_BYTES = 64 << 10
OWNERS_MAX = 16
HEADER_SIZE = 128  # bytes: the header of the package manifest
EPOCH_MAX = 2**53 - 1  # seconds
SIZE_MAX = 1 << 40  # bytes of enclave memory
THREADS_MAX = 4096
TEXT_MAX = 1024  # characters of one text field
ENV_MAX = 256  # variables
INSECURE = ("debug", "dev-enclave", "host-python", "models-key", "simulated")
NAME = re.compile(r"[a-z][a-z0-9-]{0,62}", re.ASCII)
ENTRY = re.compile(
    r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*"
)
_SIZE = re.compile(r"([1-9][0-9]{0,12})([KMG])", re.ASCII)
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}", re.ASCII)
_PROFILE = re.compile(r"[a-z][a-z0-9.-]{0,62}", re.ASCII)
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_U16 = 0xFFFF


@dataclass(frozen=True)
class GramineOptions:
    """What the Gramine manifest is made from. size: text like "512M", a power of two of at most 1024G."""

    profile: str
    size: str
    max_threads: int
    isv_prod_id: int
    isv_svn: int
    edmm: bool = False
    dns: bool = False
    persist: str = "none"
    debug: bool = False

    def __post_init__(self) -> None:
        """Check every field."""
        _match(_PROFILE, self.profile, "gramine.profile")
        parse_size(self.size)
        _uint(self.max_threads, "gramine.max_threads", 1, THREADS_MAX)
        _uint(self.isv_prod_id, "gramine.isv_prod_id", 0, _U16)
        _uint(self.isv_svn, "gramine.isv_svn", 0, _U16)
        for name in ("edmm", "dns", "debug"):
            _bool(getattr(self, name), f"gramine.{name}")
        _one_of(self.persist, ("none", "mrenclave"), "gramine.persist")

    @property
    def size_bytes(self) -> int:
        """Return the enclave size in bytes."""
        return parse_size(self.size)


@dataclass(frozen=True)
class ServerOptions:
    """What the server inside is told. body_max in bytes; header_timeout, idle_timeout and drain in seconds.

    client_ca: DER certificates for mutual TLS, empty without it.
    """

    certificate: str = "ra-tls"
    client_ca: tuple[bytes, ...] = ()
    app_threads: int = 16
    body_max: int = 16 << 20
    header_timeout: int = 10
    idle_timeout: int = 60
    drain: int = 30

    def __post_init__(self) -> None:
        """Check every field."""
        _one_of(self.certificate, ("ra-tls", "own"), "server.certificate")
        if not isinstance(self.client_ca, tuple) or not all(isinstance(c, bytes) and c for c in self.client_ca):
            raise _bad("server.client_ca must be certificates in DER")
        _uint(self.app_threads, "server.app_threads", 1, THREADS_MAX)
        _uint(self.body_max, "server.body_max", 1, 1 << 40)
        for name in ("header_timeout", "idle_timeout", "drain"):
            _uint(getattr(self, name), f"server.{name}", 1, 86_400)


@dataclass(frozen=True)
class EnclaveConfig:
    """The measured configuration.

    owners: raw Ed25519 public keys of 32 bytes, sorted, distinct; threshold of them must sign an envelope.
    package: the 128-byte header of the package manifest; commitment: 32 bytes; both None without encryption.
    build_epoch: unix seconds of the lock. insecure: the weakenings, sorted.
    """

    name: str
    entry: str
    interface: str
    health: str | None
    encrypt: bool
    models: str
    build_epoch: int
    owners: tuple[bytes, ...]
    threshold: int
    package: bytes | None
    commitment: bytes | None
    gramine: GramineOptions
    server: ServerOptions = field(default_factory=ServerOptions)
    env: Mapping[str, str] = field(default_factory=dict)
    insecure: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check every field and how they go together."""
        _match(NAME, self.name, "name")
        _match(ENTRY, self.entry, "entry")
        if len(self.entry) > TEXT_MAX:
            raise _bad(f"entry is longer than {TEXT_MAX} characters")
        _one_of(self.interface, ("asgi", "wsgi"), "interface")
        if self.health is not None:
            _text(self.health, "health")
            if not self.health.startswith("/"):
                raise _bad("health must be a path that begins with /")
        _bool(self.encrypt, "encrypt")
        _one_of(self.models, ("digest", "key"), "models")
        _uint(self.build_epoch, "build_epoch", 0, EPOCH_MAX)
        self._check_owners()
        if (self.package is not None) != self.encrypt or (self.commitment is not None) != self.encrypt:
            raise _bad("package and commitment must be there exactly if encrypt is true")
        if self.package is not None:
            _bytes(self.package, HEADER_SIZE, "package")
        if self.commitment is not None:
            _bytes(self.commitment, 32, "commitment")
        _check_env(self.env)
        known = isinstance(self.insecure, tuple) and all(name in INSECURE for name in self.insecure)
        if not known or list(self.insecure) != sorted(set(self.insecure)):
            raise _bad("insecure must be a sorted list of known weakenings")
        if self.gramine.debug != ("debug" in self.insecure):
            raise _bad("gramine.debug and the insecure list must agree")
        if (self.models == "key") != ("models-key" in self.insecure):
            raise _bad("models and the insecure list must agree")

    def _check_owners(self) -> None:
        if not isinstance(self.owners, tuple) or not 1 <= len(self.owners) <= OWNERS_MAX:
            raise _bad(f"there must be 1 to {OWNERS_MAX} owners")
        for owner in self.owners:
            _bytes(owner, 32, "owners")
        if list(self.owners) != sorted(set(self.owners)):
            raise _bad("owners must be sorted and distinct")
        _uint(self.threshold, "threshold", 1, len(self.owners))

    def to_bytes(self) -> bytes:
        """Return the one encoding, at most 64 KiB; raises FormatError("bundle.config.malformed") above."""
        server = _plain(self.server, "client_ca")
        if self.server.client_ca:
            server["client_ca"] = list(self.server.client_ca)
        value = _plain(self, "gramine", "server", "env", "owners", "insecure") | {
            "v": VERSION,
            "type": TYPE,
            "owners": list(self.owners),
            "gramine": _plain(self.gramine),
            "server": server,
            "env": dict(self.env),
            "insecure": list(self.insecure),
        }
        encoded = cbor.encode(value)
        if len(encoded) > MAX_BYTES:
            raise _bad(f"enclave.cbor would have {len(encoded)} bytes, at most {MAX_BYTES} are allowed")
        return encoded

    @classmethod
    def from_bytes(cls, data: bytes) -> "EnclaveConfig":
        """Return the configuration of exactly these bytes.

        Raises FormatError: codec.cbor.*, format.newer, or bundle.config.malformed for unknown, missing or wrong fields.
        """
        value = cbor.decode(data, max_bytes=MAX_BYTES, what="enclave.cbor")
        if not isinstance(value, dict):
            raise _bad("enclave.cbor is not a map")
        require_version(value.get("v"), "enclave.cbor")
        if value.get("type") != TYPE:
            raise _bad("enclave.cbor is of another type")
        body = {key: item for key, item in value.items() if key not in ("v", "type")}
        _check_keys(body, cls, optional=("health", "package", "commitment"), where="enclave.cbor")
        gramine, server = body["gramine"], body["server"]
        _check_keys(gramine, GramineOptions, optional=(), where="gramine")
        _check_keys(server, ServerOptions, optional=("client_ca",), where="server")
        if "client_ca" in server:
            server["client_ca"] = _tuple(server["client_ca"], "server.client_ca", empty=False)
        absent = {key: None for key in ("health", "package", "commitment") if key not in body}
        body["owners"] = _tuple(body["owners"], "owners")
        body["insecure"] = _tuple(body["insecure"], "insecure")
        return cls(**(body | absent | {"gramine": GramineOptions(**gramine), "server": ServerOptions(**server)}))


def parse_size(text: str) -> int:
    """Return the bytes of an enclave size: digits without a leading zero and K, M or G; a power of two up to 1024G.

    Raises FormatError("bundle.config.malformed") otherwise.
    """
    match = _SIZE.fullmatch(text) if isinstance(text, str) else None
    size = int(match[1]) * _UNITS[match[2]] if match else 0
    if not size or size & (size - 1) or size > SIZE_MAX:
        raise _bad(f"enclave size {text!r} must be a power of two like 512M, at most 1024G")
    return size


def _bad(message: str) -> FormatError:
    return FormatError("bundle.config.malformed", message, what="enclave.cbor")


def _plain(value: Any, *leave: str) -> dict[str, Any]:
    """Return the fields of a dataclass that are set, but those named."""
    pairs = {item.name: getattr(value, item.name) for item in fields(value) if item.name not in leave}
    return {name: item for name, item in pairs.items() if item is not None}


def _check_keys(value: Any, kind: Any, *, optional: tuple[str, ...], where: str) -> None:
    if not isinstance(value, dict):
        raise _bad(f"{where} is not a map")
    names = {item.name for item in fields(kind)}
    for key in sorted(value.keys() - names):
        raise _bad(f"{where} holds the unknown key {key!r}")
    for key in sorted(names - value.keys() - set(optional)):
        raise _bad(f"{where} lacks the key {key!r}")


def _tuple(value: Any, name: str, *, empty: bool = True) -> tuple[Any, ...]:
    if not isinstance(value, list) or not (value or empty):
        raise _bad(f"{name} must be an array")
    return tuple(value)


def _match(pattern: re.Pattern[str], value: Any, name: str) -> None:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise _bad(f"{name} is {value!r}, expected {pattern.pattern}")


def _one_of(value: Any, choices: tuple[str, ...], name: str) -> None:
    if not isinstance(value, str) or value not in choices:
        raise _bad(f"{name} is {value!r}, expected {' or '.join(choices)}")


def _uint(value: Any, name: str, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise _bad(f"{name} is {value!r}, expected an integer from {low} to {high}")


def _bool(value: Any, name: str) -> None:
    if not isinstance(value, bool):
        raise _bad(f"{name} must be true or false")


def _bytes(value: Any, size: int, name: str) -> None:
    if not isinstance(value, bytes) or len(value) != size:
        raise _bad(f"{name} must have {size} bytes")


def _text(value: Any, name: str) -> None:
    if not isinstance(value, str) or len(value) > TEXT_MAX or unicodedata.normalize("NFC", value) != value:
        raise _bad(f"{name} must be text in NFC of at most {TEXT_MAX} characters")
    if any(unicodedata.category(character) == "Cc" for character in value):
        raise _bad(f"{name} holds a control character")


def _check_env(env: Any) -> None:
    if not isinstance(env, Mapping) or len(env) > ENV_MAX:
        raise _bad(f"env must be a map of at most {ENV_MAX} variables")
    for name, value in env.items():
        _match(_ENV_NAME, name, "env")
        if name.startswith("LD_"):
            raise _bad(f"env {name!r} belongs to the dynamic loader and cannot be set")
        _text(value, f"env {name}")
