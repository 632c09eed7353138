"""Reading a package: every check that binds its content to key, header and commitment, then unpacking and lazy reading.

Invariants: an OpenedPackage exists only after the checks of its whole manifest have passed; a file gets its final name only
if its content has the digest of its entry; a lazily read byte comes from a chunk that was compared with its leaf.
In-enclave code: pread, ftruncate and rename only.
Source: docs/stream-format.md, "Packages".
"""

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from glasscase.core import handles
from glasscase.core.chunks import (
    HEADER_SIZE,
    KIND_BLOB,
    KIND_MANIFEST,
    Key,
    Progress,
    accept,
    blob_names,
    decrypt_accepted,
    decrypt_bytes,
    manifest_header,
    package_id,
    sealed_size,
)
from glasscase.core.reader import Helpers, Reader
from glasscase.errors import Error, FormatError, StorageError
from glasscase.fs.atomic import storage_error, sync_file_system
from glasscase.fs.part import PartFile, write_all
from glasscase.seal.manifest import (
    LAZY,
    MANIFEST_MAX,
    Entry,
    LeafList,
    Manifest,
    leaf_list_size,
    opening,
    package_digest,
)
from glasscase.seal.manifest import commitment as commitment_of

MANIFEST_NAME = "manifest"
_SMALL = 8 << 20  # bytes; below, a blob is decrypted in memory


@dataclass(frozen=True)
class Package:
    """What a package is known by. header: of its manifest; digest: of its plaintext; bytes: size of all plaintext.

    opening: secret until the provider discloses it.
    """

    header: bytes
    digest: bytes
    commitment: bytes
    opening: bytes
    entries: tuple[Entry, ...]

    def __repr__(self) -> str:
        return f"Package(commitment={self.commitment.hex()}, entries={len(self.entries)})"

    @property
    def size(self) -> int:
        """Return the bytes of all plaintext."""
        return sum(entry.size for entry in self.entries)

    @property
    def headers(self) -> frozenset[tuple[bytes, bytes]]:
        """Return id and header of all blobs."""
        found = {(entry.blob, entry.header) for entry in self.entries if not entry.directory}
        return frozenset(
            found | {(part.leaves.blob, part.leaves.header) for part in self.entries if part.leaves is not None}
        )

    @property
    def blobs(self) -> frozenset[str]:
        """Return the file names of all blobs."""
        return frozenset(blob.hex() for blob, _ in self.headers)


def open_package(
    directory: str | os.PathLike[str], *, key: bytes | Key, header: bytes | None = None, commitment: bytes | None = None,
    model_keys: Mapping[bytes, bytes | Key] | Iterable[bytes] = (), context: bytes = b"", lazy_unchecked: bool = False,
) -> "OpenedPackage":  # fmt: skip
    """Return a package whose manifest, key, header and commitment belong together, and whose blobs are named as derived.

    directory: holds `manifest` and the blobs, nothing else. header, commitment: what an enclave has measured; without them
    the package is only consistent in itself. model_keys: raw keys, or by key id. lazy_unchecked: models = "key", lazily
    read files need no leaf list. Raises FormatError, with an id for each thing that does not fit.
    """
    root = key if isinstance(key, Key) else Key(key)
    keys = _by_id(model_keys)
    data = _read_manifest(directory)
    plain, _ = decrypt_bytes(data, key=root, app_context=context, kind=KIND_MANIFEST, expect=header)
    manifest = Manifest.from_bytes(plain)
    digest = package_digest(manifest.entries)
    _check_manifest(manifest, data[:HEADER_SIZE], key=root, digest=digest, plain=plain, context=context)
    opening_bytes = opening(root, digest)
    own = commitment_of(opening_bytes, digest)
    if commitment is not None and not handles.constant_time_equal(own, commitment):
        raise FormatError("package.commitment.mismatch", "the package is not the content that the enclave has measured")
    for entry in manifest.entries:
        _check_entry(entry, root, keys, lazy_unchecked=lazy_unchecked)
    package = Package(data[:HEADER_SIZE], digest, own, opening_bytes, manifest.entries)
    _check_listing(directory, package)
    return OpenedPackage(os.fspath(directory), package)


class OpenedPackage:
    """A package that passed every check of its manifest; its blobs are checked as they are read."""

    def __init__(self, directory: str, package: Package) -> None:
        self._directory = directory
        self.package = package
        self.entries = package.entries
        self._by_path = {entry.path: entry for entry in package.entries}

    def entry(self, path: str) -> Entry:
        """Return the entry of a file; raises FormatError("package.path.unknown") if there is none."""
        found = self._by_path.get(path)
        if found is None or found.directory:
            raise FormatError("package.path.unknown", f"the package has no file {path!r}")
        return found

    def open(self, path: str, *, threads: int = 1, helpers: Helpers | None = None) -> Reader:
        """Return a file as a seekable raw stream, lazily decrypted; with a leaf list each chunk is compared with its leaf.

        threads: for one read; helpers: how many more than their callers all that share it may have at a time.
        A file that is unpacked at start (type f) has no leaf list: read or unpack checks its digest as a whole.
        """
        entry = self.entry(path)
        if entry.type != LAZY:
            raise Error("package.entry.eager", f"{path!r} is not a lazily read file", hint="unpack it or read it whole")
        reader = self._reader(entry.blob, entry.header, entry.key, threads, helpers)
        try:
            if entry.leaves is not None:
                names = entry.leaves
                reader.check_leaves(self._reader(names.blob, names.header, names.key, 1), entry.digest)
        except BaseException:
            reader.close()
            raise
        return reader

    def read(self, path: str) -> bytes:
        """Return the whole content of a file in memory, after its digest was compared."""
        return self._content(self.entry(path))

    def verify(self, *, threads: int = 1, progress: Progress | None = None) -> None:
        """Decrypt everything to nowhere; raises FormatError at the first blob whose content is not that of its entry."""
        done = 0
        for entry in self.entries:
            if not entry.directory:
                self._decrypt(entry, -1, threads, _shifted(progress, done))
                done += entry.size

    def unpack(
        self, target: str | os.PathLike[str], *, prefix: str = "", lazy: bool = True, threads: int = 1,
        durable: bool = False, progress: Progress | None = None,
    ) -> int:  # fmt: skip
        """Write the files below `prefix` (such as "app/") to a directory that exists, without the prefix; return how many.

        lazy=False leaves lazily read files out. durable: wait at the end until the disk has everything. Each file is
        decrypted to a `.part-` file of its final size and renamed when its digest holds; it raises FormatError at the
        first that fails.
        """
        count = done = 0
        for entry in self.entries:
            if not entry.path.startswith(prefix) or (entry.type == LAZY and not lazy):
                continue
            path = os.path.join(os.fspath(target), entry.path[len(prefix) :])
            try:
                if entry.directory:
                    os.makedirs(path, mode=0o755, exist_ok=True)
                    continue
                self._write(entry, path, threads, _shifted(progress, done))
            except OSError as error:
                raise storage_error(error, path) from None
            count += 1
            done += entry.size
        if durable:
            try:
                sync_file_system(target)
            except OSError as error:
                raise storage_error(error, target) from None
        return count

    def _write(self, entry: Entry, path: str, threads: int, progress: Progress | None) -> None:
        with PartFile(path, mode=entry.mode, durable=False) as output:
            os.ftruncate(output, entry.size)  # a file system in memory is slow when a file grows
            self._decrypt(entry, output, threads, progress)

    def _decrypt(self, entry: Entry, output: int, threads: int, progress: Progress | None) -> None:
        if entry.size <= _SMALL:
            content = self._content(entry)
            if output >= 0:
                write_all(output, content)
            if progress is not None:
                progress(entry.size)
            return
        source = self._open_blob(entry.blob)
        try:
            _check_header(_read_up_to(source, HEADER_SIZE), entry.header, entry.path)
            message = decrypt_accepted(
                accept(entry.header, key=Key(entry.key)), source, output, size=entry.size, threads=threads, digest=True,
                progress=progress,
            )  # fmt: skip
        finally:
            os.close(source)
        _check_content(entry, message.digest)

    def _content(self, entry: Entry) -> bytes:
        source = self._open_blob(entry.blob)
        try:
            data = _read_up_to(source, sealed_size(entry.size) + 1)
        finally:
            os.close(source)
        _check_header(data[:HEADER_SIZE], entry.header, entry.path)
        plain, digest = decrypt_bytes(data, key=Key(entry.key), kind=KIND_BLOB)
        _check_content(entry, digest)
        return plain

    def _reader(self, blob: bytes, header: bytes, key: bytes, threads: int, helpers: Helpers | None = None) -> Reader:
        return Reader(
            self._open_blob(blob), key=Key(key), header=header, threads=threads, kind=KIND_BLOB, helpers=helpers
        )

    def _open_blob(self, blob: bytes) -> int:
        return _open_regular(os.path.join(self._directory, blob.hex()), "package.blob.missing")


def _read_manifest(directory: str | os.PathLike[str]) -> bytes:
    descriptor = _open_regular(os.path.join(directory, MANIFEST_NAME), "package.manifest.missing")
    try:
        limit = sealed_size(MANIFEST_MAX)
        data = _read_up_to(descriptor, limit + 1)
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise FormatError("package.manifest.oversize", f"the manifest is longer than {limit} bytes")
    return data


def _open_regular(path: str, missing: str) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        raise FormatError(missing, f"{path!r} is missing") from None
    except OSError as error:
        raise storage_error(error, path) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FormatError(missing, f"{path!r} is not a regular file")
    return descriptor


def _read_up_to(descriptor: int, limit: int) -> bytes:
    parts: list[bytes] = []
    got = 0
    try:
        while got < limit and (part := os.pread(descriptor, min(limit - got, 16 << 20), got)):
            parts.append(part)
            got += len(part)
    except OSError as error:
        raise StorageError("stream.io.failed", f"a blob cannot be read: {error.strerror}", errno=error.errno) from None
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _check_manifest(
    manifest: Manifest, header: bytes, *, key: Key, digest: bytes, plain: bytes, context: bytes
) -> None:
    """The header is the only one that this key derives for this manifest: no second manifest has it."""
    derived = manifest_header(
        key, package_digest=digest, digest=hashlib.sha256(plain).digest(), size=len(plain), app_context=context
    )
    if not handles.constant_time_equal(derived, header):
        raise FormatError(
            "package.manifest.substituted", "the manifest is not the one that its header was derived from",
            hint="a holder of the key has put another manifest under the same header: do not use it",
        )  # fmt: skip
    if manifest.package_id != package_id(key, digest):
        raise FormatError("package.id.mismatch", "the manifest carries the id of another package")


def _check_entry(entry: Entry, key: Key, model_keys: Mapping[bytes, Key], *, lazy_unchecked: bool) -> None:
    if entry.directory:
        return
    root = key
    if entry.root is not None:
        found = model_keys.get(entry.root)
        if found is None:
            raise FormatError("package.key.missing", f"{entry.path!r} needs the model key {entry.root.hex()}")
        root = found
    _check_names(entry, root, entry.digest, entry.size, entry.path)
    if entry.leaves is not None:
        _check_names(entry.leaves, root, entry.leaves.digest, leaf_list_size(entry.size), f"leaf list of {entry.path}")
    elif entry.type == LAZY and not lazy_unchecked:
        raise FormatError("package.leaves.missing", f"{entry.path!r} is read lazily but has no leaf list")


def _check_names(stated: Entry | LeafList, root: Key, digest: bytes, size: int, what: str) -> None:
    """Key, file name and header of a blob are those that its root key derives for this digest and size."""
    names = blob_names(root, digest, size)
    own = names.key + names.id + names.header
    if not handles.constant_time_equal(own, stated.key + stated.blob + stated.header):
        raise FormatError("package.blob.underived", f"{what!r} is not stored as its digest and key demand")


def _check_listing(directory: str | os.PathLike[str], package: Package) -> None:
    try:
        found = set(os.listdir(directory))
    except OSError as error:
        raise storage_error(error, directory) from None
    expected = package.blobs | {MANIFEST_NAME}
    missing = sorted(expected - found)
    for name in sorted(found - expected):
        real = _renamed(directory, name, package, missing) if missing else None
        if real is not None:
            raise FormatError(
                "package.blob.renamed", f"{name!r} is the blob {real!r} under another name", hint="rename it"
            )
        raise FormatError("package.blob.extra", f"{name!r} does not belong to the package", hint="remove it")
    for name in missing:
        raise FormatError("package.blob.missing", f"{name!r} is missing from the package", hint="get the package again")


def _renamed(directory: str | os.PathLike[str], name: str, package: Package, missing: list[str]) -> str | None:
    """Return the name of the missing blob that has the header of this file, None if there is none."""
    descriptor = _open_regular(os.path.join(directory, name), "package.blob.extra")
    try:
        header = _read_up_to(descriptor, HEADER_SIZE)
    finally:
        os.close(descriptor)
    return next((blob.hex() for blob, own in package.headers if own == header and blob.hex() in missing), None)


def _check_header(found: bytes, expected: bytes, path: str) -> None:
    if not handles.constant_time_equal(found, expected):
        raise FormatError(
            "package.blob.swapped", f"the blob of {path!r} is not the one that the manifest names",
            hint="a blob was replaced or taken from another release",
        )  # fmt: skip


def _check_content(entry: Entry, digest: bytes | None) -> None:
    if digest is None or not handles.constant_time_equal(digest, entry.digest):
        raise FormatError(
            "package.content.mismatch", f"{entry.path!r} does not have the content of its digest",
            hint="a holder of the key has made other content under the same header: do not use it",
        )  # fmt: skip


def _by_id(keys: Mapping[bytes, bytes | Key] | Iterable[bytes]) -> dict[bytes, Key]:
    given: Iterable[bytes | Key] = keys.values() if isinstance(keys, Mapping) else keys
    made = [key if isinstance(key, Key) else Key(key) for key in given]
    return {key.id: key for key in made}  # by what the key is, not by what it was called


def _shifted(progress: Progress | None, done: int) -> Progress | None:
    return None if progress is None else lambda more: progress(done + more)
