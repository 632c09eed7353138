"""Nothing that a client is told beside the context changes whom it reaches: proxies of the network, verify=False, CA files."""

import asyncio
import contextlib
import http.client
import socket
import threading
import urllib.request

import pytest

from glasscase import client
from glasscase.errors import UsageError

from .test_client import SECRET, host_port, refusal

REASON = "policy.mrenclave.unlisted"


@pytest.fixture
def context(policy, anchor, collateral):
    """Return the context of the right policy."""
    return client.context(policy, anchor, collateral_source=collateral)


class Tunnel:
    """A proxy of the network that knows CONNECT alone. asked: the hosts; seen: what clients sent before TLS."""

    def __init__(self):
        self.asked, self.seen = [], b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._join, args=(self._listener.accept()[0],), daemon=True).start()

    def _join(self, near):
        with near, contextlib.suppress(OSError):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += near.recv(1)
            self.seen += head
            host = head.split()[1].decode()
            self.asked.append(host)
            with socket.create_connection(host_port(f"https://{host}/"), timeout=10) as far:
                near.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                back = threading.Thread(target=self._pump, args=(far, near), daemon=True)
                back.start()
                self._pump(near, far)
                back.join(5)

    @staticmethod
    def _pump(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


@pytest.fixture
def tunnel():
    """Return a proxy of the network."""
    one = Tunnel()
    yield one
    one.close()


def through_http_client(url, context, tunnel):
    connection = http.client.HTTPSConnection(*host_port(tunnel), context=context, timeout=10)
    with contextlib.closing(connection):
        connection.set_tunnel(*host_port(url))
        connection.request("GET", "/", headers={SECRET: "1"})
        return connection.getresponse().read()


def through_urllib(url, context, tunnel):
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({"https": tunnel}), urllib.request.HTTPSHandler(context=context)
    )
    with opener.open(urllib.request.Request(url, headers={SECRET: "1"}), timeout=10) as answer:
        return answer.read()


def through_urllib3(url, context, tunnel):
    import urllib3

    with urllib3.ProxyManager(tunnel, ssl_context=context, retries=False) as pool:
        return pool.request("GET", url, headers={SECRET: "1"}, timeout=10).data


def through_requests(url, context, tunnel):
    import requests

    with requests.Session() as session:
        session.trust_env = False
        session.mount("https://", client.requests_adapter(context))
        return session.get(url, headers={SECRET: "1"}, timeout=10, proxies={"https": tunnel}).content


def through_httpx(url, context, tunnel):
    import httpx

    with httpx.Client(verify=context, trust_env=False, proxy=tunnel) as session:
        return session.get(url, headers={SECRET: "1"}).content


def through_httpx_async(url, context, tunnel):
    import httpx

    async def ask():
        async with httpx.AsyncClient(verify=context, trust_env=False, proxy=tunnel) as session:
            return (await session.get(url, headers={SECRET: "1"})).content

    return asyncio.run(ask())


def through_aiohttp(url, context, tunnel):
    import aiohttp

    async def ask():
        async with aiohttp.ClientSession() as session:
            async with session.get(url, ssl=context, proxy=tunnel, headers={SECRET: "1"}) as answer:
                return await answer.read()

    return asyncio.run(ask())


THROUGH = [
    through_http_client, through_urllib, through_urllib3, through_requests, through_httpx, through_httpx_async,
    through_aiohttp,
]  # fmt: skip


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("ask", THROUGH, ids=lambda f: f.__name__)
def test_through_a_proxy_of_the_network(ask, right, serve, identity, context, tunnel):  # noqa: PLR0917
    """Behind CONNECT the enclave is verified as without: a wrong one gets no byte, and the proxy sees none of the request."""
    server = serve(identity() if right else identity(mrenclave=bytes(32)))
    if right:
        assert b"hello" == ask(server.url, context, tunnel.url)
        assert SECRET.encode() in server.received.lower()
    else:
        with pytest.raises(Exception) as caught:
            ask(server.url, context, tunnel.url)
        assert REASON == refusal(caught.value).reason
        assert b"" == server.carried()
    assert [f"127.0.0.1:{server.port}"] == tunnel.asked
    assert SECRET.encode() not in tunnel.seen.lower()


def trusting_urllib(url, context):
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
    with opener.open(urllib.request.Request(url, headers={SECRET: "1"}), timeout=10) as answer:
        return answer.read()


def trusting_requests(url, context):
    import requests

    with requests.Session() as session:
        session.mount("https://", client.requests_adapter(context))
        return session.get(url, headers={SECRET: "1"}, timeout=10).content


def trusting_httpx(url, context):
    import httpx

    with httpx.Client(verify=context, follow_redirects=True) as session:
        return session.get(url, headers={SECRET: "1"}).content


def trusting_httpx_async(url, context):
    import httpx

    async def ask():
        async with httpx.AsyncClient(verify=context, follow_redirects=True) as session:
            return (await session.get(url, headers={SECRET: "1"})).content

    return asyncio.run(ask())


def trusting_aiohttp(url, context):
    import aiohttp

    async def ask():
        async with aiohttp.ClientSession(trust_env=True) as session:
            async with session.get(url, ssl=context, headers={SECRET: "1"}) as answer:
                return await answer.read()

    return asyncio.run(ask())


def following_urllib3(url, context):
    import urllib3

    with urllib3.PoolManager(ssl_context=context) as pool:
        return pool.request("GET", url, headers={SECRET: "1"}, timeout=10, retries=urllib3.Retry(1)).data


TRUSTING = [trusting_urllib, trusting_requests, trusting_httpx, trusting_httpx_async, trusting_aiohttp]


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("ask", TRUSTING, ids=lambda f: f.__name__)
def test_through_a_proxy_of_the_environment(ask, right, serve, identity, context, tunnel, monkeypatch):  # noqa: PLR0917
    """A proxy that a client takes from HTTPS_PROXY carries the handshake, in which the enclave is verified as without."""
    monkeypatch.setenv("HTTPS_PROXY", tunnel.url)
    monkeypatch.setenv("https_proxy", tunnel.url)
    for name in ("NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    server = serve(identity() if right else identity(mrenclave=bytes(32)))
    if right:
        assert b"hello" == ask(server.url, context)
        assert SECRET.encode() in server.received.lower()
    else:
        with pytest.raises(Exception) as caught:
            ask(server.url, context)
        assert REASON == refusal(caught.value).reason
        assert b"" == server.carried()
    assert [f"127.0.0.1:{server.port}"] == tunnel.asked
    assert SECRET.encode() not in tunnel.seen.lower()


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("ask", [*TRUSTING, following_urllib3], ids=lambda f: f.__name__)
def test_where_a_redirect_leads_is_verified_too(ask, right, serve, identity, context):
    """A client that follows redirects to another https server verifies that one, and a wrong one gets no byte."""
    there = serve(identity() if right else identity(mrenclave=bytes(32)))
    moved = f"HTTP/1.1 302 Found\r\nLocation: {there.url}\r\nContent-Length: 0\r\n\r\n"
    here = serve(identity(), answer=moved.encode("ascii"))
    if right:
        assert b"hello" == ask(here.url, context)
        assert b"GET / " in there.received
    else:
        with pytest.raises(Exception) as caught:
            ask(here.url, context)
        assert REASON == refusal(caught.value).reason
        assert b"" == there.carried()
    assert b"GET / " in here.received


def test_the_adapter_sends_nothing_in_clear(context):
    """Mounted for http:// too, it refuses what would go out unverified, such as a redirect there."""
    import requests

    with socket.create_server(("127.0.0.1", 0)) as plain, requests.Session() as session:
        session.trust_env = False
        session.mount("http://", client.requests_adapter(context))
        with pytest.raises(UsageError) as caught:
            session.get(f"http://127.0.0.1:{plain.getsockname()[1]}/", timeout=5)
        plain.settimeout(0.2)
        with pytest.raises(TimeoutError):
            plain.accept()

    assert "client.url.malformed" == caught.value.reason


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("how", ["call", "session", "file", "environment"])
def test_requests_cannot_be_told_otherwise(how, right, serve, identity, context, tmp_path, monkeypatch):  # noqa: PLR0917
    """verify=False, a CA file and REQUESTS_CA_BUNDLE neither let a wrong enclave pass nor keep the right one out."""
    import certifi
    import requests

    server = serve(identity() if right else identity(mrenclave=bytes(32)))
    if how == "environment":
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", certifi.where())
    with requests.Session() as session:
        session.mount("https://", client.requests_adapter(context))
        session.verify = how != "session"
        options = {"call": {"verify": False}, "file": {"verify": certifi.where()}}.get(how, {})
        if right:
            assert b"hello" == session.get(server.url, timeout=10, **options).content
        else:
            with pytest.raises(requests.exceptions.SSLError) as caught:
                session.get(server.url, timeout=10, **options)
            assert REASON == refusal(caught.value).reason
            assert b"" == server.carried()


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize(
    "options", [{"cert_reqs": "CERT_NONE"}, {"assert_hostname": False}, {"ca_certs": "certifi"}], ids=str
)
def test_urllib3_cannot_be_told_otherwise(options, right, serve, identity, context):
    """The same for the words of urllib3's pools."""
    import certifi
    import urllib3

    server = serve(identity() if right else identity(mrenclave=bytes(32)))
    options = {name: certifi.where() if value == "certifi" else value for name, value in options.items()}
    with urllib3.PoolManager(ssl_context=context, retries=False, **options) as pool:
        if right:
            assert b"hello" == pool.request("GET", server.url, timeout=10).data
        else:
            with pytest.raises(urllib3.exceptions.SSLError) as caught:
                pool.request("GET", server.url, timeout=10)
            assert REASON == refusal(caught.value).reason
            assert b"" == server.carried()
