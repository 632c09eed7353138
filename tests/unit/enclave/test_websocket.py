"""WebSocket and streaming through the enclave's listener, verified in the handshake, and through the local proxy."""

import asyncio
import contextlib
import json
import socket
import time
from types import SimpleNamespace

import aiohttp
import pytest

from glasscase import client
from glasscase.collateral.model import parse_collateral
from glasscase.enclave.gateway import Gateway
from glasscase.ratls.proxy import Proxy, Target
from glasscase.verify.anchor import TrustAnchor
from glasscase.verify.policy import parse_policy

from .conftest import MRENCLAVE, PACKAGES, client_context, make_config, wheel_files

APP = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        return await talk(scope, receive, send)
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    if scope["path"] == "/events":
        for number in range(5):
            await send({"type": "http.response.body", "body": b"data: %d\\n\\n" % number, "more_body": True})
            await asyncio.sleep(0.2)
    else:
        more = True
        while more:
            message = await receive()
            more = message.get("more_body", False)
            answer = b"data: %d\\n\\n" % len(message.get("body", b""))
            await send({"type": "http.response.body", "body": answer, "more_body": True})
    await send({"type": "http.response.body", "body": b""})

async def talk(scope, receive, send):
    await receive()
    if scope["path"] == "/no":
        return await send({"type": "websocket.close", "code": 4403})
    await send({"type": "websocket.accept", "subprotocol": (scope["subprotocols"] or [None])[0]})
    await send({"type": "websocket.send", "text": scope["path"] + str(scope["state"])})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            print("left with", message["code"], flush=True)
            return
        if message.get("text") == "close":
            return await send({"type": "websocket.close", "code": 4001, "reason": "enough"})
        await send({key: value for key, value in message.items() if value is not None} | {"type": "websocket.send"})
"""
LIBRARIES = ("wsproto", "websockets")  # uvicorn takes the second if both are among the wheels


@pytest.fixture(scope="module", params=LIBRARIES)
def serving(request, enclaves):
    """Return an enclave that serves a WebSocket application, with one library or the other."""
    paths = [f"rootfs/opt/site/{path}" for path in wheel_files((*PACKAGES, request.param))]
    return served(enclaves, paths)


def served(enclaves, paths):
    one = enclaves(
        app={"demo.py": APP},
        config=make_config(server={"body_max": 100_000, "header_timeout": 2, "idle_timeout": 3}),
        site_paths=paths,
    )
    one.start().serve()
    return one


@pytest.fixture
def context(platform):
    """Return a function(seconds) -> a verifying context whose collateral is good for that long from now."""

    def make(seconds=86400):
        policy = f'version = 1\n[measurement]\nmrenclave = "{MRENCLAVE.hex()}"\n[platform]\nplatforms = ["any-intel"]\n'
        at = int(time.time()) - 7 * 86400 + seconds
        collateral = parse_collateral(json.dumps(platform.collateral(at=at)).encode())
        anchor = TrustAnchor.insecure_root(platform.root_pem.encode())
        return client.context(parse_policy(policy.encode()), anchor, collateral_source=collateral)

    return make


@contextlib.asynccontextmanager
async def proxied(one, context, said=None):
    """Run the local proxy to an enclave; give its port."""
    port = asyncio.get_running_loop().create_future()
    proxy = Proxy(Target("127.0.0.1", one.port), context, time.time, (said if said is not None else []).append)
    task = asyncio.create_task(proxy.serve("127.0.0.1", 0, port.set_result))
    try:
        await asyncio.wait({task, port}, return_when=asyncio.FIRST_COMPLETED)
        yield await port
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def a_session():
    """Give aiohttp's client, and let the loop close its TLS connections afterwards."""
    async with aiohttp.ClientSession() as session:
        yield session
    await asyncio.sleep(0.25)


async def by_aiohttp(url, ssl):
    """Talk with aiohttp's client; return what came back and the close code."""
    async with a_session() as session:
        async with session.ws_connect(url, ssl=ssl or True, protocols=("chat",)) as socket_:
            first = await socket_.receive_str()
            await socket_.send_str("näh")
            await socket_.send_bytes(bytes(90_000))
            answers = [await socket_.receive_str(), await socket_.receive_bytes()]
            await socket_.ping(b"x")
            await socket_.send_str("close")
            last = await socket_.receive()
            return socket_.protocol, first, *answers, (socket_.close_code, last.extra)


async def by_websockets(url, ssl):
    """The same with the library of that name."""
    from websockets.asyncio.client import connect
    from websockets.exceptions import ConnectionClosed

    async with connect(url, ssl=ssl, subprotocols=["chat"], proxy=None) as socket_:
        first = await socket_.recv()
        await socket_.send("näh")
        await socket_.send(bytes(90_000))
        answers = [await socket_.recv(), await socket_.recv()]
        await (await socket_.ping())
        await socket_.send("close")
        with pytest.raises(ConnectionClosed) as caught:
            await socket_.recv()
        return socket_.subprotocol, first, *answers, (caught.value.rcvd.code, caught.value.rcvd.reason)


TALK = ("chat", "/talk{}", "näh", bytes(90_000), (4001, "enough"))


@pytest.mark.parametrize("talk", [by_aiohttp, by_websockets], ids=lambda f: f.__name__)
def test_messages_pass_both_ways(serving, context, talk):
    """Text, bytes, subprotocol, ping and close code arrive, verified in the handshake and through the proxy."""
    verified = context()

    async def go():
        assert TALK == await talk(f"wss://127.0.0.1:{serving.port}/talk", verified)
        async with proxied(serving, verified) as port:
            assert TALK == await talk(f"ws://127.0.0.1:{port}/talk", None)

    asyncio.run(go())


def test_the_client_s_close_code_arrives(serving, context):
    """What the client closes with is what the application is told."""

    async def go():
        async with a_session() as session:
            async with session.ws_connect(f"wss://127.0.0.1:{serving.port}/talk", ssl=context()) as socket_:
                await socket_.close(code=4321)

    asyncio.run(go())
    end = time.monotonic() + 5
    while "left with 4321" not in serving.text() and time.monotonic() < end:
        time.sleep(0.02)
    assert "left with 4321" in serving.text()


def test_a_message_has_a_limit(serving, context):
    """A message above body_max closes the connection; nothing is ever compressed."""

    async def go():
        async with a_session() as session:
            async with session.ws_connect(
                f"wss://127.0.0.1:{serving.port}/talk", ssl=context(), compress=15
            ) as socket_:
                assert 0 == socket_.compress
                await socket_.receive_str()
                await socket_.send_bytes(bytes(100_001))
                assert (await socket_.receive()).type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
                assert socket_.close_code in (1009, 1006)  # a peer that is still sending may not see the close frame

    asyncio.run(go())


def test_a_quiet_websocket_stays_open(serving, context):
    """The deadlines of HTTP, for a head and for an idle connection, are not for a WebSocket."""

    async def go():
        async with a_session() as session:
            async with session.ws_connect(f"wss://127.0.0.1:{serving.port}/talk", ssl=context()) as socket_:
                await socket_.receive_str()
                await asyncio.sleep(4)
                await socket_.send_str("still here")
                assert "still here" == await socket_.receive_str()

    asyncio.run(go())


@pytest.mark.parametrize(("path", "status"), [("/no", 403), ("/.well-known/glasscase/evidence", 404)])
def test_what_is_refused_is_refused_in_http(serving, context, path, status):
    """The application's refusal is 403; there is no WebSocket below our own prefix."""
    assert status == handshake_status(serving, path)


def handshake_status(one, path):
    head = f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    head += "sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    with client_context().wrap_socket(socket.create_connection(("127.0.0.1", one.port), 5), server_hostname="x") as tls:
        tls.sendall(head.encode())
        return int(tls.recv(65536).split()[1])


@pytest.mark.parametrize("library", LIBRARIES)
def test_there_is_no_websocket_before_serving(enclaves, library):
    """Before the state is serving a WebSocket gets 503 like everything else."""
    one = enclaves(site_paths=[f"rootfs/opt/site/{path}" for path in wheel_files((*PACKAGES, library))]).start()

    assert 503 == handshake_status(one, "/talk")


def test_events_stream_and_uploads_too(serving, context):
    """Each event arrives when it is sent, and each part of an upload reaches the application before the next is sent."""

    async def parts(seen):
        for _ in range(4):
            yield b"x" * 1000
            await asyncio.wait_for(seen.get(), 5)

    async def upload(session, url, ssl):
        seen = asyncio.Queue()
        async with session.post(url + "/up", data=parts(seen), ssl=ssl, headers={"Expect": ""}) as answer:
            got = []
            async for line in answer.content:
                if line.startswith(b"data"):
                    got.append(line)
                    seen.put_nowait(None)
            return got

    async def go(url, ssl):
        async with a_session() as session:
            async with session.get(url + "/events", ssl=ssl) as answer:
                assert b"data: 0\n" == await answer.content.readline()
                start = time.monotonic()
                assert b"data: 4" in await answer.read()
                assert time.monotonic() - start > 0.3  # the others were not there yet
            assert [b"data: 1000\n"] * 4 == [line for line in await upload(session, url, ssl) if b" 0" not in line]

    async def both():
        await go(f"https://127.0.0.1:{serving.port}", context())
        async with proxied(serving, context()) as port:
            await go(f"http://127.0.0.1:{port}", True)

    asyncio.run(both())


def test_an_open_websocket_is_cut_when_the_policy_s_window_ends(serving, context):
    """Collateral that the policy accepts for three more seconds: then the connection is cut and a new one refused."""
    said = []

    async def go():
        async with a_session() as session, proxied(serving, context(3), said) as port:
            url = f"http://127.0.0.1:{port}/talk"
            start = time.monotonic()
            async with session.ws_connect(url) as socket_:
                await socket_.receive_str()
                with contextlib.suppress(aiohttp.ClientConnectionResetError):
                    while True:
                        await socket_.send_str("still here")
                        if (await socket_.receive(timeout=10)).type is not aiohttp.WSMsgType.TEXT:
                            break
                        await asyncio.sleep(0.05)
                assert 1 < time.monotonic() - start < 8
            await asyncio.sleep(1.1)  # past the last second in which it was good
            async with session.get(f"http://127.0.0.1:{port}/events") as answer:
                assert 502 == answer.status
                assert b"collateral." in await answer.read()

    asyncio.run(go())
    assert any("lapsed" in line for line in said)


def test_a_websocket_that_the_application_has_left_makes_room():
    """Its client may take its time to close, so it is the first that is ended for a new connection."""
    from glasscase.enclave import connections

    class Transport:
        """A transport that is not closed yet."""

    class Base:
        def __init__(self):
            self.transport = Transport()

    class Gateway:
        async def answer(self, scope, receive, send, *, welcome):
            assert not guard.closing

    guard = connections.Guard(Gateway(), header_s=1, stall_s=1, mutual=False)
    made = guard.websocket(Base)()
    guard.enter(made.transport, SimpleNamespace(is_gone=lambda: False))
    asyncio.run(made.app({}, None, None))

    assert [made.transport] == list(guard.closing)
    guard.leave(made.transport)
    assert ([], {}) == (list(guard.closing), guard.open)
    assert guard.websocket(None) is None


def test_a_websocket_without_the_needed_certificate_is_refused_in_http():
    """With mutual TLS a WebSocket over HTTP/2 gets 403 in the messages of a WebSocket; the application never sees it."""

    async def application(*_):
        raise AssertionError("the application was called")

    gateway = Gateway(None, body_max=1, idle_s=1)
    gateway.open(application, {})
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "websocket", "path": "/", "extensions": {"websocket.http.response": {}}}
    asyncio.run(gateway.answer(scope, receive, send, welcome=False))

    assert [("websocket.http.response.start", 403), ("websocket.http.response.body", None)] == [
        (message["type"], message.get("status")) for message in sent
    ]
