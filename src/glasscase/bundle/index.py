"""bundle.json, the index of a bundle, and opening a bundle without trusting it.

Invariants: from_bytes(to_bytes(i)) == i; the bundle id is SHA-256 of the index, which lists every file but itself and app.sig,
so signing does not change it. An opened Bundle says what a directory claims; bundle.check says whether it is true.
Source: docs/bundle-format.md, "Index".
"""

import hashlib
import os
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from glasscase.codec.hexid import from_hex
from glasscase.codec.record import take_list, take_map, take_object
from glasscase.codec.strictjson import parse_canonical, write_canonical
from glasscase.codec.version import VERSION
from glasscase.config.enclave import INSECURE, NAME
from glasscase.errors import FormatError, StorageError
from glasscase.fs.atomic import read_file
from glasscase.fs.walk import FILES_MAX, check_distinct, check_path
from glasscase.lock.model import FILE as LOCK
from glasscase.lock.model import MAX_BYTES as LOCK_MAX
from glasscase.lock.model import Lock

TYPE = "glasscase-bundle"
INDEX = "bundle.json"
MANIFEST = "app.manifest.sgx"
SIGNATURE = "app.sig"
RUNTIME = "runtime/"
ROOTFS = "rootfs/"
BLOBS = "blobs/"
BOM = "bom.cdx.json"
PROVENANCE = "provenance.json"
CONFIG = "rootfs/opt/glasscase/enclave.cbor"
IMPORTS = "rootfs/opt/glasscase/imports.txt"
MAX_BYTES = 256 << 20
_ITEMS_MAX = 16 * FILES_MAX  # commas and brackets: six a file
FILE_MAX = 1 << 45  # bytes of one file: a blob of the largest plaintext and its tags
PLAIN = "0644"
EXECUTABLE = "0755"
_MALFORMED = "bundle.index.malformed"
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~_-]{0,62}", re.ASCII)
_RUNTIME_FIELDS = ("libpal", "loader", "libsysdb")


@dataclass(frozen=True)
class FileEntry:
    """One file. path: below the bundle. size: bytes. mode: "0644" or "0755". sha256: 32 bytes."""

    path: str
    size: int
    mode: str
    sha256: bytes


@dataclass(frozen=True)
class IndexRuntime:
    """The Gramine runtime that the bundle names; digests of 32 bytes."""

    name: str
    version: str
    libpal: bytes
    loader: bytes
    libsysdb: bytes


@dataclass(frozen=True)
class BundleIndex:
    """What bundle.json says. mrenclave: 32 bytes. enclave_size: bytes. files: sorted by the bytes of their paths."""

    name: str
    tool: str
    profile: str
    runtime: IndexRuntime
    mrenclave: bytes
    enclave_size: int
    encrypted: bool
    files: tuple[FileEntry, ...]
    insecure: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check names, paths and order."""
        if not NAME.fullmatch(self.name):
            raise _bad(f"the name {self.name!r} is not allowed")
        for word in (self.tool, self.profile, self.runtime.name, self.runtime.version):
            if not _WORD.fullmatch(word):
                raise _bad(f"{word!r} is not a name or version")
        if list(self.insecure) != sorted(set(self.insecure) & set(INSECURE)):
            raise _bad("insecure is not a sorted list of known weakenings")
        if len(self.files) > FILES_MAX:
            raise _bad(f"it lists more than {FILES_MAX} files")
        for file in self.files:
            check_path(file.path)
            if file.mode not in (PLAIN, EXECUTABLE) or file.size > FILE_MAX or file.path in (INDEX, SIGNATURE):
                raise _bad(f"the file {file.path!r} has a mode, size or name that is not allowed")
        paths = [file.path.encode("utf-8") for file in self.files]
        if paths != sorted(set(paths)):
            raise _bad("files are not sorted or stand twice")
        _check_tree(file.path for file in self.files)

    def to_bytes(self) -> bytes:
        """Return cJSON."""
        runtime: dict[str, Any] = {"name": self.runtime.name, "version": self.runtime.version}
        runtime |= {field: getattr(self.runtime, field).hex() for field in _RUNTIME_FIELDS}
        rows = [{"path": f.path, "size": f.size, "mode": f.mode, "sha256": f.sha256.hex()} for f in self.files]
        return write_canonical(
            {
                "v": VERSION,
                "type": TYPE,
                "name": self.name,
                "tool": self.tool,
                "profile": self.profile,
                "runtime": runtime,
                "mrenclave": self.mrenclave.hex(),
                "enclave_size": self.enclave_size,
                "encrypted": self.encrypted,
                "files": rows,
                "insecure": list(self.insecure),
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "BundleIndex":
        """Return the index of exactly these bytes; raises FormatError: codec.json.*, format.newer, bundle.index.malformed."""
        value = parse_canonical(data, max_bytes=MAX_BYTES, what=INDEX, max_items=_ITEMS_MAX)
        fields = {
            "name": str, "tool": str, "profile": str, "runtime": dict, "mrenclave": str, "enclave_size": int,
            "encrypted": bool, "files": list, "insecure": list,
        }  # fmt: skip
        body = take_object(value, kind=TYPE, what=INDEX, reason=_MALFORMED, required=fields, optional={})
        runtime_fields = dict.fromkeys(("name", "version", *_RUNTIME_FIELDS), str)
        runtime = take_map(body["runtime"], what="runtime", reason=_MALFORMED, required=runtime_fields, optional={})
        digests = {field: from_hex(runtime[field], 32, field) for field in _RUNTIME_FIELDS}
        insecure = take_list(body["insecure"], str, what="insecure", reason=_MALFORMED, limit=len(INSECURE))
        return cls(
            name=body["name"],
            tool=body["tool"],
            profile=body["profile"],
            runtime=IndexRuntime(runtime["name"], runtime["version"], **digests),
            mrenclave=from_hex(body["mrenclave"], 32, "mrenclave"),
            enclave_size=body["enclave_size"],
            encrypted=body["encrypted"],
            files=tuple(_read_file(row) for row in body["files"]),
            insecure=insecure,
        )

    @property
    def id(self) -> bytes:
        """Return the bundle id, 32 bytes."""
        return hashlib.sha256(self.to_bytes()).digest()

    def find(self, path: str) -> FileEntry | None:
        """Return the entry of a path, or None."""
        return self._by_path.get(path)

    @cached_property
    def _by_path(self) -> dict[str, FileEntry]:
        return {file.path: file for file in self.files}


@dataclass(frozen=True)
class Bundle:
    """An opened bundle, not yet checked. path: its directory. id: 32 bytes."""

    path: str
    id: bytes
    index: BundleIndex
    lock: Lock


def open_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Return what a bundle says of itself.

    Raises StorageError if it cannot be read, FormatError if its index or lock is not one, or the lock is not the one that
    the index lists.
    """
    directory = os.fspath(path)
    try:
        encoded = read_file(os.path.join(directory, INDEX), max_bytes=MAX_BYTES, what=INDEX)
    except StorageError as error:
        if error.reason == "fs.file.missing":
            error.hint = "a bundle is the directory that glasscase build or import wrote"
        raise
    index = BundleIndex.from_bytes(encoded)
    lock = read_file(os.path.join(directory, LOCK), max_bytes=LOCK_MAX, what=LOCK)
    entry = index.find(LOCK)
    if entry is None or entry.sha256 != hashlib.sha256(lock).digest():
        raise FormatError("bundle.file.changed", f"{LOCK} is not the file that the index lists", what="bundle")
    return Bundle(directory, hashlib.sha256(encoded).digest(), index, Lock.from_bytes(lock))


def _read_file(row: Any) -> FileEntry:
    fields = {"path": str, "size": int, "mode": str, "sha256": str}
    taken = take_map(row, what="a file of the index", reason=_MALFORMED, required=fields, optional={})
    return FileEntry(taken["path"], taken["size"], taken["mode"], from_hex(taken["sha256"], 32, "sha256"))


def _check_tree(paths: Any) -> None:
    """Refuse names that fold to one and a file that is also a directory."""
    found = list(paths)
    check_distinct(found)
    files = set(found)
    for path in found:
        parent = path.rpartition("/")[0]
        while parent:
            if parent in files:
                raise _bad(f"{parent!r} is a file and a directory")
            parent = parent.rpartition("/")[0]


def _bad(message: str) -> FormatError:
    return FormatError(_MALFORMED, f"{INDEX}: {message}", what="bundle")
