"""From a manifest to manifest.sgx: defaults filled, trusted files listed and hashed, as Gramine's signing tool does it.

Invariants: the same bytes as gramine-manifest and gramine-sgx-sign write, or an error; where their answer depends on the
machine (files that cannot be read, links that leave the chroot) it is an error here.
Source: docs/bundle-format.md, "The manifest's text".
"""

import errno
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from glasscase.core.measure import hash_files
from glasscase.errors import FormatError, StorageError, UsageError
from glasscase.fs.atomic import storage_error
from glasscase.gramine import profiles
from glasscase.gramine.manifest import SIZE_WITH_EDMM, SIZE_WITHOUT_EDMM, THREADS_DEFAULT, parse_manifest
from glasscase.gramine.toml import write_toml

_HASH = re.compile(r"[0-9A-Fa-f]{64}", re.ASCII)
_FEATURES = (("avx", "unspecified"), ("avx512", "unspecified"), ("amx", "unspecified"), ("mpx", "disabled"),
             ("pkru", "disabled"))  # fmt: skip
_OLD_FEATURES = ("require_avx", "require_avx512", "require_mpx", "require_pkru", "require_amx")
_LINKS_MAX = 40  # symbolic links followed for one path


@dataclass(frozen=True)
class _Place:
    """Where the paths of URIs are: relative to `directory`, or inside `chroot`."""

    directory: str
    chroot: str | None

    def real(self, path: PurePosixPath) -> str:
        """Return the path on this machine of the path of a URI."""
        if self.chroot is None:
            return os.path.join(self.directory, str(path))
        if not path.is_absolute():
            raise _unusable(f"{str(path)!r} is not absolute, with --chroot it must be")
        return _resolve_inside(self.chroot, path)


def sgx_manifest(
    manifest: bytes,
    *,
    directory: str | os.PathLike[str],
    chroot: str | os.PathLike[str] | None = None,
    libsysdb: str | os.PathLike[str] | None = None,
    series: str = profiles.DEFAULT,
    threads: int = 0,
    on_skipped: Callable[[str], None] | None = None,
    on_hashed: Callable[[str], None] | None = None,
) -> bytes:
    """Return the text that is measured for a manifest.

    directory: what relative file URIs are relative to. chroot: a directory that stands for "/" in those of trusted files, which
    is what Gramine does: loader.entrypoint is not below it. libsysdb: the default of loader.entrypoint. series: the name of
    the profile of the Gramine release that shall run it. on_skipped: told each path of a trusted directory that is neither
    file nor directory. on_hashed: told each file whose content went in.
    Raises FormatError("gramine.manifest.*", "gramine.trusted.malformed"), UsageError("gramine.trusted.outside",
    "gramine.manifest.entrypoint"), StorageError("fs.file.*").
    """
    writer = profiles.profile(series)
    document = parse_manifest(manifest)
    sgx = _table(document, "sgx")
    _fill_defaults(sgx, writer)
    place = _Place(os.fspath(directory), None if chroot is None else os.path.abspath(chroot))
    if writer.entrypoint_table:
        entrypoint = _fill_entrypoint(document, place.directory, libsysdb, writer)
        if on_hashed and entrypoint is not None:
            on_hashed(entrypoint)
    elif not isinstance(_table(document, "loader").get("entrypoint"), str):
        raise _unloadable(f"loader.entrypoint must be a URI, {_releases(writer)} take no table", 'write "file:..."')
    if not isinstance(sgx["trusted_files"], list):
        raise _unusable("sgx.trusted_files must be an array")
    found: dict[str, str | None] = {}
    where: dict[str, str] = {}
    for entry in sgx["trusted_files"]:
        if writer.uris_normalised:
            entry = _normalised(entry)
        for uri, digest, real in _expand(entry, place, on_skipped):
            _take(found, uri, digest)
            where.setdefault(uri, real)
    open_ones = [uri for uri, digest in found.items() if digest is None]
    for uri, sha256 in zip(open_ones, hash_files([where[uri] for uri in open_ones], threads=threads), strict=True):
        found[uri] = sha256.hex()
        if on_hashed:
            on_hashed(where[uri])
    sgx["trusted_files"] = [{"uri": uri, "sha256": digest} for uri, digest in found.items()]
    return write_toml(document)


def _fill_defaults(sgx: dict[str, Any], writer: profiles.Profile) -> None:
    old = next((key for key in (*_OLD_FEATURES, "require_exinfo") if key in sgx), None)
    if old and writer.entrypoint_table:
        raise _unloadable(
            f"sgx.{old} is an option of Gramine 1.5, {_releases(writer)} do not take it",
            "use sgx.cpu_features and sgx.use_exinfo, or --profile for an older Gramine",
        )
    sgx.setdefault("trusted_files", [])
    sgx.setdefault("max_threads", THREADS_DEFAULT)
    sgx.setdefault("isvprodid", 0)
    sgx.setdefault("isvsvn", 0)
    sgx.setdefault("remote_attestation", "none")
    sgx.setdefault("debug", False)
    if not writer.cpu_features:
        for name in (*_OLD_FEATURES, "require_exinfo"):
            sgx.setdefault(name, False)
    sgx.setdefault("enable_stats", False)
    sgx.setdefault("edmm_enable", False)
    sgx.setdefault("enclave_size", SIZE_WITH_EDMM if sgx["edmm_enable"] else SIZE_WITHOUT_EDMM)
    if writer.cpu_features and "require_exinfo" not in sgx:
        sgx.setdefault("use_exinfo", False)
    if writer.cpu_features and not any(key in sgx for key in _OLD_FEATURES):
        features = _table(sgx, "cpu_features")
        for name, default in _FEATURES:
            features.setdefault(name, default)


def _fill_entrypoint(
    document: dict[str, Any], directory: str, libsysdb: str | os.PathLike[str] | None, writer: profiles.Profile
) -> str | None:
    """Complete loader.entrypoint; return the path of its file if that was hashed."""
    loader = _table(document, "loader")
    if isinstance(loader.get("entrypoint"), str):
        raise _unloadable(
            f"loader.entrypoint is a URI, {_releases(writer)} take a table",
            'write loader.entrypoint.uri = "file:...", or give --profile for an older Gramine',
        )
    entrypoint = _table(loader, "entrypoint")
    if "uri" not in entrypoint:
        if libsysdb is None:
            raise UsageError(
                "gramine.manifest.entrypoint",
                "the manifest has no loader.entrypoint.uri and no libsysdb.so of a Gramine installation was found",
                hint="name it in the manifest, or give --libsysdb PATH",
            )
        entrypoint["uri"] = "file:" + os.path.abspath(libsysdb)
    uri, digest = entrypoint["uri"], entrypoint.get("sha256")
    if not isinstance(uri, str) or not uri.startswith("file:"):
        raise _unloadable(f"loader.entrypoint.uri is {uri!r}, not a URI that begins with file:")
    if digest is not None:
        if not isinstance(digest, str) or not _HASH.fullmatch(digest):
            raise _unloadable(f"loader.entrypoint.sha256 is {digest!r}, not 64 hex digits")
        return None
    path = os.path.join(directory, str(_path_of(uri)))
    entrypoint["sha256"] = hash_files([path])[0].hex()
    return path


def _normalised(entry: Any) -> Any:
    """Return an entry with its path spelt as pathlib spells it, as Gramine 1.5 does."""
    uri: Any = entry.get("uri") if isinstance(entry, dict) else entry
    spelt = f"file:{_path_of(uri)}{'/' if uri.endswith('/') else ''}"
    return entry | {"uri": spelt} if isinstance(entry, dict) else spelt


def _table(parent: dict[str, Any], key: str) -> dict[str, Any]:
    value = parent.setdefault(key, {})
    if not isinstance(value, dict):
        raise _unloadable(f"{key} must be a table")
    return value


def _take(found: dict[str, str | None], uri: str, digest: str | None) -> None:
    """Keep the first place of a URI and a digest that was given."""
    known = found.get(uri)
    if known is not None and digest is not None and known != digest:
        raise _unusable(f"{uri!r} is listed with two different hashes")
    if known is None:
        found[uri] = digest


def _expand(
    entry: Any, place: _Place, on_skipped: Callable[[str], None] | None
) -> Iterator[tuple[str, str | None, str]]:
    """Give (URI, digest or None, path on this machine) of each file of one entry of sgx.trusted_files."""
    if isinstance(entry, str):
        entry = {"uri": entry}
    if not isinstance(entry, dict) or not isinstance(entry.get("uri"), str) or set(entry) - {"uri", "sha256"}:
        raise _unusable(f"{entry!r} is neither a URI nor a table of uri and sha256")
    uri, digest = entry["uri"], entry.get("sha256")
    path = _path_of(uri)
    real = place.real(path)
    if uri.endswith("/"):
        if digest is not None:
            raise _unusable(f"{uri!r} is a directory and has a sha256")
        if not os.path.isdir(real):
            raise _missing(real)
        base = path if place.chroot is None else PurePosixPath("/", os.path.relpath(real, place.chroot))
        yield from _walk(base, place, on_skipped)
        return
    if os.path.isdir(real):
        raise _unusable(f"{uri!r} is a directory, its URI must end with /")
    if digest is not None and (not isinstance(digest, str) or not _HASH.fullmatch(digest)):
        raise _unusable(f"{uri!r} has a sha256 that is not 64 hex digits")
    yield uri, digest, real


def _walk(
    base: PurePosixPath, place: _Place, on_skipped: Callable[[str], None] | None
) -> Iterator[tuple[str, str | None, str]]:
    """Give the files below a directory, depth first, each directory sorted by name."""
    real_base = place.real(base) if place.chroot is None else os.path.join(place.chroot, str(base)[1:])
    try:
        with os.scandir(real_base) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise storage_error(error, real_base) from None
    for entry in listed:
        path = base / entry.name
        _check_name(entry.name, real_base)
        if entry.is_symlink() and place.chroot is not None and os.path.exists(entry.path):
            _check_inside(entry.path, place.chroot)
        if os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
            if not entry.is_symlink():
                yield from _walk(path, place, on_skipped)
        elif os.path.isfile(entry.path) if entry.is_symlink() else entry.is_file():
            yield f"file:{path}", None, place.real(path)
        elif on_skipped:
            on_skipped(entry.path)


def _check_name(name: str, folder: str) -> None:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise _unusable(f"a name in {folder!r} is not UTF-8: {os.fsencode(name)!r}") from None


def _check_inside(path: str, chroot: str) -> None:
    if os.path.commonpath([os.path.realpath(path), os.path.realpath(chroot)]) != os.path.realpath(chroot):
        raise UsageError(
            "gramine.trusted.outside",
            f"the symbolic link {path!r} leads out of the chroot on this machine, so the result would depend on it",
            hint="make the link relative, or list the file it means",
        )


def _resolve_inside(chroot: str, path: PurePosixPath) -> str:
    """Return the real path of an absolute path where `chroot` stands for "/" and symbolic links do not leave it."""
    todo = list(path.parts[1:])[::-1]
    done: list[str] = []
    links = 0
    while todo:
        part = todo.pop()
        outer = os.path.join(chroot, *done)
        if not os.path.isdir(outer):
            raise _missing(outer)
        if part == "..":
            done = done[:-1]
            continue
        outer = os.path.join(outer, part)
        if not os.path.islink(outer):
            done.append(part)
            continue
        links += 1
        if links > _LINKS_MAX:
            raise storage_error(OSError(errno.ELOOP, os.strerror(errno.ELOOP)), outer)
        target = PurePosixPath(os.readlink(outer))
        if target.is_absolute():
            done = []
        todo += [name for name in target.parts if name != "/"][::-1]
    return os.path.join(chroot, *done)


def _path_of(uri: Any) -> PurePosixPath:
    if not isinstance(uri, str) or not uri.startswith("file:"):
        raise _unusable(f"{uri!r} is not a URI that begins with file:")
    return PurePosixPath(uri[len("file:") :])


def _missing(path: str) -> StorageError:
    number = errno.ENOTDIR if os.path.exists(path) else errno.ENOENT
    return storage_error(OSError(number, os.strerror(number)), path)


def _unusable(why: str) -> FormatError:
    return FormatError("gramine.trusted.malformed", f"trusted files: {why}", what="manifest")


def _unloadable(why: str, hint: str = "") -> FormatError:
    return FormatError("gramine.manifest.unloadable", why, hint=hint, what="manifest")


def _releases(writer: profiles.Profile) -> str:
    return f"Gramine {' and '.join(writer.releases)}"
