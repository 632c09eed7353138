"""Where a command finds Gramine runtimes and build inputs: the only place that joins them to the user's directories."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from glasscase.cli.places import cache_dir, data_dir, data_dir_if_any
from glasscase.errors import UsageError
from glasscase.fs.atomic import read_file
from glasscase.gramine.pins import PIN_MAX, RuntimePin, known_pins, parse_pin

if TYPE_CHECKING:
    from glasscase.bundle.index import Bundle
    from glasscase.bundle.locking import LockRequest
    from glasscase.bundle.origin import FileOrigin
    from glasscase.bundle.runtime import RuntimeFiles
    from glasscase.lock.cache import InputCache


def input_cache() -> "InputCache":
    """Return the cache of build inputs."""
    from glasscase.lock.cache import InputCache

    return InputCache(cache_dir() / "inputs")


def lock_request(directory: str, *, tool: str, wheel: str | None, say: Callable[[str], None]) -> "LockRequest":
    """Return what locking and fetching need: this user's cache, runtimes, environment and Python."""
    from glasscase.bundle.locking import LockRequest

    return LockRequest(
        directory=directory,
        tool=tool,
        cache=input_cache(),
        environment=dict(os.environ),
        python=sys.version_info[:3],
        wheel=wheel,
        runtime_named=runtime_named,
        say=say,
    )


def trusted_pins() -> tuple[RuntimePin, ...]:
    """Return the pins of runtimes that this user trusts: those that come with glasscase, then imported ones."""
    return (*known_pins(), *imported_pins())


def runtimes_dir() -> Path:
    """Return the directory of imported runtimes, made on first use."""
    folder = data_dir() / "runtimes"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def imported_pins() -> tuple[RuntimePin, ...]:
    """Return the pins of the runtimes that this user has imported, sorted by name."""
    folder = data_dir_if_any()
    if folder is None:
        return ()
    found = sorted(path for path in (folder / "runtimes").glob("*/pin.toml") if not path.parent.name.startswith("."))
    return tuple(parse_pin(read_file(path, max_bytes=PIN_MAX, what="pin")) for path in found)


def origins_of(bundle: "Bundle") -> "tuple[FileOrigin, ...]":
    """Return the origins of a bundle's trusted files, with those Debian packages that are in the cache."""
    from glasscase.bundle.origin import origins

    return origins(bundle, cache=input_cache())


def runtime_named(name: str) -> "RuntimeFiles":
    """Return the built-in simulator runtime or an imported one.

    Raises UsageError("bundle.runtime.unknown") if there is none of that name.
    """
    from glasscase.bundle.runtime import SIMULATOR, RuntimeFiles
    from glasscase.gramine.importing import FILE_MAX

    if name == SIMULATOR:
        from glasscase.sim import runtime

        pin = next(pin for pin in known_pins() if pin.name == SIMULATOR)
        return RuntimeFiles(pin, runtime.runtime_files())
    folder = data_dir() / "runtimes" / name
    for pin in imported_pins():
        if pin.name == name:
            paths = {file.path: folder / "files" / file.path for file in pin.files}
            return RuntimeFiles(
                pin, {path: read_file(real, max_bytes=FILE_MAX, what=path) for path, real in paths.items()}
            )
    raise UsageError(
        "bundle.runtime.unknown", f"there is no runtime {name!r}", hint="glasscase runtime import PATH --name NAME"
    )
