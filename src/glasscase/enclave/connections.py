"""Connections that cannot hold up others: deadlines for handshake, headers and unread answers, limits on how many there are.

Invariants: a connection that waits for its client has a timer, and above the limit the one that has waited longest is ended
for a new one; the gateway lets fewer requests run than there may be connections, so there always is one, and no kind of
connection keeps a good one out; handshakes have a limit of their own.
Source: docs/provisioning.md, "Limits of the listener".
"""

import asyncio
import asyncio.sslproto
import contextlib
import resource
import ssl
from asyncio.sslproto import SSLProtocolState
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from glasscase.enclave.asgi import GONE, Receive, Scope, Send
from glasscase.enclave.gateway import Gateway

DESCRIPTORS = 4096  # as the manifest says; Gramine before 1.8 does not know that option and gives 900
CONNECTIONS_MAX = 2048  # of these descriptors
HANDSHAKES_MAX = 512  # connections whose TLS handshake is not done, besides
CLOSE_S = 5  # seconds that a client may take to read what is left and to close
TLS_BUFFER_SIZE = 32 * 1024  # bytes read ahead for each connection; asyncio's 256 KiB would fill an enclave
UNREAD_MAX = 64 * 1024  # bytes of an answer above which the application waits for its client; asyncio's are 512 KiB


def allow_descriptors() -> None:
    """Let this process have so many descriptors, or as many as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


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
        self.open: dict[asyncio.BaseTransport, Connection] = {}
        self.waiting: OrderedDict[asyncio.BaseTransport, None] = OrderedDict()  # may be ended for a new one
        self.closing: OrderedDict[asyncio.BaseTransport, None] = OrderedDict()  # before these
        self.handshakes: OrderedDict[Connection, None] = OrderedDict()

    def protocol(self, **arguments: Any) -> "GuardedProtocol":
        """Return the protocol of a new connection, for uvicorn."""
        return GuardedProtocol(self, **arguments)

    def begin(self, context: ssl.SSLContext, protocol: "GuardedProtocol") -> "Connection":
        """Return the TLS side of a new connection, whose plain side is `protocol` once the handshake is done."""
        protocol.tls = Connection(self, context, protocol)
        return protocol.tls

    def enter(self, transport: asyncio.BaseTransport, connection: "Connection") -> None:
        """Count a connection whose handshake is done, and end another if there are too many.

        That is one that is being closed, because its client may take its time, else the one that has waited longest.
        """
        self.open[transport] = connection
        if len(self.open) > CONNECTIONS_MAX:
            crowd = self.closing or self.waiting or OrderedDict({transport: None})
            last, _ = crowd.popitem(last=False)
            ending = self.open[last]
            self.leave(last)
            ending.end()

    def finish(self, transport: asyncio.BaseTransport, *, unread: bool = False) -> None:
        """Note that nothing is expected of a connection any more but its end, and first that its client reads what is left."""
        if transport in self.open:
            (self.waiting if unread else self.closing)[transport] = None

    def leave(self, transport: asyncio.BaseTransport) -> None:
        """Forget a connection that is gone."""
        self.open.pop(transport, None)
        self.waiting.pop(transport, None)
        self.closing.pop(transport, None)

    def websocket(self, base: Callable[..., Any] | None) -> Any:
        """Return uvicorn's WebSocket protocol `base` as one that may be ended once the application has left it.

        Its client may take its time to close. None without `base`.
        """
        guard = self
        if base is None:
            return None

        class Guarded(base):  # type: ignore[valid-type, misc]
            def __init__(self, **arguments: Any) -> None:
                super().__init__(**arguments)
                self.app = self._answer

            async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
                connection = guard.open.get(self.transport)
                scope[GONE] = connection.is_gone if connection is not None else self.transport.is_closing
                try:
                    await guard.gateway.answer(scope, receive, send, welcome=True)
                finally:
                    scope.pop(GONE, None)  # it would keep the connection's buffers
                    guard.finish(self.transport)

        return Guarded


class Connection(asyncio.sslproto.SSLProtocol):
    """asyncio's TLS side of a connection; one too many whose handshake is not done ends the oldest of these."""

    max_size = TLS_BUFFER_SIZE
    _transport: Any
    _state: SSLProtocolState
    _shutdown_timeout_handle: asyncio.TimerHandle | None

    def __init__(self, guard: Guard, context: ssl.SSLContext, protocol: "GuardedProtocol") -> None:
        super().__init__(
            asyncio.get_running_loop(), protocol, context, None, server_side=True,  # type: ignore[arg-type]
            ssl_handshake_timeout=guard.header_s, ssl_shutdown_timeout=CLOSE_S,  # type: ignore[arg-type]
        )  # fmt: skip
        self._set_write_buffer_limits(UNREAD_MAX)  # type: ignore[attr-defined]
        self._guard = guard
        self._guarded = protocol
        self._left = 0  # bytes that were not read when this was looked at last

    def connection_made(self, transport: Any) -> None:
        """Start the handshake."""
        pending = self._guard.handshakes
        pending[self] = None
        if len(pending) > HANDSHAKES_MAX:
            oldest, _ = pending.popitem(last=False)
            oldest._transport.abort()
        super().connection_made(transport)

    def connection_lost(self, exc: Any) -> None:
        """Forget the connection."""
        self._guard.handshakes.pop(self, None)
        self._guard.leave(self._guarded.transport)
        super().connection_lost(exc)
        del self._guarded  # the buffers need no garbage collection

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Begin to close, as the client has; asyncio would wait without end for what is left to be read."""
        stay_open = super().eof_received()
        if not stay_open and self._transport is not None and self._shutdown_timeout_handle is None:
            self.note_unread()
            self._shutdown_timeout_handle = self._loop.call_later(CLOSE_S, self._check_shutdown_timeout)
        return stay_open

    def end(self) -> None:
        """Cut the connection, also one that is being closed, whose TLS transport Python 3.11.2 cannot abort."""
        if self._transport is not None:
            self._transport.abort()

    def is_gone(self) -> bool:
        """Return whether nothing that is written now will arrive. May be called from any thread."""
        transport = self._transport  # it is None at once when the connection is lost
        return transport is None or transport.is_closing() or self._state is not SSLProtocolState.WRAPPED

    def note_unread(self) -> None:
        """Remember how much of what was sent is not read yet."""
        of_tls: int = self._get_write_buffer_size()  # type: ignore[attr-defined]
        self._left = of_tls + self._transport.get_write_buffer_size()

    def is_being_read(self) -> bool:
        """Return whether something is left, but less than what was remembered last; remember it."""
        before = self._left
        self.note_unread()
        return 0 < self._left < before

    def _start_shutdown(self) -> None:
        """Begin to close, which takes until the client has read everything and answered."""
        self.note_unread()
        self._guard.finish(self._guarded.transport, unread=self._left > 0)
        super()._start_shutdown()

    def _check_shutdown_timeout(self) -> None:
        """End a connection whose client did not do that in time, unless it is still reading."""
        if self.is_being_read():
            self._shutdown_timeout_handle = self._loop.call_later(CLOSE_S, self._check_shutdown_timeout)
        else:
            super()._check_shutdown_timeout()  # type: ignore[misc]


class GuardedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with a deadline for each request's head and for a client that does not read."""

    def __init__(self, guard: Guard, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.tls: Connection
        self._guard = guard
        self._timer: asyncio.TimerHandle | None = None  # for the head of a request
        self._stall: asyncio.TimerHandle | None = None  # for an answer that is not read
        self._welcome = True
        self._upgraded = False

    @property
    def app(self) -> Any:
        """Return what answers a request. It is no attribute: that would refer to itself and wait for the garbage collection."""
        return self._answer

    @app.setter
    def app(self, _: Any) -> None:
        """Ignore uvicorn's, which is the gateway."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the deadline; there may be one connection too many."""
        super().connection_made(transport)  # type: ignore[arg-type]
        guard = self._guard
        guard.handshakes.pop(self.tls, None)
        guard.enter(transport, self.tls)
        if guard.mutual:
            tls = transport.get_extra_info("ssl_object")
            self._welcome = tls is not None and tls.getpeercert(binary_form=True) is not None
        if guard.http2 is not None and transport.get_extra_info("ssl_object").selected_alpn_protocol() == "h2":
            self.connections.discard(self)
            guard.http2.take(transport, self._answer, guard.waiting)
            return
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.resume_writing()
        self._stop_waiting()
        self._unset_keepalive_if_required()  # uvicorn does not, after an error; the timer would keep all buffers
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
            self._guard.waiting[self.transport] = None
            self.tls.note_unread()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, unless its client is still reading."""
        if self.tls.is_being_read():
            self.timeout_keep_alive_task = self.loop.call_later(self._guard.stall_s, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def pause_writing(self) -> None:
        """Start the deadline of a client that does not read; meanwhile its connection may be ended for a new one."""
        super().pause_writing()
        self._guard.waiting[self.transport] = None
        self.tls.note_unread()
        self._stall = self.loop.call_later(self._guard.stall_s, self._check_stall)

    def resume_writing(self) -> None:
        """End it."""
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
            if self._timer is None and self._is_answering() and not self.transport.is_closing():
                self._guard.waiting.pop(self.transport, None)

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

    def _should_upgrade(self) -> bool:
        return self._welcome and super()._should_upgrade()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault(GONE, self.tls.is_gone)  # with HTTP/2 it is there for the single request
        if self._welcome:
            await self._guard.gateway(scope, receive, send)
        else:
            await self._guard.gateway.answer(scope, receive, send, welcome=False)

    def _wait(self) -> None:
        self._guard.waiting[self.transport] = None
        self._timer = self.loop.call_later(self._guard.header_s, self._expire)

    def _stop_waiting(self) -> None:
        if self._stall is None:
            self._guard.waiting.pop(self.transport, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check_stall(self) -> None:
        if self.tls.is_being_read():
            self._stall = self.loop.call_later(self._guard.stall_s, self._check_stall)
        else:
            self._expire()

    def _expire(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.abort()
