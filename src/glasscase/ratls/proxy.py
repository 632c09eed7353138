"""A local port that carries bytes to one verified enclave, for clients in any language.

Invariants: a local connection is joined to the enclave only after the enclave was verified in that connection's own
handshake; a connection is cut when its verification lapses; a refused one is told so and no byte of it is passed on; what was cut
does not look like what has ended.
Bytes are not looked at, so streaming and WebSocket pass.
"""

import asyncio
import contextlib
import errno
import functools
import ipaddress
import os
import resource
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from glasscase.errors import Error, StorageError, UsageError
from glasscase.ratls.client import RatlsContext, live_peer
from glasscase.ratls.judging import PeerRefused
from glasscase.ratls.shared import apart

CHUNK = 64 * 1024  # bytes
CONNECTIONS_MAX = 512
REFUSALS_MAX = 64  # connections beyond that which are told so; the others are reset
DESCRIPTORS = 2 * CONNECTIONS_MAX + 512  # half of the rest for what asyncio has accepted and nobody has seen yet
PREPARING_MAX = 8  # threads
CONNECT_TIMEOUT_S = 30.0
AFTER_EOF_S = 30.0  # how long an answer may still come after the local side has sent all it has
LAPSE_TICK_S = 1.0
PENDING = ("client.collateral.pending", "client.evidence.pending")


@dataclass(frozen=True)
class Target:
    """The enclave to reach. host: a name or an address without brackets."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """Return its URL."""
        return f"https://[{self.host}]:{self.port}/" if ":" in self.host else f"https://{self.host}:{self.port}/"


@dataclass
class Proxy:
    """One listening port. clock: unix seconds. report(text): one line for the person who runs it. most: connections at a time."""

    target: Target
    context: RatlsContext
    clock: Callable[[], float]
    report: Callable[[str], None]
    most: int = CONNECTIONS_MAX
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _refusals: int = 0
    _preparing: asyncio.Semaphore = field(default_factory=functools.partial(asyncio.Semaphore, PREPARING_MAX))

    async def serve(self, host: str, port: int, started: Callable[[int], None]) -> None:
        """Listen until cancelled; started(port) is called once with the port in use.

        Raises UsageError("client.listen.exposed") for an address other machines can reach, PeerRefused if the enclave does
        not pass at the start, StorageError if it cannot be reached or the port is taken.
        """
        require_loopback(host)
        await self._prepare()
        try:
            server = await asyncio.start_server(self._accept, host, port)
        except OSError as error:
            raise StorageError(
                "client.listen.failed",
                f"{host}:{port} cannot be listened on: {_why(error)}",
                errno=error.errno,
            ) from None
        started(server.sockets[0].getsockname()[1])
        try:
            await asyncio.get_running_loop().create_future()  # until this is cancelled
        finally:
            server.close()  # and no wait for it: from Python 3.12 on that would wait for what is open
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._tasks) >= self.most:
            await self._turn_away(reader, writer)
            return
        self._tasks.add(task)
        whole = False
        try:
            whole = await self._join(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # one side went away: both are closed below
        finally:
            self._tasks.discard(task)
            if not whole:
                _reset(writer)
            await _close(writer)

    async def _turn_away(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusals >= REFUSALS_MAX:
            _reset(writer)
            return
        self._refusals += 1
        try:
            await _refuse(reader, writer, "too many connections [client.proxy.busy]")
        finally:
            self._refusals -= 1

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Carry one connection; return whether it ended as the enclave or this proxy has ended it."""
        try:
            upstream_reader, upstream_writer = await self._connect()
        except Error as error:
            self.report(f"refused: {error}")
            await _refuse(reader, writer, str(error))
            return True
        enclave = upstream_writer.get_extra_info("ssl_object")
        lapse = live_peer(enclave).valid_until
        up = asyncio.create_task(_pump(reader, upstream_writer))
        down = asyncio.create_task(_pump(upstream_reader, writer))
        watch = asyncio.create_task(self._lapsed(lapse))
        try:
            await asyncio.wait({up, down, watch}, return_when=asyncio.FIRST_COMPLETED)
            if up.done() and not down.done() and not watch.done() and up.exception() is None:
                await asyncio.wait({down, watch}, timeout=AFTER_EOF_S, return_when=asyncio.FIRST_COMPLETED)
            if self.clock() >= lapse:  # seen by the watch, or by the next write, which the context refuses
                self.report("cut: the verification of a connection has lapsed")
            return down.done() and down.exception() is None and bool(enclave.ended)
        finally:
            for task in (up, down, watch):
                task.cancel()
            await asyncio.gather(up, down, watch, return_exceptions=True)
            upstream_writer.transport.abort()

    async def _lapsed(self, valid_until: int) -> None:
        while self.clock() < valid_until:
            await asyncio.sleep(LAPSE_TICK_S)

    async def _prepare(self) -> None:
        """Fetch what judging the enclave needs outside of the loop, so that one connection does not hold up the others."""
        async with self._preparing:
            await apart(functools.partial(self.context.prepare, self.target.url, timeout=CONNECT_TIMEOUT_S))

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            return await self._open()
        except PeerRefused as error:
            if error.reason not in PENDING:
                raise
        await self._prepare()
        return await self._open()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host = self.target.host
        try:
            opening = asyncio.open_connection(
                host, self.target.port, ssl=self.context, server_hostname=host, limit=CHUNK
            )
            return await asyncio.wait_for(opening, CONNECT_TIMEOUT_S)
        except Error:
            raise
        except TimeoutError:
            raise _unreachable(self.target, "no answer") from None
        except (OSError, ssl.SSLError) as error:
            raise _unreachable(self.target, (error.strerror or str(error) or "failed").lower()[:200]) from None


def allow_connections() -> int:
    """Let this process have DESCRIPTORS, or as many as it may, and return how many connections these are enough for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    have = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < have:
        resource.setrlimit(resource.RLIMIT_NOFILE, (have, hard))
    few = (have - REFUSALS_MAX) // 8  # where not even the rest is there
    return max(1, few, CONNECTIONS_MAX - (DESCRIPTORS - have) // 2)


def require_loopback(host: str) -> None:
    """Raise UsageError("client.listen.exposed") unless `host` is an address of this machine alone."""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not local:
        raise UsageError(
            "client.listen.exposed",
            f"{host!r} can be reached by other machines, and the local side of the proxy is not encrypted",
            hint="--listen 127.0.0.1:PORT",
        )


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(CHUNK):
        writer.write(chunk)
        await writer.drain()


async def _refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, why: str) -> None:
    """Answer in HTTP that nothing was passed on, and read the request away so that the answer arrives."""
    text = f"glasscase: the enclave was not verified, nothing was sent: {why}\n".encode()
    head = f"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n"
    with contextlib.suppress(OSError, TimeoutError):
        writer.write(head.encode("ascii") + text)
        await writer.drain()
        writer.write_eof()
        async with asyncio.timeout(2):
            while await reader.read(CHUNK):
                pass
    await _close(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    """End the local connection so that it is seen to be cut: its plain end would look like the end of an answer."""
    with contextlib.suppress(OSError):
        linger = struct.pack("ii", 1, 0)  # on, for 0 seconds
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def _close(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, TimeoutError):
        writer.close()
        async with asyncio.timeout(2):
            await writer.wait_closed()


def _why(error: OSError) -> str:
    """Return why a port cannot be listened on. asyncio's words name the address again, and are others with each Python."""
    if isinstance(error, socket.gaierror):
        return (error.strerror or "the name is not known").lower()
    return os.strerror(error.errno or errno.EADDRNOTAVAIL).lower()  # from Python 3.13 on the latter has no number


def _unreachable(target: Target, why: str) -> StorageError:
    return StorageError(
        "client.enclave.unreachable", f"{target.host} port {target.port} cannot be reached: {why}", path=target.host
    )
