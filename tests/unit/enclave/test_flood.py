"""A flood of connections of any kind keeps nobody from our own endpoints, and cuts off no request of a good client needlessly.

Most tests run the listener with small limits in a thread, with real TLS sockets; the last ones flood a real enclave.
"""

import asyncio
import concurrent.futures
import contextlib
import gc
import http.client
import inspect
import socket
import ssl
import threading
import time
import weakref
from types import SimpleNamespace

import h2.config
import h2.connection
import h2.events
import h2.settings
import hypercorn.protocol.h2
import pytest

from glasscase.codec import cbor
from glasscase.config.enclave import ServerOptions
from glasscase.enclave import asgi, connections, gateway, running
from glasscase.enclave.keys import server_context
from glasscase.enclave.serve import adapt_wsgi, make_server

from .conftest import HTTP2_PACKAGES, PACKAGES, Peer, client_context, make_config, self_signed, wheel_files
from .test_http2 import CUTS, Client
from .test_listener import Unread, Wire, raw, resident_bytes, sockets_of, uvicorn_parts, wait_until

PREFIX = "/.well-known/glasscase/"
LIMITS = {"CONNECTIONS_MAX": 24, "RUNNING_MAX": 12, "UPLOADS_MAX": 4, "JUDGED_MAX": 2}
HEAD = " HTTP/1.1\r\nhost: x\r\n"
HOLD = f"GET /hold{HEAD}\r\n".encode()
BODY = f"POST /length{HEAD}content-length: 10\r\n\r\nabc".encode()
ENVELOPE = f"POST {PREFIX}provision{HEAD}content-type: application/cose\r\ncontent-length: 10\r\n\r\nabc".encode()
GONE = f"GET /other{HEAD}connection: close\r\n\r\n".encode()
UPGRADE = (
    f"GET /talk{HEAD}connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
).encode()


GET = ((":method", "GET"), (":scheme", "https"), (":authority", "x"), (":path", "/"))
CONNECT = ((":method", "CONNECT"), (":protocol", "websocket"), *GET[1:], ("sec-websocket-version", "13"))


async def app(scope, receive, send):
    """Hold a request open, read a body, or talk."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        return
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return
        size += len(message["body"])
        more = message.get("more_body", False)
    if scope["path"] == "/hold":
        await receive()
        return
    if scope["path"] == "/slow":
        await asyncio.sleep(2)
    length = {"/large": 24 << 20, "/medium": 4 << 20}.get(scope["path"], 0)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % size + bytes(length)})


class Inside:
    """What the gateway asks of an enclave."""

    def __init__(self):
        self.judging = 0
        self.most = 0
        self.free = asyncio.Event()
        self.free.set()

    async def evidence(self):
        return b"evidence"

    async def attest(self, *, nonce, beacon):
        return b"fresh"

    async def provision(self, envelope):
        self.judging += 1
        self.most = max(self.most, self.judging)
        await self.free.wait()
        self.judging -= 1
        return b"receipt"

    def status(self):
        return {}


class Listener(Peer):
    """One listener in a thread of its own."""

    def __init__(self, certificate, **options):
        values = {"header_timeout": 20, "idle_timeout": 20, "drain": 1, "body_max": 100_000, **options}
        self.options = ServerOptions(**values)
        self.context = server_context(())
        self.context.load_cert_chain(certificate)
        self.ready = threading.Event()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.run()))

    async def run(self):
        self.loop = asyncio.get_running_loop()
        self.inside = Inside()
        self.gateway = gateway.Gateway(self.inside, body_max=self.options.body_max, idle_s=self.options.idle_timeout)
        self.server = make_server(
            self.gateway, self.context, self.options, host="127.0.0.1", port=0, ready=self.listening
        )
        self.server.config.timeout_graceful_shutdown = 0.1
        await self.server.serve()

    def listening(self, port):
        self.port = port
        self.ready.set()

    def serve(self, application=app):
        self.loop.call_soon_threadsafe(self.gateway.open, application, {})

    def provision(self, body=b"envelope"):
        return self.ask("POST", PREFIX + "provision", body, {"content-type": "application/cose"})

    def is_reachable(self):
        """Return whether everything of our own is answered."""
        return [
            self.ask("GET", PREFIX + "evidence"), self.ask("POST", PREFIX + "evidence", cbor.encode({})),
            self.provision(), self.ask("GET", PREFIX + "status")[0],
        ] == [(200, b"evidence"), (200, b"fresh"), (200, b"receipt"), 200]  # fmt: skip


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Return the path of a key and its certificate."""
    return self_signed(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def listener(certificate, monkeypatch):
    """Return a function that makes a listener with small limits."""
    homes = {"CONNECTIONS_MAX": connections, "RUNNING_MAX": running}
    for name, value in LIMITS.items():
        monkeypatch.setattr(homes.get(name, gateway), name, value)
    made = []

    def make(*, serving=True, **options):
        one = Listener(certificate, **options)
        made.append(one)
        one.thread.start()
        assert one.ready.wait(10)
        if serving:
            one.serve()
        return one

    yield make
    for one in made:
        one.server.should_exit = True
        one.thread.join(15)
        assert not one.thread.is_alive()


@pytest.fixture
def crowd():
    """Return a function that opens connections which say something and stay; all of them are closed after the test."""
    held = []

    def make(one, count, said=b"", *, http2=False, threads=1):
        def connect(_=None):
            context = client_context()
            if http2:
                context.set_alpn_protocols(["h2"])
            with contextlib.suppress(OSError):  # it may be ended at once
                connection = context.wrap_socket(raw(one, tls=False), server_hostname="x")
                held.append(connection)
                connection.sendall(said)
                time.sleep(0.005)  # or it would be the one that has waited longest when the next one comes
                return connection

        if threads == 1:
            return [connect() for _ in range(count)]
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            return list(pool.map(connect, range(count)))

    yield make
    for connection in held:
        connection.close()


def frames(method, path, *, streams=1, body=b"", window=65535):
    """Return the bytes of an HTTP/2 client that asks, sends what there is of the body and does not read."""
    client = h2.connection.H2Connection(h2.config.H2Configuration())
    client.initiate_connection()
    client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
    for number in range(streams):
        stream = 2 * number + 1
        headers = [(":method", method), (":scheme", "https"), (":authority", "x"), (":path", path)]
        client.send_headers(stream, [*headers, ("content-type", "application/cose")], end_stream=method == "GET")
        if body:
            client.send_data(stream, body)
    return client.data_to_send()


KINDS = {
    "nothing": (b"", False),
    "half a head": (b"GET / HT", False),
    "held requests": (HOLD, False),
    "bodies": (BODY, False),
    "envelopes": (ENVELOPE, False),
    "closing": (GONE, False),
    "closing unread": (GONE.replace(b"/other", b"/medium"), False),
    "websockets": (UPGRADE, False),
    "http2 nothing": (b"", True),
    "http2 held requests": (frames("GET", "/hold"), True),
    "http2 many held requests": (frames("GET", "/hold", streams=20), True),
    "http2 bodies": (frames("POST", "/length", body=b"abc"), True),
    "http2 envelopes": (frames("POST", PREFIX + "provision", body=b"abc"), True),
    "http2 unread evidence": (frames("GET", PREFIX + "evidence", window=0), True),
    "http2 unread answers": (frames("GET", "/large", window=0), True),
}


@pytest.mark.parametrize("serving", [True, False], ids=["serving", "waiting"])
@pytest.mark.parametrize(("said", "http2"), KINDS.values(), ids=KINDS)
def test_our_own_endpoints_are_reached(listener, crowd, said, http2, serving):
    """Whatever a flood does with its connections, evidence and provisioning are answered at once."""
    one = listener(serving=serving)
    crowd(one, 2 * LIMITS["CONNECTIONS_MAX"], said, http2=http2)
    start = time.monotonic()

    assert one.is_reachable()
    assert time.monotonic() - start < 3


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind not in ("nothing", "closing unread") and "envelopes" not in kind]
)
def test_a_running_request_is_not_ended_for_others(listener, crowd, kind):
    """What the application is working on is answered, and a WebSocket with messages stays, whatever comes meanwhile."""
    said, http2 = KINDS[kind]
    one = listener(idle_timeout=3)
    with contextlib.closing(Talk(one)) as talking:
        with concurrent.futures.ThreadPoolExecutor(1) as pool, talking.always(b"more") as heard:
            answer = pool.submit(one.ask, "GET", "/slow")
            wait_until(lambda: one.gateway._running.count == 2)
            for _ in range(3):
                crowd(one, LIMITS["CONNECTIONS_MAX"], said, http2=http2)

            assert (200, b"0") == answer.result()
        assert {b"more"} == set(heard)
        assert b"still" == talking.say(b"still")


class Talk:
    """A WebSocket client; messages have less than 126 bytes."""

    def __init__(self, one):
        self.socket = raw(one)
        self.socket.sendall(UPGRADE)
        assert self.socket.recv(65536).startswith(b"HTTP/1.1 101 ")

    def say(self, text):
        self.socket.sendall(b"\x81" + bytes([0x80 | len(text)]) + bytes(4) + text)
        while (frame := self.socket.recv(65536)).startswith(b"\x89"):  # a ping
            pass
        return frame[2:]

    @contextlib.contextmanager
    def always(self, text):
        """Say it ten times a second meanwhile, however slow the machine is; give what was answered."""
        stop, heard = threading.Event(), []

        def talk():
            while not stop.wait(0.1):
                heard.append(self.say(text))

        thread = threading.Thread(target=talk)
        thread.start()
        try:
            yield heard
        finally:
            stop.set()
            thread.join()

    def close(self):
        self.socket.close()


def test_one_request_too_many_is_told(listener, crowd):
    """Above the limit the answer is 503 on a connection that stays, until the application has room."""
    one = listener()
    held = crowd(one, LIMITS["RUNNING_MAX"], HOLD)
    wait_until(lambda: one.gateway._running.count == LIMITS["RUNNING_MAX"])
    connection = http.client.HTTPSConnection("127.0.0.1", one.port, context=client_context(), timeout=5)

    assert (503, running.BUSY) == one.ask("GET", "/other", connection=connection)
    with Client(one) as client:
        assert (503, running.BUSY) == client.ask("GET", "/other")
    with raw(one) as upgrade:
        upgrade.sendall(UPGRADE)
        assert upgrade.recv(65536).startswith(b"HTTP/1.1 503 ")
    held[0].close()
    wait_until(lambda: one.gateway._running.count < LIMITS["RUNNING_MAX"])
    assert (200, b"0") == one.ask("GET", "/other", connection=connection)
    connection.close()


def test_the_body_that_does_not_come_makes_room(listener, crowd):
    """A request whose body has stopped is ended for a new one, longest first; an upload that goes on is not."""
    one = listener()
    first, *_ = crowd(one, LIMITS["RUNNING_MAX"] - 1, BODY)
    with raw(one) as upload:
        upload.sendall(BODY)
        wait_until(lambda: one.gateway._running.count == LIMITS["RUNNING_MAX"])
        for part in (b"d", b"e", b"f"):
            upload.sendall(part)
            time.sleep(0.1)
            assert (200, b"0") == one.ask("GET", "/other")
        upload.sendall(b"ghij")
        assert upload.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert first.recv(65536).startswith(b"HTTP/1.1 408 ")


def test_a_part_that_comes_at_the_last_moment_does_not_keep_the_place():
    """What was told to end for another ends, or that one would wait for nothing: a flood of small parts would keep all out."""

    async def go():
        waits, arrived, sent = running.OrderedDict(), asyncio.Event(), []

        async def receive():
            await arrived.wait()
            return {"type": "http.request", "body": b"d", "more_body": True}

        async def send(message):
            sent.append(message.get("status"))

        one = running._Limited(receive, send, waits, body_max=10, idle_s=20)
        first = asyncio.create_task(one.receive())
        await asyncio.sleep(0)
        arrived.set()
        assert (await first)["body"] == b"d"

        arrived.clear()
        second = asyncio.create_task(one.receive())
        await asyncio.sleep(0)
        arrived.set()  # and its task has not run yet
        assert running.end_oldest(waits)
        return await second, sent

    assert ({"type": "http.disconnect"}, [408, None]) == asyncio.run(go())


def test_what_does_not_end_makes_no_room(listener, crowd, monkeypatch):
    """The application never has more than its limit: one more waits until what was told to end has ended, a second at most."""
    monkeypatch.setattr(running, "END_S", 0.5)
    one, having, most, free = listener(serving=False), [], [], threading.Event()

    async def stubborn(scope, receive, send):
        having.append(scope)
        most.append(len(having))
        try:
            while (await receive())["type"] == "http.request" and scope["method"] == "POST":
                pass
            while scope["method"] == "POST" and not free.is_set():
                await asyncio.sleep(0.01)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        finally:
            having.pop()

    one.serve(stubborn)
    limit = LIMITS["RUNNING_MAX"]
    crowd(one, limit, BODY)
    wait_until(lambda: len(having) == limit)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert [(503, running.BUSY)] * 4 == list(pool.map(lambda _: one.ask("GET", "/"), range(4)))
        threading.Timer(0.2, free.set).start()
        assert [(200, b"")] * 4 == list(pool.map(lambda _: one.ask("GET", "/"), range(4)))
    wait_until(lambda: len(having) == limit - 8)
    assert limit == max(most)
    assert limit - 8 == one.gateway._running.count


def test_an_idle_websocket_makes_room(listener, crowd):
    """A WebSocket without messages for idle_timeout is closed with 1013 for a new request, and never without need."""
    one = listener(idle_timeout=1)
    idle, talking = Talk(one), Talk(one)
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        assert b"here" == talking.say(b"here")
        time.sleep(0.2)
    assert b"idle" == idle.say(b"idle")
    crowd(one, LIMITS["RUNNING_MAX"] - 2, HOLD)
    wait_until(lambda: one.gateway._running.count == LIMITS["RUNNING_MAX"])

    assert (503, running.BUSY) == one.ask("GET", "/other")
    end = time.monotonic() + 1.2
    while time.monotonic() < end:
        assert b"here" == talking.say(b"here")
        time.sleep(0.2)
    assert (200, b"0") == one.ask("GET", "/other")
    assert b"\x88\x02\x03\xf5" == idle.socket.recv(4)
    assert b"here" == talking.say(b"here")
    for talk in (idle, talking):
        talk.close()


def test_envelopes_that_wait_have_a_limit(listener):
    """While envelopes wait for their answer one more is refused: their memory is bounded."""
    one = listener(serving=False)
    one.loop.call_soon_threadsafe(one.inside.free.clear)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(one.provision) for _ in range(2)]
        wait_until(lambda: one.inside.judging == LIMITS["JUDGED_MAX"])

        assert (403, b"refused") == one.provision()
        one.loop.call_soon_threadsafe(one.inside.free.set)
        assert [(200, b"receipt")] * 2 == [answer.result() for answer in answers]
    assert (200, b"receipt") == one.provision()


def test_a_request_that_is_cancelled_counts_no_longer():
    """Whatever ends the wait for an answer, the next envelope is judged."""
    scope = {
        "type": "http", "method": "POST", "path": PREFIX + "provision", "headers": [(b"content-type", b"application/cose")],
    }  # fmt: skip

    async def receive():
        return {"type": "http.request", "body": b"envelope"}

    async def go():
        inside, answers = Inside(), []
        one = gateway.Gateway(inside, body_max=1000, idle_s=5)

        async def send(message):
            answers.append(message.get("status"))

        inside.free.clear()
        for _ in range(gateway.JUDGED_MAX):
            task = asyncio.create_task(one(scope, receive, send))
            await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        inside.free.set()
        await one(scope, receive, send)
        return answers

    assert [200, None] == asyncio.run(go())


def test_a_wait_that_has_just_ended_is_passed_over():
    """The oldest upload may have run out of time in the same turn of the loop; then the next one is ended."""

    async def go():
        waits = running.OrderedDict()
        ended = []

        async def wait(name, seconds):
            try:
                async with asyncio.timeout(seconds) as waits[name]:
                    await asyncio.sleep(9)
            except TimeoutError:
                ended.append(name)

        tasks = [asyncio.create_task(wait("late", 0.01)), asyncio.create_task(wait("next", 9))]
        await asyncio.sleep(0)
        time.sleep(0.02)
        ready = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.011, lambda: ready.set_result(running.end_oldest(waits)))
        assert await ready
        await asyncio.gather(*tasks)
        return ended, running.end_oldest(waits)

    assert (["late", "next"], False) == asyncio.run(go())


def test_arrivals_of_one_turn_end_as_many(monkeypatch):
    """Each connection too many ends another one, though an ended one is gone only later."""
    monkeypatch.setattr(connections, "CONNECTIONS_MAX", 3)
    ended = []
    guard = connections.Guard(None, header_s=5, stall_s=5, mutual=False)
    wires = [Wire(ended, number) for number in range(6)]
    for wire in wires[:3]:
        guard.enter(wire, SimpleNamespace(end=wire.abort))
    guard.waiting.update(dict.fromkeys((wires[1], wires[0])))
    guard.finish(wires[2])
    for wire in wires[3:]:
        guard.enter(wire, SimpleNamespace(end=wire.abort))

    assert [2, 1, 0] == ended
    assert set(wires[3:]) == set(guard.open)
    last = Wire(ended, 6)
    guard.enter(last, SimpleNamespace(end=last.abort))
    assert [2, 1, 0, 6] == ended  # nobody waits


@pytest.mark.parametrize("error", [None, ConnectionResetError()])
def test_a_lost_connection_leaves_no_timer(error):
    """A timer would keep its buffers for a minute, and a client may reset as many connections as it likes."""

    async def go():
        guard = connections.Guard(app, header_s=5, stall_s=5, mutual=False)
        made = guard.protocol(**uvicorn_parts())
        made.tls = Unread()
        made.connection_made(Wire([], 0))
        made.data_received(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await asyncio.sleep(0.05)
        assert made.timeout_keep_alive_task is not None
        made.connection_lost(error)
        return made

    made = asyncio.run(go())
    assert [None] * 3 == [made.timeout_keep_alive_task, made._timer, made._stall]


@pytest.mark.parametrize("kind", ["kept", "closed", "http2"])
def test_a_client_that_reads_slowly_gets_everything(listener, kind, monkeypatch):
    """The deadline for an unread answer begins anew with every part that is read."""
    monkeypatch.setattr(connections, "CLOSE_S", 1)
    one = listener(idle_timeout=1, header_timeout=1)
    got = slowly(one, kind, seconds=30)

    assert got >= 24 << 20


@pytest.mark.parametrize("kind", ["kept", "closed", "http2"])
def test_a_client_that_stops_reading_is_ended(listener, kind, monkeypatch):
    """An answer that is not read any more ends its connection after the same time."""
    monkeypatch.setattr(connections, "CLOSE_S", 1)
    one = listener(idle_timeout=1, header_timeout=1)
    got = slowly(one, kind, seconds=0)

    assert got < 24 << 20


def slowly(one, kind, *, seconds):
    """Return the bytes that are had by reading slowly for so many seconds and then, after a pause, what is left."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    plain.connect(("127.0.0.1", one.port))
    context = client_context()
    context.set_alpn_protocols(["h2"] if kind == "http2" else ["http/1.1"])
    got, last, end = 0, 0, time.monotonic() + seconds
    with context.wrap_socket(plain) as connection:
        head = f"GET /large{HEAD}{'connection: close' if kind == 'closed' else 'x: y'}\r\n\r\n".encode()
        connection.sendall(frames("GET", "/large", window=1 << 30) if kind == "http2" else head)
        if kind == "http2":
            connection.sendall(b"\0\0\4\x08\0\0\0\0\0" + (1 << 30).to_bytes(4, "big"))  # the connection's window
        if not seconds:
            time.sleep(4)
        connection.settimeout(5)
        with contextlib.suppress(OSError):
            while got < 24 << 20:
                part = connection.recv(65536)
                if not part:
                    break
                got += len(part)
                if time.monotonic() < end and got - last > 3 << 20:
                    last = got
                    time.sleep(0.6)
    return got


@pytest.mark.parametrize("kind", ["many answers", "one message"])
def test_an_http2_client_that_reads_slowly_but_on_gets_everything(listener, kind):
    """The deadline begins anew with every part, also of another answer, and within the message of a WebSocket."""
    one = listener(serving=False, idle_timeout=1)

    async def answer(scope, receive, send):
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "bytes": bytes(400_000)})
            await send({"type": "websocket.close"})
        else:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": bytes(100_000)})

    one.serve(answer)
    got, ended, streams = 0, 0, 1 if kind == "one message" else 10
    with Client(one) as client:
        client.h2.config.validate_outbound_headers = False  # h2 knows no extended CONNECT
        for stream in range(1, 2 * streams, 2):
            client.h2.send_headers(stream, CONNECT if streams == 1 else GET, end_stream=streams > 1)
        client.flush()
        while ended < streams:
            for event in client.receive():
                assert not isinstance(event, CUTS)
                ended += isinstance(event, h2.events.StreamEnded)
                size = len(event.data) if isinstance(event, h2.events.DataReceived) else 0
                got += size
                time.sleep(size / (200_000 if streams == 1 else 300_000))

    assert got >= (400_000 if streams == 1 else 1_000_000)


@pytest.mark.parametrize("kind", KINDS)
def test_connections_that_are_gone_leave_nothing(listener, crowd, monkeypatch, kind):
    """Their memory is given back at once: after no deadline, and without the garbage collection."""
    said, http2 = KINDS[kind]
    made = []
    begin = connections.Guard.begin

    def noted(*arguments):
        tls = begin(*arguments)
        made.append(weakref.ref(tls))
        return tls

    monkeypatch.setattr(connections.Guard, "begin", noted)
    one = listener()
    gc.collect()
    gc.disable()
    try:
        held = crowd(one, 5, said, http2=http2)
        time.sleep(0.2)
        assert all(tls() is not None for tls in made)
        for connection in held:
            connection.close()

        wait_until(lambda: all(tls() is None for tls in made), seconds=4)
        assert 5 == len(made)
    finally:
        gc.enable()
    assert not one.server._guard.open
    assert not one.server._guard.http2._tasks


def test_a_long_http2_request_is_answered(listener):
    """The time for idle connections does not run while the application works."""
    one = listener(idle_timeout=1, header_timeout=1)
    with Client(one) as client:
        assert (200, b"0") == client.ask("GET", "/slow")


@pytest.mark.parametrize("said", [frames("GET", "/large", window=0), b""], ids=["unread", "reset"])
def test_http2_without_progress_ends(listener, said):
    """An answer that is not read, and a connection whose only request was taken back, end though the client pings."""
    one = listener(idle_timeout=1, header_timeout=1)
    with Client(one) as client:
        if said:
            client.socket.sendall(said[24:])  # without the preface
        else:
            stream = client.h2.get_next_available_stream_id()
            client.h2.send_headers(
                stream, [(":method", "GET"), (":scheme", "https"), (":authority", "x"), (":path", "/")]
            )
            client.h2.reset_stream(stream)
            client.flush()
        start = time.monotonic()
        client.socket.settimeout(0.2)
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while time.monotonic() - start < 6:
                with contextlib.suppress(TimeoutError):
                    client.socket.sendall(b"\0\0\x08\6\0\0\0\0\0" + bytes(8))
                    if not client.socket.recv(65536):
                        break

        assert time.monotonic() - start < 5


PARTS_MAX = 100_000  # an application that has sent them all did not learn that nobody gets them
PART = bytes(65536)


class Stream:
    """An application whose answer has no end, and which never looks for its client."""

    def __init__(self):
        self.parts = 0
        self.ended = threading.Event()

    async def asgi(self, scope, receive, send):
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while self.parts < PARTS_MAX:
                self.parts += 1
                await send({"type": "http.response.body", "body": PART, "more_body": True})
        finally:
            self.ended.set()

    async def talk(self, scope, receive, send):
        try:
            await send({"type": "websocket.accept"})
            while self.parts < PARTS_MAX:
                self.parts += 1
                await send({"type": "websocket.send", "bytes": PART})
        finally:
            self.ended.set()

    def wsgi(self, environ, start_response):
        start_response("200 OK", [])
        try:
            while self.parts < PARTS_MAX:
                self.parts += 1
                yield PART
        finally:
            self.ended.set()


@pytest.mark.parametrize("how", ["goes", "only says so", "does not read", "resets"])
@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_a_stream_for_nobody_ends(listener, crowd, kind, http2, how):
    """The application waits for a client that does not read, and learns that it is gone; the event loop is free meanwhile."""
    one, stream = listener(serving=False, idle_timeout=15 if how in ("goes", "resets") else 1), Stream()
    one.serve(stream.asgi if kind == "asgi" else adapt_wsgi(stream.wsgi, 1))
    (client,) = crowd(one, 1, frames("GET", "/", window=1 << 30) if http2 else f"GET /{HEAD}\r\n".encode(), http2=http2)
    wait_until(lambda: stream.parts)
    time.sleep(0.3)
    before = stream.parts
    assert before < 500  # what all the buffers on the way take, those of the kernel too
    assert one.is_reachable()
    assert not stream.ended.is_set()
    assert stream.parts == before
    if how == "goes" or (how == "resets" and not http2):
        client.close()
    elif how == "resets":
        client.sendall(b"\0\0\4\3\0\0\0\0\1" + bytes(4))
    elif how == "only says so":
        client.shutdown(socket.SHUT_WR)

    assert stream.ended.wait(9)
    assert stream.parts < before + 100
    assert one.is_reachable()
    if not http2 or how != "resets":  # which ends the stream alone
        wait_until(lambda: not one.server._guard.open, 9)


def test_a_whole_answer_that_nobody_reads_does_not_outlive_the_end_of_its_client(listener, crowd):
    """A client says by a bare FIN that it is done and reads nothing; the connection ends though the application has long ended."""
    one = listener(idle_timeout=1)
    (client,) = crowd(one, 1, f"GET /medium{HEAD}\r\n".encode())
    wait_until(lambda: one.server._guard.open and not one.gateway._running.count)
    client.shutdown(socket.SHUT_WR)

    wait_until(lambda: not one.server._guard.open, 9)


def connect_frames():
    """Return the bytes of an HTTP/2 client that asks for a WebSocket."""
    client = h2.connection.H2Connection(h2.config.H2Configuration(validate_outbound_headers=False))
    client.initiate_connection()
    client.send_headers(1, CONNECT)
    return client.data_to_send()


@pytest.mark.parametrize("how", ["goes", "resets"])
@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
def test_a_websocket_for_nobody_ends(listener, crowd, caplog, http2, how):
    """An application that sends messages without an end and never receives learns that its client is gone."""
    one, stream = listener(serving=False), Stream()
    one.serve(stream.talk)
    (client,) = crowd(one, 1, connect_frames() if http2 else UPGRADE, http2=http2)
    wait_until(lambda: stream.parts)
    time.sleep(0.3)
    before = stream.parts
    assert before < 500
    if how == "resets" and http2:
        client.sendall(b"\0\0\4\3\0\0\0\0\1" + bytes(4))
    else:
        client.close()

    assert stream.ended.wait(9)
    assert stream.parts < before + 100
    assert one.is_reachable()
    assert "" == caplog.text


def test_a_stream_after_its_body_was_ended_ends(listener):
    """Who goes on with an answer though the body of the request did not come in time is told by the next part."""
    one, stream = listener(serving=False, idle_timeout=1), Stream()

    async def answer(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await receive()
        await receive()
        await stream.asgi(scope, receive, lambda message: send({**message, "type": "http.response.body"}))

    one.serve(answer)
    with raw(one) as client:
        client.sendall(BODY)
        assert stream.ended.wait(9)

    assert 2 > stream.parts


@pytest.mark.parametrize("why", ["the body did not come", "too long", "write"])
def test_a_wsgi_stream_that_cannot_be_sent_frees_its_thread(listener, caplog, why):
    """The only thread is free again: the body was ended after the answer had begun, the answer is longer than it said, or
    write() is called for a client that is gone.
    """
    one, sent, ended = listener(serving=False, idle_timeout=1), [], threading.Event()

    def answer(environ, start_response):
        if environ["PATH_INFO"] == "/other":
            start_response("200 OK", [])
            return [b"other"]
        write = start_response("200 OK", [("content-length", "3")] if why == "too long" else [])
        return written(write) if why == "write" else parts(environ["wsgi.input"])

    def parts(body):
        try:
            yield b"a"
            body.read()
            while len(sent) < PARTS_MAX:
                sent.append(b"more")
                yield b"more"
        finally:
            ended.set()

    def written(write):
        try:
            while len(sent) < PARTS_MAX:
                sent.append(PART)
                write(PART)
        finally:
            ended.set()
        return []

    one.serve(adapt_wsgi(answer, 1))
    with raw(one) as client:
        client.sendall(BODY if why == "the body did not come" else HOLD)
        wait_until(lambda: sent)
        assert why == "write" or ended.wait(5)
    assert ended.wait(5)

    assert len(sent) < 500
    assert (200, b"other") == one.ask("GET", "/other")
    if why == "too long":
        wait_until(lambda: "Too much data" in caplog.text)
    else:  # uvicorn may see that the answer has no end before it sees that the client is gone
        assert {"ASGI callable returned without completing response."} >= {each.getMessage() for each in caplog.records}


def buffers_of(monkeypatch):
    """Return the list of what hypercorn keeps of each answer from now on."""
    buffers = []

    class Noted(hypercorn.protocol.h2.StreamBuffer):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            buffers.append(self)

    monkeypatch.setattr(hypercorn.protocol.h2, "StreamBuffer", Noted)
    return buffers


def test_a_stream_that_is_reset_leaves_nothing_and_ends_no_other(listener, monkeypatch):
    """What an HTTP/2 client did not let through before it reset a stream is forgotten; its other requests are answered."""
    buffers = buffers_of(monkeypatch)
    one = listener(idle_timeout=1, header_timeout=20)
    with Client(one) as client:
        client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1000})
        for _ in range(5):
            stream = client.h2.get_next_available_stream_id()
            path = [(":method", "GET"), (":scheme", "https"), (":authority", "x"), (":path", "/medium")]
            client.h2.send_headers(stream, path, end_stream=True)
            client.flush()
            wait_until(lambda: buffers and buffers[-1].buffer)
            client.h2.reset_stream(stream)
            client.flush()

        assert (200, b"0") == client.ask("GET", "/slow")
        assert [b""] * 6 == [bytes(buffer.buffer) for buffer in buffers]


@pytest.mark.parametrize("how", ["raises", "returns", "exits", "its body is too long"])
def test_an_http2_answer_that_breaks_off_is_reset(listener, monkeypatch, how):
    """Its client is told at once, not when the connection ends; the other requests go on, and nothing is left of it."""
    buffers = buffers_of(monkeypatch)
    one = listener(serving=False)

    async def answer(scope, receive, send):
        broken = scope["path"] == "/broken"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": broken})
        if broken and how.startswith("its body"):
            while (await receive())["type"] == "http.request":
                pass
            await send({"type": "http.response.body", "body": b"rest"})
        elif broken and how != "returns":
            raise {"raises": ValueError, "exits": SystemExit}[how]

    one.serve(answer)
    request = ("POST", "/broken", bytes(150_000)) if how.startswith("its body") else ("GET", "/broken")
    with Client(one) as client:
        for _ in range(3):
            _, body, end = client.exchange(*request)
            assert (b"half", h2.events.StreamReset) == (body, end)
            assert (200, b"half") == client.ask("GET", "/whole")
        assert all(buffer.complete for buffer in buffers)


@pytest.mark.parametrize("wait_s", [0, 0.5], ids=["answered at once", "answered later"])
def test_an_http2_upload_that_nobody_takes_is_answered(listener, caplog, wait_s):
    """An application that does not read the body ends neither the connection nor its other requests, and leaves nothing."""
    one = listener(serving=False, idle_timeout=3, body_max=10 << 20)

    async def answer(scope, receive, send):
        await asyncio.sleep(wait_s)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"no"})

    one.serve(answer)
    with Client(one) as client:
        assert (200, b"no") == client.ask("POST", "/", bytes(1 << 20))
        assert (200, b"no") == client.ask("GET", "/")
    wait_until(lambda: not one.server._guard.http2._tasks)

    assert "" == caplog.text


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_the_end_of_a_stream_for_nobody_is_not_logged(listener, caplog, kind):
    """A client that goes away is nobody's error."""
    one, stream = listener(serving=False), Stream()
    one.serve(stream.asgi if kind == "asgi" else adapt_wsgi(stream.wsgi, 1))
    for client in (raw(one), Client(one).socket):
        client.sendall(
            f"GET /{HEAD}\r\n".encode() if client.selected_alpn_protocol() is None else frames("GET", "/")[24:]
        )
        wait_until(lambda: stream.parts)
        client.close()
        assert stream.ended.wait(9)
        stream.ended.clear()
        stream.parts = 0
    wait_until(lambda: not one.gateway._running.count)

    assert "" == caplog.text


def test_an_answer_for_nobody_is_no_error(listener):
    """What is not a stream is dropped without a word: an application may go on after its answer."""
    one, went_on = listener(serving=False), threading.Event()

    async def answer(scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": PART})
        went_on.set()

    one.serve(answer)
    with raw(one) as client:
        client.sendall(HOLD)
        time.sleep(0.3)

    assert went_on.wait(5)


def test_a_connection_that_is_lost_while_a_thread_asks_is_gone():
    """WSGI applications ask from their threads, between two lines of the event loop."""
    seen = iter([SimpleNamespace(is_closing=lambda: True), None, None])

    class Lost(connections.Connection):
        _transport = property(lambda _: next(seen))

    assert Lost.is_gone(Lost.__new__(Lost))


def test_a_request_that_waited_for_a_thread_in_vain_is_not_begun(listener):
    """Of WSGI requests in the queue only those are run whose client is still there."""
    one, begun, free = listener(serving=False), [], threading.Event()

    def answer(environ, start_response):
        begun.append(environ["PATH_INFO"])
        free.wait(10)
        start_response("200 OK", [])
        return [b"done"]

    one.serve(adapt_wsgi(answer, 1))
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(one.ask, "GET", "/first")
        wait_until(lambda: begun)
        with raw(one) as gone, Client(one) as gone_too:
            gone.sendall(HOLD)
            gone_too.socket.sendall(frames("GET", "/hold")[24:])
            wait_until(lambda: one.gateway._running.count == 3)
        last = pool.submit(one.ask, "GET", "/last")
        wait_until(lambda: one.gateway._running.count == 4)
        time.sleep(0.3)
        free.set()

        assert [(200, b"done")] * 2 == [first.result(), last.result()]
    assert ["/first", "/last"] == begun


LARGE = ("closing unread", "http2 unread answers")  # thousands of them need the memory of what the application answers


@pytest.mark.parametrize(
    "kind",
    [
        kind if kind == "held requests" else pytest.param(kind, marks=pytest.mark.long)
        for kind in KINDS
        if kind not in LARGE
    ],
)
def test_a_real_enclave_is_provisioned_in_a_flood(enclave, crowd, kind):
    """2,100 connections of one kind, while it waits and again while it serves: everything of our own is answered in seconds."""
    said, http2 = KINDS[kind]
    one = enclave(
        app={"demo.py": "import asyncio\n\n" + inspect.getsource(app)},
        config=make_config(server={"header_timeout": 60, "idle_timeout": 60}),
        instance={"timeout": 600},
        site_paths=[f"rootfs/opt/site/{path}" for path in wheel_files((*PACKAGES, *HTTP2_PACKAGES, "wsproto"))],
    ).start()  # fmt: skip
    crowd(one, 2100, said, http2=http2, threads=8)
    start = time.monotonic()
    envelope = one.envelope()
    receipt = one.serve(envelope)
    assert time.monotonic() - start < 10

    crowd(one, 2100, said, http2=http2, threads=8)
    start = time.monotonic()
    assert (200, receipt) == one.provision(envelope)
    assert 200 == one.well_known("POST", "evidence", cbor.encode({"nonce": b"n" * 32}))[0]
    assert b'"serving"' in one.well_known("GET", "status")[1]
    assert time.monotonic() - start < 10
    assert sockets_of(one.process.pid) <= connections.CONNECTIONS_MAX + connections.HANDSHAKES_MAX + 8
    print(kind, resident_bytes(one.process.pid) >> 20, "MiB")
    assert resident_bytes(one.process.pid) < 450 << 20


def test_a_websocket_that_is_not_read_holds_up_nobody(monkeypatch):
    """A client that leaves no room for the close frame: the new request gets its answer, and the application stays within its limit."""
    monkeypatch.setattr(running, "RUNNING_MAX", 1)
    monkeypatch.setattr(running, "END_S", 0.05)
    statuses, sent, readable = [], [], asyncio.Event()

    async def receive():
        await asyncio.Event().wait()

    async def send_socket(message):
        if sent:  # the first message fills all buffers
            await readable.wait()
        sent.append(message["type"])

    async def send(message):
        statuses.append(message.get("status"))

    async def talk(scope, receive, send):
        if scope["type"] != "websocket":
            raise AssertionError("one too many")
        await send({"type": "websocket.accept"})
        await receive()

    async def run():
        gate = gateway.Gateway(Inside(), body_max=1000, idle_s=0)
        gate.open(talk, {})
        scope = {"path": "/", "headers": [], "http_version": "1.1", "method": "GET", asgi.GONE: lambda: False}
        socket = asyncio.create_task(gate.answer({**scope, "type": "websocket"}, receive, send_socket, welcome=True))
        await asyncio.sleep(0.01)
        async with asyncio.timeout(2):
            await gate.answer({**scope, "type": "http"}, receive, send, welcome=True)
        socket.cancel()

    asyncio.run(run())

    assert (["websocket.accept"], [503, None]) == (sent, statuses)
