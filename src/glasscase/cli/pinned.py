"""Where a command finds Gramine runtimes and build inputs: the only place that joins them to the user's directories."""

from glasscase.bundle.index import Bundle
from glasscase.bundle.origin import FileOrigin
from glasscase.bundle.runtime import SIMULATOR, RuntimeFiles
from glasscase.cli.places import cache_dir
from glasscase.errors import UsageError
from glasscase.gramine.pins import RuntimePin, known_pins
from glasscase.lock.cache import InputCache


def input_cache() -> InputCache:
    """Return the cache of build inputs."""
    return InputCache(cache_dir() / "inputs")


def trusted_pins() -> tuple[RuntimePin, ...]:
    """Return the pins of runtimes that this user trusts: those that come with glasscase, and imported ones."""
    return known_pins()


def origins_of(bundle: Bundle) -> tuple[FileOrigin, ...]:
    """Return the origins of a bundle's trusted files, with the lists of those Debian packages that are in the cache."""
    from glasscase.bundle.origin import origins

    return origins(bundle)


def runtime_named(name: str) -> RuntimeFiles:
    """Return the built-in simulator runtime or an imported one.

    Raises UsageError("bundle.runtime.unknown") if there is none of that name.
    """
    if name == SIMULATOR:
        from glasscase.sim import runtime

        pin = next(pin for pin in known_pins() if pin.name == SIMULATOR)
        return RuntimeFiles(pin, runtime.runtime_files())
    raise UsageError(
        "bundle.runtime.unknown", f"there is no runtime {name!r}", hint="glasscase runtime import PATH --name NAME"
    )
