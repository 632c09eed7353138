"""Reading what an argument names: a path, or `-` for standard input."""

import sys

from glasscase.fs.atomic import read_file, read_stream


def read_argument(path: str, *, max_bytes: int, what: str) -> bytes:
    """Return the content of the file `path`, or of standard input for "-", at most max_bytes bytes."""
    if path == "-":
        return read_stream(sys.stdin.buffer, max_bytes=max_bytes, what=what)
    return read_file(path, max_bytes=max_bytes, what=what)
