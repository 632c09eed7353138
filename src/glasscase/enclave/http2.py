"""HTTP/2, where the bundle has hypercorn among its wheels (the extra `http2`): one connection speaks it by ALPN.

The listener, its TLS context and its limits are those of HTTP/1.1; only the bytes of a connection that has chosen `h2` go to
hypercorn's protocol instead of uvicorn's. Whether hypercorn is there is a fact of the measured import table.

Invariants: requests pass the same gateway; an idle connection ends after the same time.
Source: docs/provisioning.md, "Serving".
"""

import asyncio
import logging
from typing import Any

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config

STREAMS_MAX = 100  # requests of one connection at a time
BUFFER_SIZE = 64 * 1024  # bytes read ahead


class Http2:
    """The HTTP/2 side of one listener. header_s, idle_s: seconds, as for HTTP/1.1; message_max: bytes of a WebSocket message."""

    def __init__(self, *, header_s: float, idle_s: float, message_max: int) -> None:
        self._config = Config()
        self._config.errorlog = logging.getLogger("hypercorn.error")
        self._config.accesslog = None
        self._config.include_server_header = False
        self._config.keep_alive_timeout = header_s
        self._config.read_timeout = int(idle_s)
        self._config.h2_max_concurrent_streams = STREAMS_MAX
        self._config.websocket_max_message_size = message_max
        self._context = WorkerContext(None)
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, transport: asyncio.Transport, application: Any, ended: Any) -> None:
        """Serve a connection that has chosen HTTP/2. ended: called once when it is over."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=BUFFER_SIZE, loop=loop)

        def connected(streams: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            server = TCPServer(ASGIWrapper(application), loop, self._config, self._context, {}, streams, writer)
            task = loop.create_task(server.run())
            self._tasks.add(task)
            task.add_done_callback(lambda done: self._finish(done, ended))

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

    def _finish(self, task: asyncio.Task[None], ended: Any) -> None:
        self._tasks.discard(task)
        ended()
        if not task.cancelled() and task.exception() is not None:
            logging.getLogger("hypercorn.error").error("a connection failed", exc_info=task.exception())
