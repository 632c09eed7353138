"""Building a package: source files to blobs and a manifest, the same bytes for the same content and keys.

Invariants: no blob is written of content that has not the digest its key and salt come from, also if a file changes between
the passes; one content under one key is one blob; order, time, owner and place of the sources are no inputs.
Source: docs/stream-format.md, "Packages".
"""

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from glasscase.core.chunks import (
    CHUNK_SIZE,
    HEADER_SIZE,
    BlobNames,
    BlobSeal,
    ContentDigest,
    Key,
    Progress,
    as_key,
    content_digest,
    digest_descriptor,
    encrypt_manifest,
    package_id,
    sealed_size,
)
from glasscase.errors import FormatError, UsageError
from glasscase.fs import walk as fs_walk
from glasscase.fs.atomic import storage_error, sync_file_system
from glasscase.fs.part import PartFile, write_all
from glasscase.seal import manifest as form
from glasscase.seal.files import MANIFEST_NAME, Package

_Stored = tuple[bytes, BlobNames, int, bytes | None]  # digest, names, size, leaves
_READ_ONCE = 8 << 20  # bytes; larger files are read twice: digest, then compare and encrypt


@dataclass(frozen=True)
class OnDisk:
    """The content of a regular file: a path below a directory that is trusted not to be a link."""

    root: str
    path: str


@dataclass(frozen=True)
class Source:
    """One path of a package to be. content: bytes, a file, or None for a directory.

    lazy: read on demand inside the enclave, else unpacked at start. model_key: another root than the package key.
    """

    path: str
    content: bytes | OnDisk | None
    mode: int = 0o644
    lazy: bool = False
    model_key: Key | None = None


def sources_of(
    root: str | os.PathLike[str], *, prefix: str = "", lazy: bool = False, model_key: bytes | Key | None = None,
    skip: Callable[[str, bool], bool] = lambda _path, _directory: False,
) -> tuple[Source, ...]:  # fmt: skip
    """Return the sources for everything below the directory `root`, under the package path `prefix`.

    skip: see glasscase.fs.walk.walk, which also says what is refused.
    """
    key = None if model_key is None else as_key(model_key)
    top = f"{prefix}/" if prefix else ""
    found = []
    for entry in fs_walk.walk(root, skip=skip):
        mode = 0o755 if entry.directory or entry.executable else 0o644
        content = None if entry.directory else OnDisk(os.fspath(root), entry.path)
        found.append(Source(top + entry.path, content, mode, lazy and not entry.directory, key))
    return tuple(found)


def source_of(
    path: str | os.PathLike[str], name: str, *, lazy: bool = False, model_key: bytes | Key | None = None
) -> Source:
    """Return the source for one file, under the package path `name`."""
    folder, base = os.path.split(os.path.abspath(path))
    try:
        facts = os.stat(path)
    except OSError as error:
        raise storage_error(error, path) from None
    mode = 0o755 if facts.st_mode & 0o111 else 0o644
    return Source(name, OnDisk(folder, base), mode, lazy, None if model_key is None else as_key(model_key))


def build_package(
    sources: Iterable[Source], *, key: bytes | Key, out_dir: str | os.PathLike[str], threads: int = 2,
    leaf_lists: bool = True, context: bytes = b"", durable: bool = True, progress: Progress | None = None,
) -> Package:  # fmt: skip
    """Write `manifest` and blobs to the empty directory `out_dir`; return what the package is known by.

    Missing parent directories are added. leaf_lists=False is models = "key". durable: wait at the end until the disk has all of it.
    progress: called with the bytes of plaintext that are done.
    Raises FormatError("stream.content.changed") if a source changes meanwhile, StorageError if a disk fails.
    """
    root = as_key(key)
    writer = _Writer(os.fspath(out_dir), threads, progress=progress)
    entries = []
    for source in _ordered(sources):
        if source.content is None:
            entries.append(form.Entry(source.path, form.DIRECTORY, source.mode))
        else:
            entries.append(_file(writer, source, root, leaf_lists=leaf_lists))
    form.check_entries(entries)
    digest = form.package_digest(entries)
    data = form.Manifest(package_id(root, digest), tuple(entries)).to_bytes()
    sealed = encrypt_manifest(
        data, root, package_digest=digest, digest=hashlib.sha256(data).digest(), app_context=context
    )
    writer.write(MANIFEST_NAME, sealed)
    if durable:
        try:
            sync_file_system(out_dir)
        except OSError as error:
            raise storage_error(error, out_dir) from None
    opening = form.opening(root, digest)
    return Package(sealed[:HEADER_SIZE], digest, form.commitment(opening, digest), opening, tuple(entries))


def digest_sources(sources: Iterable[Source], *, threads: int = 2) -> bytes:
    """Return the plaintext package digest of sources without encrypting them: what an auditor compares."""
    entries = []
    for source in _ordered(sources):
        if source.content is None:
            entries.append(form.Entry(source.path, form.DIRECTORY, source.mode))
            continue
        if isinstance(source.content, bytes):
            size, digest = len(source.content), content_digest(source.content)
        else:
            with _open(source.content) as (descriptor, size):
                digest = digest_descriptor(descriptor, size, threads=threads).digest
        kind = form.LAZY if source.lazy else form.FILE
        entries.append(form.Entry(source.path, kind, source.mode, size, digest))
    form.check_entries(entries)
    return form.package_digest(entries)


def _ordered(sources: Iterable[Source]) -> list[Source]:
    """Return the sources with all their parents, in the order of the manifest."""
    by_path: dict[str, Source] = {}
    for source in sources:
        fs_walk.check_path(source.path)
        if source.path in by_path:
            raise UsageError("package.path.duplicate", f"two sources have the path {source.path!r}")
        if source.mode not in form.MODES:
            raise UsageError(
                "package.mode.refused", f"{source.path!r} has mode {source.mode:o}, allowed are 644 and 755"
            )
        by_path[source.path] = source
    for path in list(by_path):
        parent = path.rpartition("/")[0]
        while parent and parent not in by_path:
            by_path[parent] = Source(parent, None, 0o755)
            parent = parent.rpartition("/")[0]
    return [by_path[path] for path in sorted(by_path, key=lambda path: path.encode("utf-8"))]


def _file(writer: "_Writer", source: Source, package_key: Key, *, leaf_lists: bool) -> form.Entry:
    root = source.model_key or package_key
    with_leaves = source.lazy and leaf_lists
    if isinstance(source.content, bytes):
        digest, names, size, leaves = _from_memory(writer, source.content, root, with_leaves=with_leaves)
    elif source.content is not None:
        digest, names, size, leaves = _from_disk(writer, source.content, root, with_leaves=with_leaves)
    leaf_list = None
    if leaves is not None:
        list_digest, listed = writer.blob(leaves, root)
        leaf_list = form.LeafList(listed.id, listed.header, listed.key, list_digest)
    own_key = None if root.id == package_key.id else root.id
    return form.Entry(
        source.path, form.LAZY if source.lazy else form.FILE, source.mode, size, digest, names.id, names.header,
        names.key, own_key, leaf_list,
    )  # fmt: skip


def _from_memory(writer: "_Writer", data: bytes, root: Key, *, with_leaves: bool) -> _Stored:
    digest, names = writer.blob(data, root)
    writer.advance(len(data))
    return digest, names, len(data), _leaves(data) if with_leaves else None


def _from_disk(writer: "_Writer", place: OnDisk, root: Key, *, with_leaves: bool) -> _Stored:
    with _open(place) as (descriptor, size):
        if size <= _READ_ONCE:
            data = _read_exactly(descriptor, size, place)
            return _from_memory(writer, data, root, with_leaves=with_leaves)
        content = digest_descriptor(descriptor, size, threads=writer.threads, leaves=with_leaves)
        names = writer.blob_from(descriptor, content, root)
        writer.advance(size)
        return content.digest, names, size, content.leaves


def _leaves(data: bytes) -> bytes:
    view = memoryview(data)
    step = CHUNK_SIZE
    return b"".join(hashlib.sha256(view[at : at + step]).digest() for at in range(0, len(data), step))


@contextlib.contextmanager
def _open(place: OnDisk) -> Iterator[tuple[int, int]]:
    full = os.path.join(place.root, place.path)
    try:
        descriptor = fs_walk.open_beneath(place.root, place.path)
    except OSError as error:
        raise storage_error(error, full) from None
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise UsageError("stream.source.sequential", f"{full!r} is not a regular file")
        yield descriptor, facts.st_size
    except OSError as error:
        raise storage_error(error, full) from None
    finally:
        os.close(descriptor)


def _read_exactly(descriptor: int, size: int, place: OnDisk) -> bytes:
    before = os.fstat(descriptor)
    data = b""
    while len(data) <= size and (part := os.pread(descriptor, size + 1 - len(data), len(data))):
        data = part if not data else data + part
    after = os.fstat(descriptor)
    if len(data) != size or (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
        raise FormatError(
            "stream.content.changed",
            f"{place.path!r} changed while it was read",
            hint="run it again when nobody writes",
        )
    return data


class _Writer:
    """Writes the files of one package; a content that is there already is not written twice."""

    def __init__(self, directory: str, threads: int, *, progress: Progress | None) -> None:
        self.threads = threads
        self._directory = directory
        self._progress = progress
        self._done = 0
        self._written: set[bytes] = set()

    def advance(self, size: int) -> None:
        """Count bytes of plaintext that are done."""
        self._done += size
        if self._progress is not None:
            self._progress(self._done)

    def blob(self, data: bytes, root: Key) -> tuple[bytes, BlobNames]:
        """Write the blob of `data`; return its content digest and names."""
        digest = content_digest(data)
        seal = BlobSeal(root, digest, len(data))
        if self._new(seal.names):
            self.write(seal.names.id.hex(), seal.encrypt(data))
        return digest, seal.names

    def blob_from(self, source: int, content: ContentDigest, root: Key) -> BlobNames:
        """Write the blob of a large file whose digests are known; return its names."""
        seal = BlobSeal(root, content.digest, content.size)
        if self._new(seal.names):
            with PartFile(self._path(seal.names.id.hex()), mode=0o644, durable=False) as output:
                os.ftruncate(output, sealed_size(content.size))
                progress = None if self._progress is None else self._report
                seal.encrypt_descriptor(source, output, content, threads=self.threads, progress=progress)
        return seal.names

    def write(self, name: str, data: bytes | bytearray) -> None:
        """Make one file, whole or not at all."""
        with PartFile(self._path(name), mode=0o644, durable=False) as output:
            write_all(output, data)

    def _report(self, done: int) -> None:
        if self._progress is not None:
            self._progress(self._done + done)

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)

    def _new(self, names: BlobNames) -> bool:
        if names.id in self._written:
            return False
        self._written.add(names.id)
        return True
