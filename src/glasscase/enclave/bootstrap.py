"""The first program in an enclave: /opt/glasscase/main.py of every bundle is this file.

It reads the measured import table with built-ins alone, opens what must be there, puts a finder in place that knows only
the table, and hands over to glasscase.enclave.main. Nothing is imported from a file before that.

Invariants: what exists is decided by the table, never by a directory listing or a failed look-up of the host; a listed
module or file that is absent, changed or cannot be loaded ends the process at once, because an ImportError would let
Python fall back to something else. Names that the table lacks do not exist (on the simulator, which argv alone can
announce: exist only in the interpreter's own standard library).
Source: docs/bundle-format.md, "imports.txt"; docs/threat-model.md, "Hidden files".
"""

import _frozen_importlib
import _frozen_importlib_external
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType
    from typing import Any

    Table = dict[str, tuple[str, str]]  # name to (kind, path)

HEAD = "glasscase-imports 1"
TABLE = "/opt/glasscase/imports.txt"
SITE = "/opt/site"
KINDS = "fmnpx"  # other file, module, namespace package, package, extension module
EXIT_CODE = 70
STACK_SIZE = 1 << 20  # bytes of a thread: Gramine zeroes a stack when its thread ends
_SIMULATED_ROOT = "--simulated-root"


def end(message: str) -> None:
    """End the process: nothing may run after the host has hidden or changed a file."""
    posix.write(2, ("glasscase: error: " + message + " [enclave.import.absent]\n").encode("utf-8", "backslashreplace"))
    posix._exit(EXIT_CODE)


class SourceLoader(_frozen_importlib_external.SourceFileLoader):
    """Loads one listed module; an absent or unreadable source ends the process."""

    def get_data(self, path: str) -> bytes:
        """Return the bytes of the source, or of its .pyc, which alone may be absent."""
        try:
            return super().get_data(path)
        except OSError:
            if path == self.path:
                end(f"the module {self.name} cannot be read from {path}")
            raise


class ExtensionLoader(_frozen_importlib_external.ExtensionFileLoader):
    """Loads one listed extension module; a failure to load it ends the process."""

    def create_module(self, spec: _frozen_importlib.ModuleSpec) -> "ModuleType":
        """Return the new module."""
        try:
            return super().create_module(spec)
        except ImportError as error:
            end(f"the extension module {self.name} cannot be loaded: {error}")
            raise

    def exec_module(self, module: "ModuleType") -> None:
        """Run the module's initialisation."""
        try:
            super().exec_module(module)
        except ImportError as error:
            end(f"the extension module {self.name} cannot be started: {error}")


class TableFinder:
    """Finds the modules of the table, then those of the application, and on the simulator the standard library's.

    table: name to (kind, path). library: directories of the simulator's standard library, empty inside Gramine.
    others: the listed files that are not modules, absolute paths.
    """

    def __init__(self, table: "Table", library: list[str], others: tuple[str, ...]) -> None:
        self.others = others
        self._table = table
        self._library = library
        self._application: Table = {}
        self._listed = False
        self._taken = {name.partition(".")[0] for name in table} | set(sys.stdlib_module_names)
        self._taken |= set(sys.builtin_module_names)

    def find_spec(
        self,
        name: str,
        path: "Sequence[str] | None" = None,
        target: "ModuleType | None" = None,  # noqa: ARG002
    ) -> _frozen_importlib.ModuleSpec | None:
        """Return the spec of a module, or None if it does not exist."""
        if name in self._table:
            kind, place = self._table[name]
            return spec_of(name, kind, place, ending=True)
        if name in self._application:
            kind, place = self._application[name]
            return spec_of(name, kind, place, ending=self._listed)
        if not self._library:
            return None
        where = self._library if path is None else [entry for entry in path if self._is_library(entry)]
        return _frozen_importlib_external.PathFinder.find_spec(name, where) if where else None

    def add_application(self, modules: "Table", *, listed: bool) -> None:
        """Add the application's modules, name to (kind, path); none may shadow a module of the table.

        listed: they are files of the table, so an absent one ends the process; else they came out of the package and an
        error about them stays one, because the host cannot reach them and their names are not for its log.

        Raises ImportError naming the first that would.
        """
        for name in modules:
            if name.partition(".")[0] in self._taken:
                raise ImportError(f"the application's module {name} would shadow one of the enclave", name=name)
        self._application.update(modules)
        self._listed = listed

    def find_distributions(self, *arguments: "Any", **keywords: "Any") -> "Any":
        """Return what importlib.metadata finds below sys.path."""
        from importlib.metadata import MetadataPathFinder

        return MetadataPathFinder.find_distributions(*arguments, **keywords)

    def invalidate_caches(self) -> None:
        """Do nothing: the table does not change."""

    def _is_library(self, entry: str) -> bool:
        return any(entry == place or entry.startswith(place + "/") for place in self._library)


def spec_of(name: str, kind: str, place: str, *, ending: bool) -> _frozen_importlib.ModuleSpec:
    """Return the spec of a module of one kind at one place. ending: a failure to load it ends the process."""
    if kind == "n":
        spec = _frozen_importlib.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [place]
        return spec
    plain = _frozen_importlib_external
    extension = ExtensionLoader if ending else plain.ExtensionFileLoader
    source = SourceLoader if ending else plain.SourceFileLoader
    loader = extension(name, place) if kind == "x" else source(name, place)
    spec = _frozen_importlib.ModuleSpec(name, loader, origin=place, is_package=kind == "p")
    spec.has_location = True
    if kind == "p":
        spec.submodule_search_locations = [place.rpartition("/")[0]]
    return spec


def read_table(root: str) -> "tuple[Table, tuple[str, ...]]":
    """Return the table, name to (kind, path below root), and the other files; all that must open is opened once."""
    lines = [""]
    try:
        with open(root + TABLE, encoding="utf-8", newline="") as file:
            lines = file.read().split("\n")
    except (OSError, ValueError):
        end("the import table cannot be read")
    if lines[0] != HEAD or lines[-1] or lines[1:-1] != sorted(set(lines[1:-1])):
        end("the import table is not of the one form")
    table: Table = {}
    others = []
    for line in lines[1:-1]:
        kind, _, rest = line.partition(" ")
        name, _, path = rest.partition(" ")
        if (
            kind not in KINDS
            or len(kind) != 1
            or not name
            or path[:1] != "/"
            or name in table
            or (kind == "f") != (name == "-")
        ):
            end("the import table is not of the one form")
        if kind == "f":
            others.append(root + path)
        else:
            table[name] = (kind, root + path)
    for path in [*others, *(path for kind, path in table.values() if kind == "x")]:
        try:
            posix.close(posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC))
        except OSError:
            end(f"the file {path} cannot be opened")
    return table, tuple(others)


def install(arguments: list[str], library: list[str]) -> TableFinder:
    """Put the finder in place and return it. arguments: the words after the program's name."""
    simulated = _SIMULATED_ROOT in arguments[:-1]
    root = arguments[arguments.index(_SIMULATED_ROOT) + 1] if simulated else ""
    table, others = read_table(root)
    finder = TableFinder(table, library if simulated else [], others)
    sys.meta_path[:] = [_frozen_importlib.BuiltinImporter, _frozen_importlib.FrozenImporter, finder]
    sys.path[:] = [root + SITE, *library]
    return finder


def run() -> None:
    """Run the enclave program and end the process with its exit code."""
    if not sys.flags.isolated:
        end("Python was not started with -I")
    finder = install(sys.argv[1:], list(sys.path))
    import contextlib
    import threading

    threading.stack_size(STACK_SIZE)
    from glasscase.enclave.main import main

    code = main(sys.argv[1:], finder)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BaseException):  # the application may have closed it, or put anything in its place
            stream.flush()
    posix._exit(code)


if __name__ == "__main__":
    run()
