"""Making and checking a project's glasscase.lock from its project file, its requirements and a runtime.

Invariants: a lock that still belongs to the project is kept as it is, epoch and all; only --update or a change of the
project chooses anew; nothing about the project's own sources goes in.
"""

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from glasscase.bundle.project import Project, load_project
from glasscase.bundle.runtime import RuntimeFiles
from glasscase.errors import FormatError, StorageError, UsageError
from glasscase.fs.atomic import read_file, write_file
from glasscase.lock import requirements as requirements_file
from glasscase.lock.aptsources import AptSource, bases, host_sources, parse_lines
from glasscase.lock.cache import InputCache
from glasscase.lock.debian import Resolved, fetch_packages, python_of, resolve_packages
from glasscase.lock.model import FILE, MAX_BYTES, Lock, LockedDebian, LockedPackage, LockedWheel
from glasscase.lock.pylock import FILE as PYLOCK
from glasscase.lock.pylock import MAX_BYTES as PYLOCK_MAX
from glasscase.lock.pylock import changes_since, made_here
from glasscase.lock.requirements import OWN
from glasscase.lock.resolve import Resolver, find_resolver
from glasscase.lock.target import Target
from glasscase.lock.wheels import OwnWheel, cached_own_wheel, fetch_wheels, pin_pylock, pin_wheels, take_own_wheel


@dataclass(frozen=True)
class LockRequest:
    """What `lock` works with. environment: proxies and CA files; python: of this host; wheel: glasscase's own, or None.

    pylock: path of a pylock.toml to take the wheels of, None = the project's own. python_from: "debian" or "host", None = as
    before; Debian for Gramine and where the project names sources.
    """

    directory: str
    tool: str
    cache: InputCache
    environment: Mapping[str, str]
    python: tuple[int, ...]
    wheel: str | None
    runtime_named: Callable[[str], RuntimeFiles]
    say: Callable[[str], None]
    python_from: str | None = None
    pylock: str | None = None


def read_lock(directory: str) -> Lock:
    """Return the lock of a project; raises UsageError("lock.file.missing") if there is none."""
    path = os.path.join(directory, FILE)
    try:
        return Lock.from_bytes(read_file(path, max_bytes=MAX_BYTES, what=FILE))
    except StorageError as error:
        if error.reason != "fs.file.missing":
            raise
        raise UsageError("lock.file.missing", f"{path!r} does not exist", hint="run: glasscase lock") from None


def read_requirements(directory: str, project: Project) -> bytes:
    """Return the bytes of the project's requirements file."""
    path = os.path.join(directory, project.app.requirements)
    return read_file(path, max_bytes=requirements_file.MAX_BYTES, what="the requirements file")


def read_pylock(directory: str) -> bytes | None:
    """Return the bytes of the project's pylock.toml, or None if it has none."""
    try:
        return read_file(os.path.join(directory, PYLOCK), max_bytes=PYLOCK_MAX, what=PYLOCK)
    except StorageError as error:
        if error.reason != "fs.file.missing":
            raise
        return None


def stale_parts(
    lock: Lock, project: Project, directory: str, runtime: RuntimeFiles, *, python: tuple[int, ...]
) -> list[str]:
    """Return what of a lock no longer belongs to the project, one line each; empty if it is fresh.

    python: of this host, for a lock without Debian packages.
    """
    stale = []
    requirements, pylock = read_requirements(directory, project), read_pylock(directory)
    if lock.requirements != hashlib.sha256(requirements).digest():
        stale.append(f"{project.app.requirements} has changed")
    if pylock is not None:
        target = Target(python if lock.debian is None else python_of(lock.debian), runtime.glibc)
        stale += changes_since(lock.wheels, pylock, target)
    if lock.runtime != runtime.locked():
        stale.append(f"the runtime is {lock.runtime.name} {lock.runtime.version}, the project wants {runtime.pin.name}")
    if lock.debian is None and not runtime.simulated:
        stale.append("no Python is pinned, and only the simulator can use the host's")
    if OWN not in {wheel.name for wheel in lock.wheels}:
        stale.append("glasscase's own wheel is not pinned")
    return stale


def check_lock(request: LockRequest) -> list[str]:
    """Return what is stale, without any change and without network: the project, the own wheel, the cached inputs."""
    project = load_project(request.directory)
    lock = read_lock(request.directory)
    runtime = request.runtime_named(project.enclave.runtime)
    stale = stale_parts(lock, project, request.directory, runtime, python=request.python)
    stale += [
        f"{wheel.file} is not in the cache"
        for wheel in lock.wheels
        if not request.cache.holds(wheel.sha256, wheel.size)
    ]
    if lock.tool != request.tool:
        stale.append(f"the lock was made by glasscase {lock.tool}, this is {request.tool}")
    return stale


def make_lock(request: LockRequest, *, now: int, update: bool) -> tuple[Lock, list[str]]:
    """Write the project's lock and put all its inputs into the cache; return it and the lines that say what changed.

    A pylock.toml that somebody else has made is taken as it is; without one, it is written beside the lock.
    now: unix seconds, the epoch of a new lock without Debian packages. update: choose versions anew.
    """
    project = load_project(request.directory)
    _require_own_pylock(request)
    runtime = request.runtime_named(project.enclave.runtime)
    requirements = read_requirements(request.directory, project)
    old = _old_lock(request.directory)
    resolver = _resolver(request, project)
    own = _own_wheel(request, old)
    debian = wants_debian(request.python_from, project, runtime, old)
    kept = old is not None and not update and request.pylock is None and (old.debian is not None) == debian
    fresh = (
        kept and old is not None and not stale_parts(old, project, request.directory, runtime, python=request.python)
    )
    if fresh and old is not None and _own(old) == own.locked:
        request.say(f"lock      {old.inputs()} inputs are pinned already; fetching what the cache lacks")
        fetch_wheels(old.wheels, _target(request, old.debian, runtime), resolver=resolver, cache=request.cache)
        _fetch_debian(request, project, old.debian)
        return old, []
    resolved = _resolve_debian(request, project, old, update=update) if debian else None
    target = _target(request, None if resolved is None else resolved.debian, runtime)
    pylock = _given_pylock(request)
    if pylock is not None:
        request.say(f"lock      taking the wheels of {request.pylock or PYLOCK}")
        wheels = pin_pylock(
            pylock,
            requirements,
            own,
            target,
            environment=request.environment,
            cache=request.cache,
            index=resolver.index,
        )
    else:
        request.say(f"lock      choosing wheels with {resolver.kind} for Python {target.version()}")
        prefer = () if update or old is None else tuple(wheel for wheel in old.wheels if wheel.name != OWN)
        wheels, pylock = pin_wheels(requirements, own, target, resolver=resolver, cache=request.cache, prefer=prefer)
    new = Lock(
        tool=request.tool,
        epoch=now if resolved is None else resolved.epoch,
        requirements=hashlib.sha256(requirements).digest(),
        runtime=runtime.locked(),
        debian=None if resolved is None else resolved.debian,
        wheels=wheels,
    )
    if pylock != read_pylock(request.directory):
        write_file(os.path.join(request.directory, PYLOCK), pylock)
    if old is not None and _but_epoch(old) == _but_epoch(new):
        return old, []
    write_file(os.path.join(request.directory, FILE), new.to_bytes())
    return new, _changes(old, new)


def fetch_inputs(request: LockRequest, lock: Lock, runtime: RuntimeFiles, *, has_project: bool) -> None:
    """Put every input of a lock that the cache lacks there, to rebuild a bundle of somebody else.

    has_project: request.directory has a glasscase.toml whose [sources] are used, else the host's sources and index are.
    """
    own = _own(lock)
    if own is not None and not request.cache.holds(own.sha256, own.size):
        take_own_wheel(request.wheel, request.cache)
    packages = () if lock.debian is None else lock.debian.packages
    pinned = [(item.sha256, item.size) for item in packages] + [(item.sha256, item.size) for item in lock.wheels]
    if all(request.cache.holds(sha256, size) for sha256, size in pinned):
        return
    project = load_project(request.directory) if has_project else None
    target = _target(request, lock.debian, runtime)
    fetch_wheels(lock.wheels, target, resolver=_resolver(request, project), cache=request.cache)
    _fetch_debian(request, project, lock.debian)


def wants_debian(chosen: str | None, project: Project, runtime: RuntimeFiles, old: Lock | None) -> bool:
    """Return whether the Python inside comes from Debian packages, as chosen or as before.

    Raises UsageError("bundle.python.missing") for a Gramine without it.
    """
    if chosen == "host" and not runtime.simulated:
        raise UsageError(
            "bundle.python.missing", "only the simulator can use the host's Python", hint="leave --python host away"
        )
    if chosen is not None:
        return chosen == "debian"
    return not runtime.simulated or bool(project.sources.apt) or (old is not None and old.debian is not None)


def _resolve_debian(request: LockRequest, project: Project, old: Lock | None, *, update: bool) -> Resolved:
    """Return the packages; those of the old lock unless they are to be chosen anew."""
    if old is not None and old.debian is not None and not update:
        _fetch_debian(request, project, old.debian)
        return Resolved(old.debian, old.epoch, "")
    sources, keyring = _apt_sources(request.directory, project)
    request.say(f"lock      resolving Debian packages of {sources[0].suite} with apt")
    resolved = resolve_packages(sources, keyring, cache=request.cache, environment=request.environment, say=request.say)
    if (
        old is not None
        and old.debian is not None
        and old.debian.suite == resolved.debian.suite
        and resolved.epoch < old.epoch
    ):
        raise UsageError(
            "lock.debian.older", "the archive's InRelease is older than the one that is locked",
            hint="use a mirror that is up to date; somebody may be holding back updates",
        )  # fmt: skip
    return resolved


def _fetch_debian(request: LockRequest, project: Project | None, debian: LockedDebian | None) -> None:
    """Put the packages that the cache lacks there, from the project's sources or the host's; without any, ask nobody."""
    packages = () if debian is None else debian.packages
    if all(request.cache.holds(package.sha256, package.size) for package in packages):
        return
    sources, _ = host_sources() if project is None else _apt_sources(request.directory, project)
    fetch_packages(packages, bases(sources), cache=request.cache, environment=request.environment)


def _apt_sources(directory: str, project: Project) -> tuple[tuple[AptSource, ...], str]:
    """Return the sources and the keyring: the project's, else the host's."""
    if not project.sources.apt:
        return host_sources()
    if project.sources.keyring is None:
        raise UsageError(
            "lock.debian.sources", "sources.apt needs sources.keyring", hint="name the file of the archive's keys"
        )
    return parse_lines(project.sources.apt), os.path.join(directory, project.sources.keyring)


def _resolver(request: LockRequest, project: Project | None) -> Resolver:
    cache = os.path.join(os.path.dirname(request.cache.directory), "uv")
    index = None if project is None else project.sources.index
    return find_resolver(request.environment, index=index, cache=cache, say=request.say)


def _target(request: LockRequest, debian: LockedDebian | None, runtime: RuntimeFiles) -> Target:
    return Target(request.python if debian is None else python_of(debian), runtime.glibc)


def _given_pylock(request: LockRequest) -> bytes | None:
    """Return the pylock.toml of the argument, else the project's own unless it was written here, else None."""
    if request.pylock is not None:
        return read_file(request.pylock, max_bytes=PYLOCK_MAX, what=PYLOCK)
    found = read_pylock(request.directory)
    return None if found is None or made_here(found) else found


def _require_own_pylock(request: LockRequest) -> None:
    """Raise UsageError("lock.pylock.foreign") if --pylock would replace a file of the project that somebody else has made."""
    found = None if request.pylock is None else read_pylock(request.directory)
    if found is None or found == _given_pylock(request):
        return
    try:
        if made_here(found):
            return
    except UsageError:
        pass  # not even TOML: not ours
    raise UsageError(
        "lock.pylock.foreign",
        f"the project's {PYLOCK} is another tool's, and {request.pylock!r} would replace it",
        hint=f"leave --pylock away to take {PYLOCK} as it is, or move that file away first",
    )


def _old_lock(directory: str) -> Lock | None:
    try:
        return read_lock(directory)
    except UsageError as error:
        if error.reason != "lock.file.missing":
            raise
        return None
    except FormatError as error:
        if error.reason == "format.newer":
            raise
        return None


def _own_wheel(request: LockRequest, old: Lock | None) -> OwnWheel:
    """Return the wheel of --wheel, else the installed one, else the one that the old lock names if the cache has it."""
    try:
        return take_own_wheel(request.wheel, request.cache)
    except UsageError:
        locked = _own(old)
        if request.wheel is not None or locked is None or not request.cache.holds(locked.sha256, locked.size):
            raise
        return cached_own_wheel(locked, request.cache)


def _own(lock: Lock | None) -> LockedWheel | None:
    return next((wheel for wheel in lock.wheels if wheel.name == OWN), None) if lock is not None else None


def _but_epoch(lock: Lock) -> tuple[object, ...]:
    return lock.tool, lock.requirements, lock.runtime, lock.debian, lock.wheels


def _versions(lock: Lock) -> dict[str, LockedWheel | LockedPackage]:
    found: dict[str, LockedWheel | LockedPackage] = {wheel.name: wheel for wheel in lock.wheels}
    packages = () if lock.debian is None else lock.debian.packages
    return found | {f"debian:{package.name}": package for package in packages}


def _changes(old: Lock | None, new: Lock) -> list[str]:
    if old is None:
        return []
    before, after = _versions(old), _versions(new)
    lines = []
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name), after.get(name)
        if was is None and now is not None:
            lines.append(f"added     {name} {now.version}")
        elif now is None and was is not None:
            lines.append(f"removed   {name} {was.version}")
        elif was is not None and now is not None and was.version != now.version:
            lines.append(f"changed   {name} {was.version} -> {now.version}")
        elif was is not None and now is not None and was.sha256 != now.sha256:
            lines.append(f"changed   {name} {was.version}: other file {now.file}")
    if old.runtime != new.runtime:
        lines.append(
            f"changed   runtime {old.runtime.name} {old.runtime.version} -> {new.runtime.name} {new.runtime.version}"
        )
    return lines
