"""pylock.toml (PEP 751), the lock of the project's wheels that any Python tool reads and may have written.

Invariants: every wheel comes from an index and has its SHA-256; source distributions, direct URLs, directories and repositories
are refused; the file that is written here is a function of the wheels and the target.
Source: PEP 751; docs/bundle-format.md, "Wheels".
"""

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit, urlunsplit

from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.pylock import Package, PackageWheel, Pylock, PylockSelectError, PylockValidationError
from packaging.utils import canonicalize_name

from glasscase.codec import stricttoml
from glasscase.errors import UsageError
from glasscase.lock.model import LockedWheel
from glasscase.lock.requirements import OWN
from glasscase.lock.target import Candidate, Target

if TYPE_CHECKING:
    from packaging.markers import Environment

FILE = "pylock.toml"
MAX_BYTES = 16 << 20
CREATED_BY = "glasscase"


def select_wheels(pylock: bytes, target: Target) -> tuple[Candidate, ...]:
    """Return the best wheel of every package that a pylock.toml has for the target, sorted by name.

    Raises UsageError("lock.pylock.refused") for another file and for what cannot be pinned.
    """
    environment = cast("Environment", target.environment())
    try:
        document = Pylock.from_dict(_parse(pylock))
        chosen = list(document.select(environment=environment, tags=target.tags()))
    except (
        PylockValidationError,
        PylockSelectError,
        UndefinedComparison,
        UndefinedEnvironmentName,
        ValueError,
    ) as error:
        raise refused(" ".join(str(error).split())[:300]) from None
    found = [_candidate(package, source) for package, source in chosen]
    return tuple(sorted(found, key=lambda candidate: candidate.name))


def made_here(pylock: bytes) -> bool:
    """Return whether glasscase wrote the file, so that it may write it again."""
    return _parse(pylock).get("created-by") == CREATED_BY


def write_pylock(wheels: Sequence[Candidate], target: Target) -> bytes:
    """Return the one pylock.toml of these wheels; user names and passwords in URLs are left out."""
    lines = [
        'lock-version = "1.0"',
        f'requires-python = "=={target.version()}.*"',
        f'created-by = "{CREATED_BY}"',
    ]
    for wheel in sorted(wheels, key=lambda candidate: candidate.name):
        size = "" if wheel.size is None else f"size = {wheel.size}, "
        lines += [
            "",
            "[[packages]]",
            f"name = {_quote(wheel.name)}",
            f"version = {_quote(wheel.version)}",
            "wheels = [",
        ]
        lines += [
            f"    {{ name = {_quote(wheel.file)}, url = {_quote(_public_url(wheel.url))}, {size}"
            f'hashes = {{ sha256 = "{wheel.sha256.hex()}" }} }},',
            "]",
        ]
    return ("\n".join(lines) + "\n").encode("utf-8")


def changes_since(wheels: Sequence[LockedWheel], pylock: bytes, target: Target) -> list[str]:
    """Return in what a pylock.toml differs from the locked wheels, one line each; glasscase's own wheel is in neither."""
    locked = {wheel.name: wheel for wheel in wheels if wheel.name != OWN}
    named = {wheel.name: wheel for wheel in select_wheels(pylock, target) if wheel.name != OWN}
    lines = []
    for name in sorted(locked.keys() | named.keys()):
        was, now = locked.get(name), named.get(name)
        if was is None and now is not None:
            lines.append(f"{FILE} has changed: it names {name} {now.version} too")
        elif now is None and was is not None:
            lines.append(f"{FILE} has changed: it no longer names {name}")
        elif was is not None and now is not None and was.sha256 != now.sha256:
            same = was.version == now.version
            other = f"another file of {name} {was.version}" if same else f"{name} {was.version} -> {now.version}"
            lines.append(f"{FILE} has changed: {other}")
    return lines


def refused(message: str) -> UsageError:
    """Return the error for a lock whose wheels cannot be pinned."""
    return UsageError(
        "lock.pylock.refused",
        message,
        hint="only wheels from an index, with their SHA-256, can be locked; uv export needs --no-emit-project",
    )


def file_name(name: str | None, url: str | None) -> str:
    """Return the name of a wheel, else the last part of its URL."""
    return name or unquote(urlsplit(url or "").path.rpartition("/")[2])


def _candidate(package: Package, source: Any) -> Candidate:
    name = str(canonicalize_name(package.name))
    if not isinstance(source, PackageWheel):
        kind = type(source).__name__.removeprefix("Package").lower()
        what = "only a source distribution for this Python and glibc" if kind == "sdist" else f"its files from: {kind}"
        raise refused(f"{FILE}: {name} has {what}")
    file = file_name(source.name, source.url)
    digest = source.hashes.get("sha256", "")
    if not isinstance(digest, str) or not re.fullmatch("[0-9a-fA-F]{64}", digest):
        raise refused(f"{FILE}: {file} has no SHA-256")
    if source.url is None or package.version is None:
        raise refused(f"{FILE}: {name} has no URL or version")
    return Candidate(name, str(package.version), file, source.url, bytes.fromhex(digest), source.size)


def _parse(pylock: bytes) -> dict[str, Any]:
    try:
        return stricttoml.loads(pylock.decode("utf-8"))
    except (ValueError, RecursionError):
        raise refused(f"{FILE} is not TOML") from None


def _public_url(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _quote(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
