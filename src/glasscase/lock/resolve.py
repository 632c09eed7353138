"""Choosing wheels with uv or pip, which run isolated: no configuration files, a scrubbed environment, binaries only.

Invariants: the target's Python and glibc decide, never those of the building host; every wheel comes from the index and has
a SHA-256; nothing is built or run. The index's URL, which may hold a password, is handed over in the environment, because
everybody can read a command line.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packaging.utils import canonicalize_name

from glasscase.codec.printable import without_logins
from glasscase.errors import CannotVerify, StorageError, UsageError
from glasscase.lock.child import KEPT, run_tool
from glasscase.lock.pylock import file_name, refused, select_wheels
from glasscase.lock.requirements import Wanted
from glasscase.lock.target import Candidate, Target

UV_FAILED = 2  # exit status of uv that says nothing about the requirements: no network, no disk; 1 is no solution


@dataclass(frozen=True)
class Resolver:
    """uv or pip. command: its argv. environment: of the caller, scrubbed before use. index: URL, None for the tool's own.

    say: hears that a run takes long.
    """

    kind: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    index: str | None
    cache: str
    say: Callable[[str], None]

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
        Raises UsageError("lock.resolver.refused") with what the tool says if there is no solution, CannotVerify for
        a tool that cannot be run or does not reach its index.
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
        version, glibc = target.full_version(), max(minor for minor in _UV_GLIBC if minor <= target.glibc[1])
        options = ["--no-config", "--cache-dir", self.cache, "--only-binary", ":all:", "--format", "pylock.toml"]
        options += ["--python-version", version, "--python-platform", f"x86_64-manylinux_2_{glibc}"]
        options += ["--generate-hashes", "--no-header", "--quiet", "--no-python-downloads", "--upgrade"]
        options += [] if with_dependencies else ["--no-deps"]
        options += ["--constraint", os.path.join(work, "constraints.in")]
        index = {} if self.index is None else {"UV_DEFAULT_INDEX": self.index}
        self._run([*self.command, "pip", "compile", *options, source, "-o", out], work, index)
        with open(out, "rb") as file:
            return list(select_wheels(file.read(), target))

    def _pip(self, work: str, source: str, target: Target, *, with_dependencies: bool) -> list[Candidate]:
        if target.python[:2] != sys.version_info[:2]:
            raise UsageError(
                "lock.resolver.unfit",
                f"pip cannot choose wheels for Python {_dotted(target.python)} from Python {_dotted(sys.version_info[:2])}",
                hint="install uv: pip install uv",
            )
        report = os.path.join(work, "report.json")
        abi = f"cp{target.python[0]}{target.python[1]}"
        options = ["--no-input", "--disable-pip-version-check", "--no-cache-dir", "install", "--quiet"]
        options += ["--dry-run", "--ignore-installed", "--report", report, "--only-binary", ":all:"]
        options += ["--implementation", "cp", "--python-version", _dotted(target.python)]
        options += [word for tag in (abi, "abi3", "none") for word in ("--abi", tag)]
        options += [word for platform in target.platforms() for word in ("--platform", platform)]
        options += [] if with_dependencies else ["--no-deps"]
        options += ["--constraint", os.path.join(work, "constraints.in")]
        # not --isolated: that reads the host's /etc/pip.conf all the same, and no index of the environment
        index = {"PIP_CONFIG_FILE": os.devnull} | ({} if self.index is None else {"PIP_INDEX_URL": self.index})
        self._run([*self.command, *options, "--target", os.path.join(work, "none"), "-r", source], work, index)
        with open(report, "rb") as file:
            return _read_report(json.load(file))

    def _run(self, command: list[str], work: str, index: Mapping[str, str]) -> None:
        kept = {name: self.environment[name] for name in KEPT if name in self.environment}
        try:
            done = run_tool(self.kind, command, environment={**kept, **index}, folder=work, say=self.say)
        except TimeoutError as error:
            raise CannotVerify(
                "lock.resolver.failed", f"{self.kind} could not choose wheels: {error}", hint="does the index answer?"
            ) from None
        except OSError as error:
            raise CannotVerify(
                "lock.resolver.failed", f"{self.kind} could not be run: {type(error).__name__}"
            ) from None
        if done.returncode:
            lines = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
            telling = [line for line in lines if "error" in line.lower() or "because" in line.lower()] or lines
            said = without_logins(" ".join(" ".join(telling[:3]).split()))[:600]
            if self.kind == "uv" and done.returncode == UV_FAILED:
                raise CannotVerify(
                    "lock.resolver.failed", f"uv could not choose wheels: {said}",
                    hint="is the index reachable, and is there room on the disk?",
                )  # fmt: skip
            raise UsageError(
                "lock.resolver.refused",
                f"{self.kind} found no set of wheels: {said}",
                hint="only binary wheels are taken; is the index reachable and every project there as a wheel?",
            )


_UV_GLIBC = (17, 28, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40)  # the platforms that uv knows by name


def find_resolver(
    environment: Mapping[str, str], *, index: str | None, cache: str, say: Callable[[str], None]
) -> Resolver:
    """Return uv if it is installed beside this Python or on PATH, else this Python's pip.

    Raises StorageError("lock.resolver.missing") if there is neither.
    """
    folders = [os.path.dirname(sys.executable), *environment.get("PATH", "").split(os.pathsep)]
    for folder in folders:
        path = os.path.join(folder, "uv")
        if os.path.isabs(path) and os.access(path, os.X_OK) and os.path.isfile(path):
            return Resolver("uv", (path,), environment, index, cache, say)
    command = (sys.executable, "-I", "-m", "pip")
    try:
        done = subprocess.run([*command, "--version"], capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        done = None
    if done is None or done.returncode:
        raise StorageError("lock.resolver.missing", "neither uv nor pip is installed", hint="pip install uv")
    return Resolver("pip", command, environment, index, cache, say)


def _read_report(report: Any) -> list[Candidate]:
    found = []
    for item in report["install"]:
        download = item["download_info"]
        name = canonicalize_name(item["metadata"]["name"])
        digest = download.get("archive_info", {}).get("hashes", {}).get("sha256")
        if item["is_direct"] or digest is None:
            raise refused(f"{name} is not from the index or has no SHA-256")
        file = file_name(None, download["url"])
        if not file.endswith(".whl"):
            raise refused(f"{name} is not a wheel")
        version = item["metadata"]["version"]
        found.append(Candidate(str(name), version, file, download["url"], bytes.fromhex(digest), None))
    return found


def _check_hashes(found: Iterable[Candidate], wanted: Iterable[Wanted]) -> None:
    allowed = {item.name: item.hashes for item in wanted if item.hashes}
    for candidate in found:
        if candidate.name in allowed and candidate.sha256 not in allowed[candidate.name]:
            raise refused(f"{candidate.file} has a SHA-256 that the requirements file does not list")


def _dotted(version: Sequence[int]) -> str:
    return ".".join(str(part) for part in version[:2])
