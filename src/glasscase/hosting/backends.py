"""The three ways to run a bundle: gramine-sgx, gramine-direct, simulator. Each says what to start, where and how.

Invariants: argv, working directory and environment depend on the backend and the state directory alone; no fact of an
instance goes through them. Nothing here starts a process.
Source: docs/operating.md, "Launch".
"""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glasscase.bundle.index import IndexRuntime
from glasscase.codec import stricttoml
from glasscase.errors import FormatError, StorageError, UsageError
from glasscase.fs import atomic
from glasscase.gramine.pins import PIN_MAX, parse_pin
from glasscase.hosting.records import BACKENDS
from glasscase.hosting.state import Place

SGX_DEVICE = Path("/dev/sgx_enclave")
MANIFEST_MAX = 256 << 20  # bytes
LINKS = ("runtime", "rootfs", "blobs")
# what follows the loader and its PAL: the word that makes this the first process, the prefix of app.manifest and app.sig
_FIRST_PROCESS = ("init", "app")
DIRECT_ARGV = ("direct/loader", "direct/libpal.so", *_FIRST_PROCESS)
DIRECT_FILES = ("loader", "libpal.so")
DIRECT_MAX = 64 << 20  # bytes of one of them
ATTESTATION_MOUNT = {"type": "chroot", "path": "/dev/attestation", "uri": "file:sim"}


@dataclass(frozen=True)
class Command:
    """What to start: argv, working directory, the whole environment. simulated: a software device must answer quotes."""

    argv: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str]
    simulated: bool


def choose(backend: str | None) -> str:
    """Return the backend to use; raises UsageError("hosting.backend.none") if none was named and there is no SGX here."""
    if backend is not None:
        if backend not in BACKENDS:
            raise UsageError(
                "hosting.backend.none", f"{backend!r} is not a backend", hint=f"one of {', '.join(BACKENDS)}"
            )
        return backend
    if SGX_DEVICE.exists():
        return "gramine-sgx"
    raise UsageError(
        "hosting.backend.none",
        f"this machine has no {SGX_DEVICE}, so the backend must be named",
        hint="--backend gramine-direct (Gramine without SGX) or --backend simulator (no Gramine); both are only SIMULATED",
    )


def prepare(place: Place, bundle: Path, backend: str, *, runtime_directory: Path | None) -> None:
    """Fill the state directory: links to the read-only bundle and copies of app.*; for gramine-direct the derived manifest.

    runtime_directory: where the imported runtime of the bundle lies (data runtimes/NAME), needed by gramine-direct.
    Raises StorageError if the disk fails or the direct loader is not there.
    """
    shutil.rmtree(place.path / "direct", ignore_errors=True)
    for name in LINKS:
        (place.path / name).unlink(missing_ok=True)
        if (bundle / name).is_dir():
            (place.path / name).symlink_to(bundle / name)
    manifest = atomic.read_file(bundle / "app.manifest.sgx", max_bytes=MANIFEST_MAX, what="app.manifest.sgx")
    atomic.write_file(place.path / "app.manifest.sgx", manifest)
    signature = atomic.read_file(bundle / "app.sig", max_bytes=4096, what="app.sig")
    atomic.write_file(place.path / "app.sig", signature)
    (place.path / "app.manifest").unlink(missing_ok=True)
    if backend == "gramine-direct":
        _copy_direct(place, runtime_directory)
        atomic.write_file(place.path / "app.manifest", direct_manifest(manifest))


def runtime_directory(data_directory: Path, runtime: IndexRuntime) -> Path:
    """Return where the imported runtime of a bundle lies: that of its name, else one with the same libpal.so.

    runtime: the index's entry; its name is the provider's, the operator may have chosen another.
    """
    named: Path = data_directory / "runtimes" / runtime.name
    if named.is_dir():
        return named
    for path in sorted((data_directory / "runtimes").glob("*/pin.toml")):
        pin = parse_pin(atomic.read_file(path, max_bytes=PIN_MAX, what="pin"))
        if any(file.path == "libpal.so" and file.sha256 == runtime.libpal for file in pin.files):
            return path.parent
    return named


def has_direct(runtime_directory: Path) -> bool:
    """Return whether an imported runtime has the loader for gramine-direct."""
    return all((runtime_directory / "direct" / name).is_file() for name in DIRECT_FILES)


def command(place: Place, backend: str) -> Command:
    """Return what to start in a state directory that prepare() has filled.

    Gramine's SGX loader refuses a relative path of libpal.so (docs/adr/0006-absolute-path-of-libpal.md). Both paths are those
    in the bundle, as the account of the enclave cannot pass through the directories above the instance's.
    """
    if backend == "gramine-sgx":
        runtime = (place.path / "runtime").resolve()
        argv = (str(runtime / "loader"), str(runtime / "libpal.so"), *_FIRST_PROCESS)
        return Command(argv, place.path, {}, simulated=False)
    if backend == "gramine-direct":
        return Command(DIRECT_ARGV, place.path, {}, simulated=True)
    return _simulator(place)


def direct_manifest(manifest_sgx: bytes) -> bytes:
    """Return the manifest for Gramine without SGX: the same, with a directory of files over /dev/attestation.

    direct measures nothing; the quotes that the software device writes carry the MRENCLAVE of `manifest_sgx`. An encrypted
    mount becomes a plain one: its key would be set through the directory that the software device stands for, and the record
    in it is encrypted by the program as well.
    Raises FormatError("hosting.manifest.malformed") if this is not a manifest.
    """
    from glasscase.gramine.toml import write_toml

    try:
        manifest: dict[str, Any] = stricttoml.loads(manifest_sgx.decode("utf-8"))
        manifest["fs"]["mounts"] = [*map(_without_key, manifest["fs"]["mounts"]), dict(ATTESTATION_MOUNT)]
        manifest["sgx"]["allowed_files"] = [*manifest["sgx"]["allowed_files"], "file:sim/"]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise FormatError(
            "hosting.manifest.malformed",
            f"app.manifest.sgx is not one of ours: {type(error).__name__}",
            what="manifest",
        ) from None
    return write_toml(manifest)


def _without_key(mount: Mapping[str, Any]) -> dict[str, Any]:
    if mount["type"] != "encrypted":
        return dict(mount)
    return {"type": "chroot", "path": mount["path"], "uri": mount["uri"]}


def _copy_direct(place: Place, runtime_directory: Path | None) -> None:
    """Copy the direct loader and its PAL: the account of the enclave cannot read the operator's data directory."""
    if runtime_directory is None or not has_direct(runtime_directory):
        raise StorageError(
            "hosting.runtime.missing",
            "the runtime of this bundle has no direct loader here",
            hint="glasscase runtime import PATH of a Gramine that has direct/loader, or use --backend simulator",
        )
    target = place.path / "direct"
    try:
        target.mkdir(mode=0o755)
        target.chmod(0o755)
    except OSError as error:
        raise atomic.storage_error(error, target) from None
    for name in DIRECT_FILES:
        content = atomic.read_file(runtime_directory / "direct" / name, max_bytes=DIRECT_MAX, what=name)
        atomic.write_file(target / name, content, mode=0o755)


def _simulator(place: Place) -> Command:
    """Return the command of the simulator: the bundle's own interpreter if it has one, else this one, isolated.

    -I -S -B: no PYTHON* variable, no site, no .pyc. Gramine discards words after main.py, so the paths that only the
    simulator needs go there and cannot be used against a measured enclave.
    """
    rootfs = (place.path / "rootfs").resolve()
    own = _own_interpreter(rootfs)
    environment = {"PATH": "/nonexistent", "LC_ALL": "C", "TZ": "UTC"}
    if own is not None:
        environment["LD_LIBRARY_PATH"] = str(rootfs / "usr/lib/x86_64-linux-gnu")
    argv = (
        str(own or sys.executable), "-I", "-S", "-B", "-u", "-X", "utf8", str(rootfs / "opt/glasscase/main.py"),
        "--simulated-root", str(rootfs),
        "--attestation", str(place.simulated_device),
        "--instance", str(place.instance),
        "--blobs", str((place.path / "blobs").resolve()),
        "--run", str(place.path / "run"),
    )  # fmt: skip
    return Command(argv, place.path, environment, simulated=True)


def _own_interpreter(rootfs: Path) -> Path | None:
    candidates = sorted((rootfs / "usr/bin").glob("python3.*"))
    return next((path for path in candidates if path.is_file() and os.access(path, os.X_OK)), None)
