"""Where a client's collateral comes from: fetched once for each platform, kept in memory, fetched again when it ages.

Invariants: what is kept is judged by the verifier each time it is used; a function or a file of the caller is asked as it is.
Source: docs/clients.md.
"""

import os
import threading
import time
from collections.abc import Callable
from typing import TypeAlias

from glasscase.collateral.fetch import fetch_collateral
from glasscase.collateral.model import FILE_MAX, Collateral, parse_collateral
from glasscase.core.dcap import parse_quote
from glasscase.fs import atomic
from glasscase.verify.anchor import TrustAnchor

REFRESH_S = 12 * 3600  # seconds after which collateral is fetched again
PLATFORMS_MAX = 64  # a hostile server can name any platform
RETRY_S = 30  # seconds before a fetch that did not help is repeated

# a file, a URL or "intel", objects already at hand, or a function from the quote to them
CollateralSource: TypeAlias = str | os.PathLike[str] | Collateral | Callable[[bytes], Collateral] | None


class CollateralCache:
    """Collateral for the platforms of one context: fetched once, kept in memory, fetched again when it ages.

    source: see CollateralSource. anchor: what it must be signed under. now: unix seconds. clock: seconds
    that only grow.
    """

    def __init__(
        self,
        source: CollateralSource,
        *,
        anchor: TrustAnchor,
        now: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = _fetcher(source, anchor, now)
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, Collateral]] = {}

    def holds(self, quote: bytes) -> bool:
        """Return whether get() would answer without asking anybody."""
        with self._lock:
            kept = self._kept.get(_platform(quote))
            return kept is not None and self._clock() - kept[0] <= REFRESH_S

    def get(self, quote: bytes) -> Collateral:
        """Return collateral for the platform of a quote; raises CannotVerify or StorageError if there is none."""
        with self._lock:
            platform = _platform(quote)
            kept = self._kept.get(platform)
            if kept is None or self._clock() - kept[0] > REFRESH_S:
                kept = (self._clock(), self._fetch(quote))
                if len(self._kept) >= PLATFORMS_MAX:
                    self._kept.clear()
                self._kept[platform] = kept
            return kept[1]

    def expire(self, quote: bytes) -> bool:
        """Forget what is kept for the platform of a quote, unless it is new; return whether another get() may help."""
        with self._lock:
            platform = _platform(quote)
            kept = self._kept.get(platform)
            if kept is None or self._clock() - kept[0] < RETRY_S:
                return False
            del self._kept[platform]
            return True


def _fetcher(source: CollateralSource, anchor: TrustAnchor, now: Callable[[], int]) -> Callable[[bytes], Collateral]:
    if isinstance(source, Collateral):
        return lambda _quote: source
    if callable(source):
        return source
    text = "intel" if source is None else os.fspath(source)
    if text == "intel" or text.startswith(("https://", "http://")):
        return lambda quote: fetch_collateral(quote, anchor=anchor.core, source=text, at=now())
    return lambda quote: _read(text, quote)


def _read(path: str, quote: bytes) -> Collateral:
    """Return the collateral in a file; where it holds several platforms, that of the quote."""
    pck = parse_quote(quote).pck
    data = atomic.read_file(path, max_bytes=FILE_MAX, what="collateral", streams=True)
    return parse_collateral(data) if pck is None else parse_collateral(data, fmspc=pck.fmspc, ca=pck.ca)


def _platform(quote: bytes) -> str:
    """Return a name for the platform of a quote, for the cache only; not a verified fact."""
    pck = parse_quote(quote).pck
    return "" if pck is None else f"{pck.fmspc.hex()}/{pck.ca}"
