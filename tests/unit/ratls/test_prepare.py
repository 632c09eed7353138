"""A prepared context never waits for the network in a handshake, so an event loop goes on while collateral is fetched."""

import asyncio
import concurrent.futures
import contextlib
import gc
import http.client
import threading
import time

import aiohttp
import httpx
import pytest

from glasscase import client
from glasscase.errors import CannotVerify, StorageError, UsageError
from glasscase.ratls import link, sources
from glasscase.ratls.judging import PeerRefused
from glasscase.ratls.shown import OwnEvidence
from glasscase.ratls.sources import CollateralCache, keep_fresh
from glasscase.sim.pcs import PcsServer

SLOW_S = 0.5  # seconds for each of the service's answers
LATE_S = 1.6  # seconds that a loop may be late on a busy machine; all answers of the service take longer


class SlowPcs(PcsServer):
    """A collateral service that takes its time."""

    def answer(self, target):
        time.sleep(SLOW_S)
        return super().answer(target)


@pytest.fixture
def service(platforms):
    """Return a slow collateral service of the right platform."""
    with SlowPcs(platforms[0], at=int(time.time()) - 60) as found:
        yield found


async def lateness(work):
    """Return what a coroutine returns, and by how much the loop was late at most meanwhile."""
    worst = [0.0]

    async def tick():
        while True:
            start = time.monotonic()
            await asyncio.sleep(0.01)
            worst[0] = max(worst[0], time.monotonic() - start - 0.01)

    ticking = asyncio.create_task(tick())
    try:
        return await work, worst[0]
    finally:
        ticking.cancel()


async def by_httpx(url, context):
    async with httpx.AsyncClient(verify=context, trust_env=False) as session:
        return (await session.get(url)).content


async def by_aiohttp(url, context):
    async with aiohttp.ClientSession() as session, session.get(url, ssl=context) as answer:
        return await answer.read()


@pytest.mark.parametrize("ask", [by_httpx, by_aiohttp], ids=lambda f: f.__name__)
def test_the_loop_is_not_held_up(ask, serve, identity, policy, anchor, service):  # noqa: PLR0917
    """While a slow service answers the loop goes on; then async clients connect without another fetch."""
    server = serve(identity())
    context = client.context(policy, anchor, collateral_source=service.url)

    async def go():
        peer, late = await lateness(client.prepare(context, server.url))
        assert peer.enclave.simulated
        assert b"" == server.received
        asked = len(service.paths)
        assert asked * SLOW_S > LATE_S
        body, later = await lateness(ask(server.url, context))
        assert (b"hello", asked) == (body, len(service.paths))
        await asyncio.sleep(0.25)
        return max(late, later)

    assert asyncio.run(go()) < LATE_S


def test_without_it_the_first_handshake_fetches(serve, identity, policy, anchor, service):
    """Nobody has to prepare: then the first connection fetches, once, async or not."""
    server = serve(identity())
    context = client.context(policy, anchor, collateral_source=service.url)
    assert b"hello" == asyncio.run(by_httpx(server.url, context))
    asked = len(service.paths)
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/")
        assert b"hello" == connection.getresponse().read()

    assert asked == len(service.paths)


def test_a_wrong_enclave_is_refused_by_prepare(serve, identity, policy, anchor, collateral):
    """prepare() judges: another enclave is refused, nothing is sent, and a silent address is a storage error."""
    server = serve(identity(mrenclave=bytes(32)))
    context = client.context(policy, anchor, collateral_source=collateral)
    with pytest.raises(PeerRefused) as caught:
        context.prepare(server.url)
    assert "policy.mrenclave.unlisted" == caught.value.reason
    assert b"" == server.received
    server.close()
    with pytest.raises(StorageError) as caught:
        context.prepare(server.url)
    assert "client.enclave.unreachable" == caught.value.reason


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "127.0.0.1:1", "https://", "https://h:x/", "https://u:pw@h/", "https://u:a pw@h/", "u:pw@h",
        "https://h:65536/", "https://h:0/",
        "https://a b/", "https://a\n.b/", "https://h\0/", "https://a..b/", "https://[::1]h:1/", "https://h[::1]/", "https://[h]/",
        "https://[v1.h]/", None, b"https://h/",
    ],
)  # fmt: skip
def test_only_https_addresses_are_prepared(url, policy, anchor, collateral):
    """What is no https URL of a host is the caller's fault."""
    with pytest.raises(UsageError) as caught:
        client.context(policy, anchor, collateral_source=collateral).prepare(url)

    assert "client.url.malformed" == caught.value.reason and "pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://enclave.example/", ("enclave.example", 443)),
        ("https://enclave.example:8443", ("enclave.example", 8443)),
        ("https://[::1]/x?y", ("::1", 443)),
        ("https://[::1]:1/", ("::1", 1)),
    ],
)
def test_the_address_of_a_url(url, address, policy, anchor, collateral, monkeypatch):  # noqa: PLR0917
    """Without a port it is 443; an IPv6 address comes without its brackets."""
    called = []

    def shown(host, port, *, timeout_s):
        called.append((host, port))
        raise StorageError("client.enclave.unreachable", "nobody")

    monkeypatch.setattr(link, "shown_certificate", shown)
    with pytest.raises(StorageError):
        client.context(policy, anchor, collateral_source=collateral).prepare(url)

    assert [address] == called


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 1e30, None, "5"])
def test_a_time_that_nobody_can_wait_is_refused(timeout, policy, anchor, collateral):
    """A wrong timeout is the caller's fault, not a silent enclave."""
    with pytest.raises(UsageError) as caught:
        client.context(policy, anchor, collateral_source=collateral).prepare("https://127.0.0.1:1/", timeout=timeout)

    assert "policy.argument.wrong" == caught.value.reason


def test_trying_again_costs_nothing(serve, identity, policy, anchor, collateral):
    """However often a wrong enclave is tried, no thread stays behind; the right one gets one, and no second."""
    right, wrong = identity(), identity(mrenclave=bytes(32))
    server = serve(wrong)
    context = client.context(policy, anchor, collateral_source=collateral)
    before = set(threading.enumerate())

    def refreshing():
        return [thread for thread in set(threading.enumerate()) - before if thread.name == "glasscase-refresh"]

    for _ in range(3):
        with pytest.raises(PeerRefused):
            context.prepare(server.url)
    assert [] == refreshing()
    good = serve(right)
    for _ in range(3):
        context.prepare(good.url)
    assert 1 == len(refreshing())


def test_a_source_that_fails_is_named(serve, identity, policy, anchor):
    """The fault of the service is what prepare() says, as undetermined, and handshakes do not ask it again at once."""
    calls = []

    def nothing(quote):
        calls.append(quote)
        raise CannotVerify("collateral.source.unreachable", "the collateral server cannot be reached")

    server = serve(identity())
    context = client.context(policy, anchor, collateral_source=nothing)
    for _ in range(2):
        with pytest.raises(PeerRefused) as caught:
            context.prepare(server.url) if not calls else asyncio.run(asyncio.to_thread(ask_plainly, server, context))
        assert ("collateral.source.unreachable", 3) == (caught.value.reason, caught.value.exit_code)
    assert 1 == len(calls)


def ask_plainly(server, context):
    with contextlib.closing(http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=10)) as one:
        one.connect()


@pytest.fixture
def cache(anchor, collateral):
    """Return a cache with a hand clock, what it fetched, and an event that holds a fetch up."""
    found = Desk()
    found.gate.set()

    def fetch(quote):
        found.gate.wait(10)
        found.fetched.append(threading.current_thread().name)
        return collateral

    found.cache = CollateralCache(fetch, anchor=anchor, now=lambda: 0, clock=lambda: found.now)
    return found


class Desk:
    """What a test of the cache holds in its hands."""

    def __init__(self):
        self.now, self.fetched, self.gate = 0.0, [], threading.Event()

    def settle(self, count):
        end = time.monotonic() + 5
        while len(self.fetched) < count and time.monotonic() < end:
            time.sleep(0.01)
        assert count == len(self.fetched)


def test_what_has_aged_is_fetched_by_another_thread(cache, identity, platforms):
    """After prepare() an old object is used once more while a thread fetches; a new platform is pending first."""
    here, there = identity().quote, identity(platform=platforms[1]).quote
    cache.cache.prepare(here)
    first = cache.cache.get(here)
    cache.now = sources.REFRESH_S + 1.0
    cache.gate.clear()
    assert first is cache.cache.get(here)
    assert first is cache.cache.get(here)
    cache.gate.set()
    cache.settle(2)

    assert ["MainThread", "glasscase-collateral"] == cache.fetched
    assert first is not wait_for_change(cache.cache, here, first)
    del there


def wait_for_change(cache, quote, before):
    end = time.monotonic() + 5
    while cache.get(quote) is before and time.monotonic() < end:
        time.sleep(0.01)
    return cache.get(quote)


def test_a_platform_that_is_not_there_is_pending(cache, identity, monkeypatch):
    """A prepared context refuses a platform that it does not know, and knows it a moment later."""
    one, other = identity().quote, identity().quote
    monkeypatch.setattr(sources, "_platform", lambda quote: quote.hex())
    cache.cache.prepare(one)
    with pytest.raises(CannotVerify) as caught:
        cache.cache.get(other)
    cache.settle(2)

    assert "client.collateral.pending" == caught.value.reason
    assert ["MainThread", "glasscase-collateral"] == cache.fetched


def ask_both(cache, quotes):
    """Return what get() gave or raised for each quote, all asked at once in threads of their own."""
    with concurrent.futures.ThreadPoolExecutor(len(quotes)) as threads:
        asked = [threads.submit(cache.get, quote) for quote in quotes]
        return [one.exception() or one.result() for one in asked]


@pytest.mark.parametrize("fails", [False, True], ids=["succeeds", "fails"])
def test_those_who_ask_at_once_share_one_fetch(fails, anchor, collateral, identity):
    """Eight first connections to one platform are one fetch; its result, or its error, is that of all."""
    fetched, gate = [], threading.Event()

    def fetch(_quote):
        fetched.append(1)
        gate.wait(10)
        if fails:
            raise CannotVerify("collateral.source.unreachable", "the collateral server cannot be reached")
        return collateral

    cache = CollateralCache(fetch, anchor=anchor, now=lambda: 0)
    quote = identity().quote
    threading.Timer(0.3, gate.set).start()
    found = ask_both(cache, [quote] * 8)

    assert 1 == len(fetched)
    assert 1 == len({id(one) for one in found})
    assert fails == isinstance(found[0], CannotVerify)


def test_a_slow_platform_holds_up_no_other(anchor, collateral, identity, monkeypatch):
    """While the fetch for one platform hangs, a connection to another gets its collateral and does not wait."""
    slow, quick = identity().quote, identity().quote
    gate, began = threading.Event(), threading.Event()

    def fetch(quote):
        if quote == slow:
            began.set()
            gate.wait(10)
        return collateral

    monkeypatch.setattr(sources, "_platform", lambda quote: quote.hex())
    cache = CollateralCache(fetch, anchor=anchor, now=lambda: 0)
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        hanging = threads.submit(cache.get, slow)
        assert began.wait(5)
        try:
            assert collateral is threads.submit(cache.get, quick).result(5).collateral
            assert not hanging.done()
        finally:
            gate.set()
    assert collateral is hanging.result().collateral


def test_an_interrupted_fetch_is_done_by_who_waits(anchor, collateral, identity):
    """Ctrl-C in the thread that fetches is its own; those who waited for it fetch themselves."""
    fetched, gate, began = [], threading.Event(), threading.Event()

    def fetch(_quote):
        fetched.append(1)
        if len(fetched) == 1:
            began.set()
            gate.wait(10)
            raise KeyboardInterrupt
        return collateral

    cache = CollateralCache(fetch, anchor=anchor, now=lambda: 0)
    quote = identity().quote
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        first = threads.submit(cache.get, quote)
        assert began.wait(5)
        second = threads.submit(cache.get, quote)
        time.sleep(0.1)
        gate.set()
        assert isinstance(first.exception(5), KeyboardInterrupt)
        assert collateral is second.result(5).collateral
    assert 2 == len(fetched)


def test_it_is_refreshed_before_it_ages_and_ends_with_the_context(cache, identity):
    """The thread that keeps things fresh fetches early, and ends when nobody has the context any more."""
    cache.cache.prepare(identity().quote)
    thread = keep_fresh(cache.cache, tick_s=0.02)
    time.sleep(0.1)
    assert 1 == len(cache.fetched)
    cache.now = sources.REFRESH_S - sources.EARLY_S + 1.0
    cache.settle(2)
    assert "glasscase-refresh" == cache.fetched[1]
    cache.cache = None
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()


def test_own_evidence_is_not_asked_for_in_a_handshake(monkeypatch):
    """A prepared client in mode own refuses a key that it does not know and asks in another thread."""
    asked = []
    own = OwnEvidence("127.0.0.1", 1)
    monkeypatch.setattr(own, "_fetch", lambda: asked.append(threading.current_thread().name))
    own.prepare()
    with pytest.raises(CannotVerify) as caught:
        own.get(b"k" * 32, 0)
    end = time.monotonic() + 5
    while len(asked) < 2 and time.monotonic() < end:
        time.sleep(0.01)

    assert "client.evidence.pending" == caught.value.reason
    assert ["MainThread", "glasscase-evidence"] == asked


@pytest.mark.parametrize("fault", [lambda _quote: 1 / 0, lambda _quote: None], ids=["raises", "returns nothing"])
def test_a_function_that_fails_is_told_and_ends_no_thread(fault, anchor, collateral, identity):
    """What the caller's function does wrong is CannotVerify; the thread that refreshes goes on and the next turn succeeds."""
    now, answers, asked = [0.0], [lambda _quote: collateral], threading.Event()

    def source(quote):
        asked.set()
        return answers[0](quote)

    cache = CollateralCache(source, anchor=anchor, now=lambda: 0, clock=lambda: now[0])
    quote = identity().quote
    first = cache.get(quote)
    now[0], answers[0] = sources.REFRESH_S + 1.0, fault
    with pytest.raises(CannotVerify) as caught:
        cache.get(quote)
    assert "client.collateral.failed" == caught.value.reason
    asked.clear()
    thread = keep_fresh(cache, tick_s=0.01)
    assert asked.wait(5)
    time.sleep(0.05)
    assert thread.is_alive()
    answers[0] = lambda _quote: collateral
    deadline = time.monotonic() + 5
    while not cache.holds(quote) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert cache.holds(quote)
    assert cache.get(quote) is not first
    del cache
    thread.join(5)


def test_who_waits_gets_nothing_older_than_he_asked_for(anchor, collateral, identity):
    """A thread that is content with what is kept passes it on to nobody who wants something newer: he fetches."""
    now, fetched, looking, go_on = [0.0], [], threading.Event(), threading.Event()

    def clock():
        if threading.current_thread().name.startswith("content"):
            looking.set()
            go_on.wait(5)
        return now[0]

    cache = CollateralCache(lambda quote: fetched.append(1) or collateral, anchor=anchor, now=lambda: 0, clock=clock)
    quote = identity().quote
    first = cache.get(quote)
    now[0] = sources.RETRY_S + 1.0
    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="content") as content:
        with concurrent.futures.ThreadPoolExecutor(1) as wanting:
            old = content.submit(cache._fetch_now, sources._platform(quote), quote)
            assert looking.wait(5)
            new = wanting.submit(cache._fetch_now, sources._platform(quote), quote, older_than=sources.RETRY_S)
            time.sleep(0.1)
            go_on.set()
            assert first is old.result(5)
            assert now[0] == new.result(5).since
    assert 2 == len(fetched)
