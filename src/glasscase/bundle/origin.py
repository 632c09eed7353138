"""Where each file of a bundle comes from: a wheel, a Debian package, Gramine, the application, or glasscase itself.

Invariants: an origin is derived from the bundle's own bytes (RECORD of the wheels, digests of the runtime) and from the locked
Debian packages, as far as the cache holds them; what nothing explains is `unexplained`, never guessed.
Source: docs/bundle-format.md, "Origins".
"""

import csv
import dataclasses
import hashlib
import io
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from glasscase.bundle.debfiles import debian_files
from glasscase.bundle.index import CONFIG, IMPORTS, MANIFEST, ROOTFS, RUNTIME, Bundle, FileEntry
from glasscase.bundle.rootfs import MAIN, SITE
from glasscase.errors import FormatError
from glasscase.fs.atomic import read_file
from glasscase.lock.cache import InputCache

RECORD_MAX = 64 << 20  # bytes of one RECORD
KINDS = ("deb", "wheel", "gramine", "app", "generated", "unexplained")
_DIST_INFO = re.compile(re.escape(SITE) + r"([^/]+)-([^/-]+)\.dist-info/RECORD")


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
    wheels = _wheel_files(bundle)
    packages = {} if cache is None else _debian_files(bundle, cache)
    runtime = {file.sha256 for file in bundle.lock.runtime.files}
    found = []
    for file in bundle.index.files:
        if file.path.startswith((ROOTFS, RUNTIME)):
            kind, package, version = _origin(bundle, file, wheels, packages, runtime)
            found.append(FileOrigin(file.path, file.size, file.sha256, kind, package, version))
    return tuple(found)


def coverage(found: Iterable[FileOrigin]) -> tuple[float, float]:
    """Return per cent of files, and of bytes, that have an origin; 100 for none."""
    listed = list(found)
    known = [file for file in listed if file.kind != "unexplained"]
    files = 100.0 * len(known) / len(listed) if listed else 100.0
    total = sum(file.size for file in listed)
    return files, 100.0 * sum(file.size for file in known) / total if total else 100.0


def _origin(
    bundle: Bundle,
    file: FileEntry,
    wheels: Mapping[str, tuple[str, str]],
    packages: Mapping[str, tuple[bytes, str, str]],
    runtime: set[bytes],
) -> tuple[str, str, str]:
    if file.path in (CONFIG, IMPORTS, MANIFEST):
        return "generated", "", ""
    if file.path == MAIN:
        own = next((wheel.version for wheel in bundle.lock.wheels if wheel.name == "glasscase"), "")
        return "wheel", "glasscase", own
    if file.path.startswith(RUNTIME) or (
        file.path.startswith((f"{ROOTFS}lib/", f"{ROOTFS}lib64/")) and file.sha256 in runtime
    ):
        return "gramine", bundle.lock.runtime.name, bundle.lock.runtime.version
    if file.path in wheels:
        return "wheel", *wheels[file.path]
    if file.path.startswith(f"{ROOTFS}app/"):
        return "app", "", ""
    known = packages.get(file.path.removeprefix(ROOTFS))
    if known is not None and known[0] == file.sha256:
        return ("deb", *known[1:]) if known[1] else ("generated", "", "")
    return "unexplained", "", ""


def _wheel_files(bundle: Bundle) -> dict[str, tuple[str, str]]:
    """Return path -> (project, version) by the RECORDs in opt/site, each of which must be that of a locked wheel."""
    locked = {wheel.name: wheel.version for wheel in bundle.lock.wheels}
    found: dict[str, tuple[str, str]] = {}
    for file in bundle.index.files:
        match = _DIST_INFO.fullmatch(file.path)
        if match is None:
            continue
        name = re.sub(r"[-_.]+", "-", match[1]).lower()
        if name not in locked:
            continue
        record = read_file(os.path.join(bundle.path, file.path), max_bytes=RECORD_MAX, what="RECORD")
        try:
            rows = list(csv.reader(io.StringIO(record.decode("utf-8"))))
        except (UnicodeDecodeError, csv.Error):
            raise FormatError("bundle.wheel.malformed", f"{file.path!r} is no list of files", what="RECORD") from None
        found |= {SITE + row[0]: (name, locked[name]) for row in rows if row}
    return found


def _debian_files(bundle: Bundle, cache: InputCache) -> dict[str, tuple[bytes, str, str]]:
    """Return path in rootfs -> (SHA-256, package, version) of what the locked packages in the cache give.

    Files that are made beside the packages (etc/hosts and the like) have an empty package.
    """
    debian = bundle.lock.debian
    if debian is None:
        return {}
    here = tuple(package for package in debian.packages if os.path.exists(cache.path(package.sha256)))
    versions = {package.name: package.version for package in here}
    made = debian_files(dataclasses.replace(debian, packages=here), cache)
    return {
        path: (hashlib.sha256(file.content).digest(), file.origin, versions[file.origin])
        if file.origin in versions
        else (hashlib.sha256(file.content).digest(), "", "")
        for path, file in made.items()
    }
