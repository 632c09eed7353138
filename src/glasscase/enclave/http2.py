"""HTTP/2, where the bundle has hypercorn among its wheels (the extra `http2`): one connection speaks it by ALPN.

The listener, its TLS context and its limits are those of HTTP/1.1; only the bytes of a connection that has chosen `h2` go to
hypercorn's protocol instead of uvicorn's. Whether hypercorn is there is a fact of the measured import table.

Invariants: requests pass the same gateway; an idle connection and one that does not read are ended as with HTTP/1.1, and may be
ended for a new one; a request that exits is an error of that request.
Source: docs/provisioning.md, "Serving" and "Limits of the listener".
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, MutableMapping
from typing import Any

from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.protocol.http_stream import ASGIHTTPState
from hypercorn.protocol.ws_stream import FrameTooLargeError, WebsocketBuffer

from glasscase.enclave.asgi import GONE, Application, Message, Receive, Scope, Send

STREAMS_MAX = 100  # requests of one connection at a time
BUFFER_SIZE = 64 * 1024  # bytes read ahead
PART_SIZE = 64 * 1024  # bytes of an answer that are sent, and read, before the next
_BEGUN = (ASGIHTTPState.RESPONSE, ASGIHTTPState.TRAILERS)


class Http2:
    """The HTTP/2 side of one listener. header_s, stall_s: seconds, as for HTTP/1.1; message_max: bytes of a WebSocket message."""

    def __init__(self, *, header_s: float, stall_s: float, message_max: int) -> None:
        self._stall_s = stall_s
        self._config = Config()
        self._config.errorlog = logging.getLogger("hypercorn.error")
        self._config.accesslog = None
        self._config.include_server_header = False
        self._config.keep_alive_timeout = header_s
        self._config.h2_max_concurrent_streams = STREAMS_MAX
        self._config.websocket_max_message_size = message_max
        self._context = WorkerContext(None)
        self._tasks: set[asyncio.Task[None]] = set()

    def take(
        self,
        transport: asyncio.Transport,
        application: Application,
        waiting: MutableMapping[asyncio.BaseTransport, None],
    ) -> None:
        """Serve a connection that has chosen HTTP/2. waiting: where it stands while it waits for its client."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=BUFFER_SIZE, loop=loop)
        watched = _Watched(transport, application, waiting, self._stall_s)

        async def serve(streams: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            app: Any = watched.answer
            server = _Server(ASGIWrapper(app), loop, self._config, self._context, {}, streams, writer)
            server.gone = watched.gone
            try:
                if not transport.is_closing():  # it may have been ended at once
                    await server.run()
            finally:
                watched.end()
                # what refers to itself would wait for the garbage collection, and after gc.freeze for ever
                vars(server).clear()
                if (error := streams.exception()) is not None:
                    error.with_traceback(None)

        def connected(streams: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = loop.create_task(serve(streams, writer))
            self._tasks.add(task)
            task.add_done_callback(self._finish)

        protocol = asyncio.StreamReaderProtocol(reader, connected, loop=loop)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)

    async def shutdown(self, drain_s: float) -> None:
        """End idle connections now, and the others when their requests are done or the drain is over."""
        await self._context.terminated.set()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=drain_s)
            for task in late:
                task.cancel()

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logging.getLogger("hypercorn.error").error("a connection failed", exc_info=task.exception())


class _Server(TCPServer):
    """hypercorn's side of a connection, which ends with it: not when its timer for idle ones or an unread answer does."""

    gone: Callable[[], None]

    async def _read_data(self) -> None:
        self.protocol.protocol.streams = _Streams()  # type: ignore[union-attr]
        await super()._read_data()
        self.gone()
        await self.idle_task.stop()


class _Streams(dict[int, Any]):
    """The requests of a connection by their streams. hypercorn would fail at what still comes for one that was answered."""

    def __missing__(self, stream_id: int) -> "_Answered":
        return _Answered()


class _Answered:
    """A request that is over; what still comes of its body is forgotten."""

    async def handle(self, _: Any) -> None:
        """Take an event."""


class Inbox(WebsocketBuffer):
    """A message of a WebSocket as it comes, at most max_length bytes. After one that is longer nothing more is taken.

    close: called once before it is refused. hypercorn would go on to keep what comes, and look at one frame of it at a time.
    """

    def __init__(self, max_length: int, close: Callable[[], None]) -> None:
        super().__init__(max_length)
        self._close = close
        self._closed = False

    def extend(self, event: Any) -> None:
        """Take a part; raises FrameTooLargeError for the first that is too much, of which 1009 tells the client."""
        if self._closed:
            return
        length = self.length + len(event.data.encode() if isinstance(event.data, str) else event.data)
        if length > self.max_length:
            self._closed = True
            self.clear()
            self._close()
            raise FrameTooLargeError
        super().extend(event)
        self.length = length


def limit(stream: Any) -> None:
    """Give a WebSocket of hypercorn, which nobody has accepted yet, the limits of HTTP/1.1."""

    def close() -> None:
        put = stream.app_put

        async def put_end(message: Message) -> None:
            if message["type"] == "websocket.disconnect":
                await put(message)

        stream.app_put = put_end

    stream.buffer = Inbox(stream.buffer.max_length, close)
    # its lengths would tell about secrets, and a small frame could fill the memory
    stream.handshake.extensions = None


class _Watched:
    """The requests of one connection. It waits for its client while none is running, and while an answer is not read.

    hypercorn ends a connection without requests after header_s; the timer here ends one that it has forgotten.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        application: Application,
        waiting: MutableMapping[asyncio.BaseTransport, None],
        stall_s: float,
    ) -> None:
        self._transport = transport
        self._application = application
        self._waiting = waiting
        self._stall_s = stall_s
        self._running = 0
        self._sent = 0  # messages of all answers
        self._buffers: dict[int, Any] = {}  # hypercorn's, what is not sent yet of each
        self._sending: dict[asyncio.Timeout, asyncio.Handle] = {}
        self._gone = False
        self._timer: asyncio.TimerHandle | None = None
        self._note()

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        stream: Any = send.__self__  # type: ignore[attr-defined]
        buffers = self._buffers = stream.send.__self__.stream_buffers
        queue: asyncio.Queue[Message] = receive.__self__  # type: ignore[attr-defined]
        if scope["type"] == "websocket":
            limit(stream)

        async def put_end(message: Message) -> None:
            if message["type"].endswith(".disconnect"):
                queue.put_nowait(message)

        def forget_body() -> None:
            """Let go what comes of the request: hypercorn would wait for ever for room in a queue that nobody empties."""
            while not queue.empty():
                queue.get_nowait()
            stream.app_put = put_end

        async def send_drained(message: Message) -> None:
            """Send, and wait until everything is sent: hypercorn waits for nothing once the client's window is closed."""
            await send(message)
            buffer = buffers.get(stream.stream_id)
            while buffer is not None and buffer.buffer and not stream.closed:
                await buffer._paused.clear()
                await buffer._paused.wait()  # set whenever it has sent what it could, and at a reset
            if buffer is not None and stream.closed:
                await buffer.close()  # hypercorn keeps it otherwise

        async def send_parts(message: Message) -> None:
            if message["type"] != "http.response.body":
                await self._send(send_drained, message)
                return
            body = message.get("body", b"")
            for start in range(0, len(body), PART_SIZE):
                if not stream.closed:
                    part = {**message, "body": body[start : start + PART_SIZE], "more_body": True}
                    await self._send(send_drained, part)
            if not message.get("more_body", False):
                forget_body()
                await self._send(send, {**message, "body": b""})

        async def break_off(_: Message) -> None:
            """Reset the stream of an answer that has begun: hypercorn would leave its client to wait for the rest."""
            protocol: Any = stream.send.__self__
            with contextlib.suppress(ProtocolError):
                protocol.connection.reset_stream(stream.stream_id, ErrorCodes.INTERNAL_ERROR)
                await protocol._flush()
            if (buffer := buffers.get(stream.stream_id)) is not None:
                await buffer.close()
                await protocol._window_updated(stream.stream_id)  # so that it is forgotten

        self._running += 1
        self._note()
        scope[GONE] = lambda: self._gone or stream.closed or self._transport.is_closing()
        try:
            await self._application(scope, receive, send_parts)
        except (SystemExit, KeyboardInterrupt) as error:
            # asyncio would end the event loop; uvicorn catches it by itself
            raise RuntimeError("the application tried to exit").with_traceback(error.__traceback__) from None
        finally:
            forget_body()
            scope.pop(GONE, None)  # it refers to the scope
            self._running -= 1
            self._note()
            task = asyncio.current_task()
            if stream.state in _BEGUN and not stream.closed and task is not None and not task.cancelling():
                await self._send(break_off, {})

    def end(self) -> None:
        """Forget the connection, which is over."""
        if self._timer is not None:
            self._timer.cancel()

    def gone(self) -> None:
        """Let what is being sent end now, because nobody will read it."""
        self._gone = True
        for timeout in self._sending:
            if not timeout.expired():
                timeout.reschedule(asyncio.get_running_loop().time())

    async def _send(self, send: Send, message: Message) -> None:
        """Send, and end the connection if nothing is read of any answer for stall_s meanwhile."""
        if self._gone:
            return
        timeout = asyncio.timeout(None)
        try:
            async with timeout:
                # first as soon as it waits
                self._sending[timeout] = asyncio.get_running_loop().call_soon(self._check, timeout, (-1, 0))
                self._note()
                await send(message)
                self._sent += 1
        except TimeoutError:
            self._transport.abort()
        finally:
            self._sending.pop(timeout).cancel()
            self._note()

    def _check(self, timeout: asyncio.Timeout, before: tuple[int, int]) -> None:
        """End a wait once nothing has changed for stall_s. before: what was sent and what was not, that long ago."""
        loop = asyncio.get_running_loop()
        now = self._sent, sum(len(buffer.buffer) for buffer in self._buffers.values())
        if now != before:
            self._sending[timeout] = loop.call_later(self._stall_s, self._check, timeout, now)
        elif not timeout.expired():
            timeout.reschedule(loop.time())

    def _note(self) -> None:
        waits = not self._running or bool(self._sending)
        if not waits:
            self._waiting.pop(self._transport, None)
        elif not self._transport.is_closing():
            self._waiting.setdefault(self._transport, None)
        if self._timer is not None and self._running:
            self._timer.cancel()
            self._timer = None
        elif self._timer is None and not self._running:
            self._timer = asyncio.get_running_loop().call_later(self._stall_s, self._transport.abort)
