"""What of a bundle follows from its files: builder and checker use the same functions, so neither can say otherwise.

Invariants: functions of their arguments alone; the weakenings are derived from bytes, never copied from what a bundle claims.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence

from glasscase.bundle.debfiles import CERTIFICATE_BUNDLE, GENERATED, LIBRARIES, TAKEN_ETC
from glasscase.bundle.index import (
    BLOBS,
    BOM,
    MANIFEST,
    PROVENANCE,
    ROOTFS,
    RUNTIME,
    BundleIndex,
    FileEntry,
    IndexRuntime,
)
from glasscase.config.enclave import EnclaveConfig
from glasscase.errors import FormatError
from glasscase.gramine.manifest import TrustedFile, bundle_manifest
from glasscase.lock.model import FILE as LOCK
from glasscase.measure.mrenclave import Measurement

HOST_PYTHON = "/usr/bin/python3"  # what a manifest names where the bundle holds no interpreter
# SHA-256 of each published wheel of glasscase that this tool knows -> digest of what it puts into rootfs (enclave_part)
KNOWN_OWN_WHEELS: Mapping[bytes, bytes] = {}
_OWN_PART = re.compile(r"rootfs/opt/(glasscase/main\.py|site/glasscase(-[^/]+\.dist-info)?/.+)")
_TOP = (MANIFEST, LOCK, BOM, PROVENANCE)
_ETC = "|".join(re.escape(path) for path in (*GENERATED, *TAKEN_ETC, CERTIFICATE_BUNDLE))
_PLACES = re.compile(
    rf"rootfs/({_ETC}|opt/site/.+|opt/glasscase/(main\.py|enclave\.cbor|imports\.txt)|lib/[^/]+|lib64/[^/]+"
    rf"|usr/bin/python3\.\d+|usr/lib/python3\.\d+/.+|{LIBRARIES}/[^/]+)"
)
_PYTHON = re.compile(r"rootfs(/usr/bin/python3\.\d+)")


def python_of(files: Sequence[FileEntry]) -> str:
    """Return the path inside of the bundle's interpreter, or HOST_PYTHON if it has none."""
    found = [match[1] for file in files if (match := _PYTHON.fullmatch(file.path))]
    if len(found) > 1:
        raise FormatError("bundle.python.ambiguous", f"the bundle holds several interpreters: {', '.join(found)}")
    return found[0] if found else HOST_PYTHON


def manifest_of(config: EnclaveConfig, files: Sequence[FileEntry]) -> bytes:
    """Return the measured text that a bundle with this configuration and these files has."""
    trusted = [TrustedFile(f"file:{file.path}", file.sha256) for file in files if file.path.startswith(ROOTFS)]
    trusted.sort(key=lambda item: item.uri.encode("utf-8"))
    return bundle_manifest(
        config, trusted, libsysdb_sha256=_digest(files, "runtime/libsysdb.so"), python=python_of(files)
    )


def foreign_files(files: Sequence[FileEntry], *, encrypt: bool) -> tuple[str, ...]:
    """Return the paths that a bundle has no place for, like etc/ld.so.preload, which would change trusted code unseen."""
    places = (RUNTIME, BLOBS) if encrypt else (RUNTIME, BLOBS, f"{ROOTFS}app/")
    paths = (file.path for file in files if file.path not in _TOP and not file.path.startswith(places))
    return tuple(path for path in paths if not _PLACES.fullmatch(path))


def require_places(files: Sequence[FileEntry], *, encrypt: bool) -> None:
    """Raise FormatError("bundle.file.foreign") for a file that a bundle has no place for."""
    for path in foreign_files(files, encrypt=encrypt):
        raise FormatError("bundle.file.foreign", f"an input gives {path!r}, which has no place in a bundle")


def enclave_part(files: Iterable[FileEntry]) -> bytes:
    """Return SHA-256 over path and SHA-256 of what glasscase's own wheel has put into rootfs, one line each, sorted."""
    rows = [f"{file.path} {file.sha256.hex()}\n" for file in files if _OWN_PART.fullmatch(file.path)]
    return hashlib.sha256("".join(sorted(rows)).encode("utf-8")).digest()


def weakenings(
    config: EnclaveConfig, files: Sequence[FileEntry], *, simulated: bool, own_wheel: bytes
) -> tuple[str, ...]:
    """Return the insecure list: debug, dev-enclave, host-python, models-key, simulated, as far as they apply.

    own_wheel: SHA-256 of the locked wheel of glasscase; it counts as known only if its files in rootfs are those it gives.
    """
    found = {
        "debug": config.gramine.debug,
        "dev-enclave": KNOWN_OWN_WHEELS.get(own_wheel) != enclave_part(files),
        "host-python": python_of(files) == HOST_PYTHON,
        "models-key": config.models == "key",
        "simulated": simulated,
    }
    return tuple(sorted(name for name, applies in found.items() if applies))


def index_of(
    config: EnclaveConfig, files: Sequence[FileEntry], *, tool: str, runtime: tuple[str, str], measurement: Measurement
) -> BundleIndex:
    """Return the index of a bundle. runtime: name and version. files: every file but bundle.json and app.sig."""
    libpal, loader, libsysdb = (_digest(files, f"runtime/{name}") for name in ("libpal.so", "loader", "libsysdb.so"))
    return BundleIndex(
        name=config.name,
        tool=tool,
        profile=config.gramine.profile,
        runtime=IndexRuntime(runtime[0], runtime[1], libpal=libpal, loader=loader, libsysdb=libsysdb),
        mrenclave=measurement.mrenclave,
        enclave_size=measurement.enclave_size,
        encrypted=config.encrypt,
        files=tuple(files),
        insecure=config.insecure,
    )


def _digest(files: Sequence[FileEntry], path: str) -> bytes:
    for file in files:
        if file.path == path:
            return file.sha256
    raise FormatError("bundle.file.missing", f"the bundle has no {path!r}")
