"""Connections that cannot hold up others: deadlines for handshake and headers, a limit on how many there are.

Invariants: a connection that is not in the middle of a request has a timer; above the limit the one that has waited longest
is ended for a new one, so idle connections never keep a good one out.
Source: docs/provisioning.md, "Limits of the listener".
"""

import asyncio
from collections import OrderedDict
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from glasscase.enclave.gateway import Gateway, Receive, Scope, Send

CONNECTIONS_MAX = 2048  # of the 4096 descriptors that the manifest allows
HEADERS_MAX = 32 * 1024  # bytes of a request's head


class Guard:
    """The limits of one listener and its connections. mutual: whether the application needs a client certificate."""

    def __init__(self, gateway: Gateway, *, header_s: float, mutual: bool, limit: int = CONNECTIONS_MAX) -> None:
        self.gateway = gateway
        self.header_s = header_s
        self.mutual = mutual
        self.limit = limit
        self.http2: Any = None  # what takes connections that choose HTTP/2, if anything
        self.count = 0
        self.waiting: OrderedDict[GuardedProtocol, None] = OrderedDict()

    def protocol(self, **arguments: Any) -> "GuardedProtocol":
        """Return the protocol of a new connection, for uvicorn."""
        return GuardedProtocol(self, **arguments)


class GuardedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with a deadline for each request's head."""

    def __init__(self, guard: Guard, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._guard = guard
        self._timer: asyncio.TimerHandle | None = None
        self._welcome = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the deadline, and end the connection that has waited longest if there are too many."""
        super().connection_made(transport)  # type: ignore[arg-type]
        guard = self._guard
        guard.count += 1
        if guard.count > guard.limit:
            oldest = next(iter(guard.waiting), self)
            oldest.transport.abort()
        if guard.mutual:
            tls = transport.get_extra_info("ssl_object")
            self._welcome = tls is not None and tls.getpeercert(binary_form=True) is not None
            self.app = self._answer
        if guard.http2 is not None and transport.get_extra_info("ssl_object").selected_alpn_protocol() == "h2":
            self.connections.discard(self)
            guard.http2.take(transport, self._answer, self._left)
            return
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._left()
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; between two requests the deadline runs from the first byte of the next head."""
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self._timer is None:
            self._wait()

    def on_response_complete(self) -> None:
        """Count an idle connection among those that may be ended; uvicorn's keep-alive timer runs."""
        super().on_response_complete()
        if not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete):
            self._guard.waiting[self] = None

    def handle_websocket_upgrade(self, event: Any) -> None:
        """Hand the connection to the WebSocket protocol, which has its own timers."""
        self._stop_waiting()
        self._left()  # its connection_lost goes to the other protocol
        super().handle_websocket_upgrade(event)

    def _left(self) -> None:
        self._guard.count -= 1

    def _should_upgrade(self) -> bool:
        return self._welcome and super()._should_upgrade()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._guard.gateway.answer(scope, receive, send, welcome=self._welcome)

    def _wait(self) -> None:
        self._guard.waiting[self] = None
        self._timer = self.loop.call_later(self._guard.header_s, self._expire)

    def _stop_waiting(self) -> None:
        self._guard.waiting.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.abort()
