"""The files of Debian packages, taken from the .deb itself: nothing is installed, no script of a package runs.

Invariants: a closed list says what goes into rootfs; every other file is left out by a rule that stands here; shared libraries
become one real file per SONAME, so that no link remains.
Source: deb(5); docs/bundle-format.md, "Debian packages".
"""

import io
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from glasscase.errors import FormatError
from glasscase.fs.deb import data_tar
from glasscase.fs.walk import check_path
from glasscase.gramine.dynamic import MAGIC, read_dynamic
from glasscase.lock.cache import InputCache
from glasscase.lock.model import LockedDebian

LIBRARIES = "usr/lib/x86_64-linux-gnu"
CERTIFICATES = "usr/share/ca-certificates/"
CERTIFICATE_BUNDLE = "etc/ssl/certs/ca-certificates.crt"
TAKEN_ETC = ("etc/mime.types", "etc/services", "etc/protocols")
UNPACKED_MAX = 2 << 30  # bytes of one package
# parts of the standard library that serve building, testing or a desktop
PRUNED = (
    "test", "tests", "idlelib", "lib2to3", "ensurepip", "distutils", "turtledemo", "tkinter", "pydoc_data", "__pycache__",
)  # fmt: skip
PRUNED_FILES = ("sitecustomize.py", "turtle.py", "EXTERNALLY-MANAGED")
PRUNED_MODULES = re.compile(
    r"(readline|_curses\w*|_dbm|_gdbm|nis|_crypt|_test\w*|xx\w*|_xxtest\w*|ossaudiodev|_ctypes_test|_tkinter)\..*"
)
# made here, because packages make them by scripts that do not run
GENERATED = {
    "etc/group": b"root:x:0:\n",
    "etc/hosts": b"127.0.0.1 localhost\n::1 localhost\n",
    "etc/nsswitch.conf": b"passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
    "etc/passwd": b"root:x:0:0:root:/tmp:/nonexistent\n",
}
_STDLIB = re.compile(r"usr/lib/python3\.\d+/(?P<rest>.+)")
_INTERPRETER = re.compile(r"usr/bin/python3\.\d+")
_LIBRARY = re.compile(rf"{LIBRARIES}/[^/]+\.so(\.[^/]+)?")


@dataclass(frozen=True)
class RootFile:
    """One file of rootfs. origin: the package it comes from."""

    content: bytes
    executable: bool
    origin: str


def debian_files(debian: LockedDebian, cache: InputCache) -> dict[str, RootFile]:
    """Return what the locked packages put into rootfs, by path.

    Raises FormatError("bundle.deb.malformed") for a broken package, ("bundle.file.twice") if two packages differ on a path.
    """
    found: dict[str, RootFile] = {}
    certificates: dict[str, bytes] = {}
    for package in debian.packages:
        data = cache.read(package.sha256, package.size, package.file.rpartition("/")[2])
        for path, content, executable in _members(data, package.name):
            if path.startswith(CERTIFICATES) and path.endswith(".crt"):
                certificates[path] = content
                continue
            target = _target(path, content)
            if target is None:
                continue
            check_path(target)
            made = RootFile(content, executable or target.startswith("usr/bin/"), package.name)
            if found.setdefault(target, made).content != content:
                raise FormatError(
                    "bundle.file.twice", f"two packages give {target!r}: {found[target].origin}, {package.name}"
                )
    for path, content in GENERATED.items():
        found[path] = RootFile(content, executable=False, origin="generated")
    if certificates:
        ordered = [certificates[path] for path in sorted(certificates, key=lambda path: path.encode("utf-8"))]
        joined = b"".join(item if item.endswith(b"\n") else item + b"\n" for item in ordered)
        found[CERTIFICATE_BUNDLE] = RootFile(joined, executable=False, origin="ca-certificates")
    return found


def check_libraries(files: Mapping[str, bytes], *, provided: frozenset[str]) -> None:
    """Raise FormatError("bundle.library.missing") unless every library that an ELF file of rootfs needs is in rootfs.

    files: path in rootfs -> content of every ELF file. provided: names that come from outside of rootfs, for the simulator.
    """
    names = {path.rpartition("/")[2] for path in files} | provided
    for path in sorted(files):
        info = read_dynamic(files[path], path)
        wanted = [*info.needed, *([info.interpreter] if info.interpreter else [])]
        for name in wanted:
            if name.rpartition("/")[2] not in names:
                raise FormatError(
                    "bundle.library.missing", f"{path!r} needs {name!r}, which is not in rootfs",
                    hint="leave out the wheel that needs it, or use one that brings its libraries",
                )  # fmt: skip


def _target(path: str, content: bytes) -> str | None:
    """Return the path in rootfs of a package's file, or None if the closed list does not name it."""
    if path.startswith(("lib/", "lib64/", "bin/", "sbin/")):
        path = f"usr/{path}"
    if path in TAKEN_ETC or _INTERPRETER.fullmatch(path):
        return path
    if match := _STDLIB.fullmatch(path):
        parts = match["rest"].split("/")
        if any(part in PRUNED or part.startswith("config-3") for part in parts[:-1]) or parts[-1] in PRUNED_FILES:
            return None
        if parts[0] == "lib-dynload" and PRUNED_MODULES.fullmatch(parts[-1]):
            return None
        return None if parts[-1].endswith(".pyc") else path
    if _LIBRARY.fullmatch(path) and content.startswith(MAGIC):
        soname = read_dynamic(content, path).soname
        return f"{LIBRARIES}/{soname}" if soname and "/" not in soname else None
    return None


def _members(deb: bytes, name: str) -> Iterator[tuple[str, bytes, bool]]:
    """Yield path, content and executable bit of the regular files of a package; links and directories are left out."""
    total = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(data_tar(deb)), mode="r:") as archive:
            for member in archive:
                if not member.isreg():
                    continue
                total += member.size
                if total > UNPACKED_MAX:
                    raise _malformed(name, "it unpacks to too many bytes")
                file = archive.extractfile(member)
                if file is not None:
                    yield member.name.removeprefix("./"), file.read(), bool(member.mode & 0o111)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise _malformed(name, str(error)) from None
    except FormatError as error:
        raise _malformed(name, error.message) if error.reason == "fs.deb.malformed" else error from None


def _malformed(name: str, why: str) -> FormatError:
    return FormatError("bundle.deb.malformed", f"the Debian package {name} is not sound: {why}", what="deb")
