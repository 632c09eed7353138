"""Reading what an argument names: a path, or `-` for standard input."""

import os
import sys

from glasscase.errors import FormatError
from glasscase.fs.atomic import read_file, read_stream


def read_argument(path: str, *, max_bytes: int, what: str) -> bytes:
    """Return the content of the file `path`, or of standard input for "-", at most max_bytes bytes."""
    if path == "-":
        return read_stream(sys.stdin.buffer, max_bytes=max_bytes, what=what)
    return read_file(path, max_bytes=max_bytes, what=what, streams=True)


def bundle_files(bundle: str) -> tuple[str, str]:
    """Return the paths of manifest.sgx and libpal.so of a bundle; raises FormatError if it is no directory."""
    if os.path.exists(bundle) and not os.path.isdir(bundle):
        raise FormatError(
            "measure.bundle.wrong",
            f"{bundle!r} is not the directory of a bundle",
            hint="for a manifest.sgx give --manifest M.sgx --libpal PAL",
            what="bundle",
        )
    return os.path.join(bundle, "app.manifest.sgx"), os.path.join(bundle, "runtime", "libpal.so")
