"""The files of a wheel, unpacked by the rules of the wheel format and never run.

Invariants: every file has the SHA-256 that the wheel's RECORD lists; no console scripts, no compiled Python, nothing that
tells how it was installed; names are checked before anything is written.
Source: PyPA, "Binary distribution format"; docs/bundle-format.md, "Wheels".
"""

import csv
import io
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from installer.exceptions import InstallerError
from installer.sources import WheelFile

from glasscase.errors import FormatError
from glasscase.fs.walk import check_path

UNPACKED_MAX = 8 << 30  # bytes of all files of one wheel
ENTRIES_MAX = 200_000
_INSTALLER_FILES = ("INSTALLER", "REQUESTED", "direct_url.json", "RECORD.jws", "RECORD.p7s", "uv_cache.json")


@dataclass(frozen=True)
class WheelEntry:
    """One file to be placed. path: below the directory on sys.path."""

    path: str
    content: bytes
    executable: bool


def wheel_entries(data: bytes, file: str, *, only: frozenset[str] | None = None) -> Iterator[WheelEntry]:
    """Yield what a wheel puts on sys.path, RECORD last and without the lines of what is left out.

    only: the files outside of .dist-info that are taken, if not all. Raises FormatError("bundle.wheel.malformed") if the file
    is not a sound wheel, ("bundle.wheel.unsupported") if it wants files outside of sys.path.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            archive.filename = file  # installer reads name and version from it
            _check_size(archive, file)
            wheel = WheelFile(archive)
            wheel.validate_record(validate_contents=True)
            yield from _entries(wheel, file, only)
    except (
        InstallerError,
        zipfile.BadZipFile,
        KeyError,
        ValueError,
        RuntimeError,  # and what zipfile does not support, which is one
        EOFError,
        AssertionError,
        zlib.error,
    ) as error:
        raise _malformed(file, str(error) or type(error).__name__) from None


def _entries(wheel: WheelFile, file: str, only: frozenset[str] | None) -> Iterator[WheelEntry]:
    info, data_dir = wheel.dist_info_dir, f"{wheel.data_dir}/"
    record = f"{info}/RECORD"
    kept: list[str] = []
    for (path, _, _), stream, executable in wheel.get_contents():
        target = path
        if path.startswith(data_dir):
            scheme, _, target = path.removeprefix(data_dir).partition("/")
            if scheme in ("scripts", "headers"):
                continue
            if scheme not in ("purelib", "platlib"):
                raise FormatError(
                    "bundle.wheel.unsupported", f"{file} wants files outside of sys.path: {path!r}", what="wheel"
                )
        if path == record or _left_out(target, info, only):
            continue
        check_path(target)
        kept.append(path)
        yield WheelEntry(target, stream.read(), bool(executable))
    yield WheelEntry(record, _record(wheel.read_dist_info("RECORD"), set(kept), data_dir), executable=False)


def _left_out(path: str, info: str, only: frozenset[str] | None) -> bool:
    parts = path.split("/")
    if path.endswith((".pyc", ".pyo")) or "__pycache__" in parts:
        return True
    if parts[0] == info:
        return parts[-1] in _INSTALLER_FILES
    return only is not None and path not in only


def _record(text: str, kept: set[str], data_dir: str) -> bytes:
    """Return RECORD with the lines of the files that were taken, sorted, and its own line."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    rows = [row for row in csv.reader(io.StringIO(text)) if row and row[0] in kept]
    own = [[row[0], "", ""] for row in csv.reader(io.StringIO(text)) if row and row[0].endswith(".dist-info/RECORD")]
    for row in rows:
        if row[0].startswith(data_dir):
            row[0] = row[0].removeprefix(data_dir).partition("/")[2]
    writer.writerows([*sorted(rows), *own[:1]])
    return out.getvalue().encode("utf-8")


def _check_size(archive: zipfile.ZipFile, file: str) -> None:
    infos = archive.infolist()
    if len(infos) > ENTRIES_MAX or sum(info.file_size for info in infos) > UNPACKED_MAX:
        raise _malformed(file, f"it unpacks to more than {UNPACKED_MAX} bytes or {ENTRIES_MAX} files")
    names = [info.filename for info in infos]
    if len(set(names)) != len(names):
        raise _malformed(file, "a name stands twice")


def _malformed(file: str, why: str) -> FormatError:
    return FormatError(
        "bundle.wheel.malformed", f"{file} is not a sound wheel: {' '.join(why.split())[:300]}", what="wheel"
    )
