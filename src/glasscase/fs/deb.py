"""Reading files out of a .deb without unpacking it to disk.

Invariants: nothing is written; sizes are limited before they are read; names are only compared, never used as paths.
Source: deb(5), ar(5). Compression: none, gzip, bzip2, xz; another one through the host's dpkg-deb.
"""

import bz2
import io
import lzma
import subprocess
import tarfile
import tempfile
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from glasscase.errors import FormatError
from glasscase.fs.atomic import read_stream

DEB_MAX = 1 << 30  # bytes of a package
UNPACKED_MAX = 4 << 30  # bytes of its data archive
_MAGIC = b"!<arch>\n"
_HEADER = 60
_DPKG_S = 600  # seconds of one run of dpkg-deb
_GZIP = 31  # of zlib: a gzip header, the largest window


@dataclass(frozen=True)
class DebFile:
    """One regular file. path: absolute, as it is installed."""

    path: str
    content: bytes


@dataclass(frozen=True)
class Deb:
    """A package: its control fields, the chosen files, and symbolic links as path -> target."""

    control: dict[str, str]
    files: tuple[DebFile, ...]
    links: dict[str, str]
    names: tuple[str, ...]


def read_deb(data: bytes, *, choose: Callable[[str], bool], file_max: int) -> Deb:
    """Return control fields, all names, links, and the content of the files that `choose` picks by absolute path.

    file_max: bytes of one chosen file. Raises FormatError("fs.deb.malformed").
    """
    name, control = _member(data, "control.tar")
    fields: dict[str, str] = {}
    for member, content in _entries(_unpack(data, name, control), lambda path: path == "/control", 1 << 20):
        if member == "/control" and isinstance(content, bytes):
            fields = _fields(content)
    files, links, names = [], {}, []
    for member, item in _entries(data_tar(data), choose, file_max):
        names.append(member)
        if isinstance(item, bytes):
            files.append(DebFile(member, item))
        elif isinstance(item, str):
            links[member] = item
    return Deb(fields, tuple(files), links, tuple(names))


def data_tar(deb: bytes) -> bytes:
    """Return the archive of what a package installs, not compressed; raises FormatError("fs.deb.malformed")."""
    name, body = _member(deb, "data.tar")
    return _unpack(deb, name, body)


def _member(deb: bytes, prefix: str) -> tuple[str, bytes]:
    members = _members(deb)
    found = next(((name, body) for name, body in members.items() if name.startswith(prefix)), None)
    if members.get("debian-binary", b"")[:2] != b"2." or found is None:
        raise _malformed(f"it has no debian-binary or no {prefix}")
    return found


def _members(data: bytes) -> dict[str, bytes]:
    if not data.startswith(_MAGIC):
        raise _malformed("it is not an ar archive")
    found: dict[str, bytes] = {}
    at = len(_MAGIC)
    while at < len(data):
        header = data[at : at + _HEADER]
        size_text = header[48:58].rstrip(b" ")
        if len(header) < _HEADER or header[58:60] != b"`\n" or not size_text.isdigit():
            raise _malformed("a member's header is broken")
        size = int(size_text)
        at += _HEADER
        if size > len(data) - at:
            raise _malformed("it ends too early")
        found.setdefault(header[:16].rstrip(b" ").rstrip(b"/").decode("ascii", "replace"), data[at : at + size])
        at += size + size % 2
    return found


def _unpack(deb: bytes, name: str, body: bytes) -> bytes:
    try:
        if name.endswith(".tar"):
            return body
        if name.endswith(".gz"):
            return _whole(zlib.decompressobj(wbits=_GZIP), body)
        if name.endswith(".bz2"):
            return _whole(bz2.BZ2Decompressor(), body)
        if name.endswith(".xz"):
            return _whole(lzma.LZMADecompressor(lzma.FORMAT_XZ), body)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise _malformed(f"{name} cannot be unpacked: {error}") from None
    return _with_dpkg(deb, "--ctrl-tarfile" if name.startswith("control") else "--fsys-tarfile", name)


def _whole(decompressor: Any, body: bytes) -> bytes:
    """Return what one compressed stream holds, of which `body` is all: dpkg would read on where this stops."""
    data: bytes = decompressor.decompress(body, UNPACKED_MAX + 1)
    _limited(data)
    if not decompressor.eof or decompressor.unused_data:
        raise _malformed("its archive is cut, or more stands behind it")
    return data


def _with_dpkg(deb: bytes, part: str, name: str) -> bytes:
    with tempfile.TemporaryFile() as file:
        file.write(deb)
        file.seek(0)
        try:
            process = subprocess.Popen(
                ["dpkg-deb", part, "/dev/stdin"], stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={}
            )
        except FileNotFoundError:
            raise FormatError(
                "fs.deb.compression",
                f"{name} is compressed in a way that Python does not read, and dpkg-deb is not installed",
                hint="install dpkg (1.21.18 or newer for zstd)",
            ) from None
        timer = threading.Timer(_DPKG_S, process.kill)
        timer.start()
        try:
            data = read_stream(process.stdout, max_bytes=UNPACKED_MAX, what=name)
            failed = process.wait() != 0
        except FormatError:
            raise _too_large() from None
        finally:
            timer.cancel()
            process.kill()
            if process.stdout is not None:
                process.stdout.close()  # what dpkg-deb has started to unpack ends by it
            process.wait()
    if failed:
        raise _malformed("dpkg-deb cannot read it")
    return data


def _limited(data: bytes) -> bytes:
    if len(data) > UNPACKED_MAX:
        raise _too_large()
    return data


def _too_large() -> FormatError:
    return _malformed("it is too large when unpacked")


def _entries(archive: bytes, choose: Callable[[str], bool], file_max: int) -> list[tuple[str, bytes | str | None]]:
    """Return (absolute path, content of a chosen file | target of a link | None) for every file and link."""
    found: list[tuple[str, bytes | str | None]] = []
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
            for member in tar:
                path = "/" + member.name.removeprefix("./").lstrip("/")
                if member.issym():
                    found.append((path, member.linkname))
                elif member.isreg():
                    if not choose(path):
                        found.append((path, None))
                        continue
                    if member.size > file_max:
                        raise _malformed(f"{path!r} has {member.size} bytes, at most {file_max} are allowed")
                    reader = tar.extractfile(member)
                    found.append((path, reader.read() if reader else b""))
    except tarfile.TarError as error:
        raise _malformed(f"its archive is broken: {error}") from None
    return found


def _fields(control: bytes) -> dict[str, str]:
    lines = control.decode("utf-8", "replace").splitlines()
    pairs = (line.partition(":") for line in lines if line and not line[0].isspace())
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}


def _malformed(why: str) -> FormatError:
    return FormatError("fs.deb.malformed", f"this is not a usable .deb: {why}", what=".deb")
