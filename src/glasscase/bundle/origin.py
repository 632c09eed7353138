"""Where each file of a bundle comes from: a wheel, a Debian package, Gramine, the application, or glasscase itself.

Invariants: an origin is derived from the bundle's own bytes (RECORD of the wheels with its digests, digests of the runtime) and
from the locked Debian packages, as far as they are at hand; what nothing explains is `unexplained`, never guessed. Compiled Python is
named as such: whether it is that of the source beside it, only a rebuild shows.
Source: docs/bundle-format.md, "Origins".
"""

import base64
import csv
import dataclasses
import hashlib
import io
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from glasscase.bundle.debfiles import GENERATED, debian_files
from glasscase.bundle.index import CONFIG, IMPORTS, MANIFEST, ROOTFS, RUNTIME, Bundle, FileEntry
from glasscase.bundle.rootfs import BOOTSTRAP, MAIN, SITE
from glasscase.errors import FormatError
from glasscase.fs.atomic import read_file
from glasscase.lock.cache import InputCache
from glasscase.lock.model import Lock
from glasscase.lock.requirements import OWN

RECORD_MAX = 64 << 20  # bytes of one RECORD
KINDS = ("deb", "wheel", "gramine", "app", "generated", "compiled", "unexplained")
UNPROVEN = ("compiled", "unexplained")  # what the bundle's bytes do not show
_DIST_INFO = re.compile(re.escape(SITE) + r"([^/]+)-([^/-]+)\.dist-info/RECORD")
_COMPILED = re.compile(r"(?P<folder>.+/)__pycache__/(?P<name>[^/]+)\.cpython-[0-9]+\.pyc")
_DEBIAN = (f"{ROOTFS}usr/", f"{ROOTFS}etc/")


@dataclass(frozen=True)
class WheelFile:
    """What a RECORD says of one file. sha256: empty if it says none."""

    project: str
    version: str
    sha256: bytes


@dataclass(frozen=True)
class FileOrigin:
    """One file. kind: one of KINDS. package, version: of the wheel, Debian package or runtime, else empty."""

    path: str
    size: int
    sha256: bytes
    kind: str
    package: str = ""
    version: str = ""

    @property
    def source(self) -> str:
        """Return for example "wheel idna 3.20"."""
        return " ".join(part for part in (self.kind, self.package, self.version) if part)


def origins(bundle: Bundle, *, cache: InputCache | None = None) -> tuple[FileOrigin, ...]:
    """Return the origin of every file that the enclave trusts: rootfs/ and runtime/, in the order of the index.

    cache: where the locked Debian packages may lie; without it their files stay unexplained.
    """

    def read(path: str) -> bytes:
        return read_file(os.path.join(bundle.path, path), max_bytes=RECORD_MAX, what="RECORD")

    records = wheel_records(bundle.index.files, bundle.lock, read)
    debian = {} if cache is None else _debian_packages(bundle, cache)
    return trace(bundle.index.files, bundle.lock, records=records, debian=debian)


def trace(
    files: Sequence[FileEntry], lock: Lock, *, records: Mapping[str, WheelFile], debian: Mapping[str, str]
) -> tuple[FileOrigin, ...]:
    """Return the origin of every file of rootfs/ and runtime/, in the order given.

    records: of wheel_records. debian: path -> locked Debian package, as far as it is known.
    """
    versions = {} if lock.debian is None else {package.name: package.version for package in lock.debian.packages}
    runtime = {file.sha256 for file in lock.runtime.files}
    paths = {file.path for file in files}
    found = []
    for file in files:
        if file.path.startswith((ROOTFS, RUNTIME)):
            kind, package, version = _origin(file, lock, records, runtime, paths)
            name = debian.get(file.path, "") if kind == "unexplained" and file.path.startswith(_DEBIAN) else ""
            if name in versions:
                kind, package, version = "deb", name, versions[name]
            found.append(FileOrigin(file.path, file.size, file.sha256, kind, package, version))
    return tuple(found)


def wheel_records(files: Iterable[FileEntry], lock: Lock, read: Callable[[str], bytes]) -> dict[str, WheelFile]:
    """Return path -> what a RECORD in opt/site says of it, for the RECORDs of locked wheels. read: gives a file by path.

    Raises FormatError("bundle.wheel.malformed") for a RECORD that is no list of files.
    """
    locked = {wheel.name: wheel.version for wheel in lock.wheels}
    found: dict[str, WheelFile] = {}
    for file in files:
        match = _DIST_INFO.fullmatch(file.path)
        name = re.sub(r"[-_.]+", "-", match[1]).lower() if match else ""
        if name not in locked:
            continue
        try:
            rows = [row for row in csv.reader(io.StringIO(read(file.path).decode("utf-8"))) if row]
            found |= {SITE + row[0]: WheelFile(name, locked[name], _digest(row[1])) for row in rows}
            found[file.path] = WheelFile(name, locked[name], file.sha256)  # a RECORD does not list its own digest
        except (csv.Error, IndexError, ValueError):  # ValueError: no UTF-8, no base64
            raise FormatError("bundle.wheel.malformed", f"{file.path!r} is no list of files", what="RECORD") from None
    return found


def coverage(found: Iterable[FileOrigin]) -> tuple[float, float]:
    """Return per cent of files, and of bytes, whose origin is shown; 100 for none."""
    listed = list(found)
    known = [file for file in listed if file.kind not in UNPROVEN]
    files = 100.0 * len(known) / len(listed) if listed else 100.0
    total = sum(file.size for file in listed)
    return files, 100.0 * sum(file.size for file in known) / total if total else 100.0


def _origin(
    file: FileEntry, lock: Lock, records: Mapping[str, WheelFile], runtime: set[bytes], paths: set[str]
) -> tuple[str, str, str]:
    """Return kind, package and version as far as the bundle's own bytes tell them."""
    if file.path in (CONFIG, IMPORTS, MANIFEST):
        return "generated", "", ""
    gramine = file.path.startswith((RUNTIME, f"{ROOTFS}lib/", f"{ROOTFS}lib64/"))
    if gramine and file.sha256 in runtime:
        return "gramine", lock.runtime.name, lock.runtime.version
    record = records.get(SITE + BOOTSTRAP if file.path == MAIN else file.path)
    if record is not None and record.sha256 == file.sha256 and (file.path != MAIN or record.project == OWN):
        return "wheel", record.project, record.version
    if file.path.startswith(f"{ROOTFS}app/"):
        return "app", "", ""
    made = GENERATED.get(file.path.removeprefix(ROOTFS))
    if made is not None and hashlib.sha256(made).digest() == file.sha256:
        return "generated", "", ""
    compiled = _COMPILED.fullmatch(file.path)
    if compiled is not None and f"{compiled['folder']}{compiled['name']}.py" in paths:
        return "compiled", "", ""
    return "unexplained", "", ""


def _digest(text: str) -> bytes:
    """Return the SHA-256 of a RECORD's second field, nothing if it has none."""
    kind, _, value = text.partition("=")
    return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)) if kind == "sha256" else b""


def _debian_packages(bundle: Bundle, cache: InputCache) -> dict[str, str]:
    """Return path -> package of the files whose bytes are those that a locked package in the cache gives."""
    debian = bundle.lock.debian
    if debian is None:
        return {}
    here = tuple(package for package in debian.packages if os.path.exists(cache.path(package.sha256)))
    made = debian_files(dataclasses.replace(debian, packages=here), cache)
    digests = {file.path: file.sha256 for file in bundle.index.files}
    return {
        ROOTFS + path: file.origin
        for path, file in made.items()
        if hashlib.sha256(file.content).digest() == digests.get(ROOTFS + path)
    }
