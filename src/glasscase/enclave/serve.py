"""The server: uvicorn with our TLS context, limits and signals, and the owner's application loaded into it.

Invariants: one process, one port from boot to stop; loop and HTTP parser are pinned; threads stay within the measured
budget; SIGTERM ends with a bounded drain and exit code 0.
Source: docs/provisioning.md, "Serving".
"""

import asyncio
import contextlib
import importlib
import importlib.util
import logging
import ssl
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import uvicorn
from uvicorn.lifespan.on import LifespanOn
from uvicorn.protocols.websockets.auto import AutoWebSocketsProtocol

from glasscase.config.enclave import ServerOptions
from glasscase.enclave.asgi import GONE, Application, GoneError, Receive, Scope, Send
from glasscase.enclave.connections import Guard
from glasscase.enclave.gateway import HEADERS_MAX, Gateway
from glasscase.enclave.redact import is_redacted
from glasscase.errors import StorageError, UsageError


class EnclaveServer(uvicorn.Server):
    """uvicorn's server whose signals are ours. ready: called with the port once it listens."""

    def __init__(
        self, config: uvicorn.Config, guard: Guard, context: ssl.SSLContext, *, ready: Callable[[int], None]
    ) -> None:
        super().__init__(config)
        self._guard = guard
        self._context = context
        self._ready = ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone: the program handles SIGTERM and ends with exit code 0."""
        yield

    async def startup(self, sockets: Any = None) -> None:
        """Listen; the guard does TLS. Raises StorageError("enclave.port.taken")."""
        del sockets
        config = self.config
        await self.lifespan.startup()

        def protocol() -> asyncio.BaseProtocol:
            plain = self._guard.protocol(
                config=config, server_state=self.server_state, app_state=self.lifespan.state, _loop=None
            )
            return self._guard.begin(self._context, plain)

        try:
            server = await asyncio.get_running_loop().create_server(
                protocol, host=config.host, port=config.port, backlog=config.backlog
            )
        except OSError as error:
            text = f"cannot listen on {config.host} port {config.port}: {(error.strerror or 'failed').lower()}"
            raise StorageError("enclave.port.taken", text, errno=error.errno) from None
        self.servers = [server]
        self.started = True
        self._ready(server.sockets[0].getsockname()[1])

    async def shutdown(self, sockets: Any = None) -> None:
        """Stop listening, and drain the connections of both protocols at the same time."""
        await asyncio.gather(super().shutdown(sockets), self._shutdown_http2())

    async def _shutdown_http2(self) -> None:
        if self._guard.http2 is not None:
            await self._guard.http2.shutdown(self.config.timeout_graceful_shutdown or 0)


def make_server(
    gateway: Gateway,
    context: ssl.SSLContext,
    options: ServerOptions,
    *,
    host: str,
    port: int,
    ready: Callable[[int], None],
) -> EnclaveServer:
    """Return the server of this enclave, not yet listening."""
    guard = Guard(
        gateway, header_s=options.header_timeout, stall_s=options.idle_timeout, mutual=bool(options.client_ca)
    )
    if importlib.util.find_spec("hypercorn") is not None:
        from glasscase.enclave.http2 import Http2

        guard.http2 = Http2(header_s=options.header_timeout, stall_s=options.idle_timeout, message_max=options.body_max)
        context.set_alpn_protocols(["h2", "http/1.1"])
    config = uvicorn.Config(
        gateway,
        host=host,
        port=port,
        loop="asyncio",
        http=guard.protocol,  # type: ignore[arg-type]
        ws=guard.websocket(AutoWebSocketsProtocol) or "none",
        ws_max_size=options.body_max,
        ws_per_message_deflate=False,  # its lengths would tell about secrets, and a small frame could fill the memory
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        workers=1,
        forwarded_allow_ips="",
        timeout_keep_alive=options.idle_timeout,
        timeout_graceful_shutdown=options.drain,
        h11_max_incomplete_event_size=HEADERS_MAX,
        backlog=2048,
    )
    return EnclaveServer(config, guard, context, ready=ready)


class LoadedApplication:
    """The owner's application and its lifespan. Use `async with`: it starts on entry and is shut down on exit."""

    def __init__(self, application: Application, *, lifespan: bool, drain_s: float) -> None:
        self.application = application
        self._drain_s = drain_s
        self.state: dict[str, Any] = {}
        self._exited = False
        self._lifespan = LifespanOn(_lifespan_config(self._watched)) if lifespan else None
        if self._lifespan is not None:
            self._lifespan.logger = _positions_only()

    async def __aenter__(self) -> "LoadedApplication":
        """Run the application's start-up. Raises UsageError("enclave.app.failed") if it fails."""
        if self._lifespan is not None:
            await self._lifespan.startup()
            if self._lifespan.should_exit or self._exited:
                raise UsageError("enclave.app.failed", "the application's start-up failed")
            self.state = self._lifespan.state
        return self

    async def __aexit__(self, *_: object) -> None:
        """Run the application's shutdown, for as long as the drain allows."""
        if self._lifespan is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._drain_s):
                    await self._lifespan.shutdown()

    async def _watched(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the lifespan; for uvicorn an application that leaves by sys.exit() would only be one without a lifespan."""
        try:
            await self.application(scope, receive, send)
        except BaseException as error:
            self._exited = not isinstance(error, Exception)
            raise


def load_application(entry: str, interface: str, *, threads: int, drain_s: float) -> LoadedApplication:
    """Import `module:attribute` and return the application. threads: how many may run handlers at a time; drain_s: seconds
    that its shutdown may take.

    Must be called in the running event loop. Raises UsageError("enclave.app.failed") if there is no such application; what
    the application's own code raises passes through.
    """
    module_name, _, attribute = entry.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name + ".").startswith(error.name + "."):
            raise UsageError("enclave.app.failed", f"there is no module {error.name!r} for the entry") from None
        raise
    except AttributeError:
        raise UsageError("enclave.app.failed", f"the entry {entry!r} names nothing in its module") from None
    if not callable(found):
        raise UsageError("enclave.app.failed", f"the entry {entry!r} is not an application")
    handlers = max(1, threads - max(1, threads // 4))
    asyncio.get_running_loop().set_default_executor(_AppThreads(max(1, threads - handlers), "app"))
    if interface == "wsgi":
        return LoadedApplication(adapt_wsgi(found, handlers), lifespan=False, drain_s=drain_s)
    _limit_anyio(handlers)
    return LoadedApplication(found, lifespan=True, drain_s=drain_s)


def adapt_wsgi(found: Callable[..., Any], threads: int) -> Application:
    """Return a WSGI application as one for ASGI that nobody's answer keeps busy.

    A request whose client is gone by the time a thread is free is not begun, and a stream ends when its client is gone or
    nothing more of it can be sent.
    """
    from a2wsgi import WSGIMiddleware

    def until_gone(environ: Any, start_response: Any) -> Iterator[bytes]:
        gone = environ["asgi.scope"][GONE]
        if gone():
            return

        def begin(*arguments: Any, **named: Any) -> Callable[[bytes], Any]:
            write = start_response(*arguments, **named)

            def write_on(part: bytes) -> None:
                if gone():
                    raise GoneError
                write(part)

            return write_on

        parts = found(environ, begin)
        try:
            for part in parts:
                yield part
                if gone():
                    return
        finally:
            getattr(parts, "close", lambda: None)()

    middleware: Any = WSGIMiddleware(until_gone, workers=threads)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        gone = scope[GONE]
        failed: list[Exception] = []

        async def send_on(message: Any) -> None:
            if failed or gone():
                return
            try:
                await send(message)
            except Exception as error:  # noqa: BLE001 - it is raised below; here it would leave the thread waiting for ever
                failed.append(error)

        try:
            with contextlib.suppress(GoneError):
                await middleware({**scope, GONE: lambda: bool(failed) or gone()}, receive, send_on)
            if failed:
                raise failed[0]
        finally:
            failed.clear()  # an error refers to this call

    return application


class _AppThreads(ThreadPoolExecutor):
    """The threads of the application's own asyncio calls; one that hangs does not hold up the end of the program."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002
        """Take no further calls, and wait for none."""
        super().shutdown(wait=False, cancel_futures=True)


def _limit_anyio(threads: int) -> None:
    """Cap the threads of synchronous handlers in frameworks on anyio, which are 40 by default."""
    if "anyio" in sys.modules:
        limiter = importlib.import_module("anyio.to_thread").current_default_thread_limiter()
        limiter.total_tokens = threads


def _positions_only() -> logging.Logger:
    """Return the logger of the lifespan: what an application gives as the reason of its failure may hold secrets.

    Frameworks give a traceback there, which the redactor has made harmless.
    """
    logger = logging.getLogger("uvicorn.lifespan")
    logger.setLevel(logging.WARNING)
    logger.addFilter(lambda record: is_redacted(record.getMessage()))
    return logger


def _lifespan_config(application: Application) -> uvicorn.Config:
    config = uvicorn.Config(
        application, lifespan="auto", interface="asgi3", log_config=None, proxy_headers=False, ws="none",
        workers=1, forwarded_allow_ips="",
    )  # fmt: skip
    config.loaded_app = application
    config.loaded = True
    return config
