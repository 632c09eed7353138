"""The local proxy passes bytes both ways to a verified enclave only, and cuts what has lapsed."""

import asyncio
import contextlib
import http.client
import resource
import socket
import sys
import time

import pytest

from glasscase import client
from glasscase.errors import StorageError, UsageError
from glasscase.ratls import proxy as ratls_proxy
from glasscase.ratls.judging import PeerRefused
from glasscase.ratls.proxy import CONNECTIONS_MAX, DESCRIPTORS, Proxy, Target, allow_connections, require_loopback


@pytest.fixture
def context(policy, anchor, collateral):
    """Return the context of the right policy."""
    return client.context(policy, anchor, collateral_source=collateral)


@contextlib.asynccontextmanager
async def running(server, context, *, clock=time.time, said=None, most=CONNECTIONS_MAX):
    """Run a proxy to a server; give its port."""
    lines = said if said is not None else []
    port = asyncio.get_running_loop().create_future()
    proxy = Proxy(Target(server.host, server.port), context, clock, lines.append, most=most)
    task = asyncio.create_task(proxy.serve("127.0.0.1", 0, port.set_result))
    try:
        done, _ = await asyncio.wait({task, port}, return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            await task
        yield await port
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def ask(port):
    """Return the status and body that a plain HTTP client gets from the proxy."""

    def call():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/")
        answer = connection.getresponse()
        try:
            return answer.status, answer.read()
        finally:
            connection.close()

    return await asyncio.to_thread(call)


def test_a_plain_client_reaches_the_enclave(serve, identity, context):
    """Any HTTP client gets the answer, more than once."""

    async def go():
        async with running(serve(identity()), context) as port:
            assert (200, b"hello") == await ask(port)
            assert (200, b"hello") == await ask(port)

    asyncio.run(go())


def test_bytes_stream_both_ways(serve, identity, context):
    """Bytes pass as they come, in any order and amount, as WebSocket needs them."""
    server = serve(identity(), answer=b"x" * 300_000)

    async def go():
        async with running(server, context) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"\x81\x05first")
            await writer.drain()
            for _ in range(100):
                if server.received:
                    break
                await asyncio.sleep(0.02)
            assert b"\x81\x05first" == server.received
            writer.write(b"\r\n\r\n")
            assert b"x" * 300_000 == await reader.readexactly(300_000)
            writer.write(b"more\r\n\r\n")
            assert b"x" * 300_000 == await reader.readexactly(300_000)
            writer.close()

    asyncio.run(go())


def test_a_wrong_enclave_at_the_start_ends_the_proxy(serve, identity, context):
    """Nothing listens if the enclave does not pass."""
    server = serve(identity(mrenclave=bytes(32)))

    async def go():
        with pytest.raises(PeerRefused):
            async with running(server, context):
                pass

    asyncio.run(go())
    assert b"" == server.received


def test_an_enclave_that_changes_is_refused_with_502(serve, identity, context, tmp_path):
    """When another enclave answers later, the local client is told and no byte of its request arrives."""
    server, said = serve(identity()), []

    async def go():
        async with running(server, context, said=said) as port:
            assert (200, b"hello") == await ask(port)
            before = server.received
            server.use(identity(mrenclave=bytes(32)), tmp_path)
            status, body = await ask(port)
            assert 502 == status
            assert b"policy.mrenclave.unlisted" in body
            assert before == server.received

    asyncio.run(go())
    assert any("refused" in line for line in said)


def test_a_connection_is_cut_when_its_verification_lapses(serve, identity, context, monkeypatch):
    """After the end of the session nothing more passes on the old connection, although both sides would go on."""
    monkeypatch.setattr(ratls_proxy, "LAPSE_TICK_S", 0.02)
    shift = [0.0]
    server = serve(identity())

    async def go():
        async with running(server, context, clock=lambda: time.time() + shift[0]) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200")
            shift[0] = 7200.0
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), 10)
            writer.close()

    asyncio.run(go())


@pytest.mark.parametrize("how", ["politely", True])
def test_an_answer_that_was_cut_on_the_way_does_not_look_whole(how, serve, identity, context):
    """An end that TLS does not vouch for is somebody else's: the local side sees a reset, not the end of an answer."""
    answer = b"HTTP/1.1 200 OK\r\n\r\nhello" + b"x" * 200_000
    server = serve(identity(), answer=answer, hang_up=how)

    async def go():
        async with running(server, context) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            try:
                return await asyncio.wait_for(reader.read(), 10)
            except ConnectionResetError:
                return None
            finally:
                writer.close()

    assert (answer if how == "politely" else None) == asyncio.run(go())


def test_connections_beyond_the_limit_are_turned_away(serve, identity, context, monkeypatch):
    """So many are carried, so many more are told that it is full, the others are reset: none of them is kept."""
    monkeypatch.setattr(ratls_proxy, "REFUSALS_MAX", 1)
    server = serve(identity())

    async def go():
        async with running(server, context, most=1) as port:
            kept, told, other = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
            assert b"client.proxy.busy" in await told[0].read()
            with pytest.raises(ConnectionResetError):
                await other[0].read()
            kept[1].write(b"GET / HTTP/1.1\r\n\r\n")
            assert (await kept[0].readuntil(b"hello")).startswith(b"HTTP/1.1 200")
            for _, writer in (kept, told, other):
                writer.close()

    asyncio.run(go())


@pytest.mark.parametrize(
    ("limits", "connections", "after"),
    [
        ((1024, resource.RLIM_INFINITY), CONNECTIONS_MAX, DESCRIPTORS), ((1024, 1024), 256, 1024), ((64, 64), 1, 64),
        ((512, 512), 56, 512), ((256, 256), 24, 256),
        ((1 << 20, 1 << 20), CONNECTIONS_MAX, 1 << 20), ((resource.RLIM_INFINITY,) * 2, CONNECTIONS_MAX, resource.RLIM_INFINITY),
    ],
)  # fmt: skip
def test_there_are_descriptors_for_every_connection(limits, connections, after, monkeypatch):
    """The usual 1,024 are raised where that is allowed; where it is not, fewer connections are carried."""
    now = list(limits)
    monkeypatch.setattr(resource, "getrlimit", lambda _what: tuple(now))
    monkeypatch.setattr(resource, "setrlimit", lambda _what, limit: now.__setitem__(slice(None), limit))

    assert connections == allow_connections()
    assert after == now[0]


def test_only_this_machine_may_connect():
    """An address that others reach is refused before anything is opened."""
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        with pytest.raises(UsageError) as caught:
            require_loopback(host)
        assert "client.listen.exposed" == caught.value.reason
    for host in ("127.0.0.1", "127.8.9.1", "::1", "localhost"):
        require_loopback(host)


def test_nothing_there_is_a_storage_error(serve, identity, context):
    """A port where nothing listens ends the start with a clear error."""
    server = serve(identity())
    server.close()

    async def go():
        with pytest.raises(StorageError) as caught:
            async with running(server, context):
                pass
        assert "client.enclave.unreachable" == caught.value.reason

    asyncio.run(go())


def test_a_port_that_is_taken_is_said_once(serve, identity, context):
    """The address and the system's reason are named, each once."""

    async def go():
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            with pytest.raises(StorageError) as caught:
                target = Target("127.0.0.1", serve(identity()).port)
                await Proxy(target, context, time.time, lambda _text: None).serve("127.0.0.1", port, lambda _port: None)
        assert "client.listen.failed" == caught.value.reason
        assert f"127.0.0.1:{port} cannot be listened on: address already in use" == caught.value.message

    asyncio.run(go())


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(98, "error while ... ('127.0.0.1', 1): address already in use"), "address already in use"),
        (OSError(98, "error while ... ('127.0.0.1', 1): [errno 98] address already in use"), "address already in use"),
        (OSError("could not bind on any address out of [('127.0.0.1', 1)]"), "cannot assign requested address"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "name or service not known"),
    ],
)
def test_a_port_that_is_taken_is_said_alike_by_every_python(error, words):
    """asyncio of Python 3.13 puts a number into its words, and leaves it out where no address can be had."""
    assert words == ratls_proxy._why(error)


def test_stopping_cuts_what_is_open(serve, identity, context, monkeypatch):
    """A proxy that is stopped ends at once, whatever its clients do; they see a reset."""

    async def waits_for_connections(_server):  # as asyncio does from Python 3.12.1 on
        await asyncio.Event().wait()

    if sys.version_info < (3, 12, 1):
        monkeypatch.setattr(asyncio.Server, "wait_closed", waits_for_connections)

    async def go():
        async with asyncio.timeout(10):
            async with running(serve(identity()), context) as port:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET / HTTP/1.1\r\n\r\n")
                assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200")
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()

    asyncio.run(go())


@pytest.mark.parametrize("who", ["proxy", "client"])
def test_stopping_does_not_wait_for_a_silent_enclave(who, context):
    """What looks at an enclave beforehand is left alone when the loop ends, although nobody has answered it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = Target("127.0.0.1", silent.getsockname()[1])

        async def go():
            work = (
                Proxy(target, context, time.time, print).serve("127.0.0.1", 0, print)
                if who == "proxy"
                else client.prepare(context, target.url)
            )
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(work, 0.3)

        start = time.monotonic()
        asyncio.run(go())
        assert time.monotonic() - start < 10
