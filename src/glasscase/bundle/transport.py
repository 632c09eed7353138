"""Carrying bundles: the canonical tar, and an OCI image layout that any registry and its clients take.

Invariants: what is exported was checked; an imported bundle is visible only after it was checked in full, and its bytes are those
of the exported one; nothing is fetched, descriptors that point elsewhere are refused.
Source: docs/bundle-format.md, "Transport"; OCI image specification 1.1.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from glasscase.bundle.apart import require_outside
from glasscase.bundle.check import CheckedBundle, check_bundle
from glasscase.bundle.index import BLOBS, INDEX, MAX_BYTES, SIGNATURE
from glasscase.bundle.tree import settle
from glasscase.codec.record import take_map
from glasscase.codec.strictjson import parse, write_canonical
from glasscase.errors import FormatError, UsageError
from glasscase.fs.atomic import atomic_file, open_regular, read_file, storage_error, sync_file_system
from glasscase.fs.directory import atomic_directory
from glasscase.fs.extract import extract_tar
from glasscase.fs.tar import TarEntry, pack, tree_entries
from glasscase.fs.walk import check_path
from glasscase.gramine.pins import RuntimePin

ARTIFACT = "application/vnd.glasscase.bundle.v1"
CONFIG = "application/vnd.glasscase.index.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
BLOB = "application/vnd.glasscase.blob.v1"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
TITLE = "org.opencontainers.image.title"
TAG = "org.opencontainers.image.ref.name"
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
DOCUMENT_MAX = 64 << 20  # bytes of an OCI manifest or index
UNPINNED = "bundle.runtime.unpinned"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MALFORMED = "bundle.oci.malformed"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Exported:
    """What was written. digest: SHA-256 of the tar, or of the OCI manifest. size: bytes of the tar, or of all blobs."""

    bundle_id: bytes
    digest: bytes
    size: int


def export_tar(path: str, out: str) -> Exported:
    """Write a bundle as one canonical tar with the top directory NAME.bundle."""
    require_outside(out, path)
    checked = _sound(path)
    top = f"{checked.bundle.index.name}.bundle"
    entries = tree_entries(_files(checked, everything=True), top=top)
    digest, size = hashlib.sha256(), 0
    with atomic_file(out) as file:
        for chunk in _pack(entries, path, top=top):
            digest.update(chunk)
            size += len(chunk)
            file.write(chunk)
    return Exported(checked.bundle.id, digest.digest(), size)


def export_oci(path: str, out: str, *, tag: str) -> Exported:
    """Write a bundle as an OCI image layout in the new directory `out`; tag: the reference name in its index."""
    require_outside(out, path)
    checked = _sound(path)
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", tag):
        raise UsageError("bundle.oci.tag", f"{tag!r} is not a tag", hint="letters, digits, _, . and -")
    with atomic_directory(out) as folder:
        store = _Store(os.path.join(folder, "blobs", "sha256"))
        config = store.put((read_file(os.path.join(path, INDEX), max_bytes=MAX_BYTES, what=INDEX),), CONFIG)
        entries = tree_entries(_files(checked, everything=False))
        layers = [store.put(_pack(entries, path), LAYER)]
        for file in checked.bundle.index.files:
            if file.path.startswith(BLOBS):
                layer = store.put(_chunks(os.path.join(path, file.path)), BLOB)
                layers.append(layer | {"annotations": {TITLE: file.path}})
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": ARTIFACT,
            "config": config,
            "layers": layers,
        }
        encoded = write_canonical(manifest)
        listed = store.put((encoded,), MANIFEST) | {"annotations": {TAG: tag}, "artifactType": ARTIFACT}
        index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [listed]}
        for name, content in (("oci-layout", LAYOUT), ("index.json", write_canonical(index))):
            with open(os.path.join(folder, name), "wb") as output:
                os.fchmod(output.fileno(), 0o644)
                output.write(content)
        sync_file_system(folder)
    return Exported(checked.bundle.id, hashlib.sha256(encoded).digest(), store.size)


def import_tar(stream: BinaryIO, out: str, *, runtimes: Iterable[RuntimePin]) -> CheckedBundle:
    """Unpack a canonical tar as the new bundle `out`, which appears only if everything in it is right."""
    with atomic_directory(out) as folder:
        top = extract_tar(stream, folder, top=None)
        checked = _check_import(folder, runtimes)
        if top != f"{checked.bundle.index.name}.bundle":
            raise FormatError(
                "fs.archive.malformed", f"the top directory is {top!r}, not the bundle's name", what="tar"
            )
        settle(folder)
    return check_again(checked, out)


def import_oci(
    layout: str, out: str, *, reference: str | None, runtimes: Iterable[RuntimePin]
) -> tuple[CheckedBundle, str]:
    """Unpack an OCI image layout as the new bundle `out`; return it and the digest of the OCI manifest that was read.

    reference: a digest "sha256:...", a tag of the layout, or None if it holds one manifest only.
    """
    digest, manifest = _find_manifest(layout, reference)
    config, layers = _read_manifest(manifest)
    with atomic_directory(out) as folder:
        with _Blob(layout, layers[0]) as blob:
            extract_tar(blob, folder)
            blob.require_digest()
        blobs = {_title(layer): layer for layer in layers[1:]}
        if len(blobs) != len(layers) - 1 or list(blobs) != sorted(blobs, key=lambda path: path.encode("utf-8")):
            raise _bad("its blobs are not in the order of their paths")
        for path, layer in {INDEX: config, **blobs}.items():
            _copy_blob(layout, layer, os.path.join(folder, path))
        checked = _check_import(folder, runtimes)
        if (
            hashlib.sha256(read_file(os.path.join(folder, INDEX), max_bytes=MAX_BYTES, what=INDEX)).digest()
            != checked.bundle.id
        ):
            raise _bad("its config is not the index")
        settle(folder)
    return check_again(checked, out), digest


def check_again(checked: CheckedBundle, path: str) -> CheckedBundle:
    """Return the checked bundle under the name that it has now."""
    from dataclasses import replace

    return replace(checked, bundle=replace(checked.bundle, path=path))


class _Blob:
    """A blob of a layout, hashed as it is read."""

    def __init__(self, layout: str, descriptor: dict[str, Any]) -> None:
        self._digest = descriptor["digest"]
        path = os.path.join(layout, "blobs", "sha256", self._digest.removeprefix("sha256:"))
        self._file = os.fdopen(open_regular(path), "rb")
        self._hash = hashlib.sha256()
        if os.fstat(self._file.fileno()).st_size != descriptor["size"]:
            self._file.close()
            raise _bad(f"{self._digest} does not have its size")

    def __enter__(self) -> "_Blob":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes."""
        data = self._file.read(size)
        self._hash.update(data)
        return data

    def require_digest(self) -> None:
        """Raise FormatError unless all of the blob was read and has its digest."""
        if self._file.read(1) or f"sha256:{self._hash.hexdigest()}" != self._digest:
            raise _bad(f"{self._digest} has other bytes")


class _Store:
    """blobs/sha256 of a layout that is being written. size: bytes of all blobs."""

    def __init__(self, folder: str) -> None:
        os.makedirs(folder, mode=0o755)
        self._folder = folder
        self.size = 0

    def put(self, chunks: Iterable[bytes], media_type: str) -> dict[str, Any]:
        """Store a content under its digest and return its descriptor."""
        digest, size = hashlib.sha256(), 0
        part = os.path.join(self._folder, ".part")
        with open(part, "wb") as file:
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                file.write(chunk)
            os.fchmod(file.fileno(), 0o644)
        os.rename(part, os.path.join(self._folder, digest.hexdigest()))
        self.size += size
        return {"mediaType": media_type, "digest": f"sha256:{digest.hexdigest()}", "size": size}


def _sound(path: str) -> CheckedBundle:
    checked = check_bundle(path, full=True)
    _refuse_problems(checked)
    return checked


def _check_import(folder: str, runtimes: Iterable[RuntimePin]) -> CheckedBundle:
    checked = check_bundle(folder, full=True, runtimes=runtimes)
    _refuse_problems(checked)
    return checked


def _refuse_problems(checked: CheckedBundle) -> None:
    """Raise the first problem, but for a runtime that has no pin here: a courier need not know it."""
    for problem in checked.problems:
        if problem.id != UNPINNED:
            raise FormatError(problem.id, problem.text, hint="do not use this bundle", what="bundle")


def _files(checked: CheckedBundle, *, everything: bool) -> list[tuple[str, int, int]]:
    index, root = checked.bundle.index, checked.bundle.path
    rows = [(file.path, int(file.mode, 8), file.size) for file in index.files]
    others = (INDEX, SIGNATURE) if everything else (SIGNATURE,)
    rows += [
        (name, 0o644, os.path.getsize(os.path.join(root, name)))
        for name in others
        if os.path.isfile(os.path.join(root, name))
    ]
    return rows if everything else [row for row in rows if not row[0].startswith(BLOBS)]


def _pack(entries: list[TarEntry], path: str, *, top: str = "") -> Iterator[bytes]:
    try:
        yield from pack(entries, path, top=top)
    except OSError as error:
        raise storage_error(error, path) from None
    except ValueError as error:
        raise UsageError("fs.entry.changed", f"{str(error)!r} changed while it was read") from None


def _find_manifest(layout: str, reference: str | None) -> tuple[str, Any]:
    """Return the digest of the manifest that a reference means, and the parsed manifest."""
    index = parse(
        read_file(os.path.join(layout, "index.json"), max_bytes=DOCUMENT_MAX, what="index.json"),
        max_bytes=DOCUMENT_MAX,
        what="index.json",
    )
    rows = index.get("manifests") if isinstance(index, dict) else None
    if not isinstance(rows, list):
        raise _bad("index.json lists no manifests")
    rows = [_descriptor(row) | {"tag": (row.get("annotations") or {}).get(TAG)} for row in rows]
    named = "digest" if _DIGEST.fullmatch(reference or "") else "tag"  # no tag may pass for a digest
    found = [row for row in rows if reference in (None, row[named])]
    if len({row["digest"] for row in found}) != 1:
        raise UsageError(
            "bundle.oci.reference", f"the layout has {len(found)} manifests for {reference or 'no reference'!r}",
            hint="name one: --reference sha256:... or a tag",
        )  # fmt: skip
    row = found[0]
    if row["mediaType"] != MANIFEST:
        raise _bad(f"the manifest has the type {row['mediaType']!r}")
    if row["size"] > DOCUMENT_MAX:
        raise _bad(f"the manifest has {row['size']} bytes")
    with _Blob(layout, row) as blob:
        data = blob.read(DOCUMENT_MAX + 1)
        blob.require_digest()
    return row["digest"], parse(data, max_bytes=DOCUMENT_MAX, what="OCI manifest")


def _read_manifest(value: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    fields = {"schemaVersion": int, "config": dict, "layers": list}
    optional = {"mediaType": str, "artifactType": str, "annotations": dict}
    body = take_map(value, what="OCI manifest", reason=_MALFORMED, required=fields, optional=optional)
    if (
        body["schemaVersion"] != 2
        or body.get("mediaType", MANIFEST) != MANIFEST
        or body.get("artifactType") != ARTIFACT
    ):
        raise _bad("the manifest is not one of a glasscase bundle")
    config, layers = _descriptor(body["config"]), [_descriptor(row) for row in body["layers"]]
    types = [layer["mediaType"] for layer in layers]
    if config["mediaType"] != CONFIG or types[:1] != [LAYER] or any(kind != BLOB for kind in types[1:]):
        raise _bad("config or layers have other types than those of a bundle")
    return config, layers


def _descriptor(value: Any) -> dict[str, Any]:
    fields = {"mediaType": str, "digest": str, "size": int}
    optional = {"annotations": dict, "artifactType": str, "platform": dict}
    if isinstance(value, dict) and "urls" in value:
        raise FormatError("bundle.oci.elsewhere", "a descriptor points to another place (urls)", what="OCI layout")
    taken = take_map(value, what="a descriptor", reason=_MALFORMED, required=fields, optional=optional)
    if not _DIGEST.fullmatch(taken["digest"]):
        raise _bad("a digest is not SHA-256 in lower-case hex")
    return taken


def _title(layer: dict[str, Any]) -> str:
    path = layer.get("annotations", {}).get(TITLE)
    if not isinstance(path, str) or not path.startswith(BLOBS):
        raise _bad("a blob has no path below blobs/")
    check_path(path)
    return path


def _copy_blob(layout: str, descriptor: dict[str, Any], target: str) -> None:
    """Copy a blob to its place in the bundle, comparing the digest of what is written."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
        opened = os.open(target, flags, 0o600)
    except (FileExistsError, NotADirectoryError):
        raise _bad("two of its layers want the same place") from None
    with os.fdopen(opened, "wb") as output, _Blob(layout, descriptor) as blob:
        while chunk := blob.read(_CHUNK):
            output.write(chunk)
        output.flush()
        os.fchmod(output.fileno(), 0o644)
        os.utime(output.fileno(), (0, 0))
        blob.require_digest()


def _chunks(path: str) -> Iterator[bytes]:
    try:
        with os.fdopen(open_regular(path), "rb", buffering=0) as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except OSError as error:
        raise storage_error(error, path) from None


def _bad(why: str) -> FormatError:
    return FormatError(_MALFORMED, f"the OCI layout is not one of a bundle: {why}", what="OCI layout")
