"""The package manifest: its entries, its one encoding, and the digest, opening and commitment that bind its content.

Invariants: a Manifest that exists obeys every rule of the format; from_bytes(b).to_bytes() == b; entries are sorted by the
UTF-8 bytes of their paths, parents first, without repeats, also not to a file system that folds case.
Source: docs/stream-format.md, "Packages".
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from glasscase.codec import cbor
from glasscase.codec.labels import label
from glasscase.codec.record import check_version, take_list, take_map
from glasscase.core.chunks import CHUNK_SIZE, HEADER_SIZE, SIZE_MAX, Key
from glasscase.errors import Error, FormatError
from glasscase.fs.walk import check_distinct, check_path

MANIFEST_MAX = 64 << 20  # bytes
ENTRIES_MAX = 1_000_000
_ITEMS_MAX = 32 * ENTRIES_MAX  # CBOR values: keys and values of an entry and of its leaf list
DIGEST_SIZE = 32
ID_SIZE = 16
MODES = (0o644, 0o755)
FILE, LAZY, DIRECTORY = "f", "z", "d"
_MALFORMED = "package.manifest.malformed"


@dataclass(frozen=True)
class LeafList:
    """The encrypted leaf list of a lazily read file: the blob's id, header and key, and the digest of the list."""

    blob: bytes
    header: bytes
    key: bytes = field(repr=False)
    digest: bytes


@dataclass(frozen=True)
class Entry:
    """One path of a package. type: "f" unpacked, "z" read lazily, "d" directory, which has nothing after `mode`.

    size: of the plaintext. digest: its content digest. blob: id, the file's name in hex. key: of the blob.
    root: id of the model key that the blob's key comes from, None for the package key.
    """

    path: str
    type: str
    mode: int
    size: int = 0
    digest: bytes = b""
    blob: bytes = b""
    header: bytes = b""
    key: bytes = field(default=b"", repr=False)
    root: bytes | None = None
    leaves: LeafList | None = None

    @property
    def directory(self) -> bool:
        """Return whether this is a directory."""
        return self.type == DIRECTORY

    def content(self) -> dict[str, Any]:
        """Return what the package digest covers: path, type, mode, size and digest."""
        fields: dict[str, Any] = {"p": self.path, "t": self.type, "m": self.mode}
        return fields if self.directory else {**fields, "s": self.size, "d": self.digest}

    def fields(self) -> dict[str, Any]:
        """Return the whole entry as it stands in the manifest."""
        fields = self.content()
        if self.directory:
            return fields
        fields |= {"b": self.blob, "h": self.header, "k": self.key}
        if self.root is not None:
            fields["r"] = self.root
        if self.leaves is not None:
            names = self.leaves
            fields["l"] = {"b": names.blob, "h": names.header, "k": names.key, "d": names.digest}
        return fields


@dataclass(frozen=True)
class Manifest:
    """A package id and its entries."""

    package_id: bytes
    entries: tuple[Entry, ...]

    def to_bytes(self) -> bytes:
        """Return the CBOR that is encrypted. Raises FormatError("package.manifest.oversize") above 64 MiB."""
        data = cbor.encode({"v": 1, "pkg": self.package_id, "entries": [entry.fields() for entry in self.entries]})
        if len(data) > MANIFEST_MAX:
            raise FormatError("package.manifest.oversize", f"the manifest has {len(data)} bytes, limit {MANIFEST_MAX}")
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> "Manifest":
        """Return the manifest of exactly these bytes; raises FormatError for anything that the format does not allow."""
        value = cbor.decode(data, max_bytes=MANIFEST_MAX, what="package manifest", max_items=_ITEMS_MAX)
        check_version(value, what="package manifest", reason=_MALFORMED)
        fields = _map(value, {"v": int, "pkg": ID_SIZE, "entries": list}, {}, "package manifest")
        items = take_list(fields["entries"], dict, what="entries", reason=_MALFORMED, limit=ENTRIES_MAX)
        entries = tuple(_entry(item) for item in items)
        check_entries(entries)
        return cls(fields["pkg"], entries)


def check_entries(entries: Iterable[Entry]) -> None:
    """Return if paths, order and parents obey the rules.

    Raises FormatError: fs.path.refused, fs.path.clash, package.manifest.disordered or package.path.orphan.
    """
    directories: set[str] = set()
    before = b""
    paths: list[str] = []
    for entry in entries:
        check_path(entry.path)
        raw = entry.path.encode("utf-8")
        if raw <= before:
            raise FormatError("package.manifest.disordered", f"{entry.path!r} stands after a path that sorts behind it")
        before = raw
        parent = entry.path.rpartition("/")[0]
        if parent and parent not in directories:
            raise FormatError("package.path.orphan", f"{entry.path!r} stands in a directory that is not listed")
        if entry.directory:
            directories.add(entry.path)
        paths.append(entry.path)
    check_distinct(paths)


def package_digest(entries: Iterable[Entry]) -> bytes:
    """Return the plaintext package digest: what the package holds, whatever the key."""
    return hashlib.sha256(label("package") + cbor.encode([entry.content() for entry in entries])).digest()


def opening(key: Key, digest: bytes) -> bytes:
    """Return the 32 bytes that open the code commitment of the release with this package digest, and of no other."""
    return key.expand(label("opening") + digest, DIGEST_SIZE)


def commitment(opening_bytes: bytes, digest: bytes) -> bytes:
    """Return the code commitment that an enclave measures."""
    if len(opening_bytes) != DIGEST_SIZE or len(digest) != DIGEST_SIZE:
        raise Error("core.state.wrong", "opening and package digest have 32 bytes each")
    return hashlib.sha256(label("code-commitment") + opening_bytes + digest).digest()


def leaf_list_size(size: int) -> int:
    """Return the length of the leaf list of a content of `size` bytes."""
    return -(-size // CHUNK_SIZE) * DIGEST_SIZE


def _entry(value: Any) -> Entry:
    base: dict[str, type | int] = {"p": str, "t": str, "m": int}
    if value.get("t") == DIRECTORY:
        fields = _map(value, base, {}, "entry")
        _check_mode(fields)
        return Entry(fields["p"], DIRECTORY, fields["m"])
    file_fields: dict[str, type | int] = {"s": int, "d": DIGEST_SIZE, "b": ID_SIZE, "h": HEADER_SIZE, "k": 32}
    fields = _map(value, base | file_fields, {"r": ID_SIZE, "l": dict}, "entry")
    _check_mode(fields)
    if fields["t"] not in (FILE, LAZY) or fields["s"] > SIZE_MAX:
        raise FormatError(_MALFORMED, f"the entry {fields['p']!r} has a type or size that is not allowed")
    leaves = None
    if "l" in fields:
        names = _map(fields["l"], {"b": ID_SIZE, "h": HEADER_SIZE, "k": 32, "d": DIGEST_SIZE}, {}, "leaf list")
        leaves = LeafList(names["b"], names["h"], names["k"], names["d"])
        if fields["t"] != LAZY:
            raise FormatError(_MALFORMED, f"{fields['p']!r} is unpacked at start, so it has no leaf list")
    return Entry(
        fields["p"], fields["t"], fields["m"], fields["s"], fields["d"], fields["b"], fields["h"], fields["k"],
        fields.get("r"), leaves,
    )  # fmt: skip


def _check_mode(fields: dict[str, Any]) -> None:
    if fields["m"] not in MODES:
        raise FormatError(
            _MALFORMED, f"the entry {fields['p']!r} has the mode {fields['m']:o}, allowed are 644 and 755"
        )


def _map(value: Any, required: dict[str, type | int], optional: dict[str, type | int], what: str) -> dict[str, Any]:
    return take_map(value, what=what, reason=_MALFORMED, required=required, optional=optional)
