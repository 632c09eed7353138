"""Where a client's collateral comes from: fetched once for each platform, kept in memory, fetched again when it ages.

Invariants: what is kept is judged by the verifier each time it is used, only its signatures are checked once; a function or a
file of the caller is asked as it is; a platform is fetched for by one thread at a time, and nobody waits for the fetch of
another platform; after prepare() nothing is fetched in the thread of a handshake.
Source: docs/clients.md.
"""

import contextlib
import functools
import os
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from glasscase.collateral.fetch import fetch_collateral
from glasscase.collateral.model import FILE_MAX, Collateral, parse_collateral
from glasscase.core.dcap import PreparedCollateral, parse_quote
from glasscase.errors import CannotVerify, Error
from glasscase.fs import atomic
from glasscase.ratls.shared import SharedCalls
from glasscase.verify.anchor import TrustAnchor
from glasscase.verify.quote import prepare

REFRESH_S = 12 * 3600  # seconds after which collateral is fetched again
EARLY_S = 1800  # seconds before that at which a thread of its own does it
PLATFORMS_MAX = 64  # a hostile server can name any platform
FETCHES_MAX = 4  # threads that fetch at a time
RETRY_S = 30  # seconds before a fetch that did not help is repeated
TICK_S = 60.0

# a file, a URL or "intel", objects already at hand, or a function from the quote to them
CollateralSource: TypeAlias = str | os.PathLike[str] | Collateral | Callable[[bytes], Collateral] | None


@dataclass(frozen=True)
class Kept:
    """Collateral of one platform. prepared: its signatures checked; since: by the monotonic clock; quote: it is for."""

    collateral: Collateral
    prepared: PreparedCollateral
    since: float
    quote: bytes


class CollateralCache:
    """Collateral for the platforms of one context: fetched once, kept in memory, fetched again when it ages.

    source: see CollateralSource. anchor: what it must be signed under. now: unix seconds. clock: seconds
    that only grow. ahead: whether prepare() was called. May be shared between threads.
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
        self._anchor = anchor
        self._clock = clock
        self._lock = threading.Lock()  # never held while something is fetched
        self._fetches: SharedCalls[Kept] = SharedCalls()
        self._kept: dict[str, Kept] = {}
        self._failed: dict[str, tuple[float, Error]] = {}
        self._running: set[str] = set()
        self.ahead = False

    def holds(self, quote: bytes) -> bool:
        """Return whether get() would answer without asking anybody."""
        with self._lock:
            kept = self._kept.get(_platform(quote))
        return kept is not None and (self.ahead or self._clock() - kept.since <= REFRESH_S)

    def get(self, quote: bytes) -> Kept:
        """Return collateral for the platform of a quote; raises CannotVerify or StorageError if there is none.

        After prepare() what has aged is returned as it is and fetched again meanwhile, and what is not there yet is
        CannotVerify("client.collateral.pending").
        """
        platform = _platform(quote)
        with self._lock:
            kept = self._kept.get(platform)
        if kept is not None and self._clock() - kept.since <= REFRESH_S:
            return kept
        if not self.ahead:
            return self._fetch_now(platform, quote)
        self._start(platform, quote)
        if kept is None:
            raise CannotVerify(
                "client.collateral.pending", "collateral for this platform is being fetched", hint="try again"
            )
        return kept

    def prepare(self, quote: bytes) -> None:
        """Fetch for the platform of a quote, and from now on never in the thread of a handshake; raises as get() does."""
        self.ahead = True
        platform = _platform(quote)
        try:
            self._fetch_now(platform, quote)
        except Error as error:
            self._note(platform, error)
            raise

    def refresh(self) -> None:
        """Fetch again what will soon have aged; raises as get() does."""
        with self._lock:
            aging = [kept for kept in self._kept.values() if self._clock() - kept.since > REFRESH_S - EARLY_S]
        for kept in aging:
            self._fetch_now(_platform(kept.quote), kept.quote, older_than=REFRESH_S - EARLY_S)

    def expire(self, quote: bytes) -> bool:
        """Forget what is kept for the platform of a quote, unless it is new; return whether another get() may help."""
        platform = _platform(quote)
        with self._lock:
            kept = self._kept.get(platform)
            if kept is None or self._clock() - kept.since < RETRY_S:
                return False
            if not self.ahead:
                del self._kept[platform]
                return True
        self._start(platform, quote, older_than=RETRY_S)
        return False

    def _fetch_now(self, platform: str, quote: bytes, *, older_than: float = REFRESH_S) -> Kept:
        """Return what was fetched here, or by another thread meanwhile for the same platform."""

        def fetch() -> Kept:
            with self._lock:
                kept = self._kept.get(platform)
            if kept is not None and self._clock() - kept.since <= older_than:
                return kept
            collateral = self._fetch(quote)
            kept = Kept(collateral, prepare(collateral, self._anchor), self._clock(), quote)
            with self._lock:
                if len(self._kept) >= PLATFORMS_MAX and platform not in self._kept:
                    self._kept.clear()
                self._kept[platform] = kept
            return kept

        while True:
            kept = self._fetches.run(platform, fetch)
            if self._clock() - kept.since <= older_than:
                return kept  # else another thread was content with what is too old here

    def _start(self, platform: str, quote: bytes, *, older_than: float = REFRESH_S) -> None:
        """Fetch in a thread of its own, unless one does; raises the error of a try that failed a moment ago."""
        with self._lock:
            failed = self._failed.get(platform)
            if failed is not None and self._clock() - failed[0] < RETRY_S:
                if platform in self._kept:
                    return
                raise failed[1]
            if platform in self._running or len(self._running) >= FETCHES_MAX:
                return
            self._running.add(platform)

        def fetch() -> None:
            try:
                self._fetch_now(platform, quote, older_than=older_than)
            except Error as error:
                self._note(platform, error)
            finally:
                with self._lock:
                    self._running.discard(platform)

        threading.Thread(target=fetch, name="glasscase-collateral", daemon=True).start()

    def _note(self, platform: str, error: Error) -> None:
        with self._lock:
            if len(self._failed) >= PLATFORMS_MAX:
                self._failed.clear()
            self._failed[platform] = (self._clock(), error)


class Refreshed(Protocol):
    """What keep_fresh() refreshes."""

    def refresh(self) -> None:
        """Fetch again what will soon have aged."""


def keep_fresh(*things: Refreshed, tick_s: float = TICK_S) -> threading.Thread:
    """Return the thread that refreshes things until one of them is not used by anybody else any more."""
    references = [weakref.ref(thing) for thing in things]
    thread = threading.Thread(target=_refresh, args=(references, tick_s), name="glasscase-refresh", daemon=True)
    thread.start()
    return thread


def _refresh(things: "list[weakref.ref[Any]]", tick_s: float) -> None:
    while True:
        time.sleep(tick_s)
        for reference in things:
            thing = reference()
            if thing is None:
                return
            with contextlib.suppress(Error):  # what is kept is good for a while yet; the next turn tries again
                thing.refresh()
            del thing


def _fetcher(source: CollateralSource, anchor: TrustAnchor, now: Callable[[], int]) -> Callable[[bytes], Collateral]:
    if isinstance(source, Collateral):
        return lambda _quote: source
    if callable(source):
        return functools.partial(_ask, source)
    text = "intel" if source is None else os.fspath(source)
    if text == "intel" or text.startswith(("https://", "http://")):
        return lambda quote: fetch_collateral(quote, anchor=anchor.core, source=text, at=now())
    return lambda quote: _read(text, quote)


def _ask(function: Callable[[bytes], Collateral], quote: bytes) -> Collateral:
    """Return what the caller's function gives; whatever it does instead is CannotVerify, so no thread ends by it."""
    try:
        found = function(quote)
    except Error:
        raise
    except Exception as error:
        raise _failed(f"raised {type(error).__name__}") from error
    if not isinstance(found, Collateral):
        raise _failed(f"returned {type(found).__name__}, not a Collateral")
    return found


def _failed(what: str) -> CannotVerify:
    return CannotVerify("client.collateral.failed", f"the function given as collateral_source {what}", hint="mend it")


def _read(path: str, quote: bytes) -> Collateral:
    """Return the collateral in a file; where it holds several platforms, that of the quote."""
    pck = parse_quote(quote).pck
    data = atomic.read_file(path, max_bytes=FILE_MAX, what="collateral")
    return parse_collateral(data) if pck is None else parse_collateral(data, fmspc=pck.fmspc, ca=pck.ca)


@functools.lru_cache(maxsize=16)
def _platform(quote: bytes) -> str:
    """Return a name for the platform of a quote, for the cache only; not a verified fact."""
    pck = parse_quote(quote).pck
    return "" if pck is None else f"{pck.fmspc.hex()}/{pck.ca}"
