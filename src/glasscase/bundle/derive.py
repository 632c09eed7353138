"""What of a bundle follows from its files: builder and checker use the same functions, so neither can say otherwise.

Invariants: functions of their arguments alone; the weakenings are derived from bytes, never copied from what a bundle claims.
"""

import re
from collections.abc import Sequence

from glasscase.bundle.index import ROOTFS, BundleIndex, FileEntry, IndexRuntime
from glasscase.config.enclave import EnclaveConfig
from glasscase.errors import FormatError
from glasscase.gramine.manifest import TrustedFile, bundle_manifest
from glasscase.measure.mrenclave import Measurement

HOST_PYTHON = "/usr/bin/python3"  # what a manifest names where the bundle holds no interpreter
# SHA-256 of the published wheels of glasscase whose enclave part this tool knows
KNOWN_OWN_WHEELS: frozenset[bytes] = frozenset()
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


def weakenings(
    config: EnclaveConfig, files: Sequence[FileEntry], *, simulated: bool, own_wheel: bytes
) -> tuple[str, ...]:
    """Return the insecure list: debug, dev-enclave, host-python, models-key, simulated, as far as they apply."""
    found = {
        "debug": config.gramine.debug,
        "dev-enclave": own_wheel not in KNOWN_OWN_WHEELS,
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
