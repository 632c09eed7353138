"""glasscase.lock: every input of a build by SHA-256, and nothing about the project's own sources.

Invariants: to_bytes(from_bytes(b)) == b; from_bytes(to_bytes(l)) == l; tables are sorted by name, then file; a file with
another order, spelling or comment is refused.
Source: docs/bundle-format.md, "glasscase.lock".
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from glasscase.codec import stricttoml
from glasscase.codec.hexid import from_hex
from glasscase.codec.version import VERSION, require_version
from glasscase.errors import FormatError
from glasscase.fs.walk import check_path

FILE = "glasscase.lock"
MAX_BYTES = 16 << 20
EPOCH_MAX = 2**53 - 1  # seconds
INPUT_MAX = 4 << 30  # bytes of one wheel, package or runtime file
_MALFORMED = "lock.file.malformed"
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~:_!-]{0,254}", re.ASCII)
_WHEEL_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*", re.ASCII)
_WHEEL_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+!-]*\.whl", re.ASCII)
_ESCAPE = {'"': '\\"', "\\": "\\\\"}


@dataclass(frozen=True)
class LockedFile:
    """One file of the Gramine runtime. path: below runtime/. sha256: 32 bytes."""

    path: str
    size: int
    sha256: bytes


@dataclass(frozen=True)
class LockedRuntime:
    """The Gramine runtime. commit: None for the simulator."""

    name: str
    version: str
    commit: str | None
    profile: str
    files: tuple[LockedFile, ...]


@dataclass(frozen=True)
class LockedPackage:
    """One Debian package. file: its path in the pool."""

    name: str
    version: str
    arch: str
    file: str
    size: int
    sha256: bytes


@dataclass(frozen=True)
class LockedDebian:
    """The Debian packages and the signed index they were found in. signer: 20 bytes, the fingerprint of the key."""

    suite: str
    inrelease: bytes
    signer: bytes
    keyring: bytes
    packages: tuple[LockedPackage, ...]


@dataclass(frozen=True)
class LockedWheel:
    """One wheel. name: normalised. file: its file name."""

    name: str
    version: str
    file: str
    size: int
    sha256: bytes


@dataclass(frozen=True)
class Lock:
    """The whole file. epoch: unix seconds. requirements: SHA-256 of the project's requirements file."""

    tool: str
    epoch: int
    requirements: bytes
    runtime: LockedRuntime
    debian: LockedDebian | None
    wheels: tuple[LockedWheel, ...]

    def __post_init__(self) -> None:
        """Check every value and the order of the tables."""
        _word(self.tool, "tool")
        _uint(self.epoch, "epoch", EPOCH_MAX)
        _digest(self.requirements, "requirements", 32)
        _check_runtime(self.runtime)
        if self.debian is not None:
            _check_debian(self.debian)
        for wheel in self.wheels:
            if not _WHEEL_NAME.fullmatch(wheel.name) or not _WHEEL_FILE.fullmatch(wheel.file):
                raise _bad(f"the wheel {wheel.name!r} {wheel.file!r} has a name that is not allowed")
            _word(wheel.version, "wheel.version")
            _sized(wheel.size, wheel.sha256, wheel.file)
        _sorted((wheel.name, wheel.file) for wheel in self.wheels)
        if len({wheel.name for wheel in self.wheels}) != len(self.wheels):
            raise _bad("a project stands twice among the wheels")

    def to_bytes(self) -> bytes:
        """Return the one spelling of the lock."""
        lines = [f"version = {VERSION}", f"tool = {_quote(self.tool)}", f"epoch = {self.epoch}"]
        lines += [f"requirements = {_quote(self.requirements.hex())}"]
        runtime = self.runtime
        commit = [] if runtime.commit is None else [("commit", runtime.commit)]
        lines += _table(
            "[runtime]", ("name", runtime.name), ("version", runtime.version), *commit, ("profile", runtime.profile)
        )
        for file in runtime.files:
            lines += _table("[[runtime.file]]", ("path", file.path), ("size", file.size), ("sha256", file.sha256))
        if self.debian is not None:
            debian = self.debian
            head = (("suite", debian.suite), ("inrelease", debian.inrelease), ("signer", debian.signer))
            lines += _table("[debian]", *head, ("keyring", debian.keyring))
            for package in debian.packages:
                row = (("name", package.name), ("version", package.version), ("arch", package.arch))
                rest = (("file", package.file), ("size", package.size), ("sha256", package.sha256))
                lines += _table("[[debian.package]]", *row, *rest)
        for wheel in self.wheels:
            first = (("name", wheel.name), ("version", wheel.version), ("file", wheel.file))
            lines += _table("[[wheel]]", *first, ("size", wheel.size), ("sha256", wheel.sha256))
        return ("\n".join(lines) + "\n").encode("utf-8")

    @classmethod
    def from_bytes(cls, data: bytes) -> "Lock":
        """Return the lock of exactly these bytes.

        Raises FormatError: format.newer, lock.file.malformed, or lock.file.noncanonical if writing it again differs.
        """
        if len(data) > MAX_BYTES:
            raise _bad(f"{FILE} has {len(data)} bytes, at most {MAX_BYTES} are allowed")
        try:
            value = stricttoml.loads(data.decode("utf-8"))
        except (ValueError, RecursionError):
            raise _bad(f"{FILE} is not TOML") from None
        require_version(value.get("version"), FILE)
        names = {"version", "tool", "epoch", "requirements", "runtime"}
        _keys(value, names, {"debian", "wheel"}, FILE)
        lock = cls(
            tool=_text(value["tool"]),
            epoch=value["epoch"],
            requirements=_hex(value["requirements"], 32),
            runtime=_read_runtime(value["runtime"]),
            debian=_read_debian(value["debian"]) if "debian" in value else None,
            wheels=tuple(_read_wheel(row) for row in _rows(value, "wheel")),
        )
        if lock.to_bytes() != data:
            raise FormatError(
                "lock.file.noncanonical",
                f"{FILE} is not spelt as this tool writes it",
                hint="run: glasscase lock",
                what=FILE,
            )
        return lock

    def inputs(self) -> int:
        """Return how many files are pinned."""
        packages = () if self.debian is None else self.debian.packages
        return len(self.runtime.files) + len(packages) + len(self.wheels)


def _check_runtime(runtime: LockedRuntime) -> None:
    for name in ("name", "version", "profile"):
        _word(getattr(runtime, name), f"runtime.{name}")
    if runtime.commit is not None:
        _word(runtime.commit, "runtime.commit")
    for file in runtime.files:
        check_path(file.path)
        _sized(file.size, file.sha256, file.path)
    _sorted((file.path,) for file in runtime.files)


def _check_debian(debian: LockedDebian) -> None:
    _word(debian.suite, "debian.suite")
    _digest(debian.inrelease, "debian.inrelease", 32)
    _digest(debian.signer, "debian.signer", 20)
    _digest(debian.keyring, "debian.keyring", 32)
    for package in debian.packages:
        for name in ("name", "version", "arch"):
            _word(getattr(package, name), f"debian.package.{name}")
        check_path(package.file)
        _sized(package.size, package.sha256, package.file)
    _sorted((package.name, package.file) for package in debian.packages)
    if len({package.name for package in debian.packages}) != len(debian.packages):
        raise _bad("a Debian package stands twice")


def _read_runtime(value: Any) -> LockedRuntime:
    _keys(value, {"name", "version", "profile", "file"}, {"commit"}, "[runtime]")
    files = []
    for row in _rows(value, "file"):
        _keys(row, {"path", "size", "sha256"}, set(), "[[runtime.file]]")
        files.append(LockedFile(_text(row["path"]), row["size"], _hex(row["sha256"], 32)))
    commit = _text(value["commit"]) if "commit" in value else None
    return LockedRuntime(_text(value["name"]), _text(value["version"]), commit, _text(value["profile"]), tuple(files))


def _read_debian(value: Any) -> LockedDebian:
    _keys(value, {"suite", "inrelease", "signer", "keyring", "package"}, set(), "[debian]")
    packages = []
    for row in _rows(value, "package"):
        _keys(row, {"name", "version", "arch", "file", "size", "sha256"}, set(), "[[debian.package]]")
        name, version, arch, file = (_text(row[key]) for key in ("name", "version", "arch", "file"))
        packages.append(LockedPackage(name, version, arch, file, row["size"], _hex(row["sha256"], 32)))
    return LockedDebian(
        suite=_text(value["suite"]),
        inrelease=_hex(value["inrelease"], 32),
        signer=_hex(value["signer"], 20),
        keyring=_hex(value["keyring"], 32),
        packages=tuple(packages),
    )


def _read_wheel(row: Any) -> LockedWheel:
    _keys(row, {"name", "version", "file", "size", "sha256"}, set(), "[[wheel]]")
    return LockedWheel(
        _text(row["name"]), _text(row["version"]), _text(row["file"]), row["size"], _hex(row["sha256"], 32)
    )


def _table(head: str, *pairs: tuple[str, Any]) -> list[str]:
    lines = ["", head]
    for key, value in pairs:
        shown = str(value) if isinstance(value, int) else _quote(value.hex() if isinstance(value, bytes) else value)
        lines.append(f"{key} = {shown}")
    return lines


def _quote(text: str) -> str:
    return '"' + "".join(_ESCAPE.get(character, character) for character in text) + '"'


def _rows(value: dict[str, Any], key: str) -> list[Any]:
    rows = value.get(key, [])
    if not isinstance(rows, list):
        raise _bad(f"{key} is not an array of tables")
    return rows


def _keys(value: Any, required: set[str], optional: set[str], where: str) -> None:
    if not isinstance(value, dict):
        raise _bad(f"{where} is not a table")
    for key in sorted(value.keys() - required - optional):
        raise _bad(f"{where} holds the unknown key {key!r}")
    for key in sorted(required - value.keys()):
        raise _bad(f"{where} lacks the key {key!r}")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _bad(f"{value!r} is not text")
    return value


def _hex(value: Any, size: int) -> bytes:
    return from_hex(_text(value), size, f"a digest in {FILE}")


def _word(value: str, name: str) -> None:
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise _bad(f"{name} is {value!r}")


def _uint(value: Any, name: str, high: int) -> None:
    if type(value) is not int or not 0 <= value <= high:
        raise _bad(f"{name} is {value!r}, expected an integer up to {high}")


def _digest(value: bytes, name: str, size: int) -> None:
    if not isinstance(value, bytes) or len(value) != size:
        raise _bad(f"{name} must have {size} bytes")


def _sized(size: Any, digest: bytes, name: str) -> None:
    _uint(size, f"the size of {name}", INPUT_MAX)
    _digest(digest, f"the digest of {name}", 32)


def _sorted(keys: Iterable[tuple[str, ...]]) -> None:
    rows = [tuple(part.encode("utf-8") for part in key) for key in keys]
    if rows != sorted(set(rows)):
        raise _bad("a table is out of order or stands twice")


def _bad(message: str) -> FormatError:
    return FormatError(_MALFORMED, message, hint="run: glasscase lock", what=FILE)
