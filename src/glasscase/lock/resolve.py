"""Choosing wheels with uv or pip, which run isolated: no configuration files, a scrubbed environment, binaries only.

Invariants: the target's Python and glibc decide, never those of the building host; every wheel comes from the index and has
a SHA-256; nothing is built or run.
"""

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.pylock import Package, PackageWheel, Pylock, PylockValidationError
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from glasscase.errors import CannotVerify, StorageError, UsageError
from glasscase.lock.requirements import Wanted

GLIBC_FLOOR = (2, 5)
TIMEOUT = 900  # seconds for one run of a resolver
KEPT = (
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """What the wheels must run on. python and glibc: (major, minor)."""

    python: tuple[int, int]
    glibc: tuple[int, int]

    def platforms(self) -> list[str]:
        """Return the platform tags of x86-64 Linux with this glibc, best first."""
        legacy = {17: "manylinux2014_x86_64", 12: "manylinux2010_x86_64", 5: "manylinux1_x86_64"}
        found = []
        for minor in range(self.glibc[1], GLIBC_FLOOR[1] - 1, -1):
            found.append(f"manylinux_2_{minor}_x86_64")
            found += [legacy[minor]] if minor in legacy else []
        return [*found, "linux_x86_64"]

    def tags(self) -> list[Tag]:
        """Return the tags of wheels that run there, best first."""
        version, platforms = self.python, self.platforms()
        abi = f"cp{version[0]}{version[1]}"
        native = list(cpython_tags(version, abis=[abi], platforms=platforms))
        return native + list(compatible_tags(version, interpreter=abi, platforms=platforms))


@dataclass(frozen=True)
class Candidate:
    """A wheel that was chosen. name: normalised. size: None where the index does not say."""

    name: str
    version: str
    file: str
    url: str
    sha256: bytes
    size: int | None


@dataclass(frozen=True)
class Resolver:
    """uv or pip. command: its argv. environment: of the caller, scrubbed before use. index: URL, None for the tool's own."""

    kind: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    index: str | None
    cache: str

    def resolve(
        self,
        wanted: Sequence[Wanted],
        target: Target,
        *,
        with_dependencies: bool = True,
        constraints: Sequence[str] = (),
    ) -> tuple[Candidate, ...]:
        """Return one wheel for each project that `wanted` needs, sorted by name.

        constraints: requirements that must hold for a project if it is chosen.
        Raises UsageError("lock.resolver.refused") with the tool's last line if there is no solution, CannotVerify for
        a tool that cannot be run.
        """
        with tempfile.TemporaryDirectory(prefix="glasscase-lock-") as work:
            source = os.path.join(work, "requirements.in")
            with open(source, "w", encoding="utf-8") as file:
                file.writelines(item.text + "\n" for item in wanted)
            with open(os.path.join(work, "constraints.in"), "w", encoding="utf-8") as file:
                file.writelines(item + "\n" for item in constraints)
            run = self._uv if self.kind == "uv" else self._pip
            found = run(work, source, target, with_dependencies=with_dependencies)
        _check_hashes(found, wanted)
        return tuple(sorted(found, key=lambda candidate: candidate.name))

    def _uv(self, work: str, source: str, target: Target, *, with_dependencies: bool) -> list[Candidate]:
        out = os.path.join(work, "pylock.toml")
        version, glibc = _dotted(target.python), max(minor for minor in _UV_GLIBC if minor <= target.glibc[1])
        options = ["--no-config", "--cache-dir", self.cache, "--only-binary", ":all:", "--format", "pylock.toml"]
        options += ["--python-version", version, "--python-platform", f"x86_64-manylinux_2_{glibc}"]
        options += ["--generate-hashes", "--no-header", "--quiet", "--no-python-downloads", "--upgrade"]
        options += [] if with_dependencies else ["--no-deps"]
        options += [] if self.index is None else ["--default-index", self.index]
        options += ["--constraint", os.path.join(work, "constraints.in")]
        self._run([*self.command, "pip", "compile", *options, source, "-o", out], work)
        with open(out, "rb") as file:
            return list(select_wheels(file.read(), target))

    def _pip(self, work: str, source: str, target: Target, *, with_dependencies: bool) -> list[Candidate]:
        if target.python != sys.version_info[:2]:
            raise UsageError(
                "lock.resolver.unfit",
                f"pip cannot choose wheels for Python {_dotted(target.python)} from Python {_dotted(sys.version_info[:2])}",
                hint="install uv: pip install uv",
            )
        report = os.path.join(work, "report.json")
        abi = f"cp{target.python[0]}{target.python[1]}"
        options = ["--isolated", "--no-input", "--disable-pip-version-check", "--no-cache-dir", "install", "--quiet"]
        options += ["--dry-run", "--ignore-installed", "--report", report, "--only-binary", ":all:"]
        options += ["--implementation", "cp", "--python-version", _dotted(target.python)]
        options += [word for tag in (abi, "abi3", "none") for word in ("--abi", tag)]
        options += [word for platform in target.platforms() for word in ("--platform", platform)]
        options += [] if with_dependencies else ["--no-deps"]
        options += [] if self.index is None else ["--index-url", self.index]
        options += ["--constraint", os.path.join(work, "constraints.in")]
        self._run([*self.command, *options, "--target", os.path.join(work, "none"), "-r", source], work)
        with open(report, "rb") as file:
            return _read_report(json.load(file))

    def _run(self, command: list[str], work: str) -> None:
        environment = {name: self.environment[name] for name in KEPT if name in self.environment}
        environment |= {"PATH": "/usr/bin:/bin", "HOME": work, "LC_ALL": "C.UTF-8", "TMPDIR": work}
        try:
            done = subprocess.run(
                command,
                env=environment,
                cwd=work,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TIMEOUT,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CannotVerify(
                "lock.resolver.failed", f"{self.kind} could not be run: {type(error).__name__}"
            ) from None
        if done.returncode:
            lines = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
            telling = [line for line in lines if "error" in line.lower() or "because" in line.lower()] or lines
            raise UsageError(
                "lock.resolver.refused",
                f"{self.kind} found no set of wheels: {' '.join(' '.join(telling[:3]).split())[:600]}",
                hint="only binary wheels are taken; is the index reachable and every project there as a wheel?",
            )


_UV_GLIBC = (17, 28, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40)  # the platforms that uv knows by name


def find_resolver(environment: Mapping[str, str], *, index: str | None, cache: str) -> Resolver:
    """Return uv if it is installed beside this Python or on PATH, else this Python's pip.

    Raises StorageError("lock.resolver.missing") if there is neither.
    """
    folders = [os.path.dirname(sys.executable), *environment.get("PATH", "").split(os.pathsep)]
    for folder in folders:
        path = os.path.join(folder, "uv")
        if os.path.isabs(path) and os.access(path, os.X_OK) and os.path.isfile(path):
            return Resolver("uv", (path,), environment, index, cache)
    command = (sys.executable, "-I", "-m", "pip")
    try:
        done = subprocess.run([*command, "--version"], capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        done = None
    if done is None or done.returncode:
        raise StorageError("lock.resolver.missing", "neither uv nor pip is installed", hint="pip install uv")
    return Resolver("pip", command, environment, index, cache)


def select_wheels(pylock: bytes, target: Target) -> Iterable[Candidate]:
    """Yield the best wheel of every package of a pylock.toml (PEP 751) for the target.

    Raises UsageError("lock.pylock.refused") for sdists, direct URLs, directories, missing hashes and unfit wheels.
    """
    try:
        document = Pylock.from_dict(tomllib.loads(pylock.decode("utf-8")))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, PylockValidationError) as error:
        raise _refused(f"it is not a lock of PEP 751: {error}") from None
    rank = {tag: place for place, tag in enumerate(target.tags())}
    environment = {"python_version": _dotted(target.python), "python_full_version": f"{_dotted(target.python)}.0"}
    seen: set[str] = set()
    for package in document.packages:
        if package.marker is not None and not package.marker.evaluate(environment, context="lock_file"):
            continue
        name = str(canonicalize_name(package.name))
        if name in seen:
            raise _refused(f"{name} stands twice")
        seen.add(name)
        yield _best(package, name, rank)


def _best(package: Package, name: str, rank: Mapping[Tag, int]) -> Candidate:
    if package.vcs is not None or package.directory is not None or package.archive is not None:
        raise _refused(f"{name} comes from a direct URL, a directory or a repository")
    ranked: list[tuple[int, str, PackageWheel]] = []
    for wheel in package.wheels or ():
        file = _file_name(wheel.name, wheel.url)
        try:
            tags = parse_wheel_filename(file)[3]
        except InvalidWheelFilename:
            raise _refused(f"{file!r} is not the name of a wheel") from None
        places = [rank[tag] for tag in tags if tag in rank]
        if places:
            ranked.append((min(places), file, wheel))
    if not ranked:
        raise _refused(f"{name} has no wheel for this Python and glibc; source distributions are not taken")
    _, file, wheel = min(ranked, key=lambda row: row[:2])
    digest = wheel.hashes.get("sha256", "")
    if not isinstance(digest, str) or len(digest) != 64:
        raise _refused(f"{file} has no SHA-256")
    if wheel.url is None or package.version is None:
        raise _refused(f"{name} has no URL or version")
    return Candidate(name, str(package.version), file, wheel.url, bytes.fromhex(digest), wheel.size)


def _read_report(report: Any) -> list[Candidate]:
    found = []
    for item in report["install"]:
        download = item["download_info"]
        name = canonicalize_name(item["metadata"]["name"])
        digest = download.get("archive_info", {}).get("hashes", {}).get("sha256")
        if item["is_direct"] or digest is None:
            raise _refused(f"{name} is not from the index or has no SHA-256")
        file = _file_name(None, download["url"])
        if not file.endswith(".whl"):
            raise _refused(f"{name} is not a wheel")
        version = item["metadata"]["version"]
        found.append(Candidate(str(name), version, file, download["url"], bytes.fromhex(digest), None))
    return found


def _file_name(name: str | None, url: str | None) -> str:
    return name or unquote(urlsplit(url or "").path.rpartition("/")[2])


def _check_hashes(found: Iterable[Candidate], wanted: Iterable[Wanted]) -> None:
    allowed = {item.name: item.hashes for item in wanted if item.hashes}
    for candidate in found:
        if candidate.name in allowed and candidate.sha256 not in allowed[candidate.name]:
            raise _refused(f"{candidate.file} has a SHA-256 that the requirements file does not list")


def _dotted(version: Sequence[int]) -> str:
    return ".".join(str(part) for part in version[:2])


def _refused(message: str) -> UsageError:
    return UsageError(
        "lock.pylock.refused", message, hint="only wheels from the index, with their SHA-256, can be locked"
    )
