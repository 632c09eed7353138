"""No byte of a request reaches a server that is not the enclave of the policy, whatever HTTP client is used."""

import asyncio
import contextlib
import dataclasses
import http.client
import socket
import ssl
import time
import urllib.parse
import urllib.request

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from glasscase import client
from glasscase.errors import CannotVerify, UsageError
from glasscase.ratls import client as ratls_client
from glasscase.ratls.client import live_peer
from glasscase.ratls.judging import PeerRefused

from .conftest import MRENCLAVE

SECRET = "x-secret-word"


def by_http_client(url, context):
    connection = http.client.HTTPSConnection(*host_port(url), context=context, timeout=10)
    try:
        connection.request("GET", "/", headers={SECRET: "1"})
        return connection.getresponse().read()
    finally:
        connection.close()


def by_urllib(url, context):
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
    with opener.open(urllib.request.Request(url, headers={SECRET: "1"}), timeout=10) as answer:
        return answer.read()


def by_urllib3(url, context):
    import urllib3

    with urllib3.PoolManager(ssl_context=context, retries=False) as pool:
        return pool.request("GET", url, headers={SECRET: "1"}, timeout=10).data


def by_requests(url, context):
    import requests

    with requests.Session() as session:
        session.trust_env = False
        session.mount("https://", client.requests_adapter(context))
        return session.get(url, headers={SECRET: "1"}, timeout=10).content


def by_httpx(url, context):
    import httpx

    with httpx.Client(verify=context, trust_env=False) as session:
        return session.get(url, headers={SECRET: "1"}).content


def by_httpx_async(url, context):
    import httpx

    async def ask():
        async with httpx.AsyncClient(verify=context, trust_env=False) as session:
            return (await session.get(url, headers={SECRET: "1"})).content

    return asyncio.run(ask())


def by_aiohttp(url, context):
    import aiohttp

    async def ask():
        async with aiohttp.ClientSession() as session, session.get(url, ssl=context, headers={SECRET: "1"}) as answer:
            return await answer.read()

    return asyncio.run(ask())


STACKS = [by_http_client, by_urllib, by_urllib3, by_requests, by_httpx, by_httpx_async, by_aiohttp]


def wait_for(condition, seconds):
    """Wait until the condition holds, at most so long."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


def host_port(url):
    parts = urllib.parse.urlsplit(url)
    return parts.hostname, parts.port


def refusal(error):
    """Return our refusal among the causes of a client's own exception."""
    seen = []
    queue = [error]
    while queue:
        item = queue.pop()
        if item is None or item in seen or not isinstance(item, BaseException):
            continue
        seen.append(item)
        if isinstance(item, PeerRefused):
            return item
        queue += [item.__cause__, item.__context__, getattr(item, "reason", None), *item.args]
        queue += [getattr(item, "certificate_error", None), getattr(item, "os_error", None)]
    raise AssertionError(f"no refusal in {error!r}")


@pytest.fixture
def context(policy, anchor, collateral):
    """Return the context of the right policy."""
    return client.context(policy, anchor, collateral_source=collateral)


@pytest.mark.parametrize("ask", STACKS, ids=lambda f: f.__name__)
def test_the_right_enclave_is_reached(ask, serve, identity, context):
    """Every client gets the answer from the enclave that the policy names."""
    server = serve(identity())

    assert b"hello" == ask(server.url, context)
    assert SECRET.encode() in server.received.lower()


BAD = {
    "wrong": ("policy.mrenclave.unlisted", lambda make, other: make(mrenclave=bytes(32))),
    "stale": (
        "freshness.session.outside",
        lambda make, other: make(nbf=int(time.time()) - 7200, exp=int(time.time()) - 3600),
    ),
    "early": (
        "freshness.session.outside",
        lambda make, other: make(nbf=int(time.time()) + 3600, exp=int(time.time()) + 7200),
    ),
    "debug": ("enclave.debug.set", lambda make, other: make(flags=7)),
    "relayed": (
        "evidence.certificate.unbound",
        lambda make, other: make(quote_key=ec.generate_private_key(ec.SECP256R1())),
    ),
    "forged": ("root.certificate.unknown", lambda make, other: make(platform=other)),
    "renamed": ("client.name.mismatch", lambda make, other: make(san=("elsewhere.example",))),
}


@pytest.mark.parametrize("fault", BAD)
@pytest.mark.parametrize("ask", STACKS, ids=lambda f: f.__name__)
def test_a_bad_server_receives_no_byte(ask, fault, serve, identity, platforms, context):  # noqa: PLR0917
    """Another enclave, an expired or early session, debug, relayed evidence, a forged root, another name: all refused."""
    reason, make = BAD[fault]
    server = serve(make(identity, platforms[1]))
    with pytest.raises(Exception) as caught:
        ask(server.url, context)
    found = refusal(caught.value)

    assert b"" == server.carried()
    assert reason == found.reason
    assert 2 == found.exit_code
    assert isinstance(found, ssl.SSLCertVerificationError)


@pytest.mark.parametrize("ask", STACKS, ids=lambda f: f.__name__)
def test_another_instance_of_the_same_measurement_is_told_apart(ask, serve, identity, policy, anchor, collateral):  # noqa: PLR0917
    """A client that names what was provisioned refuses an instance with other secrets, or none, although all runs alike."""
    mine = dataclasses.replace(policy, provisioned=(b"p" * 32,))
    context = client.context(mine, anchor, collateral_source=collateral)
    assert b"hello" == ask(serve(identity(prov=b"p" * 32)).url, context)
    for prov, reason in ((b"q" * 32, "instance.envelope.unlisted"), (None, "instance.provision.missing")):
        server = serve(identity(prov=prov))
        with pytest.raises(Exception) as caught:
            ask(server.url, context)
        assert reason == refusal(caught.value).reason
        assert b"" == server.carried()


@pytest.mark.parametrize("ask", STACKS, ids=lambda f: f.__name__)
def test_an_ordinary_certificate_is_refused(ask, serve, identity, context):
    """A server without any evidence in its certificate gets nothing."""
    plain = identity()
    plain.certificate = without_evidence(plain.key)
    server = serve(plain)
    with pytest.raises(Exception) as caught:
        ask(server.url, context)

    assert b"" == server.carried()
    assert "evidence.certificate.malformed" == refusal(caught.value).reason


def without_evidence(key):
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import NameOID

    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    return builder.add_extension(names, critical=False).sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def test_tls_12_is_refused(serve, identity, context):
    """The handshake itself fails below TLS 1.3."""
    server = serve(identity(), version=ssl.TLSVersion.TLSv1_2)
    with pytest.raises(ssl.SSLError):
        by_http_client(server.url, context)

    assert b"" == server.carried()


def test_stale_collateral_is_no_verdict(serve, identity, policy, anchor, collateral_at):
    """Collateral older than the policy allows: refused as undetermined, exit 3, nothing sent."""
    server = serve(identity())
    context = client.context(policy, anchor, collateral_source=collateral_at(int(time.time()) - 20 * 86400))
    with pytest.raises(PeerRefused) as caught:
        by_http_client(server.url, context)

    assert 3 == caught.value.exit_code
    assert caught.value.verdict is not None
    assert b"" == server.carried()


def test_collateral_that_cannot_be_had_is_no_verdict(serve, identity, policy, anchor, tmp_path):
    """A source that fails refuses the peer with exit 3."""

    def nothing(_quote):
        raise CannotVerify("collateral.source.unreachable", "the collateral server cannot be reached")

    server = serve(identity())
    for source in (nothing, tmp_path / "absent.json"):
        with pytest.raises(PeerRefused) as caught:
            by_http_client(server.url, client.context(policy, anchor, collateral_source=source))
        assert 3 == caught.value.exit_code
    assert b"" == server.carried()


def test_collateral_is_fetched_once(serve, identity, policy, anchor, collateral):
    """Three connections, one fetch, three verifications."""
    calls = []
    context = client.context(policy, anchor, collateral_source=lambda quote: calls.append(quote) or collateral)
    server = serve(identity())
    for _ in range(3):
        by_http_client(server.url, context)

    assert 1 == len(calls)
    assert 3 == server.connections


def test_a_kept_connection_is_verified_once_and_a_new_one_again(serve, identity, context, tmp_path):
    """Rotation: the next handshake shows the new certificate and is judged by it; a bad one is refused then."""
    server = serve(identity())
    connection = http.client.HTTPSConnection(*host_port(server.url), context=context, timeout=10)
    connection.request("GET", "/")
    assert b"hello" == connection.getresponse().read()
    first = live_peer(connection.sock)
    server.use(identity(), tmp_path)
    connection.request("GET", "/")
    assert b"hello" == connection.getresponse().read()
    assert first is live_peer(connection.sock)
    connection.close()
    assert b"hello" == by_http_client(server.url, context)
    server.use(identity(mrenclave=bytes(32)), tmp_path)
    before = server.received
    with pytest.raises(PeerRefused):
        by_http_client(server.url, context)
    assert before == server.received


def test_no_order_of_calls_sends_first(serve, identity, context):
    """Writing on a socket whose handshake was not called runs it, and a bad peer still gets nothing."""
    for bad in (False, True):
        server = serve(identity(mrenclave=bytes(32)) if bad else identity())
        plain = socket.create_connection(host_port(server.url), timeout=10)
        wrapped = context.wrap_socket(plain, server_hostname="127.0.0.1", do_handshake_on_connect=False)
        try:
            for send in (wrapped.send, wrapped.sendall, wrapped.write):
                if bad:
                    with pytest.raises(PeerRefused):
                        send(b"early")
                else:
                    send(b"early")
            if bad:
                with pytest.raises(PeerRefused):
                    wrapped.recv(10)
            wait_for(lambda s=server: len(s.received) >= 15, 0.2 if bad else 10)
        finally:
            wrapped.close()
        assert (b"" if bad else b"early" * 3) == server.received


def test_nothing_goes_out_in_clear_after_half_a_shutdown(serve, identity, context):
    """A socket that reads no more still encrypts what it writes."""
    server = serve(identity())
    plain = socket.create_connection(host_port(server.url), timeout=10)
    with context.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped:
        wrapped.sendall(b"first")
        wrapped.shutdown(socket.SHUT_RD)
        wrapped.sendall(b"late")
        wait_for(lambda: len(server.received) >= 9, 5)
    assert b"firstlate" == server.received


def test_nothing_goes_out_in_clear_after_the_end_of_tls(serve, identity, context):
    """unwrap() ends the connection with its TLS: the standard library would go on in clear on the same socket."""
    server = serve(identity())
    server.polite = True
    plain = socket.create_connection(host_port(server.url), timeout=10)
    with context.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped:
        wrapped.sendall(b"first")
        wrapped.unwrap()
        for send in (wrapped.send, wrapped.sendall, wrapped.write):
            with pytest.raises((OSError, ValueError)):
                send(b"late")
    assert b"first" == server.carried()
    assert b"" == server.in_clear


@pytest.mark.parametrize("how", ["politely", True])
@pytest.mark.parametrize("ask", STACKS[:6], ids=lambda f: f.__name__)
def test_an_answer_that_was_cut_on_the_way_does_not_look_whole(ask, how, serve, identity, context):
    """Whoever is on the way can end a connection; without TLS's own end that is an error, also where no length is told."""
    server = serve(identity(), answer=b"HTTP/1.1 200 OK\r\n\r\nhello", hang_up=how)
    if how == "politely":
        assert b"hello" == ask(server.url, context)
    else:
        with pytest.raises(Exception):  # noqa: B017 - each client has its own
            ask(server.url, context)


def test_an_error_that_names_no_reason_is_no_cut():
    """Errors of TLS that the library did not make itself have no reason; they pass as they are."""
    assert not ratls_client._is_cut(ssl.SSLError("bad record"))
    assert not ratls_client._is_cut(ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "more"))
    assert ratls_client._is_cut(ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "cut"))


def test_memory_objects_send_nothing_first(serve, identity, context):
    """The same for ssl.SSLObject, with the bytes moved by hand."""
    server = serve(identity(mrenclave=bytes(32)))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    wrapped = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with socket.create_connection(host_port(server.url), timeout=10) as plain:
        with pytest.raises(PeerRefused):
            while True:
                try:
                    wrapped.write(b"early")
                    break
                except ssl.SSLWantReadError:
                    plain.sendall(outgoing.read())
                    incoming.write(plain.recv(65536))
        with pytest.raises(PeerRefused):
            wrapped.write(b"late")
        with pytest.raises(PeerRefused):
            wrapped.read()
        plain.sendall(outgoing.read())
    wait_for(lambda: server.received, 0.2)
    assert b"" == server.carried()


def test_nobody_can_switch_it_off(serve, identity, context):
    """Clients that set verify_mode, check_hostname or another context change nothing."""
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    assert (ssl.CERT_REQUIRED, True) == (context.verify_mode, context.check_hostname)
    for name, other in (("sslsocket_class", ssl.SSLSocket), ("sslobject_class", ssl.SSLObject)):
        with pytest.raises(AttributeError):
            setattr(context, name, other)
    server = serve(identity(mrenclave=bytes(32)))
    with pytest.raises(PeerRefused):
        by_http_client(server.url, context)
    plain = socket.create_connection(host_port(server.url), timeout=10)
    wrapped = context.wrap_socket(plain, server_hostname="127.0.0.1", do_handshake_on_connect=False)
    with pytest.raises((UsageError, TypeError, ValueError)):
        wrapped.context = ssl.create_default_context()
        wrapped.sendall(b"early")
    wrapped.close()
    assert b"" == server.carried()


@pytest.mark.parametrize(
    ("host", "called", "good"),
    [
        ("127.0.0.1", "localhost", True),
        ("127.0.0.1", "LOCALHOST.", True),
        ("127.0.0.1", "enclave.example", True),
        ("127.0.0.1", "other.example", False),
        ("::1", "::1", True),
        ("::1", "0:0:0:0:0:0:0:1", True),
    ],
)
def test_names_and_addresses(host, called, good, serve, identity, context):  # noqa: PLR0917
    """DNS names are compared without case, addresses by value, IPv6 too."""
    server = serve(identity(), host=host)
    with socket.create_connection((host, server.port), timeout=10) as plain:
        if good:
            with context.wrap_socket(plain, server_hostname=called) as wrapped:
                assert live_peer(wrapped).enclave.simulated
        else:
            with pytest.raises(PeerRefused) as caught:
                context.wrap_socket(plain, server_hostname=called)
            assert "client.name.mismatch" == caught.value.reason


def test_a_name_is_needed(serve, identity, context):
    """Without a server name nothing is compared, so nothing is connected."""
    server = serve(identity())
    with socket.create_connection((server.host, server.port), timeout=10) as plain:
        with pytest.raises(ValueError, match="server_hostname"):
            context.wrap_socket(plain)


@pytest.mark.parametrize(
    ("listening", "called", "sni"),
    [("127.0.0.1", "localhost", "localhost"), ("127.0.0.1", "127.0.0.1", None), ("::1", "[::1]", None)],
)
@pytest.mark.parametrize("ask", STACKS, ids=lambda f: f.__name__)
def test_names_and_addresses_in_urls(ask, listening, called, sni, serve, identity, context):  # noqa: PLR0917
    """Each client reaches a name, which it says by SNI, and addresses of both families, which it does not."""
    server = serve(identity(), host=listening)

    assert b"hello" == ask(f"https://{called}:{server.port}/", context)
    assert [sni] == server.names


@pytest.mark.parametrize("ask", STACKS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("right", [True, False])
def test_the_default_port(ask, right, serve, identity, context):
    """A URL without a port is port 443, and a wrong enclave there gets nothing."""
    host = f"127.0.{43 + right}.{STACKS.index(ask) + 1}"  # an address of its own: nobody else listens there
    try:
        server = serve(identity(san=(host,), mrenclave=MRENCLAVE if right else bytes(32)), host=host, port=443)
    except PermissionError:
        pytest.skip("port 443 is for root here")
    if right:
        assert b"hello" == ask(f"https://{host}/", context)
        assert SECRET.encode() in server.received.lower()
    else:
        with pytest.raises(Exception) as caught:
            ask(f"https://{host}/", context)
        assert "policy.mrenclave.unlisted" == refusal(caught.value).reason
        assert b"" == server.carried()


def test_intel_is_the_default_anchor(serve, identity, policy, collateral):
    """Without an anchor the simulator's enclave is refused, for its root is not Intel's."""
    server = serve(identity())
    with pytest.raises(PeerRefused) as caught:
        by_http_client(server.url, client.context(policy, collateral_source=collateral))

    assert 2 == caught.value.exit_code
    assert b"" == server.carried()


def test_nobody_is_asked_for_collateral_of_a_peer_that_fails_anyway(serve, identity, policy, anchor):
    """Another root or another enclave is refused with exit 2 before any collateral is fetched."""
    calls = []

    def source(quote):
        calls.append(quote)
        raise CannotVerify("collateral.source.unreachable", "the collateral server cannot be reached")

    for trusted, shown in ((None, identity()), (anchor, identity(mrenclave=bytes(32)))):
        server = serve(shown)
        with pytest.raises(PeerRefused) as caught:
            by_http_client(server.url, client.context(policy, trusted, collateral_source=source))
        assert 2 == caught.value.exit_code
        assert b"" == server.carried()

    assert [] == calls


def test_what_is_remembered_of_a_certificate_does_not_outlive_its_window(identity, policy, anchor, collateral_at):
    """The same bytes that passed a moment ago are refused once their session or the collateral's window is over."""
    from glasscase.ratls.judging import Judge
    from glasscase.ratls.sources import CollateralCache

    now = int(time.time())
    cache = CollateralCache(collateral_at(now - 7 * 86400 + 3600), anchor=anchor, now=lambda: now)
    judge = Judge(policy=policy, anchor=anchor, measurement=None, cache=cache)
    long, short = identity(exp=now + 20 * 3600).certificate, identity(exp=now + 600).certificate
    for der, later, code in ((short, now + 700, 2), (long, now + 7200, 3)):
        for _ in range(2):
            assert judge.peer(der, "localhost", at=now).enclave.simulated
        with pytest.raises(PeerRefused) as caught:
            judge.peer(der, "localhost", at=later)
        assert code == caught.value.exit_code
        assert judge.peer(der, "localhost", at=now).enclave.simulated


@pytest.mark.parametrize(
    ("key", "asks"),
    [
        ("[instance] owners", {"owners": (b"o" * 32,)}),
        ("[freshness] nonce", {"nonce": True}),
        ("[statements] require", {"statements_require": 1, "statements_keys": (b"k" * 32,)}),
    ],
)
def test_a_policy_that_no_handshake_can_meet_is_refused_at_once(policy, anchor, collateral, key, asks):
    """Envelope, nonce and statements are not in a handshake: the context is not made, and the error names the key."""
    wanted = dataclasses.replace(policy, **asks)
    with pytest.raises(UsageError) as caught:
        client.context(wanted, anchor, collateral_source=collateral)

    assert "client.policy.unmeetable" == caught.value.reason
    assert key in caught.value.message
    if "owners" in asks:  # an enclave with its owner's certificate is asked for evidence, which holds the envelope
        assert client.context(wanted, anchor, collateral_source=collateral, own_certificate_at=("127.0.0.1", 1))


def twice_http_client(url, context, between):
    with contextlib.closing(http.client.HTTPSConnection(*host_port(url), context=context, timeout=10)) as connection:
        for step in (between, lambda: None):
            connection.request("GET", "/", headers={SECRET: "1"})
            connection.getresponse().read()
            step()


def twice_urllib3(url, context, between):
    import urllib3

    with urllib3.PoolManager(ssl_context=context, retries=False) as pool:
        for step in (between, lambda: None):
            pool.request("GET", url, headers={SECRET: "1"}, timeout=10)
            step()


def twice_requests(url, context, between):
    import requests

    with requests.Session() as session:
        session.trust_env = False
        session.mount("https://", client.requests_adapter(context))
        for step in (between, lambda: None):
            session.get(url, headers={SECRET: "1"}, timeout=10)
            step()


def twice_httpx(url, context, between):
    import httpx

    with httpx.Client(verify=context, trust_env=False) as session:
        for step in (between, lambda: None):
            session.get(url, headers={SECRET: "1"})
            step()


def twice_httpx_async(url, context, between):
    import httpx

    async def ask():
        async with httpx.AsyncClient(verify=context, trust_env=False) as session:
            for step in (between, lambda: None):
                await session.get(url, headers={SECRET: "1"})
                await asyncio.to_thread(step)

    asyncio.run(ask())


def twice_aiohttp(url, context, between):
    import aiohttp

    async def ask():
        async with aiohttp.ClientSession() as session:
            for step in (between, lambda: None):
                async with session.get(url, ssl=context, headers={SECRET: "1"}) as answer:
                    await answer.read()
                await asyncio.to_thread(step)

    asyncio.run(ask())


KEPT = [twice_http_client, twice_urllib3, twice_requests, twice_httpx, twice_httpx_async, twice_aiohttp]


@pytest.mark.parametrize("lapses", [True, False])
@pytest.mark.parametrize("ask", KEPT, ids=lambda f: f.__name__)
def test_a_kept_connection_carries_nothing_after_its_verification_has_lapsed(  # noqa: PLR0917
    ask, lapses, serve, identity, context, monkeypatch
):
    """A connection that stays open is used again while its session lasts; after that it gets no byte, and says why at once."""
    now = int(time.time())
    server = serve(identity(exp=now + 600))

    def between():
        received.append(server.received)
        if lapses:
            monkeypatch.setattr(ratls_client, "_now", lambda: now + 601)

    received = []
    if lapses:
        with pytest.raises(Exception) as caught:
            ask(server.url, context, between)
        # aiohttp connects anew by itself, which the same clock refuses
        assert refusal(caught.value).reason in {"client.verification.lapsed", "freshness.session.outside"}
        assert received == [server.carried()]
    else:
        ask(server.url, context, between)
        assert server.received == received[0] * 2
        assert 1 == server.connections


def test_a_lapse_has_its_reason(serve, identity, context, monkeypatch):
    """The error of a lapsed connection says that a new one is needed, and is no verdict about the peer."""
    now = int(time.time())
    server = serve(identity(exp=now + 600))
    with socket.create_connection(host_port(server.url), timeout=10) as plain:
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped:
            wrapped.sendall(b"first")
            monkeypatch.setattr(ratls_client, "_now", lambda: now + 600)
            for send in (wrapped.send, wrapped.sendall, wrapped.write):
                with pytest.raises(PeerRefused) as caught:
                    send(b"late")
                assert ("client.verification.lapsed", 3) == (caught.value.reason, caught.value.exit_code)
    assert b"first" == server.carried()


@pytest.mark.parametrize("ask", [twice_urllib3, twice_requests, twice_httpx, twice_aiohttp], ids=lambda f: f.__name__)
def test_a_pool_gets_over_a_connection_that_was_ended(ask, serve, identity, context):
    """A kept connection that the server has ended in any way is replaced by a new one, verified like the first.

    httpx's asynchronous client does not do that with the standard library's context either.
    """
    for how in ("politely", True):
        server = serve(identity(), hang_up=how)
        ask(server.url, context, lambda: time.sleep(0.2))
        assert 2 == server.connections


@pytest.mark.parametrize(
    "wrong",
    [
        {"policy": None}, {"policy": "policy.toml"}, {"anchor": "intel"}, {"collateral_source": 5}, {"collateral_source": b"x"},
        {"own_certificate_at": "host:443"}, {"own_certificate_at": ("host",)}, {"own_certificate_at": ("host", "443")},
        {"own_certificate_at": ("host", 70000)}, {"own_certificate_at": ("host", 0)}, {"own_certificate_at": ("", 443)},
        {"own_certificate_at": ("a..b", 443)}, {"own_certificate_at": ("a" * 64, 443)}, {"own_certificate_at": ("a b", 443)},
    ],
    ids=str,
)  # fmt: skip
def test_arguments_of_the_wrong_type_are_refused_at_once(policy, anchor, wrong):
    """The mistake of a caller is a UsageError where he made it, not in each of his handshakes."""
    with pytest.raises(UsageError) as caught:
        client.context(**{"policy": policy, "anchor": anchor, **wrong})

    assert "policy.argument.wrong" == caught.value.reason


@pytest.mark.parametrize("other", [None, ssl.create_default_context()], ids=["nothing", "ssl"])
def test_a_context_that_is_not_ours_is_refused(other):
    """Nobody gets an adapter, or an answer, that rests on something else than an enclave."""
    for call in (client.requests_adapter, lambda context: asyncio.run(client.prepare(context, "https://127.0.0.1:1/"))):
        with pytest.raises(UsageError) as caught:
            call(other)
        assert "policy.argument.wrong" == caught.value.reason


def test_a_file_is_sent_as_any_bytes_are(serve, identity, context, tmp_path, monkeypatch):
    """sendfile() is the context's own too, whatever the standard library's would do: a wrong server gets nothing of it."""

    def past_us(*_arguments):
        raise AssertionError("the standard library sends the file")

    monkeypatch.setattr(ssl.SSLSocket, "sendfile", past_us)
    path = tmp_path / "file"
    path.write_bytes(b"secret")
    for mrenclave, carried in ((MRENCLAVE, b"secret"), (bytes(32), b"")):
        server = serve(identity(mrenclave=mrenclave))
        with socket.create_connection(host_port(server.url), timeout=10) as plain, path.open("rb") as file:
            with context.wrap_socket(plain, server_hostname="127.0.0.1", do_handshake_on_connect=False) as wrapped:
                with contextlib.suppress(PeerRefused):
                    wrapped.sendfile(file)
        assert carried == server.carried()
