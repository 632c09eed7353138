"""rootfs, the file system inside: wheels, glasscase's enclave part, the Gramine C library, and an application in clear.

Invariants: every input is read from the cache by its pinned digest; two inputs may give one path only with equal bytes.
Source: docs/bundle-format.md, "Debian packages".
"""

import hashlib
import os
from collections.abc import Iterable

from glasscase.bundle.application import AppFile
from glasscase.bundle.debfiles import check_libraries, debian_files
from glasscase.bundle.index import ROOTFS
from glasscase.bundle.inside import FILES
from glasscase.bundle.runtime import LIBC, RuntimeFiles
from glasscase.bundle.tree import TreeWriter
from glasscase.bundle.wheelfiles import wheel_entries
from glasscase.errors import FormatError
from glasscase.fs.walk import read_unchanged
from glasscase.gramine.dynamic import MAGIC
from glasscase.lock.cache import InputCache
from glasscase.lock.model import Lock, LockedDebian
from glasscase.lock.requirements import OWN

SITE = f"{ROOTFS}opt/site/"
MAIN = f"{ROOTFS}opt/glasscase/main.py"
BOOTSTRAP = "glasscase/enclave/bootstrap.py"
_LOADER_NAME = "ld-linux-x86-64.so.2"
LIBC_NAMES = frozenset(
    (_LOADER_NAME, "libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1", "libresolv.so.2",
     "libanl.so.1", "libmvec.so.1")
)  # fmt: skip


def add_runtime(tree: TreeWriter, runtime: RuntimeFiles) -> None:
    """Write runtime/, and Gramine's C library into rootfs/lib (its loader into rootfs/lib64 too)."""
    for path, data in sorted(runtime.files.items()):
        tree.add(f"runtime/{path}", data, executable=path == "loader")
        if path.startswith(LIBC):
            name = path.removeprefix(LIBC)
            tree.add(f"{ROOTFS}lib/{name}", data, executable=name == _LOADER_NAME)
            if name == _LOADER_NAME:
                tree.add(f"{ROOTFS}lib64/{name}", data, executable=True)


def add_debian(tree: TreeWriter, debian: LockedDebian, cache: InputCache) -> dict[str, str]:
    """Write interpreter, standard library and shared libraries of the locked Debian packages; return path -> package."""
    made = debian_files(debian, cache)
    for path, file in sorted(made.items()):
        tree.add(ROOTFS + path, file.content, executable=file.executable)
    return {ROOTFS + path: file.origin for path, file in made.items()}


def check_closure(tree: TreeWriter, *, simulated: bool) -> None:
    """Raise FormatError("bundle.library.missing") unless every library that an ELF file of rootfs needs is there.

    On the simulator the C library is the host's, so its names count as there.
    """
    found: dict[str, bytes] = {}
    for entry in tree.entries():
        if entry.path.startswith(ROOTFS) and _may_be_elf(entry.path):
            with open(os.path.join(tree.root, entry.path), "rb") as file:
                content = file.read()
            if content.startswith(MAGIC):
                found[entry.path.removeprefix(ROOTFS)] = content
    check_libraries(found, provided=LIBC_NAMES if simulated else frozenset())


def add_wheels(tree: TreeWriter, lock: Lock, cache: InputCache) -> None:
    """Unpack every wheel of the lock to opt/site; of glasscase's own what runs inside, its bootstrap as main.py."""
    bootstrap = None
    for wheel in lock.wheels:
        own = wheel.name == OWN
        data = cache.read(wheel.sha256, wheel.size, wheel.file)
        for entry in wheel_entries(data, wheel.file, only=FILES if own else None):
            if not own and entry.path.partition("/")[0] == OWN:
                text = f"{wheel.file} has {entry.path!r}: only glasscase's own wheel may have files there"
                raise FormatError("bundle.wheel.unsupported", text, what="wheel")
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


def _may_be_elf(path: str) -> bool:
    name = path.rpartition("/")[2]
    return ".so" in name or path.startswith(f"{ROOTFS}usr/bin/")


def _add_once(tree: TreeWriter, path: str, content: bytes, *, executable: bool) -> None:
    there = tree.entry(path)
    if there is not None and there.sha256 == hashlib.sha256(content).digest() and len(content) == there.size:
        return
    tree.add(path, content, executable=executable)
