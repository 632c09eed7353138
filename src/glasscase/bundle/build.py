"""Building a bundle from a project, its lock and a runtime.

Invariants: the bytes are a function of project, lock, inputs and keys; no clock, environment, user, umask or file order has a
part in them; the bundle appears under its name whole or not at all.
Source: docs/bundle-format.md.
"""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from glasscase.bundle.apart import require_apart, require_output_apart
from glasscase.bundle.application import AppFile, check_shadowing, model_files, package_sources, source_files
from glasscase.bundle.compiled import add_compiled
from glasscase.bundle.derive import index_of, manifest_of, require_places, weakenings
from glasscase.bundle.imports import import_table, module_names
from glasscase.bundle.index import (
    BLOBS,
    BOM,
    CONFIG,
    IMPORTS,
    INDEX,
    MANIFEST,
    PROVENANCE,
    BundleIndex,
)
from glasscase.bundle.locking import read_lock, stale_parts
from glasscase.bundle.origin import trace, wheel_records
from glasscase.bundle.ownerkeys import read_client_ca, read_owner_keys
from glasscase.bundle.project import Project, load_project
from glasscase.bundle.provenance import provenance
from glasscase.bundle.rootfs import add_clear_application, add_debian, add_runtime, add_wheels, check_closure
from glasscase.bundle.runtime import RuntimeFiles
from glasscase.bundle.sbom import bill_of_materials
from glasscase.bundle.tree import TreeWriter
from glasscase.codec.strictjson import write
from glasscase.codec.version import VERSION
from glasscase.config.enclave import EnclaveConfig, GramineOptions, ServerOptions
from glasscase.core.measure import digest_files
from glasscase.errors import FormatError, UsageError
from glasscase.fs.atomic import read_private
from glasscase.fs.directory import atomic_directory
from glasscase.gramine.lint import require_clean
from glasscase.lock.cache import InputCache
from glasscase.lock.model import FILE as LOCK_FILE
from glasscase.lock.model import Lock
from glasscase.lock.requirements import OWN
from glasscase.measure.drawing import forecast
from glasscase.measure.mrenclave import Measurement, measure
from glasscase.seal.files import MANIFEST_NAME, Package
from glasscase.seal.package import build_package

KEY_SIZE = 32  # bytes of a package or model key
_KEY_FILE_MAX = 64 << 10  # bytes that are read of a file to say that it is none
OTHER_THREADS = 7  # Gramine's three helpers, the main thread, ours for quotes, two for decryption
HEAP_TO_START = (
    128 << 20
)  # bytes: 100 MiB are mapped before an application of one line answers, Gramine's own come on top


@dataclass(frozen=True)
class BuildResult:
    """What was built. bundle_id: 32 bytes. files: all but bundle.json; size: their bytes together.

    package: the encrypted package with the digests of its plaintext, which stay with the provider; None in clear.
    """

    path: str
    bundle_id: bytes
    index: BundleIndex
    measurement: Measurement
    files: int
    size: int
    package: Package | None


@dataclass(frozen=True)
class BuildOptions:
    """What `build` may say besides the project. size, package_key: None, and no owners = what the project says.

    jobs: threads for encryption, 0 = as many as there are processors. say: takes one line of progress.
    """

    size: str | None = None
    jobs: int = 0
    package_key: str | None = None
    owners: tuple[str, ...] = ()
    say: Callable[[str], None] = lambda _line: None


@dataclass(frozen=True)
class Sealed:
    """What encryption leaves to be measured: header of the package manifest and code commitment; None without it.

    package: what was encrypted just now, if it was.
    """

    header: bytes | None
    commitment: bytes | None
    package: Package | None = None


# puts the application's files into the tree, in clear or as blobs, and says what is to be measured of them
Placer = Callable[[TreeWriter, Project, tuple[AppFile, ...]], Sealed]


def build(
    project_dir: str, out: str, *, runtime: RuntimeFiles, cache: InputCache, options: BuildOptions, overwrite: bool = False
) -> BuildResult:  # fmt: skip
    """Write the bundle `out` and return what it is.

    overwrite: a bundle of that name is replaced once the new one is complete; anything else of that name is refused.
    Raises UsageError for a project, lock or keys that do not go together, StorageError("lock.input.missing") for an
    input that is not in the cache, FormatError for one that is not what was pinned.
    """
    project = load_project(project_dir)
    require_output_apart(out, project_dir, project)
    named = () if options.package_key is None else (options.package_key,)
    require_apart(project_dir, project, keys=(*named, *options.owners))
    lock = _fresh_lock(project_dir, project, runtime)

    made: list[Package | None] = []

    def place(tree: TreeWriter, project: Project, files: tuple[AppFile, ...]) -> Sealed:
        sealed = place_application(tree, project, files, directory=project_dir, options=options)
        made.append(sealed.package)
        return sealed

    with atomic_directory(out, overwrite=overwrite and os.path.isfile(os.path.join(out, INDEX))) as folder:
        tree = TreeWriter(folder)
        debian = add_inputs(tree, lock, runtime, cache, say=options.say, pyc=project.app.pyc)
        config = configure(tree, project, lock, project_dir, options=options, place=place)
        index, measurement = describe(tree, config, lock, runtime, debian=debian)
        tree.add(INDEX, index.to_bytes())
        tree.finish()
    total = sum(file.size for file in index.files)
    return BuildResult(os.path.abspath(out), index.id, index, measurement, len(index.files), total, made[0])


def add_inputs(
    tree: TreeWriter, lock: Lock, runtime: RuntimeFiles, cache: InputCache, *, say: Callable[[str], None], pyc: bool
) -> dict[str, str]:
    """Put everything into the tree that the lock pins: Gramine, wheels, Debian packages. pyc: compile Python too.

    Return path -> package of the files of Debian packages.
    """
    packages = 0 if lock.debian is None else len(lock.debian.packages)
    say(f"unpack    {len(lock.wheels)} wheels, {packages} Debian packages")
    add_runtime(tree, runtime)
    add_wheels(tree, lock, cache)
    debian = {}
    if lock.debian is not None:
        debian = add_debian(tree, lock.debian, cache)
        check_closure(tree, simulated=runtime.simulated)
    if pyc:
        say("compile   Python with the bundle's own interpreter")
        add_compiled(tree)
    return debian


def configure(
    tree: TreeWriter, project: Project, lock: Lock, directory: str, *, options: BuildOptions, place: Placer
) -> EnclaveConfig:
    """Put the application into the tree, which holds the inputs; return the measured configuration."""
    code = source_files(directory, project)
    check_shadowing(code, module_names(import_table(entry.path for entry in tree.entries())))
    owners = read_owner_keys(directory, project, options.owners)
    sealed = place(tree, project, (*code, *model_files(directory, project.models)))
    return _configuration(project, lock, sealed, tree, directory=directory, owners=owners, size=options.size)


def describe(
    tree: TreeWriter, config: EnclaveConfig, lock: Lock, runtime: RuntimeFiles, *, debian: Mapping[str, str]
) -> tuple[BundleIndex, Measurement]:
    """Write what follows from the rest: configuration, import table, manifest, lock, SBOM, provenance; return the index.

    debian: of add_inputs.
    """
    tree.add(CONFIG, config.to_bytes())
    tree.add(IMPORTS, import_table(entry.path for entry in tree.entries()))
    require_places(tree.entries(), encrypt=config.encrypt)
    manifest = manifest_of(config, tree.entries())
    require_clean(manifest, insecure=config.insecure)
    tree.add(MANIFEST, manifest)
    measurement = _measured(manifest, runtime.files["libpal.so"])
    if not runtime.simulated:
        _require_room(measurement, config.gramine.size)
        _require_threads(config)
    tree.add(LOCK_FILE, lock.to_bytes())
    records = wheel_records(tree.entries(), lock, tree.read)
    files = trace(tree.entries(), lock, records=records, debian=debian)
    tree.add(BOM, bill_of_materials(lock, name=config.name, mrenclave=measurement.mrenclave, files=files))
    tree.add(PROVENANCE, provenance(lock, name=config.name, mrenclave=measurement.mrenclave))
    pin = (runtime.pin.name, runtime.pin.version)
    return index_of(config, tree.entries(), tool=lock.tool, runtime=pin, measurement=measurement), measurement


def place_application(
    tree: TreeWriter, project: Project, files: tuple[AppFile, ...], *, directory: str, options: BuildOptions
) -> Sealed:
    """Write the application in clear, or encrypted with the package key, as the project says."""
    if project.app.encrypt:
        return _encrypt(tree, files, project, directory, options)
    add_clear_application(tree, files)
    return Sealed(None, None)


def private_document(result: BuildResult) -> bytes:
    """Return what an encrypted bundle holds in plaintext terms, for the provider's own files only (0600)."""
    package = result.package
    if package is None:
        raise UsageError("bundle.app.clear", "the application is in clear, so there is nothing private to write down")
    entries = [
        {"path": entry.path, "mode": entry.mode}
        | ({} if entry.directory else {"size": entry.size, "digest": entry.digest.hex(), "blob": entry.blob.hex()})
        for entry in package.entries
    ]
    return write(
        {
            "v": VERSION,
            "type": "glasscase-private",
            "bundle_id": result.bundle_id.hex(),
            "mrenclave": result.measurement.mrenclave.hex(),
            "commitment": package.commitment.hex(),
            "package_digest": package.digest.hex(),
            "entries": entries,
        }
    )


def _measured(manifest: bytes, libpal: bytes) -> Measurement:
    """Return the measurement; of an enclave that its own areas do not fit, UsageError("bundle.size.small")."""
    try:
        return measure(manifest, libpal)
    except FormatError as error:
        if error.reason != "gramine.enclave.too_small":
            raise
        hint = "raise enclave.size in glasscase.toml, or --size, or lower enclave.max_threads"
        raise UsageError("bundle.size.small", error.message, hint=hint) from None


def _require_room(measurement: Measurement, size: str) -> None:
    """Raise UsageError("bundle.size.small") if the enclave could not even start the program, whatever the application."""
    heap = forecast(measurement)["heap"]
    if heap < HEAP_TO_START:
        raise UsageError(
            "bundle.size.small",
            f"of {size} the program would have {heap >> 20}M, Python and the server alone need {HEAP_TO_START >> 20}M to start",
            hint="set enclave.size in glasscase.toml, or --size: 512M for a web application, 1G with numpy",
        )


def _require_threads(config: EnclaveConfig) -> None:
    """Raise UsageError("bundle.threads.few") if the application's threads alone would take places that others need.

    With EDMM Gramine makes more places when they are wanted.
    """
    needed = config.server.app_threads + OTHER_THREADS
    if config.gramine.max_threads < needed and not config.gramine.edmm:
        raise UsageError(
            "bundle.threads.few",
            f"the enclave has {config.gramine.max_threads} threads, {config.server.app_threads} of the application need {needed}",
            hint="raise enclave.max_threads or lower server.app_threads; numeric libraries start some of their own",
        )


def _fresh_lock(directory: str, project: Project, runtime: RuntimeFiles) -> Lock:
    lock = read_lock(directory)
    stale = stale_parts(lock, project, directory, runtime, python=sys.version_info[:3])
    if stale:
        raise UsageError("lock.file.stale", f"the lock is stale: {stale[0]}", hint="run: glasscase lock")
    return lock


def _configuration(
    project: Project, lock: Lock, sealed: Sealed, tree: TreeWriter, *, directory: str, owners: tuple[bytes, ...], size: str | None
) -> EnclaveConfig:  # fmt: skip
    own = next(wheel.sha256 for wheel in lock.wheels if wheel.name == OWN)
    try:
        gramine = _gramine_options(project, profile=lock.runtime.profile, size=size)
        server = _server_options(project, directory)

        def config(insecure: tuple[str, ...]) -> EnclaveConfig:
            return EnclaveConfig(
                name=project.app.name,
                entry=project.app.entry,
                interface=project.app.interface,
                health=project.app.health,
                encrypt=project.app.encrypt,
                models=project.app.models,
                build_epoch=lock.epoch,
                owners=owners,
                threshold=project.keys.threshold,
                package=sealed.header,
                commitment=sealed.commitment,
                gramine=gramine,
                server=server,
                env=project.env,
                insecure=insecure,
            )

        implied = [("debug", gramine.debug), ("models-key", project.app.models == "key")]
        draft = config(tuple(name for name, applies in implied if applies))
        simulated = lock.runtime.name == "simulator"
        final = config(weakenings(draft, tree.entries(), simulated=simulated, own_wheel=own))
    except FormatError as error:
        if error.reason != "bundle.config.malformed":
            raise
        raise UsageError(
            "bundle.project.malformed", error.message, hint="change glasscase.toml or the option"
        ) from None
    if "dev-enclave" in final.insecure and not project.enclave.insecure_dev_enclave:
        raise UsageError(
            "bundle.wheel.unknown",
            f"the locked glasscase wheel {own.hex()[:16]}... is none that this tool knows",
            hint="use a published glasscase, or say enclave.insecure_dev_enclave = true; it then stands in every verdict",
        )
    return final


def _gramine_options(project: Project, *, profile: str, size: str | None) -> GramineOptions:
    enclave = project.enclave
    return GramineOptions(
        profile=profile,
        size=enclave.size if size is None else size,
        max_threads=enclave.max_threads,
        isv_prod_id=enclave.isv_prod_id,
        isv_svn=enclave.isv_svn,
        edmm=enclave.edmm,
        dns=enclave.dns,
        persist=enclave.persist,
        debug=enclave.insecure_debug,
    )


def _server_options(project: Project, directory: str) -> ServerOptions:
    server = project.server
    return ServerOptions(
        certificate=server.certificate,
        client_ca=read_client_ca(directory, server.client_ca),
        app_threads=server.app_threads,
        body_max=server.body_max,
        header_timeout=server.header_timeout,
        idle_timeout=server.idle_timeout,
        drain=server.drain,
    )


def _encrypt(
    tree: TreeWriter, files: tuple[AppFile, ...], project: Project, directory: str, options: BuildOptions
) -> Sealed:
    """Write blobs/, the encrypted package of the application and its models."""
    own = os.path.join(directory, project.keys.package)
    key = _read_key(own if options.package_key is None else options.package_key)
    paths = {file.key for file in files if file.key is not None}
    keys = {path: _read_key(os.path.join(directory, path)) for path in sorted(paths)}
    options.say(f"encrypt   {sum(not file.entry.directory for file in files):,} files")
    blobs = os.path.join(tree.root, BLOBS.rstrip("/"))
    os.mkdir(blobs, 0o755)
    threads = options.jobs or len(os.sched_getaffinity(0))
    leaf_lists = project.app.models == "digest"
    package = build_package(
        package_sources(files, keys), key=key, out_dir=blobs, threads=threads, leaf_lists=leaf_lists, durable=False
    )
    names = sorted({MANIFEST_NAME, *package.blobs})
    digests = digest_files([os.path.join(blobs, name) for name in names], threads=threads)
    for name, digest in zip(names, digests, strict=True):
        tree.adopt(BLOBS + name, size=digest.size, sha256=digest.sha256)
    return Sealed(package.header, package.commitment, package)


def _read_key(path: str) -> bytes:
    key = read_private(path, max_bytes=_KEY_FILE_MAX, what=f"{path!r}, which should be a package key,")
    if len(key) != KEY_SIZE:
        raise UsageError(
            "bundle.key.malformed", f"{path!r} has {len(key)} bytes, a package key has {KEY_SIZE}",
            hint="make one: glasscase keygen --kind package -o FILE",
        )  # fmt: skip
    return key
