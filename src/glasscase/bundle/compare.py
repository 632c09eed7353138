"""Why two bundles differ: runtime, packages, options, the application, single files; and what differs without being measured.

Invariants: causes come before what follows from them; a file that a listed cause explains is not listed again. Manifests and
libpal.so are compared as they are, package names as lock and index claim them: whether a bundle is sound, bundle.check says.
Source: docs/bundle-format.md, "Comparing".
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from glasscase.bundle.index import (
    BLOBS,
    BOM,
    CONFIG,
    IMPORTS,
    MANIFEST,
    PROVENANCE,
    ROOTFS,
    RUNTIME,
    SIGNATURE,
    Bundle,
)
from glasscase.bundle.origin import FileOrigin
from glasscase.config.enclave import EnclaveConfig
from glasscase.errors import FormatError, StorageError
from glasscase.fs.atomic import read_file
from glasscase.gramine.elf import PAL_MAX
from glasscase.gramine.manifest import MANIFEST_MAX, parse_manifest
from glasscase.measure.compare import ABSENT, Cause, compare_files, compare_options, trusted_files
from glasscase.sgx.sigstruct import SIGSTRUCT_SIZE, Sigstruct

_CONFIG_MAX = 64 << 10
_SECRET_PARTS = {"package": "package key or content", "commitment": "code commitment"}


def compare_bundles(
    before: Bundle, after: Bundle, *, origins: tuple[Iterable[FileOrigin], Iterable[FileOrigin]]
) -> tuple[Cause, ...]:
    """Return what differs between two bundles, causes first: runtime, packages, size, threads, options, application, files.

    origins: of the files of both.
    """
    causes = [*_runtime(before, after), *_packages(before, after)]
    manifests = [parse_manifest(_read(item, MANIFEST, MANIFEST_MAX)) for item in (before, after)]
    options = compare_options(*manifests)
    causes += _config(before, after)
    causes += [cause for cause in options if not _follows_from_runtime(cause, causes)]
    known = {file.path: file for listed in origins for file in listed}
    causes += _files(trusted_files(manifests[0]), trusted_files(manifests[1]), known, causes)
    order = {"runtime": 0, "package": 1, "size": 2, "threads": 3, "option": 4, "application": 5, "config": 6, "file": 7}
    causes.sort(key=lambda cause: order[cause.layer])
    return (*causes, *_not_measured(before, after, causes))


def _follows_from_runtime(cause: Cause, causes: Iterable[Cause]) -> bool:
    return cause.what == "loader.entrypoint.sha256" and any(known.layer == "runtime" for known in causes)


def _runtime(before: Bundle, after: Bundle) -> list[Cause]:
    old, new = before.lock.runtime, after.lock.runtime
    names = [f"{item.name} {item.version}" for item in (old, new)]
    digests = [{file.path: file.sha256 for file in item.files} for item in (old, new)]
    for digest, item in zip(digests, (before, after), strict=True):
        digest["libpal.so"] = hashlib.sha256(_read(item, f"{RUNTIME}libpal.so", PAL_MAX)).digest()  # what is measured
    changed = sorted(
        path for path in digests[0].keys() | digests[1].keys() if digests[0].get(path) != digests[1].get(path)
    )
    if names[0] == names[1] and not changed and old.commit == new.commit:
        return []
    note = "files that differ: " + ", ".join(changed) if changed else ""
    measured = bool(changed)
    return [Cause("runtime", "Gramine runtime", names[0], names[1], measured=measured, security=measured, note=note)]


def _packages(before: Bundle, after: Bundle) -> list[Cause]:
    """Return one cause for each wheel or Debian package that was added, removed or has another version or other bytes."""
    causes = []
    for kind, tables in (("wheel", [_wheels(before), _wheels(after)]), ("deb", [_debs(before), _debs(after)])):
        for name in sorted(tables[0].keys() | tables[1].keys()):
            old, new = tables[0].get(name), tables[1].get(name)
            if old == new:
                continue
            note = "same version, other bytes" if old and new and old[0] == new[0] else ""
            shown = [ABSENT if item is None else item[0] for item in (old, new)]
            security = name == "glasscase"
            causes.append(Cause("package", f"{kind} {name}", shown[0], shown[1], security=security, note=note))
    return causes


def _wheels(bundle: Bundle) -> dict[str, tuple[str, bytes]]:
    return {wheel.name: (wheel.version, wheel.sha256) for wheel in bundle.lock.wheels}


def _debs(bundle: Bundle) -> dict[str, tuple[str, bytes]]:
    packages = () if bundle.lock.debian is None else bundle.lock.debian.packages
    return {package.name: (package.version, package.sha256) for package in packages}


def _config(before: Bundle, after: Bundle) -> list[Cause]:
    """Return what enclave.cbor says otherwise; what the manifest says too is left to the manifest."""
    old, new = (EnclaveConfig.from_bytes(_read(item, CONFIG, _CONFIG_MAX)) for item in (before, after))
    causes = []
    for field in fields(EnclaveConfig):
        if field.name in ("gramine", "env", "server"):
            continue
        one, two = getattr(old, field.name), getattr(new, field.name)
        if one != two:
            layer = "application" if field.name in _SECRET_PARTS else "config"
            what = f"enclave.cbor {field.name}"
            if layer == "application":
                what += f": encrypted code or models ({_SECRET_PARTS[field.name]})"
            security = field.name in ("owners", "threshold", "encrypt", "models", "insecure", "package", "commitment")
            causes.append(Cause(layer, what, _show(one), _show(two), security=security))
    causes += [
        Cause("config", f"enclave.cbor server.{field.name}", _show(one), _show(two), security=field.name == "client_ca")
        for field in fields(old.server)
        if (one := getattr(old.server, field.name)) != (two := getattr(new.server, field.name))
    ]
    if old.gramine.profile != new.gramine.profile:
        causes.append(Cause("config", "enclave.cbor gramine.profile", old.gramine.profile, new.gramine.profile))
    return causes


def _files(
    before: Mapping[str, str], after: Mapping[str, str], known: Mapping[str, FileOrigin], causes: Sequence[Cause]
) -> list[Cause]:
    """Return the trusted files of two manifests that differ and are explained by no cause so far."""
    explained = {cause.what for cause in causes if cause.layer == "package"}
    runtime = any(cause.layer == "runtime" for cause in causes)
    found: list[Cause] = []
    generated: list[Cause] = []
    for cause in compare_files(before, after):
        path = cause.what.partition(": file:")[2]
        origin = known.get(path)
        if origin and (f"{origin.kind} {origin.package}" in explained or (runtime and origin.kind == "gramine")):
            continue
        named = replace(
            cause,
            what=cause.what.replace(f": file:{ROOTFS}", ": "),
            note=origin.source if origin else "unknown to the index",
        )
        (generated if path in (CONFIG, IMPORTS) else found).append(named)
    return found if found or causes else generated


def _not_measured(before: Bundle, after: Bundle, measured: Sequence[Cause]) -> list[Cause]:
    """Return what differs outside of MRENCLAVE: the signature, the label, documents, blobs that no commitment covers."""
    causes = []
    old, new = _signature(before), _signature(after)
    if isinstance(old, Sigstruct) and isinstance(new, Sigstruct):
        for what, security in (("mrsigner", True), ("date", False)):
            one, two = getattr(old, what), getattr(new, what)
            if one != two:
                causes.append(_outside("signature", f"SIGSTRUCT {what}", _show(one), _show(two), security=security))
    elif old != new:
        causes.append(_outside("signature", SIGNATURE, _word(old), _word(new)))
    tables = [{file.path: (file.sha256, file.mode) for file in item.index.files} for item in (before, after)]
    differing = [path for path in tables[0].keys() | tables[1].keys() if tables[0].get(path) != tables[1].get(path)]
    blobs = sum(path.startswith(BLOBS) for path in differing)
    consequences = {MANIFEST, *((BOM, PROVENANCE) if measured else ())}  # the documents name MRENCLAVE
    others = sorted(set(differing) - consequences)
    others = [path for path in others if not path.startswith((BLOBS, ROOTFS, RUNTIME))]
    if blobs and not any(cause.layer == "application" for cause in measured):
        counts = [str(sum(path.startswith(BLOBS) for path in table)) for table in tables]
        causes.append(_outside("bundle", f"{blobs} encrypted files in blobs/", counts[0], counts[1]))
    causes += [_outside("bundle", path, _digest(tables[0], path), _digest(tables[1], path)) for path in others]
    return causes


def _outside(layer: str, what: str, before: str, after: str, *, security: bool = False) -> Cause:
    return Cause(layer, what, before, after, measured=False, security=security)


def _digest(table: Mapping[str, tuple[bytes, str]], path: str) -> str:
    return table[path][0].hex() if path in table else ABSENT


def _signature(bundle: Bundle) -> Sigstruct | str:
    try:
        return Sigstruct.from_bytes(
            read_file(os.path.join(bundle.path, SIGNATURE), max_bytes=SIGSTRUCT_SIZE, what=SIGNATURE)
        )
    except StorageError:
        return ABSENT
    except FormatError:
        return "not valid"


def _word(signature: Sigstruct | str) -> str:
    return signature if isinstance(signature, str) else "signed"


def _read(bundle: Bundle, path: str, limit: int) -> bytes:
    return read_file(os.path.join(bundle.path, path), max_bytes=limit, what=path)


def _show(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex() if len(value) <= 64 else f"{value[:32].hex()}..."
    if isinstance(value, tuple):
        return ", ".join(_show(item) for item in value) or "none"
    return ABSENT if value is None else str(value).lower() if isinstance(value, bool) else str(value)
