"""rootfs, the file system inside: wheels, glasscase's enclave part, the Gramine C library, and an application in clear.

Invariants: every input is read from the cache by its pinned digest; two inputs may give one path only with equal bytes.
Source: docs/bundle-format.md, "rootfs".
"""

from collections.abc import Iterable

from glasscase.bundle.application import AppFile
from glasscase.bundle.index import ROOTFS
from glasscase.bundle.runtime import LIBC, RuntimeFiles
from glasscase.bundle.tree import TreeWriter
from glasscase.bundle.wheelfiles import HOST_ONLY, wheel_entries
from glasscase.errors import FormatError
from glasscase.fs.walk import read_unchanged
from glasscase.lock.cache import InputCache
from glasscase.lock.model import Lock
from glasscase.lock.requirements import OWN

SITE = f"{ROOTFS}opt/site/"
MAIN = f"{ROOTFS}opt/glasscase/main.py"
BOOTSTRAP = "glasscase/enclave/bootstrap.py"
_LOADER_NAME = "ld-linux-x86-64.so.2"


def add_runtime(tree: TreeWriter, runtime: RuntimeFiles) -> None:
    """Write runtime/, and Gramine's C library into rootfs/lib (its loader into rootfs/lib64 too)."""
    for path, data in sorted(runtime.files.items()):
        tree.add(f"runtime/{path}", data, executable=path == "loader")
        if path.startswith(LIBC):
            name = path.removeprefix(LIBC)
            tree.add(f"{ROOTFS}lib/{name}", data, executable=name == _LOADER_NAME)
            if name == _LOADER_NAME:
                tree.add(f"{ROOTFS}lib64/{name}", data, executable=True)


def add_wheels(tree: TreeWriter, lock: Lock, cache: InputCache) -> None:
    """Unpack every wheel of the lock to opt/site; glasscase's own without its host part, its bootstrap as main.py."""
    bootstrap = None
    for wheel in lock.wheels:
        own = wheel.name == OWN
        data = cache.read(wheel.sha256, wheel.size, wheel.file)
        for entry in wheel_entries(
            data, wheel.file, leave_out=tuple(f"{OWN}/{part}" for part in HOST_ONLY) if own else ()
        ):
            if own and entry.path == BOOTSTRAP:
                bootstrap = entry.content
            _add_once(tree, SITE + entry.path, entry.content, executable=entry.executable)
    if bootstrap is None:
        raise FormatError("bundle.wheel.malformed", f"the locked glasscase wheel has no {BOOTSTRAP}", what="wheel")
    tree.add(MAIN, bootstrap)


def add_clear_application(tree: TreeWriter, files: Iterable[AppFile]) -> None:
    """Write an application that is not encrypted to rootfs/app."""
    for file in files:
        if not file.entry.directory:
            chunks = read_unchanged(file.root, file.entry)
            tree.add_stream(ROOTFS + file.path, chunks, executable=file.entry.executable)


def _add_once(tree: TreeWriter, path: str, content: bytes, *, executable: bool) -> None:
    import hashlib

    there = tree.entry(path)
    if there is not None and there.sha256 == hashlib.sha256(content).digest() and len(content) == there.size:
        return
    tree.add(path, content, executable=executable)
