"""The listener: its endpoints exactly, its limits, and that idle, slow or hostile clients hold up nobody."""

import asyncio
import concurrent.futures
import contextlib
import hashlib
import os
import resource
import socket
import ssl
import time
from pathlib import Path

import pytest
import uvicorn

from glasscase.codec import cbor
from glasscase.enclave import connections
from glasscase.enclave.connections import HANDSHAKES_MAX
from glasscase.evidence.attestation import Attestation, Claims

from .conftest import client_context, make_config

PREFIX = "/.well-known/glasscase/"


@pytest.fixture(scope="module")
def waiting(enclaves):
    """Return an enclave that waits for secrets."""
    return enclaves().start()


@pytest.fixture(scope="module")
def serving(enclaves):
    """Return an enclave that serves its application, with small limits."""
    one = enclaves(config=make_config(server={"body_max": 100_000, "idle_timeout": 2, "header_timeout": 2})).start()
    one.serve()
    return one


def test_the_program_has_the_descriptors_of_its_limits(enclave):
    """Gramine 1.6 and 1.7 start it with 900, whatever the manifest says: fewer than the connections that may be open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != hard < connections.DESCRIPTORS:
        pytest.skip("this account may have fewer")
    resource.setrlimit(resource.RLIMIT_NOFILE, (900, hard))
    try:
        one = enclave().start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert (connections.DESCRIPTORS, hard) == resource.prlimit(one.process.pid, resource.RLIMIT_NOFILE)


def raw(one, *, tls=True, timeout=15):
    plain = socket.create_connection(("127.0.0.1", one.port), timeout=timeout)
    return client_context().wrap_socket(plain, server_hostname="localhost") if tls else plain


def read_all(connection):
    parts = []
    with contextlib.suppress(OSError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_only_tls_13_without_tickets(waiting):
    """TLS 1.2 is refused, and a session cannot be resumed: it would show no certificate."""
    old = client_context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError), socket.create_connection(("127.0.0.1", waiting.port)) as plain:
        old.wrap_socket(plain)
    with raw(waiting) as connection:
        connection.sendall(b"GET " + PREFIX.encode() + b"status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        read_all(connection)

        assert "TLSv1.3" == connection.version()
        assert connection.session is None or not connection.session.has_ticket


@pytest.mark.parametrize(
    ("method", "name", "status"),
    [
        ("GET", "evidence", 200), ("GET", "status", 200), ("PUT", "evidence", 405), ("GET", "provision", 405),
        ("POST", "status", 405), ("DELETE", "provision", 405), ("GET", "", 404), ("GET", "other", 404),
        ("GET", "evidence/", 404), ("GET", "%65vidence", 200), ("GET", "../evidence", 404),
    ],
)  # fmt: skip
def test_endpoints(waiting, method, name, status):
    """Each endpoint takes its method alone; nothing else exists below the prefix."""
    assert status == waiting.ask(method, PREFIX + name)[0]


@pytest.mark.parametrize("path", ["/", "/.well-known", "/.well-known/glasscasex", "/secret"])
def test_everything_else_is_503_before_serving(waiting, path):
    """Before the state is serving there is nothing but 503."""
    assert (503, b"not serving\n") == waiting.ask("GET", path)


def test_status_tells_the_state(waiting):
    """GET status is the JSON of docs/provisioning.md."""
    import json

    status = json.loads(waiting.well_known("GET", "status")[1])
    session = waiting.claims().session_facts()

    assert {"v": 1, "state": "waiting", "since": status["since"], "seq": session.seq, "exp": session.exp} == status


def test_a_challenge_is_answered(waiting):
    """POST evidence gives new claims with nonce and beacon over the live key, without a certificate."""
    before = waiting.claims()
    beacon = '{"id":"SGX"}'
    answer = waiting.well_known("POST", "evidence", cbor.encode({"nonce": b"n" * 32, "beacon": beacon}))
    attestation = Attestation.from_bytes(answer[1])
    claims = Claims.from_bytes(attestation.claims)
    session = claims.session_facts()

    assert (200, b"n" * 32) == (answer[0], claims.nonce)
    assert hashlib.sha256(beacon.encode()).digest() == session.beacon
    assert (before.spki_sha256, before.instance) == (claims.spki_sha256, claims.instance)
    assert session.seq > before.session_facts().seq
    assert attestation.certificate is None
    assert hashlib.sha256(attestation.claims).digest() + bytes(32) == attestation.quote[368:432]
    assert before == waiting.claims()


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"\xff", cbor.encode([1]), cbor.encode({"nonce": b"n" * 31}), cbor.encode({"nonce": "n"}),
        cbor.encode({"more": 1}), cbor.encode({"beacon": b"x"}), cbor.encode({}) + b"\0", bytes(70_000),
    ],
)  # fmt: skip
def test_malformed_challenges_are_refused(waiting, body):
    """Whatever is not the one form of a challenge gets 400 and makes no quote."""
    seq = waiting.claims().session_facts().seq

    assert 400 == waiting.well_known("POST", "evidence", body)[0]
    assert seq == waiting.claims().session_facts().seq


def test_one_challenge_at_a_time(waiting):
    """While one quote is being made a second request gets 429, and all others get their answer."""
    body = cbor.encode({"nonce": b"n" * 32})
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = [
            f.result()[0] for f in [pool.submit(waiting.well_known, "POST", "evidence", body) for _ in range(24)]
        ]

    assert {200, 429} >= set(answers)
    assert 200 in answers


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\0" * 100, b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nx" + b"x" * 100_000,
        b"POST /.well-known/glasscase/provision HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /.well-known/glasscase/provision HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST /.well-known/glasscase/provision HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: x\r\n\r\n",
    ],
)  # fmt: skip
def test_garbage_ends_its_own_connection(waiting, request_bytes):
    """Bytes that are no request are answered with 400 or 501 at most, the connection ends, the next one works."""
    with raw(waiting) as connection:
        with contextlib.suppress(OSError):  # it may hang up while we are still sending
            connection.sendall(request_bytes)
        answer = read_all(connection)

    assert answer[:13] in (b"", b"HTTP/1.1 400 ", b"HTTP/1.1 501 ", b"HTTP/1.1 403 ", b"HTTP/1.1 505 ")
    assert 200 == waiting.well_known("GET", "status")[0]


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: x\r\n"])
@pytest.mark.parametrize("tls", [True, False])
def test_slow_heads_end(serving, sent, tls):
    """A connection that does not finish its handshake or its head is ended by a deadline."""
    start = time.monotonic()
    with raw(serving, tls=tls) as connection:
        if sent:
            connection.sendall(sent)
        read_all(connection)

    assert time.monotonic() - start < 6


@pytest.mark.parametrize(("length", "taken"), [(32_000, True), (33_000, False), (60_000, False), (100_000, False)])
@pytest.mark.parametrize(
    "head", [f"GET {PREFIX}status HTTP/1.1\r\nx: {{}}", "GET /after HTTP/1.1\r\nx: {}", "GET /after?{} HTTP/1.1", "GET /%61{} HTTP/1.1"],
    ids=["own", "field", "query", "path"],
)  # fmt: skip
def test_a_head_has_a_limit_however_it_comes(serving, head, length, taken):
    """A head is taken or refused whether it comes at once or in parts, and as long as it was sent."""
    filling = "%61" * (length // 3) if "%61" in head else "a" * length
    head = f"{head.format(filling)}\r\nhost: x\r\nconnection: close\r\n\r\n".encode()
    for size in (len(head), 20_000):
        with raw(serving) as connection:
            with contextlib.suppress(OSError):  # ended before it was sent
                for start in range(0, len(head), size):
                    connection.sendall(head[start : start + size])
                    time.sleep(0.02)
            assert read_all(connection).split(b" ")[1] in ({b"200"} if taken else {b"400", b"431"})


def test_a_dripping_head_ends(serving):
    """Sending a byte now and then does not extend the deadline, on a second request neither."""
    start = time.monotonic()
    with raw(serving) as connection:
        connection.sendall(b"GET /state HTTP/1.1\r\nhost: x\r\n\r\n")
        connection.recv(65536)
        with contextlib.suppress(OSError):
            for byte in b"GET / HTTP/1.1\r\n" * 10:
                connection.sendall(bytes([byte]))
                time.sleep(0.1)
        read_all(connection)

    assert time.monotonic() - start < 6


def test_application_bodies_are_limited(serving):
    """A body up to the limit reaches the application, a longer one gets 413, whether its length was told or not."""
    assert (200, b"100000") == serving.ask("POST", "/length", bytes(100_000))
    assert 413 == serving.ask("POST", "/length", bytes(100_001))[0]
    assert 413 == serving.ask("POST", "/length", iter([bytes(60_000), bytes(60_000)]))[0]


def test_a_stalled_body_ends(serving):
    """A body whose next part does not come gets 408, and the connection ends."""
    with raw(serving) as connection:
        connection.sendall(b"POST /length HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nabc")
        answer = read_all(connection)

    assert answer.startswith(b"HTTP/1.1 408 ")


def test_the_prefix_never_reaches_the_application(serving):
    """Below the prefix the application is not asked, when serving neither."""
    assert (200, b"hello from /other") == serving.ask("GET", "/other")
    assert 404 == serving.ask("GET", PREFIX + "other")[0]
    assert 404 == serving.ask("GET", "/.well-known/glass%63ase/other")[0]
    assert 404 == serving.ask("GET", PREFIX[:-1])[0]


def test_an_error_of_the_application_is_500(serving):
    """An exception of the application answers 500 and the enclave lives on."""
    assert 500 == serving.ask("GET", "/boom")[0]
    assert (200, b"yes") == serving.ask("GET", "/state")


def test_a_crowd_does_not_hold_up_provisioning(enclave):
    """With 1,000 idle and 200 slow connections an envelope is accepted and the application served; handshakes have a limit."""
    one = enclave(config=make_config(server={"header_timeout": 60, "idle_timeout": 60})).start()
    held = []
    try:
        for _ in range(700):
            held.append(raw(one, tls=False))
        wait_until(lambda: sockets_of(one.process.pid) <= HANDSHAKES_MAX + 8)
        assert [b""] * 100 == [read_all(connection) for connection in held[:100]]  # the oldest were ended
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            held += pool.map(lambda _: raw(one), range(500))
        for connection in held[1000:]:
            connection.sendall(
                b"POST " + PREFIX.encode() + b"provision HTTP/1.1\r\nhost: x\r\ncontent-length: 999\r\n\r\nx"
            )
        start = time.monotonic()
        one.serve()

        assert time.monotonic() - start < 10
        assert (200, b"s3cret-canary") == one.ask("GET", "/secret")
        assert resident_bytes(one.process.pid) < 200 << 20
        assert sockets_of(one.process.pid) <= HANDSHAKES_MAX + 500 + 8
    finally:
        for connection in held:
            connection.close()


def test_a_client_that_does_not_read_is_ended(serving):
    """Requests whose answers are never read do not hold a connection for ever."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.settimeout(1)
    plain.connect(("127.0.0.1", serving.port))
    own = plain.getsockname()[1]
    with client_context().wrap_socket(plain, server_hostname="localhost") as connection:
        with contextlib.suppress(OSError):
            for _ in range(4000):
                connection.sendall(b"GET " + PREFIX.encode() + b"evidence HTTP/1.1\r\nhost: x\r\n\r\n")
        connection.settimeout(15)
        wait_until(lambda: not held(serving.port, own))

        assert read_all(connection).count(b"HTTP/1.1 200") < 4000


def test_one_connection_too_many_ends_the_one_that_has_waited_longest(monkeypatch):
    """Idle connections and those that do not read make room; one that is served is never ended for another."""
    monkeypatch.setattr(connections, "CONNECTIONS_MAX", 3)
    ended = []

    async def go():
        guard = connections.Guard(None, header_s=5, stall_s=5, mutual=False)
        made = []
        for number in range(5):
            made.append(guard.protocol(**uvicorn_parts()))
            wire = Wire(ended, number)
            made[-1].tls = Unread(wire)
            made[-1].connection_made(wire)
            if number == 0:
                made[0]._stop_waiting()  # its request is being answered
            if number == 2:
                made[1]._stop_waiting()
                made[1].pause_writing()  # and it does not read
                assert [made[2].transport, made[1].transport] == list(guard.waiting)
            if number == 3:
                made[2].connection_lost(None)
        return guard, made

    guard, made = asyncio.run(go())
    assert [2, 1] == ended
    assert made[0].transport not in guard.waiting


GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
UPGRADE = (
    b"GET /talk HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


@pytest.mark.parametrize("unread", [False, True], ids=["read", "unread"])
def test_an_upgrade_right_behind_a_request_leaves_nothing_waiting(unread):
    """It would be the one that has waited longest for ever, and its end would make room for nobody."""
    wire = Wire([], 0)

    async def go():
        guard = connections.Guard(answer, header_s=0.2, stall_s=0.2, mutual=False)
        made = guard.protocol(**uvicorn_parts(ws=guard.websocket(Socket)))
        made.tls = Unread()
        made.connection_made(wire)
        made.data_received(GET + UPGRADE)
        if unread:
            made.pause_writing()
        await asyncio.sleep(0.05)
        assert unread or [] == list(guard.waiting)
        if wire.protocol is None:  # refused
            made.connection_lost(None)
        guard.leave(wire)
        await asyncio.sleep(0.3)
        return guard

    guard = asyncio.run(go())
    assert ([], {}) == (list(guard.waiting), guard.open)
    assert ([0], None) == (wire.ended, wire.protocol) if unread else ([] == wire.ended and wire.protocol is not None)


def test_a_connection_that_has_read_its_answer_waits_again():
    """Who reads late keeps the place among those that may be ended, once nothing is asked any more."""

    async def go():
        guard = connections.Guard(answer, header_s=5, stall_s=5, mutual=False)
        made = guard.protocol(**uvicorn_parts())
        made.tls = Unread()
        made.connection_made(Wire([], 0))
        made.data_received(GET)
        made.pause_writing()
        made.resume_writing()
        assert [] == list(guard.waiting)  # its request is being answered
        made.pause_writing()
        await asyncio.sleep(0.05)
        assert made.cycle.response_complete
        made.resume_writing()
        return made, list(guard.waiting)

    made, waiting = asyncio.run(go())
    assert [made.transport] == waiting


async def answer(_scope, _receive, send):
    """Answer without looking whether anybody reads."""
    await asyncio.sleep(0.01)
    send.__self__.flow.resume_writing()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


class Socket(asyncio.Protocol):
    """A WebSocket protocol that does nothing."""

    def __init__(self, **_arguments):
        pass

    def data_received(self, data):
        pass


def uvicorn_parts(ws="none"):
    config = uvicorn.Config(answer, log_config=None, loop="asyncio", http="h11", ws=ws, interface="asgi3")
    config.load()
    return {"config": config, "server_state": uvicorn.server.ServerState(), "app_state": {}, "_loop": None}


class Unread:
    """The TLS side of a connection whose client reads everything."""

    def __init__(self, wire=None):
        self.wire = wire

    def end(self):
        self.wire.abort()

    def is_gone(self):
        return False

    def note_unread(self):
        pass

    def is_being_read(self):
        return False


class Wire(asyncio.Transport):
    """A transport that notes when it is aborted."""

    def __init__(self, ended, number):
        super().__init__()
        self.ended, self.number = ended, number
        self.protocol = None

    def set_protocol(self, protocol):
        self.protocol = protocol

    def write(self, data):
        pass

    def abort(self):
        self.ended.append(self.number)

    def close(self):
        pass

    def is_closing(self):
        return False

    def resume_reading(self):
        pass

    def pause_reading(self):
        pass


def wait_until(condition, seconds=15):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def held(port, peer):
    """Return whether a process still holds the server's end of one connection; a closed one has no inode."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if [port, peer] == [int(fields[column].split(":")[1], 16) for column in (1, 2)]:
            return fields[9] != "0"
    return False


def sockets_of(pid):
    """Return how many sockets a process holds."""
    found = 0
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            found += os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:")
    return found


def resident_bytes(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
