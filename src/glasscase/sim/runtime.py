"""The runtime of the simulator: stand-ins for Gramine's loader, libpal.so and libsysdb.so.

Invariants: the files are the same bytes on every machine, and reproducible/runtime/simulator.toml pins them; they are
measured by the same rules as Gramine's, and hold no code but a message that they start nothing.
Source: docs/simulator.md, "The runtime"; docs/bundle-format.md.
"""

import hashlib

from glasscase.sim.elf import ET_DYN, ET_EXEC, Image, say_and_exit

NAME = "simulator"
VERSION = "1"
PROFILE = "v1.8"  # the manifest writer whose text a simulated bundle has
_EXIT = 127
_MESSAGE = b"glasscase: SIMULATED runtime: this %s starts no enclave; use --backend simulator\n"
_TEXT_SIZE = 0x4C00  # bytes, so that several pages are measured
_DATA_SIZE = 0x1400
_BSS_SIZE = 0x5000
_LOADER_BASE = 0x400000


def runtime_files() -> dict[str, bytes]:
    """Return the files of the runtime by path below the bundle's runtime/ directory."""
    return {
        "libpal.so": _shared_object("libpal.so", _TEXT_SIZE, _DATA_SIZE, _BSS_SIZE),
        "libsysdb.so": _shared_object("libsysdb.so", _TEXT_SIZE, _DATA_SIZE, _BSS_SIZE),
        "loader": Image(
            kind=ET_EXEC,
            name="loader",
            code=say_and_exit(_MESSAGE % b"loader", _EXIT),
            entry=0,
            variables=b"",
            zeros=0,
            base=_LOADER_BASE,
        ).encode(),
    }


def _shared_object(name: str, text_size: int, data_size: int, zeros: int) -> bytes:
    text = _filler(name + " text", text_size)
    entry = len(text)
    return Image(
        kind=ET_DYN,
        name=name,
        code=text + say_and_exit(_MESSAGE % name.encode("ascii"), _EXIT),
        entry=entry,
        variables=_filler(name + " data", data_size),
        zeros=zeros,
    ).encode()


def _filler(label: str, size: int) -> bytes:
    """Return bytes without a pattern, so that a page in the wrong place changes the measurement."""
    return hashlib.shake_256(b"glasscase simulator " + label.encode("ascii")).digest(size)
