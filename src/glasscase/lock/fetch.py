"""Fetching one input by URL into the cache. Network.

Invariants: the content is taken only if its SHA-256 is the pinned one, so neither host nor transport is trusted; a user name
and password go to the server of the URL that they stand in, to no other and never into a message.
"""

import base64
import os
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from glasscase.errors import CannotVerify
from glasscase.fs.atomic import open_regular, storage_error
from glasscase.lock.cache import InputCache
from glasscase.lock.model import INPUT_MAX

TIMEOUT = 60.0  # seconds without a byte
REDIRECTS = 5
DEFAULT_PORTS = {"https": 443, "http": 80}
_CHUNK = 1 << 20


def fetch(
    url: str, cache: InputCache, *, sha256: bytes, size: int | None, environment: Mapping[str, str], what: str,
    index: str | None = None,
) -> int:  # fmt: skip
    """Put the content of `url` into the cache unless it is there; return its size in bytes.

    url: https, http or file. environment: proxies and CA files are taken from it. index: URL whose user name and password are
    for its server's files too.
    Raises CannotVerify("lock.fetch.failed") if the server does not answer well, FormatError("lock.input.mismatch").
    """
    if size is not None and cache.holds(sha256, size):
        return size
    try:
        parts, login = urlsplit(url), _login(urlsplit(url), urlsplit(index or ""))
    except ValueError:
        raise CannotVerify("lock.fetch.failed", f"{what}: its URL is malformed") from None
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        chunks = _local(unquote(parts.path))
    elif parts.scheme in ("https", "http"):
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()  # a proxy sees it, and writes it down
        chunks = _remote(bare, environment, what, login)
    else:
        raise CannotVerify("lock.fetch.failed", f"{what}: the scheme {parts.scheme!r} is not supported")
    return cache.add(chunks, sha256=sha256, size=size, limit=INPUT_MAX, what=what)


def _local(path: str) -> Iterator[bytes]:
    try:
        with os.fdopen(open_regular(path), "rb", buffering=0) as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except OSError as error:
        raise storage_error(error, path) from None


def _login(*urls: SplitResult, header: str = "Authorization") -> dict[str, str]:
    """Return the header with the user name and password of the first URL, or of another one on the same server."""
    for url in urls:
        if url.username is not None and _server(url) == _server(urls[0]):
            words = f"{unquote(url.username)}:{unquote(url.password or '')}"
            return {header: "Basic " + base64.b64encode(words.encode("utf-8")).decode("ascii")}
    return {}


def _server(url: SplitResult) -> tuple[str, str | None, int | None]:
    port = DEFAULT_PORTS.get(url.scheme) if url.port is None else url.port
    return url.scheme, url.hostname, port


def _remote(url: str, environment: Mapping[str, str], what: str, headers: Mapping[str, str]) -> Iterator[bytes]:
    import urllib3

    pool = _pool(url, environment)
    try:
        answer = pool.request(
            "GET",
            url,
            headers=headers,
            preload_content=False,
            retries=urllib3.Retry(total=REDIRECTS, redirect=REDIRECTS, backoff_factor=0.5),
        )
        try:
            if answer.status != 200:
                raise CannotVerify("lock.fetch.failed", f"{what}: the server answered {answer.status}")
            yield from answer.stream(_CHUNK, decode_content=False)
        finally:
            answer.release_conn()
            answer.close()
    except urllib3.exceptions.HTTPError as error:
        raise CannotVerify(
            "lock.fetch.failed", f"{what}: {type(error).__name__}", hint="is the index reachable?"
        ) from None
    finally:
        pool.clear()


def _pool(url: str, environment: Mapping[str, str]) -> Any:
    import ssl

    import urllib3

    file = environment.get("SSL_CERT_FILE") or environment.get("REQUESTS_CA_BUNDLE") or None
    context = ssl.create_default_context(cafile=file if file and os.path.isfile(file) else None)
    timeout = urllib3.Timeout(connect=TIMEOUT, read=TIMEOUT)
    proxy = _proxy(urlsplit(url), environment)
    if proxy:
        login = _login(urlsplit(proxy), header="Proxy-Authorization")
        return urllib3.ProxyManager(proxy, proxy_headers=login, ssl_context=context, timeout=timeout)
    return urllib3.PoolManager(ssl_context=context, timeout=timeout)


def _proxy(parts: SplitResult, environment: Mapping[str, str]) -> str:
    host = parts.hostname or ""
    direct = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    for rule in (item.strip().lstrip(".") for item in direct.split(",")):
        if rule and (rule in ("*", host) or host.endswith("." + rule)):
            return ""
    names = (f"{parts.scheme}_proxy", f"{parts.scheme}_proxy".upper(), "all_proxy", "ALL_PROXY")
    name = next((name for name in names if environment.get(name)), None)
    if name is None:
        return ""
    proxy = environment[name] if "://" in environment[name] else f"http://{environment[name]}"
    try:
        found = urlsplit(proxy)
        known = found.scheme in ("http", "https") and bool(found.hostname) and found.port != 0
    except ValueError:
        known = False
    if not known:  # it may hold a password
        raise CannotVerify(
            "lock.fetch.failed", f"{name} does not name an http or https proxy", hint="or leave it out with no_proxy"
        )
    return proxy
