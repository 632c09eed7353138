"""The application's own files: sources and models as they go into the encrypted package, or in clear into rootfs.

Invariants: the only files left out are compiled Python (`__pycache__`, `*.pyc`); the entry's module is there; no
application module has the name of a module of rootfs.
Source: docs/bundle-format.md, "Package"; protocol rule 2.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from glasscase.bundle.project import Model, Project
from glasscase.core.chunks import as_key
from glasscase.errors import UsageError
from glasscase.fs.atomic import storage_error
from glasscase.fs.walk import Entry, walk
from glasscase.seal.package import OnDisk, Source

APP = "app"
MODELS = "models"


@dataclass(frozen=True)
class AppFile:
    """One file or directory of the application. path: in the package. root, entry: where a walk has found it.

    lazy: read on demand inside. key: path of a model's own key, or None for the package key.
    """

    path: str
    root: str
    entry: Entry
    lazy: bool = False
    key: str | None = None


def left_out(path: str, directory: bool) -> bool:  # noqa: FBT001 - the shape that walk wants
    """Return whether a file of the sources is compiled Python, which is never taken."""
    name = path.rpartition("/")[2]
    return (directory and name == "__pycache__") or (not directory and name.endswith(".pyc"))


def source_files(directory: str, project: Project) -> tuple[AppFile, ...]:
    """Return the files and directories of the project's sources, below app/, sorted by path, parents first."""
    root = os.path.join(directory, project.app.source)
    entries = walk(root, skip=left_out)
    if not any(not entry.directory for entry in entries):
        raise UsageError(
            "bundle.app.empty", f"{root!r} holds no files", hint="app.source names the directory of the code"
        )
    _check_entry(project, {entry.path for entry in entries if not entry.directory})
    return tuple(AppFile(f"{APP}/{entry.path}", root, entry) for entry in entries)


def model_files(directory: str, models: Iterable[Model]) -> tuple[AppFile, ...]:
    """Return the files and directories of the models, below models/, sorted by path, parents first."""
    found: list[AppFile] = []
    for model in models:
        found += _one_model(directory, model)
    return tuple(sorted(found, key=lambda file: file.path.encode("utf-8")))


def package_sources(files: Iterable[AppFile], keys: Mapping[str, bytes]) -> Iterator[Source]:
    """Yield the files as the encrypted package takes them. keys: the models' own keys by path."""
    for file in files:
        entry = file.entry
        if entry.directory:
            yield Source(file.path, None, 0o755)
            continue
        mode = 0o755 if entry.executable else 0o644
        root, path = (file.root, entry.path)
        model_key = None if file.key is None else as_key(keys[file.key])
        yield Source(file.path, OnDisk(root, path), mode, file.lazy, model_key)


def check_shadowing(files: Iterable[AppFile], names: frozenset[str]) -> None:
    """Raise UsageError("bundle.app.shadows") if a top-level module of the application is one of rootfs."""
    for file in files:
        parts = file.path.split("/")
        if parts[0] != APP or len(parts) < 2:
            continue
        top = parts[1].partition(".")[0] if len(parts) == 2 and not file.entry.directory else parts[1]
        importable = file.entry.directory or parts[-1].endswith((".py", ".so")) or len(parts) > 2
        if importable and (top in names or top in sys.stdlib_module_names):
            raise UsageError(
                "bundle.app.shadows",
                f"the application's {top!r} has the name of an installed module or of the standard library",
                hint="rename it; inside, the installed module would be imported",
            )


def _one_model(directory: str, model: Model) -> Iterator[AppFile]:
    full = os.path.join(directory, model.path)
    base, _, name = model.path.rpartition("/")
    parent = os.path.join(directory, base) if base else directory
    try:
        is_directory = os.path.isdir(full) and not os.path.islink(full)
        os.lstat(full)
    except OSError as error:
        raise storage_error(error, full) from None

    def other(path: str, _directory: bool) -> bool:  # noqa: FBT001 - the shape that walk wants
        return path != name and not path.startswith(name + "/")

    if is_directory:
        yield AppFile(f"{MODELS}/{name}", full, Entry("", directory=True, executable=False, size=0), key=model.key)
        for entry in walk(full):
            yield AppFile(f"{MODELS}/{name}/{entry.path}", full, entry, lazy=model.lazy, key=model.key)
    else:
        for entry in walk(parent, skip=other):
            yield AppFile(f"{MODELS}/{entry.path}", parent, entry, lazy=model.lazy, key=model.key)


def _check_entry(project: Project, paths: set[str]) -> None:
    module = project.app.entry.partition(":")[0].replace(".", "/")
    if not {f"{module}.py", f"{module}/__init__.py"} & paths:
        raise UsageError(
            "bundle.app.entry",
            f"app.entry is {project.app.entry!r}, but {project.app.source}/{module}.py does not exist",
            hint="app.entry is module:attribute, the module below app.source",
        )
