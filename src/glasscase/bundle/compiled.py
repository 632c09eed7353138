"""Compiled Python beside its source (app.pyc = true): saves half a second at start, and an auditor must then trust it too.

Invariants: the bundle's own interpreter compiles, in fresh processes with random hash seeds, twice, and both must agree; files carry
in-enclave paths and no time (UNCHECKED_HASH), so they are the same everywhere.
Source: PEP 552; docs/bundle-format.md, "Compiled Python".
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence

from glasscase.bundle.derive import HOST_PYTHON, python_of
from glasscase.bundle.index import ROOTFS
from glasscase.bundle.tree import TreeWriter
from glasscase.errors import FormatError, StorageError, UsageError

TIMEOUT = 900  # seconds
LIBRARIES = f"{ROOTFS}usr/lib/x86_64-linux-gnu"
# reads [[source, path inside, target], ...]; a source that does not compile has no target afterwards
_PROGRAM = """
import json, py_compile, sys
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
for source, inside, target in json.load(sys.stdin):
    try:
        py_compile.compile(source, cfile=target, dfile=inside, doraise=True, invalidation_mode=mode)
    except (py_compile.PyCompileError, UnicodeDecodeError, ValueError):
        pass
print(sys.implementation.cache_tag)
"""


def add_compiled(tree: TreeWriter) -> None:
    """Write __pycache__ files for the modules of the standard library and the wheels.

    Raises UsageError("bundle.python.missing") if the bundle holds no interpreter.
    """
    inside = python_of(tree.entries())
    if inside == HOST_PYTHON:
        raise UsageError(
            "bundle.python.missing",
            "app.pyc = true needs the bundle's own interpreter",
            hint="glasscase lock --python debian",
        )
    roots = (f"{ROOTFS}usr/lib/", f"{ROOTFS}opt/site/")
    sources = [entry.path for entry in tree.entries() if entry.path.startswith(roots) and entry.path.endswith(".py")]
    interpreter = os.path.join(tree.root, ROOTFS, inside.lstrip("/"))
    libraries = os.path.join(tree.root, LIBRARIES)
    for path, content in compile_sources(interpreter, libraries, tree.root, sources):
        tree.add(path, content)


def compile_sources(interpreter: str, libraries: str, root: str, sources: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of the compiled file of each source that compiles. sources: below `root`, in rootfs.

    Raises FormatError("bundle.pyc.unstable") if two runs give other bytes, StorageError if the interpreter does not run here.
    """
    tag, first = _compile(interpreter, libraries, root, sources)
    again, second = _compile(interpreter, libraries, root, sources)
    for path, one, two in zip(sources, first, second, strict=True):
        if one != two or tag != again:
            raise FormatError(
                "bundle.pyc.unstable", f"{path!r} compiles to other bytes each time", hint="leave app.pyc = true away"
            )
        if one is not None:
            folder, _, name = path.rpartition("/")
            yield f"{folder}/__pycache__/{name.removesuffix('.py')}.{tag}.pyc", one


def _compile(interpreter: str, libraries: str, root: str, sources: Sequence[str]) -> tuple[str, list[bytes | None]]:
    with tempfile.TemporaryDirectory(prefix="glasscase-pyc-") as work:
        targets = [os.path.join(work, f"{number}.pyc") for number in range(len(sources))]
        rows = [
            (os.path.join(root, path), "/" + path.removeprefix(ROOTFS), target)
            for path, target in zip(sources, targets, strict=True)
        ]
        command = [interpreter, "-I", "-S", "-B", "-X", "utf8", "-c", _PROGRAM]
        try:
            done = subprocess.run(
                command, input=json.dumps(rows).encode(), capture_output=True, timeout=TIMEOUT, check=False,
                env={"LD_LIBRARY_PATH": libraries, "PATH": "/nonexistent", "LC_ALL": "C"},
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _broken(type(error).__name__) from None
        tag = done.stdout.decode("ascii", "replace").strip()
        if done.returncode or not tag.isascii() or "/" in tag:
            raise _broken(done.stderr.decode("utf-8", "replace")[-300:])
        return tag, [_read(target) for target in targets]


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _broken(why: str) -> StorageError:
    return StorageError(
        "bundle.pyc.interpreter", f"the bundle's interpreter does not run on this machine: {' '.join(why.split())}",
        hint="build where glibc is at least that of the Debian suite, or leave app.pyc = true away",
    )  # fmt: skip
