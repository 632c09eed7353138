"""For the data user: connections that reach only a verified enclave.

`context()` gives one ssl.SSLContext for http.client, urllib, urllib3, httpx and aiohttp; `requests_adapter()` carries it
into requests. `live_peer()` says whom an open connection was verified to reach. `prepare()` fetches beforehand, so that no
handshake in an event loop waits for the network.
"""

import functools
import importlib
from typing import Any

from glasscase.codec.printable import url_without_login
from glasscase.errors import UsageError
from glasscase.ratls.client import PREPARE_S, RatlsContext, context, live_peer
from glasscase.ratls.judging import LivePeer, PeerRefused
from glasscase.ratls.shared import apart

__all__ = ["LivePeer", "PeerRefused", "RatlsContext", "context", "live_peer", "prepare", "requests_adapter"]


async def prepare(ratls_context: RatlsContext, url: str, *, timeout: float = PREPARE_S) -> LivePeer:
    """Return the verified enclave at `url`, after everything that judging it needs was fetched, in another thread.

    See RatlsContext.prepare(): from then on no handshake of this context waits for the network.
    """
    _require_ours(ratls_context)
    return await apart(functools.partial(ratls_context.prepare, url, timeout=timeout))


def requests_adapter(ratls_context: RatlsContext) -> Any:
    """Return an adapter for requests: session.mount("https://", requests_adapter(context)).

    Mounted for "http://" too it refuses what would go out in clear, such as where a redirect leads (UsageError).
    Raises ModuleNotFoundError if requests is not installed. No setting of the session (verify=False, cert, trust_env) can
    put another context in its place. Raises UsageError for a context that is not of context().
    """
    _require_ours(ratls_context)
    adapters = importlib.import_module("requests.adapters")

    class _Adapter(adapters.HTTPAdapter):  # type: ignore[misc, name-defined]
        def init_poolmanager(self, *arguments: Any, **named: Any) -> None:
            super().init_poolmanager(*arguments, **{**named, "ssl_context": ratls_context})

        def proxy_manager_for(self, proxy: str, **named: Any) -> Any:
            return super().proxy_manager_for(proxy, **{**named, "ssl_context": ratls_context})

        def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
            host, pool = super().build_connection_pool_key_attributes(request, verify, cert)
            return host, {**pool, "ssl_context": ratls_context, "cert_reqs": "CERT_REQUIRED"}

        def send(self, request: Any, *arguments: Any, **named: Any) -> Any:
            """Send nothing in clear, where the adapter is mounted for http:// too."""
            if not request.url.lower().startswith("https://"):
                raise UsageError(
                    "client.url.malformed",
                    f"{url_without_login(request.url)!r} is not an https URL of a host",
                    hint="https://HOST:PORT/",
                )
            return super().send(request, *arguments, **named)

        def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
            """Leave the connection's context alone: there is no CA bundle to load."""

    return _Adapter()


def _require_ours(ratls_context: Any) -> None:
    """Raise UsageError("policy.argument.wrong") for any other context: what it verifies is not an enclave."""
    if not isinstance(ratls_context, RatlsContext):
        raise UsageError(
            "policy.argument.wrong", f"the context is one of client.context(), not {type(ratls_context).__name__}"
        )
