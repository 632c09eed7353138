"""HTTP/2 with the extra: the same gateway, the same limits, beside HTTP/1.1 on the same port."""

import asyncio
import contextlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import pytest
import wsproto.connection
import wsproto.events
from hypercorn.config import Config
from hypercorn.protocol.events import Body, Data, StreamClosed
from hypercorn.protocol.ws_stream import ASGIWebsocketState, Handshake, WSStream

from glasscase.enclave import http2
from glasscase.evidence.attestation import Attestation

from .conftest import ASGI_APP, HTTP2_PACKAGES, PACKAGES, client_context, make_config, wheel_files

CUTS = (h2.events.StreamReset, h2.events.ConnectionTerminated)
ENDS = (h2.events.StreamEnded, *CUTS)
PREFIX = "/.well-known/glasscase/"
TALK = """
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": str(len(message["bytes"]))})
        return
"""


@pytest.fixture(scope="module")
def serving(enclaves_with_http2):
    """Return an enclave that serves both protocols."""
    one = enclaves_with_http2
    one.start()
    return one


@pytest.fixture(scope="module")
def enclaves_with_http2(tmp_path_factory, platform):
    """Return an enclave whose wheels hold hypercorn."""
    from .conftest import Enclave

    paths = [f"rootfs/opt/site/{path}" for path in wheel_files((*PACKAGES, *HTTP2_PACKAGES))]
    config = make_config(server={"body_max": 100_000, "idle_timeout": 2, "header_timeout": 2, "drain": 3})
    raising = '    if path == "/raise":\n        raise eval(body.decode())("canary-message")\n'
    app = ASGI_APP.replace('    if path == "/secret":', raising + '    if path == "/secret":')
    app = app.replace('    path = scope["path"]\n', TALK + '    path = scope["path"]\n', 1)
    one = Enclave(tmp_path_factory.mktemp("http2"), paths, platform, config=config, app={"demo.py": app})
    yield one
    one.close()


class Client:
    """One HTTP/2 connection."""

    def __init__(self, one):
        context = client_context()
        context.set_alpn_protocols(["h2"])
        self.socket = context.wrap_socket(socket.create_connection(("127.0.0.1", one.port), timeout=10))
        self.protocol = self.socket.selected_alpn_protocol()
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration())
        self.h2.initiate_connection()
        self.flush()

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def ask(self, method, path, body=b"", kind=None):
        """Return status and body of one request."""
        headers, answer, _ = self.exchange(method, path, body, kind)
        return int(dict(headers)[b":status"]) if headers else None, answer

    def exchange(self, method, path, body=b"", kind=None):
        """Return the headers of the answer in their order, its body, and how it ended."""
        stream = self.h2.get_next_available_stream_id()
        headers = [(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", path)]
        headers += [("content-type", kind)] if kind else []
        self.h2.send_headers(stream, headers, end_stream=not body)
        events = []
        while body and not any(isinstance(event, CUTS) for event in events):
            size = min(len(body), self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if size:
                self.h2.send_data(stream, body[:size], end_stream=size == len(body))
                body = body[size:]
                self.flush()
            else:
                events += self.receive()
        self.flush()
        found, parts = (), []
        while True:
            for event in events:
                if getattr(event, "stream_id", stream) != stream:
                    continue  # of one that was reset
                if isinstance(event, h2.events.ResponseReceived):
                    found = tuple(event.headers)
                elif isinstance(event, h2.events.DataReceived):
                    parts.append(event.data)
                elif isinstance(event, ENDS):
                    return found, b"".join(parts), type(event)
            events = self.receive()

    def receive(self):
        data = self.socket.recv(65536)
        if not data:
            return [h2.events.ConnectionTerminated()]
        events = self.h2.receive_data(data)
        for event in events:
            if isinstance(event, h2.events.DataReceived):
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        self.flush()
        return events

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def test_both_protocols(serving):
    """The whole provisioning over HTTP/2, then both protocols reach the application; the prefix stays ours."""
    with Client(serving) as client:
        assert "h2" == client.protocol
        assert (503, b"not serving\n") == client.ask("GET", "/secret")
        status, data = client.ask("GET", PREFIX + "evidence")
        assert (200, serving.attestation()) == (status, Attestation.from_bytes(data))
        assert (403, b"refused") == client.ask("POST", PREFIX + "provision", b"junk", "application/cose")
        assert 200 == client.ask("POST", PREFIX + "provision", serving.envelope(), "application/cose")[0]
    serving.wait_for("serving")

    with Client(serving) as client:
        assert (200, b"s3cret-canary") == client.ask("GET", "/secret")
        assert (200, b"yes") == client.ask("GET", "/state")
        assert (200, b"100000") == client.ask("POST", "/length", bytes(100_000))
        assert 404 == client.ask("GET", PREFIX + "other")[0]
        assert 500 == client.ask("GET", "/boom")[0]
        assert (200, b"hello from /after") == client.ask("GET", "/after")
    assert (200, b"s3cret-canary") == serving.ask("GET", "/secret")

    with Client(serving) as client:
        assert 413 == client.ask("POST", "/length", bytes(150_000))[0]
        assert 200 == client.ask("GET", "/" + "a" * 32_000)[0]
        assert 200 == client.ask("GET", "/" + "%61" * 10_700)[0]
        for start in ("/", PREFIX):
            for end in ("a" * 33_000, "%61" * 11_000, "%E2%82%AC" * 3_700):
                assert 431 == client.ask("GET", start + end)[0]


@pytest.mark.parametrize("what", ["SystemExit", "KeyboardInterrupt", "asyncio.CancelledError", "GeneratorExit"])
def test_a_request_that_exits_does_not_end_the_enclave(serving, what):
    """sys.exit() in a request is an error of that request, over HTTP/2 as over HTTP/1.1; its text is in no log."""
    if serving.status_file()["state"] != "serving":
        serving.serve(serving.envelope())
    with Client(serving) as client:
        with contextlib.suppress(OSError, h2.exceptions.ProtocolError):
            assert 200 != client.ask("POST", "/raise", what.encode())[0]
    with Client(serving) as client:
        assert (200, b"yes") == client.ask("GET", "/state")
    assert "canary" not in serving.text().replace(str(serving.folder), "")


def talk(client, sent):
    """Open a WebSocket that offers compression, send bytes as one message, return its headers and the first that comes back."""
    websocket = wsproto.connection.Connection(wsproto.connection.ConnectionType.CLIENT)
    headers = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":authority", "localhost")]
    headers += [(":path", "/talk"), ("sec-websocket-version", "13"), ("sec-websocket-extensions", "permessage-deflate")]
    client.receive()
    client.h2.send_headers(1, headers)
    client.flush()
    left, found = b"", {}
    while True:
        for event in client.receive():
            if isinstance(event, h2.events.ResponseReceived):
                found = dict(event.headers)
                left = websocket.send(wsproto.events.BytesMessage(data=sent))
            elif isinstance(event, h2.events.DataReceived):
                websocket.receive_data(event.data)
                return found, next(websocket.events())
        while left and (size := min(len(left), client.h2.local_flow_control_window(1), 16384)):
            client.h2.send_data(1, left[:size])
            left = left[size:]
            client.flush()


def test_a_websocket_is_not_compressed_and_has_a_limit(serving):
    """As over HTTP/1.1: lengths tell nothing of secrets, a small frame cannot fill the memory, and 1009 is for a long one."""
    if serving.status_file()["state"] != "serving":
        serving.serve(serving.envelope())
    for size in (100_000, 100_001):
        with Client(serving) as client:
            headers, event = talk(client, bytes(size))
        assert b"200" == headers[b":status"]
        assert b"sec-websocket-extensions" not in headers
        if size > 100_000:
            assert 1009 == event.code
        else:
            assert "100000" == event.data


class Talk:
    """hypercorn's side of a WebSocket with our limits: what it sends, and what its application is given."""

    def __init__(self, most):
        self.sent, self.given = [], []
        config = Config()
        config.websocket_max_message_size = most
        self.stream = WSStream(None, config, None, None, True, None, None, self._send, 1)
        self.stream.handshake = Handshake([(b"sec-websocket-version", b"13")], "2")
        http2.limit(self.stream)
        _, _, self.stream.connection = self.stream.handshake.accept(None, [])
        self.stream.state = ASGIWebsocketState.CONNECTED
        self.stream.app_put = self._put
        self.client = wsproto.connection.Connection(wsproto.connection.ConnectionType.CLIENT)

    async def _send(self, event):
        self.sent.append(event)

    async def _put(self, message):
        self.given.append(message)

    def take(self, *events):
        """Let these events come at once, as one part of the stream."""
        data = b"".join(self.client.send(event) for event in events)
        asyncio.run(self.stream.handle(Body(1, data)))

    def codes(self):
        """Return why it has closed, each time."""
        other = wsproto.connection.Connection(wsproto.connection.ConnectionType.CLIENT)
        other.receive_data(b"".join(event.data for event in self.sent if isinstance(event, Data)))
        return [event.code for event in other.events() if isinstance(event, wsproto.events.CloseConnection)]


def part(data, *, last=False):
    """Return a part of a message."""
    kind = wsproto.events.TextMessage if isinstance(data, str) else wsproto.events.BytesMessage
    return kind(data=data, message_finished=last)


def test_a_text_is_as_long_as_its_bytes():
    """A character of text may be four bytes."""
    talk = Talk(10)
    talk.take(part("\u20ac" * 3, last=True))
    assert ["\u20ac" * 3] == [message["text"] for message in talk.given]
    talk.take(part("\u20ac" * 3))
    assert [] == talk.codes()
    talk.take(part("\u20ac", last=True))  # 12 bytes
    assert [1009] == talk.codes()


@pytest.mark.parametrize("last", [False, True])
def test_nothing_is_kept_of_what_comes_after_a_message_that_is_too_long(last):
    """A client that goes on after its message was refused fills no memory, with short frames neither, and gets no answer."""
    talk = Talk(10)
    talk.take(part(bytes(8)), part(bytes(8), last=last), *[part(b"x", last=last)] * 99)
    for _ in range(9):
        talk.take(*[part(b"x", last=last)] * 99)
    assert [1009] == talk.codes()
    assert [] == talk.given
    assert len(talk.sent) == 1

    talk.take(wsproto.events.CloseConnection(code=1009))
    assert [StreamClosed] == [type(event) for event in talk.sent[1:]]  # it had seen all that came before
    asyncio.run(talk.stream.handle(StreamClosed(1)))
    assert ["websocket.disconnect"] == [message["type"] for message in talk.given]


def test_an_idle_connection_ends(serving):
    """An HTTP/2 connection without a request is ended."""
    with Client(serving) as client:
        client.socket.settimeout(8)
        while client.socket.recv(65536):
            pass


def test_it_stops_cleanly(serving):
    """SIGTERM lets a request over HTTP/2 end, cuts off what takes longer than the drain, and idle connections at once."""
    if serving.status_file()["state"] != "serving":
        serving.serve(serving.envelope())
    with Client(serving) as idle, Client(serving) as quick, Client(serving) as endless, ThreadPoolExecutor(2) as pool:
        assert 200 == idle.ask("GET", "/state")[0]
        done = pool.submit(quick.ask, "POST", "/slow", b"1")
        cut = pool.submit(endless.ask, "POST", "/slow", b"60")
        time.sleep(0.5)
        start = time.monotonic()

        assert 0 == serving.stop()
        assert 3 <= time.monotonic() - start < 3 + 5
        assert (200, b"done") == done.result()
        with contextlib.suppress(OSError):
            assert (200, b"done") != cut.result()
