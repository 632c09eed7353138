"""Building a bundle again from its lock and comparing every file and the measurement.

Invariants: the bundle is checked from its bytes first; what could not be compared is named; "same" is said only of what was
rebuilt. The auditor's way needs no key: header and blobs are taken as they are, the content is compared through the commitment.
No program of the bundle runs here unless the caller asks for it: its lock, and the sources of its packages, come with it.
Source: docs/bundle-format.md, "Reproducing"; protocol rule 2.
"""

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

from glasscase.bundle.application import AppFile, package_sources
from glasscase.bundle.build import BuildOptions, Sealed, add_inputs, configure, describe, place_application
from glasscase.bundle.check import CheckedBundle
from glasscase.bundle.index import BLOBS, ROOTFS, FileEntry
from glasscase.bundle.locking import read_requirements
from glasscase.bundle.project import Project, load_project
from glasscase.bundle.runtime import RuntimeFiles
from glasscase.bundle.tree import TreeWriter
from glasscase.config.enclave import EnclaveConfig
from glasscase.errors import UsageError
from glasscase.lock.cache import InputCache
from glasscase.seal.manifest import commitment
from glasscase.seal.package import digest_sources

APPLICATION = f"{ROOTFS}app/"
COMPILED = ".pyc"
KEY_SIZE = 32  # bytes


@dataclass(frozen=True)
class Difference:
    """One thing that differs. what: a path of the bundle, or "code commitment" or "MRENCLAVE"."""

    what: str
    bundle: str
    rebuilt: str


@dataclass(frozen=True)
class Reproduction:
    """What came out. method: "public" (nothing secret), "opening" or "key". not_checked: what was taken from the bundle."""

    method: str
    mrenclave: bytes
    differences: tuple[Difference, ...]
    not_checked: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Return whether everything that was rebuilt is the same."""
        return not self.differences


@dataclass(frozen=True)
class ReproduceRequest:
    """What to rebuild from. source: the project's directory, or None. opening: 32 bytes; key: path; at most one of them.

    compile_again: run the bundle's own interpreter to make its compiled Python again, else that is taken as it is and named.
    """

    checked: CheckedBundle
    runtime: RuntimeFiles
    cache: InputCache
    source: str | None
    opening: bytes | None
    key: str | None
    say: Callable[[str], None]
    compile_again: bool = False


def reproduce(request: ReproduceRequest) -> Reproduction:
    """Return what a rebuild of the bundle in a temporary directory gives.

    Raises FormatError if the bundle itself is not sound, UsageError for arguments that do not go together.
    """
    checked = request.checked.require_sound()
    _check_arguments(request)
    lock, config = checked.bundle.lock, checked.config
    differences: list[Difference] = []
    not_checked: list[str] = []
    with tempfile.TemporaryDirectory(prefix="glasscase-reproduce-") as work:
        tree = TreeWriter(work)
        compiled = [entry for entry in checked.bundle.index.files if _is_compiled(entry)]
        again = bool(compiled) and request.compile_again
        debian = add_inputs(tree, lock, request.runtime, request.cache, say=request.say, pyc=again)
        if compiled and not again:
            for entry in compiled:
                tree.include(entry)
            not_checked.append(
                f"{len(compiled)} files of compiled Python, which run instead of their sources (--compile)"
            )
        if request.source is None:
            _take_application(tree, checked)
            not_checked += ["the application's code", "the configuration (rootfs/opt/glasscase/enclave.cbor)"]
        else:
            config = _from_source(request, tree, differences, not_checked)
        index, measurement = describe(tree, config, lock, request.runtime, debian=debian)
    differences += _compare(checked.bundle.index.files, index.files)
    if measurement.mrenclave != checked.measurement.mrenclave:
        differences.append(Difference("MRENCLAVE", checked.measurement.mrenclave.hex(), measurement.mrenclave.hex()))
    method = "key" if request.key is not None else "opening" if request.opening is not None else "public"
    return Reproduction(method, measurement.mrenclave, tuple(differences), tuple(not_checked))


def _check_arguments(request: ReproduceRequest) -> None:
    secret = request.opening is not None or request.key is not None
    if request.opening is not None and request.key is not None:
        raise UsageError(
            "bundle.reproduce.arguments", "--opening and --key exclude each other", hint="an auditor has the opening"
        )
    if secret and request.source is None:
        raise UsageError(
            "bundle.reproduce.arguments", "--opening and --key need --source", hint="name the project's directory"
        )
    if secret and not request.checked.config.encrypt:
        raise UsageError("bundle.reproduce.arguments", "the application is not encrypted, so there is nothing to open")


def _from_source(
    request: ReproduceRequest, tree: TreeWriter, differences: list[Difference], not_checked: list[str]
) -> EnclaveConfig:
    """Put the application from its sources into the tree and return the configuration that the project gives."""
    source = request.source or ""
    project = load_project(source)
    checked = request.checked
    requirements = hashlib.sha256(read_requirements(source, project)).digest()
    if requirements != checked.bundle.lock.requirements:
        locked = checked.bundle.lock.requirements.hex()
        differences.append(Difference(project.app.requirements, f"sha256 {locked}", f"sha256 {requirements.hex()}"))
    options = BuildOptions(package_key=request.key, size=None, say=request.say)

    def place(tree: TreeWriter, project: Project, files: tuple[AppFile, ...]) -> Sealed:
        if not project.app.encrypt or not checked.config.encrypt or request.key is not None:
            return place_application(tree, project, files, directory=source, options=options)
        _take_application(tree, checked)
        if request.opening is None:
            not_checked.append("the application's code (it is encrypted: --opening or --key)")
        else:
            _compare_commitment(request, source, files, differences)
        return Sealed(checked.config.package, checked.config.commitment)

    return configure(tree, project, checked.bundle.lock, source, options=options, place=place)


def _compare_commitment(
    request: ReproduceRequest, source: str, files: tuple[AppFile, ...], differences: list[Difference]
) -> None:
    """Compare the sources with the measured commitment; a model's own key does not enter the package digest."""
    no_keys = {file.key: bytes(KEY_SIZE) for file in files if file.key is not None}
    digest = digest_sources(package_sources(files, no_keys))
    found = commitment(request.opening or b"", digest)
    expected = request.checked.config.commitment or b""
    request.say(f"commit    package digest {digest.hex()} of {source}")
    if found != expected:
        differences.append(Difference("code commitment", expected.hex(), found.hex()))


def _is_compiled(entry: FileEntry) -> bool:
    return entry.path.startswith(ROOTFS) and not entry.path.startswith(APPLICATION) and entry.path.endswith(COMPILED)


def _take_application(tree: TreeWriter, checked: CheckedBundle) -> None:
    for entry in checked.bundle.index.files:
        if entry.path.startswith((APPLICATION, BLOBS)):
            tree.include(entry)


def _compare(bundle: tuple[FileEntry, ...], rebuilt: tuple[FileEntry, ...]) -> list[Difference]:
    before = {entry.path: entry for entry in bundle}
    after = {entry.path: entry for entry in rebuilt}
    found = []
    for path in sorted(before.keys() | after.keys(), key=lambda path: path.encode("utf-8")):
        was, now = before.get(path), after.get(path)
        if was != now:
            found.append(Difference(path, _describe_entry(was), _describe_entry(now)))
    return found


def _describe_entry(entry: FileEntry | None) -> str:
    return "absent" if entry is None else f"{entry.size} bytes, {entry.mode}, sha256 {entry.sha256.hex()}"


def read_opening(text: bytes) -> bytes:
    """Return the opening of an opening file; raises FormatError("bundle.opening.malformed")."""
    from glasscase.codec.hexid import from_hex
    from glasscase.codec.record import take_object
    from glasscase.codec.strictjson import parse

    value = parse(text, max_bytes=1 << 16, what="opening")
    fields = take_object(
        value, kind="glasscase-opening", what="opening", reason="bundle.opening.malformed",
        required={"package_digest": str, "opening": str}, optional={},
    )  # fmt: skip
    return from_hex(fields["opening"], KEY_SIZE, "opening")
