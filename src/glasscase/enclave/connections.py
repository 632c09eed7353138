"""Connections that cannot hold up others: deadlines for handshake, headers and unread answers, limits on how many there are.

Invariants: a connection that waits for its client has a timer, and above the limit the one that has waited longest is ended
for a new one, so idle and slow connections never keep a good one out; handshakes have a limit of their own.
Source: docs/provisioning.md, "Limits of the listener".
"""

import asyncio
import asyncio.sslproto
import ssl
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from glasscase.enclave.gateway import Gateway, Receive, Scope, Send

CONNECTIONS_MAX = 2048  # of the 4096 descriptors that the manifest allows
HANDSHAKES_MAX = 512  # connections whose TLS handshake is not done, besides
HEADERS_MAX = 32 * 1024  # bytes of a request's head
TLS_BUFFER_SIZE = 32 * 1024  # bytes read ahead for each connection; asyncio's 256 KiB would fill an enclave


class Guard:
    """The limits of one listener and its connections.

    header_s: seconds for a handshake and for a request's head; stall_s: for a client that does not read its answer.
    mutual: whether the application needs a client certificate.
    """

    def __init__(self, gateway: Gateway, *, header_s: float, stall_s: float, mutual: bool) -> None:
        self.gateway = gateway
        self.header_s = header_s
        self.stall_s = stall_s
        self.mutual = mutual
        self.http2: Any = None  # what takes connections that choose HTTP/2, if anything
        self.count = 0
        self.waiting: OrderedDict[GuardedProtocol, None] = OrderedDict()
        self.handshakes: OrderedDict[asyncio.Protocol, asyncio.BaseTransport] = OrderedDict()

    def protocol(self, **arguments: Any) -> "GuardedProtocol":
        """Return the protocol of a new connection, for uvicorn."""
        return GuardedProtocol(self, **arguments)

    def begin(self, context: ssl.SSLContext, protocol: asyncio.Protocol) -> "Handshake":
        """Return the TLS side of a new connection, whose plain side is `protocol` once the handshake is done."""
        return Handshake(self, context, protocol)

    def websocket(self, base: Callable[..., asyncio.Protocol] | None) -> Any:
        """Return uvicorn's WebSocket protocol `base` as one whose connections are counted, or None without one."""
        guard = self
        if base is None:
            return None

        class Counted(base):  # type: ignore[valid-type, misc]
            def connection_lost(self, exc: Exception | None) -> None:
                guard.count -= 1
                super().connection_lost(exc)

        return Counted


class Handshake(asyncio.sslproto.SSLProtocol):
    """asyncio's TLS side of a connection, counted until the handshake is done; one too many ends the oldest."""

    max_size = TLS_BUFFER_SIZE

    def __init__(self, guard: Guard, context: ssl.SSLContext, protocol: asyncio.Protocol) -> None:
        super().__init__(
            asyncio.get_running_loop(), protocol, context, None, server_side=True,  # type: ignore[arg-type]
            ssl_handshake_timeout=guard.header_s, ssl_shutdown_timeout=5,  # type: ignore[arg-type]
        )  # fmt: skip
        self._guard = guard
        self._guarded = protocol

    def connection_made(self, transport: Any) -> None:
        """Start the handshake."""
        pending = self._guard.handshakes
        pending[self._guarded] = transport
        if len(pending) > HANDSHAKES_MAX:
            _, oldest = pending.popitem(last=False)
            oldest.abort()  # type: ignore[attr-defined]
        super().connection_made(transport)

    def connection_lost(self, exc: Any) -> None:
        """Forget the connection."""
        self._guard.handshakes.pop(self._guarded, None)
        super().connection_lost(exc)


class GuardedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with a deadline for each request's head and for a client that does not read."""

    def __init__(self, guard: Guard, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._guard = guard
        self._timer: asyncio.TimerHandle | None = None  # for the head of a request
        self._stall: asyncio.TimerHandle | None = None  # for an answer that is not read
        self._welcome = True
        self._upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the deadline, and end the connection that has waited longest if there are too many."""
        super().connection_made(transport)  # type: ignore[arg-type]
        guard = self._guard
        guard.handshakes.pop(self, None)
        guard.count += 1
        if guard.count > CONNECTIONS_MAX:
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
        self.resume_writing()
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; between two requests the deadline runs from the first byte of the next head."""
        super().data_received(data)
        if self.transport.is_closing() or self._upgraded:
            return
        if self._is_answering():
            self._stop_waiting()
        elif self._timer is None:
            self._wait()

    def on_response_complete(self) -> None:
        """Count an idle connection among those that may be ended; uvicorn's keep-alive timer runs."""
        super().on_response_complete()
        if not self._upgraded and not self.transport.is_closing() and not self._is_answering():
            self._guard.waiting[self] = None

    def pause_writing(self) -> None:
        """Start the deadline of a client that does not read; meanwhile its connection may be ended for a new one."""
        super().pause_writing()
        self._guard.waiting[self] = None
        self._stall = self.loop.call_later(self._guard.stall_s, self._expire)

    def resume_writing(self) -> None:
        """End it."""
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
            if self._timer is None and self._is_answering():
                self._guard.waiting.pop(self, None)

    def handle_websocket_upgrade(self, event: Any) -> None:
        """Hand the connection to the WebSocket protocol, which has its own timers and counts its end.

        One whose client has not read the answers before is ended: nobody would end it later.
        """
        self._upgraded = True
        self._stop_waiting()
        if self._stall is None:
            super().handle_websocket_upgrade(event)
        else:
            self.transport.abort()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

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
        if self._stall is None:
            self._guard.waiting.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.abort()
