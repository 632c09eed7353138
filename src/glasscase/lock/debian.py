"""The Debian packages of the Python runtime, resolved by apt in an isolated directory.

Invariants: apt runs without root, with a configuration of ours only, and touches nothing of the host; repositories must be
signed by the pinned keyring; each package is pinned by SHA-256 and kept in the cache.
Source: apt.conf(5), apt-secure(8); docs/bundle-format.md, "Debian packages".
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from glasscase.codec.printable import without_logins
from glasscase.errors import CannotVerify, FormatError, StorageError, UsageError
from glasscase.fs.atomic import read_file
from glasscase.lock.aptsources import AptSource, bases, parse_stanzas
from glasscase.lock.cache import InputCache
from glasscase.lock.child import KEPT, run_tool
from glasscase.lock.fetch import fetch
from glasscase.lock.model import LockedDebian, LockedPackage
from glasscase.lock.openpgp import signer

KEYRING_MAX = 16 << 20  # bytes
INRELEASE_MAX = 16 << 20  # bytes
PYTHON = "python3-minimal"  # names the suite's Python in its dependencies
# one of each row; {v} is the suite's Python, like 3.11
PACKAGES: tuple[tuple[str, ...], ...] = (
    ("python{v}-minimal",), ("libpython{v}-minimal",), ("libpython{v}-stdlib",), ("zlib1g",), ("libexpat1",),
    ("libssl3", "libssl3t64"), ("libffi8",), ("libsqlite3-0",), ("libbz2-1.0",), ("liblzma5",), ("libuuid1",),
    ("libgcc-s1",), ("libstdc++6",), ("media-types",), ("netbase",), ("ca-certificates",),
)  # fmt: skip
_NOT_FOUND = 100  # exit code of apt-cache if one of several packages is not there
_PYTHON_VERSION = re.compile(r"(\d+\.\d+\.\d+)")
_PYTHON_MINIMAL = re.compile(r"python(3\.\d+)-minimal")


@dataclass(frozen=True)
class Resolved:
    """What apt found. epoch: unix seconds, the newest Date of the InRelease files. python: like "3.11"."""

    debian: LockedDebian
    epoch: int
    python: str


def resolve_packages(
    sources: Sequence[AptSource],
    keyring: str,
    *,
    cache: InputCache,
    environment: Mapping[str, str],
    say: Callable[[str], None],
) -> Resolved:
    """Return the packages of the Python runtime, each in the cache.

    sources: the first names the suite. keyring: path of a file that alone may sign them. say: hears that apt takes long.
    Raises StorageError("lock.apt.missing") without apt, CannotVerify("lock.apt.failed") if it cannot update,
    UsageError("lock.debian.missing") if a package is not there.
    """
    content = read_file(keyring, max_bytes=KEYRING_MAX, what="keyring")
    with tempfile.TemporaryDirectory(prefix="glasscase-apt-") as work:
        apt = _Apt(work, sources, content, os.path.splitext(keyring)[1], environment=environment, say=say)
        apt.run("apt-get", "update")
        documents = apt.inreleases(sources)
        python = _python_version(apt.show([PYTHON]).get(PYTHON, {}))
        rows = [tuple(name.format(v=python) for name in row) for row in PACKAGES]
        records = apt.show([name for row in rows for name in row])
        packages = [_one(records, row) for row in rows]
    packages.sort(key=lambda package: (package.name.encode(), package.file.encode()))
    fetch_packages(packages, bases(sources), cache=cache, environment=environment)
    debian = LockedDebian(
        suite=sources[0].suite.replace("/", "_"),
        inrelease=hashlib.sha256(b"".join(documents)).digest(),
        signer=signer(documents[0], content),
        keyring=hashlib.sha256(content).digest(),
        packages=tuple(packages),
    )
    return Resolved(debian, max(_date(document) for document in documents), python)


def fetch_packages(
    packages: Sequence[LockedPackage], archives: Sequence[str], *, cache: InputCache, environment: Mapping[str, str]
) -> None:
    """Put every package that the cache lacks there, from the first archive that has it with the pinned SHA-256.

    Raises CannotVerify("lock.input.gone") if none has it.
    """
    for package in packages:
        if cache.holds(package.sha256, package.size):
            continue
        for base in archives:
            try:
                fetch(
                    f"{base}/{package.file}", cache, sha256=package.sha256, size=package.size, environment=environment,
                    what=os.path.basename(package.file),
                )  # fmt: skip
                break
            except (CannotVerify, StorageError, FormatError):
                continue
        else:
            raise CannotVerify(
                "lock.input.gone", f"no archive has {package.file} with the SHA-256 that is pinned",
                hint="archives drop old versions: use one that keeps them, or glasscase lock --update",
            )  # fmt: skip


def python_of(debian: LockedDebian) -> tuple[int, ...]:
    """Return the version of the interpreter among the packages, like (3, 11, 2)."""
    for package in debian.packages:
        if match := _PYTHON_MINIMAL.fullmatch(package.name):
            found = _PYTHON_VERSION.match(package.version)
            full = found[1] if found and found[1].startswith(match[1] + ".") else match[1]
            return tuple(int(part) for part in full.split("."))
    raise FormatError("lock.file.malformed", "no package among [debian] is a Python interpreter", what="lock")


class _Apt:
    """apt with all its directories below one of ours."""

    def __init__(
        self, work: str, sources: Sequence[AptSource], keyring: bytes, suffix: str, *, environment: Mapping[str, str],
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._work = work
        self._say = say
        self._environment = {name: environment[name] for name in KEPT if name in environment}
        for folder in ("etc/empty", "state/lists/partial", "cache/archives/partial", "log"):
            os.makedirs(os.path.join(work, folder), mode=0o755)
        path = os.path.join(work, "etc", "keyring" + (suffix if suffix in (".gpg", ".asc", ".pgp") else ".gpg"))
        self._write(path, keyring)
        self._write("etc/sources.list", "".join(source.line(path) for source in sources).encode())
        self._write("state/status", b"")
        self._write("etc/apt.conf", _CONFIGURATION.format(work=work).encode())

    def run(self, *command: str, accept: tuple[int, ...] = (0,)) -> str:
        """Return what a command of apt prints; raises CannotVerify("lock.apt.failed")."""
        environment = self._environment | {"APT_CONFIG": os.path.join(self._work, "etc/apt.conf")}
        try:
            done = run_tool(command[0], command, environment=environment, folder=self._work, say=self._say)
        except FileNotFoundError:
            raise StorageError(
                "lock.apt.missing",
                "apt is not installed here",
                hint="lock once on a Debian or Ubuntu machine, or in a container of one; a lock that has packages needs no apt",
            ) from None
        except TimeoutError as error:
            raise CannotVerify(
                "lock.apt.failed", f"{' '.join(command[:2])}: {error}", hint="does the archive answer?"
            ) from None
        except OSError as error:
            raise CannotVerify("lock.apt.failed", f"{command[0]} could not be run: {type(error).__name__}") from None
        text = without_logins(done.stderr.decode("utf-8", "replace"))
        bad = [line for line in text.splitlines() if line.startswith(("E:", "Err:"))]
        if done.returncode not in accept or (command[1] == "update" and (bad or "W: Failed" in text)):
            raise CannotVerify(
                "lock.apt.failed", f"{' '.join(command[:2])}: {' '.join(' '.join(bad or text.splitlines()[-2:]).split())[:500]}",
                hint="is the archive reachable, and does the keyring sign it?",
            )  # fmt: skip
        return done.stdout.decode("utf-8", "replace")

    def show(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return the record of the candidate version of each package that there is, by name."""
        text = self.run("apt-cache", "show", "--no-all-versions", *names, accept=(0, _NOT_FOUND))
        return {stanza["package"]: stanza for stanza in parse_stanzas(text) if "package" in stanza}

    def inreleases(self, sources: Sequence[AptSource]) -> list[bytes]:
        """Return the InRelease of each source, in order."""
        folder = os.path.join(self._work, "state/lists")
        found = []
        for source in sources:
            base = re.sub(r"^[a-z]+:/*", "", without_logins(source.uri).rstrip("/"))  # as apt names its files
            path = (
                f"{base}/dists/{source.suite}/InRelease"
                if not source.suite.endswith("/")
                else f"{base}/{source.suite}InRelease"
            )
            mangled = path.replace("_", "%5f").replace("/", "_")
            name = next((name for name in sorted(os.listdir(folder)) if name.lstrip("_") == mangled), mangled)
            document = read_file(os.path.join(folder, name), max_bytes=INRELEASE_MAX, what="InRelease")
            if document not in found:
                found.append(document)
        return found

    def _write(self, path: str, content: bytes) -> None:
        with open(os.path.join(self._work, path), "wb") as file:
            file.write(content)


_CONFIGURATION = """Dir "{work}";
Dir::Etc "{work}/etc";
Dir::Etc::main "{work}/etc/none";
Dir::Etc::parts "{work}/etc/empty";
Dir::Etc::sourcelist "{work}/etc/sources.list";
Dir::Etc::sourceparts "{work}/etc/empty";
Dir::Etc::trusted "{work}/etc/none.gpg";
Dir::Etc::trustedparts "{work}/etc/empty";
Dir::Etc::preferences "{work}/etc/none";
Dir::Etc::preferencesparts "{work}/etc/empty";
Dir::Etc::netrc "{work}/etc/none";
Dir::Etc::netrcparts "{work}/etc/empty";
Dir::State "{work}/state";
Dir::State::status "{work}/state/status";
Dir::Cache "{work}/cache";
Dir::Log "{work}/log";
Dir::Bin::methods "/usr/lib/apt/methods";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Sandbox::User "root";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Check-Valid-Until "true";
Acquire::Languages "none";
Acquire::PDiffs "false";
Acquire::Retries "2";
"""


def _python_version(record: Mapping[str, str]) -> str:
    match = _PYTHON_MINIMAL.search(record.get("depends", "") + record.get("pre-depends", ""))
    if match is None:
        raise UsageError(
            "lock.debian.missing", f"the sources have no {PYTHON}", hint="name a suite of Debian 12 or newer"
        )
    return match[1]


def _one(records: Mapping[str, Mapping[str, str]], names: tuple[str, ...]) -> LockedPackage:
    record = next((records[name] for name in names if name in records), None)
    if record is None:
        raise UsageError("lock.debian.missing", f"the sources have no package {' or '.join(names)}")
    try:
        digest = bytes.fromhex(record["sha256"])
        return LockedPackage(
            record["package"],
            record["version"],
            record["architecture"],
            record["filename"],
            int(record["size"]),
            digest,
        )
    except (KeyError, ValueError):
        raise FormatError("lock.debian.unsigned", f"the record of {names[0]} has no SHA-256, size or path") from None


def _date(inrelease: bytes) -> int:
    match = re.search(rb"^Date: ([ -~]+)$", inrelease, re.MULTILINE)
    try:
        return int(parsedate_to_datetime(match[1].decode("ascii")).timestamp()) if match else -1
    except ValueError:
        raise FormatError("lock.debian.unsigned", "the InRelease has no date", what="InRelease") from None
