"""The log of an instance: what the enclave wrote to stdout and stderr, which is never secret but never trusted either.

Invariants: only whole lines are given while the process runs; nothing waits longer than the process lives.
"""

import os
import time
from collections.abc import Iterator

from glasscase.fs.atomic import storage_error
from glasscase.hosting import state
from glasscase.hosting.state import Place

POLL_S = 0.2
TAIL_MAX = 8 * 1024  # bytes looked at for the last lines
LINE_MAX = 64 * 1024  # bytes of one line; a longer one is given in parts


def lines(place: Place, *, follow: bool = False) -> Iterator[str]:
    """Give the lines of the log, oldest first; with follow, wait for more until the process is gone.

    Raises UsageError("hosting.name.unknown") for a name without an instance.
    """
    record = place.record()
    try:
        file = open(place.log, "rb")  # noqa: SIM115 - closed below, also when the reader stops early
    except FileNotFoundError:
        return
    except OSError as error:
        raise storage_error(error, place.log) from None
    rest = b""
    with file:
        while True:
            alive = state.is_alive(record.process)  # asked before reading, so the last words are not lost
            while chunk := file.read(LINE_MAX):
                *whole, rest = (rest + chunk).split(b"\n")
                yield from (_text(line) for line in whole)
                if len(rest) > LINE_MAX:
                    yield _text(rest)
                    rest = b""
            if not follow or not alive:
                break
            time.sleep(POLL_S)
    if rest:
        yield _text(rest)


def last_lines(place: Place, count: int = 3) -> str:
    """Return the last lines of the log as one text to append to an error message, empty if there are none."""
    try:
        with open(place.log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_MAX))
            found = [line.strip() for line in file.read(TAIL_MAX).split(b"\n") if line.strip()]
    except OSError:
        return ""
    return "; its last words: " + " | ".join(_text(line)[:300] for line in found[-count:]) if found else ""


def _text(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace")
