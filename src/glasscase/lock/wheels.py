"""The wheels of a lock: the project's, those that the enclave part needs, and glasscase's own.

Invariants: binary only, one wheel for each project, each by SHA-256 and in the cache; glasscase's own wheel is a file, pinned
like any other; an editable or source installation of glasscase is refused.
"""

import email.parser
import hashlib
import importlib.metadata
import io
import json
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote, urlsplit

from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from glasscase.errors import CannotVerify, FormatError, StorageError, UsageError
from glasscase.fs.atomic import read_file
from glasscase.lock.cache import InputCache
from glasscase.lock.fetch import fetch
from glasscase.lock.model import LockedWheel
from glasscase.lock.pylock import FILE as PYLOCK
from glasscase.lock.pylock import select_wheels, write_pylock
from glasscase.lock.requirements import OWN, Wanted, enclave_requirements, parse_requirements
from glasscase.lock.resolve import Resolver
from glasscase.lock.target import Candidate, Target

OWN_WHEEL_MAX = 256 << 20  # bytes
_METADATA_MAX = 1 << 20  # bytes
_INSTALL_AGAIN = "install that wheel again, or name it: glasscase lock --wheel FILE"


@dataclass(frozen=True)
class OwnWheel:
    """glasscase's own wheel, in the cache. requires: its Requires-Dist lines."""

    locked: LockedWheel
    requires: tuple[str, ...]


def take_own_wheel(path: str | os.PathLike[str] | None, cache: InputCache) -> OwnWheel:
    """Return glasscase's own wheel after copying it into the cache.

    path: the file of --wheel; None = the wheel file that the running glasscase was installed from.
    Raises UsageError("lock.wheel.editable") or ("lock.wheel.missing") if the installation does not come from a wheel file,
    FormatError("lock.wheel.malformed") if the file is not a wheel of glasscase.
    """
    expected = None
    if path is None:
        path, expected = _installed_wheel()
    try:
        data = read_file(path, max_bytes=OWN_WHEEL_MAX, what="glasscase's wheel")
    except StorageError as error:
        if expected is not None and error.reason == "fs.file.missing":  # a path that nobody has named here
            error.message = f"the wheel that glasscase was installed from is gone: {error.message}"
            error.hint = _INSTALL_AGAIN
        raise
    digest = hashlib.sha256(data).digest()
    if expected is not None and digest != expected:
        raise UsageError(
            "lock.wheel.missing",
            f"{os.fspath(path)!r} is no longer the wheel that glasscase was installed from",
            hint=_INSTALL_AGAIN,
        )
    file = os.path.basename(os.fspath(path))
    own = _describe(data, digest, file)
    cache.add((data,), sha256=digest, size=len(data), limit=OWN_WHEEL_MAX, what=file)
    return own


def cached_own_wheel(locked: LockedWheel, cache: InputCache) -> OwnWheel:
    """Return the own wheel that a lock names, from the cache."""
    return _describe(cache.read(locked.sha256, locked.size, locked.file), locked.sha256, locked.file)


def pin_wheels(
    requirements: bytes, own: OwnWheel, target: Target, *, resolver: Resolver, cache: InputCache,
    prefer: Sequence[LockedWheel] = (),
) -> tuple[tuple[LockedWheel, ...], bytes]:  # fmt: skip
    """Return every wheel of a lock, each in the cache, sorted by name; and the pylock.toml of all but the own one.

    prefer: wheels of an older lock, whose versions are kept where the requirements still allow it.
    """
    wanted = (*parse_requirements(requirements), *enclave_requirements(own.requires))
    try:
        found = resolver.resolve(wanted, target, constraints=[f"{item.name}=={item.version}" for item in prefer])
    except UsageError as error:
        if not prefer or error.reason != "lock.resolver.refused":
            raise
        found = resolver.resolve(wanted, target)
    chosen = [candidate for candidate in found if candidate.name != OWN]
    rest = [_store(candidate, resolver.environment, cache, resolver.index) for candidate in chosen]
    sized = [replace(candidate, size=wheel.size) for candidate, wheel in zip(chosen, rest, strict=True)]
    wheels = tuple(sorted([*rest, own.locked], key=lambda wheel: (wheel.name, wheel.file)))
    return wheels, write_pylock(sized, target)


def pin_pylock(
    pylock: bytes,
    requirements: bytes,
    own: OwnWheel,
    target: Target,
    *,
    environment: Mapping[str, str],
    cache: InputCache,
    index: str | None,
) -> tuple[LockedWheel, ...]:
    """Return the wheels that a pylock.toml (PEP 751) names, each in the cache, sorted by name; its set is taken as it is.

    Raises UsageError("lock.pylock.refused") if it does not hold what the requirements and the enclave part ask for.
    """
    found = {item.name: item for item in select_wheels(pylock, target) if item.name != OWN}
    missing = []
    for wanted in (*parse_requirements(requirements), *enclave_requirements(own.requires)):
        requirement = Requirement(wanted.text)
        if requirement.marker is not None and not requirement.marker.evaluate(target.environment()):
            continue
        item = found.get(wanted.name)
        fits = item is not None and requirement.specifier.contains(item.version, prereleases=True)
        if item is None or not fits or (wanted.hashes and item.sha256 not in wanted.hashes):
            missing.append(wanted.text)
    if missing:
        raise UsageError(
            "lock.pylock.refused", f"{PYLOCK} has no fitting wheel for: {', '.join(missing)}",
            hint="add these lines to what it is made from (the enclave part needs some of them) and make it again",
        )  # fmt: skip
    rest = [_store(item, environment, cache, index) for item in found.values()]
    return tuple(sorted([*rest, own.locked], key=lambda wheel: (wheel.name, wheel.file)))


def fetch_wheels(wheels: Sequence[LockedWheel], target: Target, *, resolver: Resolver, cache: InputCache) -> None:
    """Put every wheel of a lock that the cache lacks there, found through the index by name, version and SHA-256.

    Raises CannotVerify("lock.input.gone") if the index has no file with the pinned digest.
    """
    missing = [wheel for wheel in wheels if not cache.holds(wheel.sha256, wheel.size)]
    if any(wheel.name == OWN for wheel in missing):
        raise UsageError(
            "lock.wheel.missing",
            "the locked glasscase wheel is not in the cache",
            hint="name it: glasscase lock --wheel FILE",
        )
    if not missing:
        return
    wanted = [Wanted(f"{wheel.name}=={wheel.version}", wheel.name, frozenset((wheel.sha256,))) for wheel in missing]
    found = {item.name: item for item in resolver.resolve(wanted, target, with_dependencies=False)}
    for wheel in missing:
        candidate = found.get(wheel.name)
        if candidate is None or candidate.sha256 != wheel.sha256:
            raise CannotVerify("lock.input.gone", f"the index has no {wheel.file} with the SHA-256 that is pinned")
        _store(candidate, resolver.environment, cache, resolver.index)


def _store(candidate: Candidate, environment: Mapping[str, str], cache: InputCache, index: str | None) -> LockedWheel:
    size = fetch(
        candidate.url, cache, sha256=candidate.sha256, size=candidate.size, environment=environment, what=candidate.file,
        index=index,
    )  # fmt: skip
    return LockedWheel(candidate.name, candidate.version, candidate.file, size, candidate.sha256)


def _installed_wheel() -> tuple[str, bytes | None]:
    """Return path and digest of the wheel file that pip or uv recorded for the running glasscase (PEP 610)."""
    missing = "glasscase was not installed from a wheel file, so there is no file to pin"
    hint = "in glasscase's sources: pip wheel --no-deps -w dist . ; then pip install that file, or glasscase lock --wheel FILE"
    try:
        text = importlib.metadata.distribution(OWN).read_text("direct_url.json")
        record = json.loads(text or "{}")
    except (importlib.metadata.PackageNotFoundError, json.JSONDecodeError):
        record = {}
    if record.get("dir_info") is not None or record.get("vcs_info") is not None:
        kind = "an editable" if (record.get("dir_info") or {}).get("editable") else "a source"
        raise UsageError("lock.wheel.editable", f"glasscase runs from {kind} installation: {missing}", hint=hint)
    parts = urlsplit(record.get("url", ""))
    if parts.scheme != "file" or not parts.path.endswith(".whl"):
        raise UsageError("lock.wheel.missing", missing, hint=hint)
    archive = record.get("archive_info") or {}
    digest = (archive.get("hashes") or {}).get("sha256")
    return unquote(parts.path), bytes.fromhex(digest) if isinstance(digest, str) else None


def _describe(data: bytes, digest: bytes, file: str) -> OwnWheel:
    try:
        name, version, _, _ = parse_wheel_filename(file)
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            info = archive.getinfo(f"{name}-{version}.dist-info/METADATA")
            if info.file_size > _METADATA_MAX:
                raise KeyError(info.filename)
            message = email.parser.Parser().parsestr(archive.read(info).decode("utf-8"))
        requires = tuple(str(Requirement(line)) for line in message.get_all("Requires-Dist", []))
    except (
        InvalidWheelFilename,
        zipfile.BadZipFile,
        KeyError,
        ValueError,  # and what is no requirement, which is one
        RuntimeError,  # and what zipfile does not support, which is one
        EOFError,
        zlib.error,
    ):
        raise _malformed(file) from None
    if name != OWN or canonicalize_name(message.get("Name", "")) != OWN or message.get("Version", "") != str(version):
        raise _malformed(file)
    locked = LockedWheel(OWN, str(version), file, len(data), digest)
    return OwnWheel(locked, requires)


def _malformed(file: str) -> FormatError:
    return FormatError("lock.wheel.malformed", f"{file!r} is not a wheel of glasscase", what="wheel")
