"""One GET from an untrusted server, within a deadline and a size, without redirects.

Invariants: the whole fetch shares one deadline; a body is read in pieces and never beyond its limit; nothing is decoded,
followed or retried beyond what stands here. The server is untrusted transport: what it sends is judged by its signatures.
Source: docs/evidence-format.md, "Fetching collateral".
"""

import random
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from glasscase.errors import CannotVerify

if TYPE_CHECKING:
    import urllib3

DEADLINE_S = 30.0  # for everything that one `collateral fetch` asks
CONNECT_S = 5.0
READ_S = 10.0  # without a byte
RETRIES = 3
BACKOFF_S = 0.25
CHUNK = 64 * 1024  # bytes
AGENT = "glasscase"
_AGAIN = (429, 500, 502, 503, 504)
_PERCENT = re.compile(r"(?:[\x20-\x24\x26-\x7e]|%[0-9A-Fa-f]{2})*", re.ASCII)


@dataclass(frozen=True)
class Answer:
    """A body and the issuer chain that came with it, percent-decoded; empty if none was asked for."""

    body: bytes
    chain: str


class Client:
    """GETs that share one deadline. Use it as a context manager."""

    def __init__(self, *, deadline_s: float = DEADLINE_S) -> None:
        import urllib3

        self._pool = urllib3.PoolManager(num_pools=4, maxsize=1, retries=False)
        self._end = time.monotonic() + deadline_s
        self._deadline_s = deadline_s

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.clear()

    def get(self, url: str, *, limit: int, chain_headers: tuple[str, ...] = ()) -> Answer:
        """Return the body (at most `limit` bytes) and the chain in the one of these headers that is there.

        Raises CannotVerify: collateral.source.unreachable, .refused, .slow, .oversize or .malformed.
        """
        for attempt in range(RETRIES + 1):
            try:
                return self._bounded(url, limit, chain_headers)
            except _Again as again:
                wait = max(again.after_s, pause(attempt))
                if attempt == RETRIES or wait >= self._left():
                    raise again.error from None
                time.sleep(wait)
        raise CannotVerify("collateral.source.unreachable", f"{url}: no answer")

    def _left(self) -> float:
        return self._end - time.monotonic()

    def _bounded(self, url: str, limit: int, chain_headers: tuple[str, ...]) -> Answer:
        """Ask once, at most until the deadline: name resolution and slow headers know no time-out of their own.

        A thread that is still stuck then is left behind; it holds nothing but its socket.
        """
        outcome: list[Answer | BaseException] = []

        def work() -> None:
            try:
                outcome.append(self._once(url, limit, chain_headers))
            except BaseException as error:  # noqa: BLE001 - handed to the caller below
                outcome.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(max(self._left(), 0.0))
        if not outcome:
            raise self._slow(url)
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0]

    def _once(self, url: str, limit: int, chain_headers: tuple[str, ...]) -> Answer:
        import urllib3

        left = self._left()
        if left <= 0:
            raise self._slow(url)
        timeout = urllib3.Timeout(connect=min(CONNECT_S, left), read=min(READ_S, left))
        try:
            response = self._pool.request(
                "GET",
                url,
                headers={"User-Agent": AGENT, "Accept-Encoding": "identity"},
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=timeout,
            )
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            # a refused connection counts as a time-out in urllib3
            late = isinstance(error, urllib3.exceptions.TimeoutError)
            if late and not isinstance(error, urllib3.exceptions.NewConnectionError):
                raise _Again(self._slow(url)) from None
            raise _Again(
                CannotVerify("collateral.source.unreachable", f"{url}: {_cause(error)}", hint=_OFFLINE)
            ) from None
        try:
            _check_status(url, response)
            body = self._body(url, response, limit)
            return Answer(body, _chain(url, response, chain_headers) if chain_headers else "")
        finally:
            response.close()

    def _body(self, url: str, response: "urllib3.BaseHTTPResponse", limit: int) -> bytes:
        import urllib3

        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise _malformed(url, "the answer is compressed, which was not asked for")
        parts: list[bytes] = []
        size = 0
        try:
            while part := response.read1(CHUNK, decode_content=False):
                parts.append(part)
                size += len(part)
                if size > limit:
                    raise CannotVerify("collateral.source.oversize", f"{url}: more than {limit} bytes")
                if self._left() <= 0:
                    raise self._slow(url)
        except urllib3.exceptions.TimeoutError:
            raise _Again(self._slow(url)) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _Again(
                CannotVerify("collateral.source.unreachable", f"{url}: the answer broke off: {_cause(error)}")
            ) from None
        if size == 0:
            raise _malformed(url, "the answer is empty")
        return b"".join(parts)

    def _slow(self, url: str) -> CannotVerify:
        return CannotVerify(
            "collateral.source.slow", f"{url}: no whole answer within {self._deadline_s:g} s", hint=_OFFLINE
        )


_OFFLINE = "files that were fetched before work without network"


class _Again(Exception):  # noqa: N818 - never leaves this module
    """A fault that may pass. after_s: what the server asked to wait."""

    def __init__(self, error: CannotVerify, after_s: float = 0.0) -> None:
        super().__init__(str(error))
        self.error = error
        self.after_s = after_s


def pause(attempt: int) -> float:
    """Return how many seconds to wait after attempt 0, 1, 2, with jitter."""
    return BACKOFF_S * float(2**attempt) * random.uniform(0.5, 1.5)  # noqa: S311 - jitter


def _check_status(url: str, response: "urllib3.BaseHTTPResponse") -> None:
    if response.status == 200:
        return
    text = f"{url}: status {response.status}"
    if 300 <= response.status < 400:
        raise CannotVerify("collateral.source.refused", f"{text}: redirects are not followed")
    error = CannotVerify("collateral.source.refused", text, hint="is this platform known to Intel, is the URL right?")
    if response.status in _AGAIN:
        after = response.headers.get("Retry-After", "0")
        raise _Again(error, float(after) if re.fullmatch(r"[0-9]{1,6}", after, re.ASCII) else 0.0)
    raise error


def _chain(url: str, response: "urllib3.BaseHTTPResponse", names: tuple[str, ...]) -> str:
    """Return the percent-decoded PEM chain in the one header of these names; none, several or garbage is a fault."""
    from urllib.parse import unquote_to_bytes

    found = [value for name in names for value in response.headers.getlist(name)]
    if len(found) != 1:
        raise _malformed(url, f"{len(found)} headers {' or '.join(names)}, one is expected")
    if not _PERCENT.fullmatch(found[0]):
        raise _malformed(url, "the issuer chain in the header is not percent-encoded text")
    try:
        chain = unquote_to_bytes(found[0]).decode("ascii")
    except UnicodeDecodeError:
        raise _malformed(url, "the issuer chain in the header is not ASCII") from None
    if not chain.startswith("-----BEGIN CERTIFICATE-----"):
        raise _malformed(url, "the issuer chain in the header is not PEM")
    return chain


def _malformed(url: str, what: str) -> CannotVerify:
    return CannotVerify("collateral.source.malformed", f"{url}: {what}")


def _cause(error: Any) -> str:
    """Return the innermost cause in a few words, without the library's object addresses."""
    reason = getattr(error, "reason", None) or error
    text = str(reason).rpartition(": ")[2] or type(reason).__name__
    return text[:160]
