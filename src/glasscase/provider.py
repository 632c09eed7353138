"""What a code provider calls: encryption, measurement, sealing. Keys are 32 raw bytes. Source: README.md, "Python"."""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from glasscase.core.stream import decrypt_file, encrypt_file, open_encrypted
from glasscase.errors import UsageError
from glasscase.fs.atomic import read_file
from glasscase.gramine.elf import PAL_MAX
from glasscase.gramine.manifest import MANIFEST_MAX
from glasscase.measure.mrenclave import Measurement
from glasscase.measure.mrenclave import measure as _measure_bytes
from glasscase.seal.sealing import SealedSecrets, seal

if TYPE_CHECKING:
    from glasscase.bundle.check import CheckedBundle

__all__ = [
    "Measurement", "SealedSecrets", "check_bundle", "decrypt_file", "encrypt_file", "measure", "open_encrypted", "seal",
]  # fmt: skip

_Source = str | os.PathLike[str] | bytes


def measure(bundle_or_manifest: _Source, libpal: _Source | None = None) -> Measurement:
    """Return the measurement of a bundle's directory, or of a manifest.sgx with its libpal.so.

    Both are paths, or bytes of the files. The files of a bundle are not compared with its index: check_bundle does that.
    Raises FormatError for files that are no enclave, StorageError if they cannot be read, UsageError for what is neither.
    """
    manifest = bundle_or_manifest
    if libpal is None:
        if isinstance(manifest, bytes):
            raise UsageError("measure.libpal.missing", "the bytes of a manifest are measured together with libpal.so")
        folder = os.fspath(manifest)
        if os.path.exists(folder) and not os.path.isdir(folder):
            raise UsageError("measure.libpal.missing", f"{folder!r} is no bundle; a manifest needs libpal= too")
        manifest, libpal = os.path.join(folder, "app.manifest.sgx"), os.path.join(folder, "runtime", "libpal.so")
    return _measure_bytes(
        _content(manifest, max_bytes=MANIFEST_MAX, what="manifest"),
        _content(libpal, max_bytes=PAL_MAX, what="libpal.so"),
    )


def check_bundle(path: str | os.PathLike[str], *, full: bool = False, pins: Iterable[_Source] = ()) -> "CheckedBundle":
    """Return a bundle's directory with everything recomputed from its bytes: the measurement= of a policy that says whose
    bundle runs, and what seal needs to know.

    full: encrypted blobs are hashed too, else compared by size. pins: pin.toml files, as paths or bytes, of Gramine runtimes
    that you have imported and trust, besides those that come with glasscase. What is wrong stands in `.problems`, and
    `.require_sound()` raises it. Raises FormatError if it is no bundle that could be measured, StorageError if it cannot be
    read.
    """
    from glasscase.bundle.check import check_bundle as check
    from glasscase.gramine.pins import PIN_MAX, known_pins, parse_pin

    own = (parse_pin(_content(pin, max_bytes=PIN_MAX, what="pin")) for pin in pins)
    return check(path, full=full, runtimes=(*known_pins(), *own))


def _content(source: _Source, *, max_bytes: int, what: str) -> bytes:
    return source if isinstance(source, bytes) else read_file(source, max_bytes=max_bytes, what=what, streams=True)
