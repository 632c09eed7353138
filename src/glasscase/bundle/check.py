"""Checking a bundle: everything that it claims is recomputed from its bytes.

Invariants: nothing of the bundle is run; nothing it says is believed: files are hashed and compared with the index, the manifest,
import table and documents are written again and must be the same bytes, MRENCLAVE is measured, the weakenings are derived.
Source: docs/bundle-format.md, "Checking"; protocol rules 1.5 and 9.
"""

import hashlib
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from glasscase.bundle.derive import foreign_files, index_of, manifest_of, weakenings
from glasscase.bundle.imports import import_table
from glasscase.bundle.index import (
    BLOBS,
    BOM,
    CONFIG,
    IMPORTS,
    INDEX,
    MANIFEST,
    PROVENANCE,
    RUNTIME,
    SIGNATURE,
    Bundle,
    FileEntry,
    open_bundle,
)
from glasscase.bundle.origin import trace, wheel_records
from glasscase.bundle.provenance import provenance
from glasscase.bundle.runtime import LIBC, SIMULATOR
from glasscase.bundle.sbom import bill_of_materials, debian_claims
from glasscase.config.enclave import EnclaveConfig
from glasscase.core.measure import digest_files
from glasscase.errors import Error, FormatError, StorageError
from glasscase.fs.atomic import read_file
from glasscase.fs.walk import Entry, open_beneath, walk
from glasscase.gramine.layout import EnclaveLayout, layout
from glasscase.gramine.lint import lint_document
from glasscase.gramine.manifest import MANIFEST_MAX
from glasscase.gramine.pins import RuntimePin, known_pins
from glasscase.lock.requirements import OWN
from glasscase.measure.mrenclave import Measurement, measure_layout
from glasscase.sgx.sigstruct import Sigstruct

SMALL_MAX = 64 << 20  # bytes of a file that is read whole
SIGSTRUCT_SIZE = 1808  # bytes
HEADER_SIZE = 128  # bytes of an encrypted file's header


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a bundle. id: a reason of docs/checks.md; text: for people."""

    id: str
    text: str


@dataclass(frozen=True)
class CheckedBundle:
    """What a bundle is, recomputed. insecure: the weakenings that its bytes show. problems: empty if all is well.

    sigstruct: app.sig, whose own signature is valid, or None without one. full: whether blobs were hashed too.
    """

    bundle: Bundle
    measurement: Measurement
    config: EnclaveConfig
    sigstruct: Sigstruct | None
    insecure: tuple[str, ...]
    problems: tuple[Problem, ...]
    full: bool

    def require_sound(self) -> "CheckedBundle":
        """Return self if nothing is wrong, else raise FormatError with the first problem's id."""
        if self.problems:
            first = self.problems[0]
            more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
            raise FormatError(first.id, first.text + more, hint="do not run or trust this bundle", what="bundle")
        return self


def check_bundle(
    path: str | os.PathLike[str], *, full: bool = False, runtimes: Iterable[RuntimePin] | None = None
) -> CheckedBundle:
    """Return a bundle with everything recomputed from its bytes.

    full: blobs are hashed too, else compared by size and the package header only. runtimes: the pins that the caller
    trusts, None = those that come with glasscase.
    Raises StorageError or FormatError if it is no bundle that could be measured; whatever else is wrong stands in `problems`.
    """
    bundle = open_bundle(path)
    problems: list[Problem] = []
    _check_files(bundle, problems, full=full)
    config = EnclaveConfig.from_bytes(_read(bundle, CONFIG))
    plan = layout(_read(bundle, MANIFEST), _read(bundle, "runtime/libpal.so"))
    measurement = measure_layout(plan)
    pin = _check_runtime(bundle, tuple(known_pins() if runtimes is None else runtimes), problems)
    own = next((wheel.sha256 for wheel in bundle.lock.wheels if wheel.name == OWN), b"")
    simulated = pin is not None and pin.name == SIMULATOR
    derived = weakenings(config, bundle.index.files, simulated=simulated, own_wheel=own)
    if derived != config.insecure:
        problems.append(
            Problem("bundle.insecure.hidden", f"weakenings are {derived}, enclave.cbor says {config.insecure}")
        )
    _check_derived(bundle, config, measurement, plan, problems)
    sigstruct = _check_signature(bundle, measurement, problems)
    return CheckedBundle(bundle, measurement, config, sigstruct, derived, tuple(problems), full)


def _check_files(bundle: Bundle, problems: list[Problem], *, full: bool) -> None:
    """Compare every file of the directory with the index: presence, kind, mode, size and SHA-256."""
    listed = {file.path: file for file in bundle.index.files}
    try:
        entries = walk(bundle.path)
    except Error as error:
        if isinstance(error, StorageError):
            raise
        problems.append(Problem(error.reason, error.message))
        entries = ()
    found = {entry.path: entry for entry in entries if not entry.directory}
    parents = {parent for path in listed for parent in _parents(path)}
    for entry in entries:
        if entry.directory and entry.path not in parents:
            problems.append(
                Problem("bundle.file.extra", f"the directory {entry.path!r} belongs to no file of the index")
            )
    for path in sorted(found.keys() - listed.keys() - {INDEX, SIGNATURE}):
        problems.append(Problem("bundle.file.extra", f"{path!r} is not in the index"))
    for path in sorted(listed.keys() - found.keys()):
        problems.append(Problem("bundle.file.missing", f"{path!r} is in the index but not there"))
    hashed = [file for path, file in listed.items() if path in found and (full or not path.startswith(BLOBS))]
    for path, file in listed.items():
        if path in found:
            _check_facts(bundle, file, found[path], problems)
    digests = digest_files([os.path.join(bundle.path, file.path) for file in hashed], follow_symlinks=False)
    for file, digest in zip(hashed, digests, strict=True):
        if digest.sha256 != file.sha256:
            problems.append(Problem("bundle.file.changed", f"{file.path!r} does not have the SHA-256 of the index"))


def _check_facts(bundle: Bundle, file: FileEntry, entry: Entry, problems: list[Problem]) -> None:
    if entry.size != file.size:
        problems.append(
            Problem("bundle.file.changed", f"{file.path!r} has {entry.size} bytes, the index says {file.size}")
        )
    mode = stat.S_IMODE(os.lstat(os.path.join(bundle.path, file.path)).st_mode)
    if f"{mode:04o}" != file.mode:
        problems.append(Problem("bundle.file.mode", f"{file.path!r} has mode {mode:04o}, the index says {file.mode}"))


def _check_runtime(bundle: Bundle, pins: Sequence[RuntimePin], problems: list[Problem]) -> RuntimePin | None:
    """Return the pin whose files are those of the bundle, C library included; an unknown runtime is a problem."""
    files = {file.path: (file.size, file.sha256) for file in bundle.index.files}
    here = {path.removeprefix(RUNTIME): facts for path, facts in files.items() if path.startswith(RUNTIME)}
    for pin in pins:
        if here == {file.path: (file.size, file.sha256) for file in pin.files}:
            _check_libc(pin, files, problems)
            return pin
    libpal = here.get("libpal.so", (0, b""))[1].hex()
    problems.append(Problem("bundle.runtime.unpinned", f"no pin has these runtime files (libpal.so {libpal[:16]}...)"))
    return None


def _check_libc(pin: RuntimePin, files: dict[str, tuple[int, bytes]], problems: list[Problem]) -> None:
    expected = {
        file.path.removeprefix(LIBC): (file.size, file.sha256) for file in pin.files if file.path.startswith(LIBC)
    }
    own = set()
    for name, facts in expected.items():
        folders = ("lib", "lib64") if name.startswith("ld-linux") else ("lib",)
        for folder in folders:
            path = f"rootfs/{folder}/{name}"
            own.add(path)
            if files.get(path) != facts:
                problems.append(Problem("bundle.runtime.libc", f"{path} is not the one that is pinned"))
    for path in files:  # below too: the dynamic loader prefers what lies in lib/glibc-hwcaps
        if path.startswith(("rootfs/lib/", "rootfs/lib64/")) and path not in own:
            problems.append(Problem("bundle.runtime.libc", f"{path!r} does not belong to the pinned runtime"))


def _check_derived(
    bundle: Bundle, config: EnclaveConfig, measurement: Measurement, plan: EnclaveLayout, problems: list[Problem]
) -> None:
    """Write manifest, import table, documents and index again and compare the bytes."""
    index, lock = bundle.index, bundle.lock
    for path in foreign_files(index.files, encrypt=config.encrypt):
        problems.append(Problem("bundle.file.foreign", f"{path!r} has no place in a bundle"))
    for fault in lint_document(plan.document, insecure=config.insecure):
        problems.append(Problem(fault.id, fault.text))
    bom = _read(bundle, BOM)
    try:
        records = wheel_records(index.files, lock, lambda path: _read(bundle, path))
    except FormatError as error:
        problems.append(Problem(error.reason, error.message))
        records = {}
    files = trace(index.files, lock, records=records, debian=debian_claims(bom))
    expected = {
        MANIFEST: manifest_of(config, index.files),
        IMPORTS: import_table(file.path for file in index.files),
        BOM: bill_of_materials(lock, name=config.name, mrenclave=measurement.mrenclave, files=files),
        PROVENANCE: provenance(lock, name=config.name, mrenclave=measurement.mrenclave),
    }
    for path, content in expected.items():
        found = {MANIFEST: plan.manifest, BOM: bom}.get(path) or _read(bundle, path)
        if found != content:
            problems.append(Problem("bundle.file.underived", f"{path!r} is not what the bundle's other files give"))
    if index.mrenclave != measurement.mrenclave:
        problems.append(
            Problem(
                "bundle.mrenclave.mismatch",
                f"measured {measurement.mrenclave.hex()}, the index says {index.mrenclave.hex()}",
            )
        )
    runtime = (lock.runtime.name, lock.runtime.version)
    if index != index_of(config, index.files, tool=lock.tool, runtime=runtime, measurement=measurement):
        problems.append(Problem("bundle.index.mismatch", "bundle.json says other things than the files that it lists"))
    if lock.epoch != config.build_epoch or lock.runtime.profile != config.gramine.profile:
        problems.append(Problem("bundle.lock.mismatch", "glasscase.lock is not the lock of this enclave.cbor"))
    _check_package(bundle, config, problems)


def _check_package(bundle: Bundle, config: EnclaveConfig, problems: list[Problem]) -> None:
    """Compare the measured header with the package manifest; without encryption there are no blobs."""
    blobs = [file.path for file in bundle.index.files if file.path.startswith(BLOBS)]
    if not config.encrypt:
        if blobs:
            problems.append(Problem("bundle.package.mismatch", f"{blobs[0]!r} is there although nothing is encrypted"))
        return
    try:
        descriptor = open_beneath(bundle.path, f"{BLOBS}manifest")
        try:
            header = os.pread(descriptor, HEADER_SIZE, 0)
        finally:
            os.close(descriptor)
    except OSError:
        header = b""
    if header != config.package:
        problems.append(Problem("bundle.package.mismatch", "blobs/manifest does not begin with the measured header"))


def _check_signature(bundle: Bundle, measurement: Measurement, problems: list[Problem]) -> Sigstruct | None:
    path = os.path.join(bundle.path, SIGNATURE)
    if not os.path.lexists(path):
        return None
    try:
        sigstruct = Sigstruct.from_bytes(read_file(path, max_bytes=SIGSTRUCT_SIZE, what=SIGNATURE))
    except FormatError as error:
        problems.append(Problem(error.reason, error.message))
        return None
    if sigstruct.body != measurement.to_sign(sigstruct.body.date):
        problems.append(Problem("bundle.signature.mismatch", "app.sig signs another enclave than this bundle"))
        return None
    return sigstruct


def _read(bundle: Bundle, path: str) -> bytes:
    """Return a file of the bundle that has the SHA-256 of the index.

    Raises FormatError("bundle.file.missing") or ("bundle.file.changed").
    """
    entry = bundle.index.find(path)
    limit = MANIFEST_MAX if path in (MANIFEST, IMPORTS, BOM, PROVENANCE) else SMALL_MAX
    try:
        content = read_file(os.path.join(bundle.path, path), max_bytes=limit, what=path) if entry is not None else b""
    except StorageError as error:
        if error.reason != "fs.file.missing":
            raise
        entry = None
    if entry is None:
        raise FormatError("bundle.file.missing", f"the bundle has no {path!r}", what="bundle")
    if hashlib.sha256(content).digest() != entry.sha256:
        raise FormatError(
            "bundle.file.changed",
            f"{path!r} does not have the SHA-256 of the index",
            hint="do not run or trust this bundle",
        )
    return content


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]
