"""Taking a Gramine runtime out of an installation, an unpacked tree, a bundle or a .deb.

Invariants: what comes out are plain bytes by the names that a bundle uses (loader, libpal.so, libsysdb.so, libc/SONAME) with
the pin that describes exactly them. Importing says "I trust these bytes"; nothing here vouches for them.
Source: docs/bundle-format.md, "Runtime".
"""

import hashlib
import os
import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from glasscase.errors import FormatError, UsageError
from glasscase.fs.atomic import read_file
from glasscase.fs.deb import DEB_MAX, Deb, read_deb
from glasscase.gramine.elf import read_pal
from glasscase.gramine.pins import NAME, RuntimeFile, RuntimePin
from glasscase.gramine.profiles import profile, profile_of_release

FILE_MAX = 64 << 20  # bytes of one file
LIBC = (
    "ld-linux-x86-64.so.2", "libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1",
    "libresolv.so.2", "libanl.so.1", "libmvec.so.1", "libnss_files.so.2", "libnss_dns.so.2",
)  # fmt: skip
LIBC_NEEDED = LIBC[:3]
DIRECT = ("libpal.so", "loader")  # of Gramine without SGX, in direct/ of an installation
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~-]{0,62}", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)
# where an installation lies below the path that is given
_PLACES = ("", "gramine", "lib/gramine", "lib/x86_64-linux-gnu/gramine", "lib64/gramine")
_PREFIXES = ("", "usr", "usr/local")
_Read = Callable[[str], bytes | None]


@dataclass(frozen=True)
class Imported:
    """A runtime with its content. files: path below runtime/ -> bytes.

    direct: loader and libpal.so for Gramine without SGX, if they were there; they are no part of a bundle or of its pin.
    """

    pin: RuntimePin
    files: Mapping[str, bytes]
    direct: Mapping[str, bytes]


def import_runtime(
    path: str, *, name: str | None, version: str | None, commit: str | None, series: str | None
) -> Imported:
    """Return the runtime that lies at `path`.

    name: how it shall be called, default gramine-VERSION. version: of Gramine; a .deb names its own. commit: 40 digits, if
    it is known. series: the profile, default the one of the version.
    Raises UsageError("gramine.runtime.*") if something is missing or wrong, FormatError for files that are no runtime.
    """
    if os.path.isdir(path):
        files, direct = _from_tree(lambda below: _read_below(path, below))
    else:
        deb = read_deb(
            read_file(path, max_bytes=DEB_MAX, what=".deb"), choose=lambda name: "/gramine/" in name, file_max=FILE_MAX
        )
        files, direct = _from_tree(_reader_of(deb))
        version = version or deb.control.get("Version", "").partition(":")[2] or deb.control.get("Version")
    if not files:
        raise UsageError(
            "gramine.runtime.absent",
            f"there is no Gramine for SGX at {path!r}: no sgx/libpal.so, sgx/loader and libsysdb.so",
            hint="give the directory that holds gramine/, for example /usr/lib/x86_64-linux-gnu, or its .deb",
        )
    if not version:
        raise UsageError(
            "gramine.runtime.unnamed", "an installation does not name its version", hint="give --version 1.9"
        )
    pin = RuntimePin(
        name=_match(NAME, name or f"gramine-{version.lower().replace('~', '-')}", "name"),
        version=_match(_VERSION, version, "version"),
        commit=None if commit is None else _match(_COMMIT, commit, "commit"),
        profile=profile(series).name if series else profile_of_release(version).name,
        files=tuple(
            RuntimeFile(file, len(content), hashlib.sha256(content).digest()) for file, content in sorted(files.items())
        ),
    )
    read_pal(files["libpal.so"])
    return Imported(pin, files, direct)


def pin_text(pin: RuntimePin) -> bytes:
    """Return the pin file that gramine.pins.parse_pin reads."""
    from glasscase.gramine.toml import write_toml

    head = {"name": pin.name, "version": pin.version} | ({"commit": pin.commit} if pin.commit else {})
    rows = [{"path": file.path, "size": file.size, "sha256": file.sha256.hex()} for file in pin.files]
    return write_toml(head | {"profile": pin.profile, "file": rows})


def _from_tree(read: _Read) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Return the files of the first place that holds a runtime, in the layout of Gramine or of a bundle, and its direct ones."""
    for place in [posixpath.join(prefix, place) for prefix in _PREFIXES for place in _PLACES]:
        for sgx, libc in (("sgx/", "runtime/glibc/"), ("", "libc/")):
            files = {
                "libpal.so": read(posixpath.join(place, f"{sgx}libpal.so")),
                "loader": read(posixpath.join(place, f"{sgx}loader")),
                "libsysdb.so": read(posixpath.join(place, "libsysdb.so")),
            }
            found = {name: content for name, content in files.items() if content is not None}
            if len(found) < len(files):
                continue
            for soname in LIBC:
                content = read(posixpath.join(place, libc + soname))
                if content is not None:
                    found[f"libc/{soname}"] = content
            _check_libc(found)
            return found, _direct(place, read)
    return {}, {}


def _direct(place: str, read: _Read) -> dict[str, bytes]:
    """Return loader and libpal.so of Gramine without SGX, both or none."""
    contents = {name: read(posixpath.join(place, "direct", name)) for name in DIRECT}
    found = {name: content for name, content in contents.items() if content is not None}
    if len(found) < len(DIRECT):
        return {}
    _require_elf({f"direct/{name}": content for name, content in found.items()})
    return found


def _check_libc(found: Mapping[str, bytes]) -> None:
    missing = [soname for soname in LIBC_NEEDED if f"libc/{soname}" not in found]
    if missing:
        raise UsageError(
            "gramine.runtime.libc",
            f"Gramine's patched C library is not there: {', '.join(missing)} in runtime/glibc",
            hint="install the complete Gramine; the host's C library cannot run inside",
        )
    _require_elf(found)


def _require_elf(files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        if not content.startswith(b"\x7fELF\x02"):
            raise FormatError("gramine.runtime.malformed", f"{name!r} is not an ELF file", what="runtime")


def _read_below(root: str, below: str) -> bytes | None:
    path = os.path.join(root, below)
    return read_file(path, max_bytes=FILE_MAX, what=below) if os.path.isfile(path) else None


def _reader_of(deb: Deb) -> _Read:
    files = {file.path: file.content for file in deb.files}

    def read(below: str) -> bytes | None:
        path = posixpath.normpath("/" + below)
        for _ in range(8):  # links of a library name to its versioned file
            if path in files:
                return files[path]
            if path not in deb.links:
                return None
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), deb.links[path]))
        return None

    return read


def _match(pattern: re.Pattern[str], text: str, what: str) -> str:
    if not pattern.fullmatch(text):
        raise UsageError("gramine.runtime.unnamed", f"the {what} {text!r} is not allowed, expected {pattern.pattern}")
    return text
