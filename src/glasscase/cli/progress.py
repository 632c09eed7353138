"""A progress line on a terminal: share, rate, time left. Nothing is written where stderr is not a terminal."""

import sys
import time
from types import TracebackType

from glasscase.cli.output import Output

_WIDTH = 24
_EVERY_S = 0.1
_UNITS = ("B", "kB", "MB", "GB", "TB")


class Bar:
    """Shows how far a job is. total: bytes of the whole, None if it is not known."""

    def __init__(self, out: Output, what: str, total: int | None) -> None:
        self.done = 0
        self._out = out
        self._on = out.progress
        self._what = what
        self._total = total
        self._start = time.monotonic()
        self._shown = 0.0

    def __enter__(self) -> "Bar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear()

    def warn(self, text: str) -> None:
        """Write a line of warning in the place of the bar."""
        self._clear()
        self._out.warn(text)

    def _clear(self) -> None:
        if self._on and self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def expect(self, total: int) -> None:
        """Set the bytes of the whole, when they become known."""
        self._total = total

    def update(self, done: int) -> None:
        """Draw anew, at most ten times a second."""
        self.done = done
        now = time.monotonic()
        if self._on and now - self._shown >= _EVERY_S:
            self._shown = now
            sys.stderr.write("\r\x1b[K" + line(self._what, done, self._total, now - self._start))
            sys.stderr.flush()


def line(what: str, done: int, total: int | None, seconds: float) -> str:
    """Return the text of one state of the bar."""
    rate = done / seconds if seconds > 0 else 0.0
    text = f"{what}  {size(done)}  {size(rate)}/s"
    if not total:
        return text
    share = min(1.0, done / total)
    filled = int(share * _WIDTH)
    left = f"  {(total - done) / rate:.0f} s left" if rate else ""
    return f"{what}  [{'#' * filled}{'.' * (_WIDTH - filled)}] {share:4.0%}  {size(done)}  {size(rate)}/s{left}"


def size(count: float) -> str:
    """Return a number of bytes for people."""
    unit = 0
    while count >= 1000 and unit < len(_UNITS) - 1:
        count /= 1000
        unit += 1
    return f"{count:.0f} {_UNITS[unit]}" if unit == 0 else f"{count:.1f} {_UNITS[unit]}"
