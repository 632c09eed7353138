"""The Gramine runtime that goes into a bundle: its pin and its files, handed in by the caller.

Invariants: the files are exactly those of the pin, with their sizes and digests. Paths are those below runtime/ in the bundle:
loader, libpal.so, libsysdb.so, and libc/SONAME for Gramine's patched C library.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from glasscase.errors import FormatError
from glasscase.gramine.pins import RuntimePin
from glasscase.lock.model import LockedFile, LockedRuntime

LOADER = "loader"
LIBPAL = "libpal.so"
LIBSYSDB = "libsysdb.so"
LIBC = "libc/"
LIBC_SIMULATOR = (2, 36)  # the oldest C library of a host that the simulator supports
SIMULATOR = "simulator"
_GLIBC_VERSION = re.compile(rb"GNU C Library [^\n\0]{0,64}version (\d+)\.(\d+)")


@dataclass(frozen=True)
class RuntimeFiles:
    """A runtime with its content. files: path below runtime/ -> bytes."""

    pin: RuntimePin
    files: Mapping[str, bytes]

    def __post_init__(self) -> None:
        """Compare every file with the pin; raises FormatError("bundle.runtime.mismatch")."""
        pinned = {file.path: (file.size, file.sha256) for file in self.pin.files}
        found = {path: (len(data), hashlib.sha256(data).digest()) for path, data in self.files.items()}
        if pinned != found:
            wrong = sorted(path for path in pinned.keys() | found.keys() if pinned.get(path) != found.get(path))
            raise FormatError("bundle.runtime.mismatch", f"the runtime's {wrong[0]!r} is not the file that is pinned")
        for path in (LOADER, LIBPAL, LIBSYSDB):
            if path not in found:
                raise FormatError("bundle.runtime.mismatch", f"the runtime has no {path!r}")

    @property
    def simulated(self) -> bool:
        """Return whether this is the simulator's stand-in."""
        return self.pin.name == SIMULATOR

    @property
    def glibc(self) -> tuple[int, int]:
        """Return the version of the C library that the enclave runs on; raises FormatError if the runtime has none."""
        if self.simulated:
            return LIBC_SIMULATOR
        match = _GLIBC_VERSION.search(self.files.get(LIBC + "libc.so.6", b""))
        if match is None:
            raise FormatError("bundle.runtime.mismatch", "the runtime has no libc/libc.so.6 that names its version")
        return int(match[1]), int(match[2])

    def locked(self) -> LockedRuntime:
        """Return what the lock says of this runtime."""
        files = sorted(self.pin.files, key=lambda file: file.path.encode("utf-8"))
        rows = tuple(LockedFile(file.path, file.size, file.sha256) for file in files)
        pin = self.pin
        return LockedRuntime(pin.name, pin.version, pin.commit, pin.profile, rows)
