"""Renewal: new key, claims, quote and certificate on the live context, under load, all or nothing."""

import asyncio
import contextlib
import errno
import hashlib
import os
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from cryptography import x509

from glasscase.enclave import program
from glasscase.enclave.attest import BACKDATE_S, LIFETIME_S, Attester, Identity
from glasscase.enclave.keys import InstanceKeys, server_context
from glasscase.enclave.quoting import Quoter
from glasscase.errors import StorageError
from glasscase.evidence.attestation import SESSION_MAX_S, Attestation, Claims, Provision
from glasscase.ratls.cert import spki_digest
from glasscase.ratls.reading import read_certificate
from glasscase.sgx.reportdata import claims_report_data
from glasscase.sim.device import SoftwareDevice

from .conftest import MRENCLAVE, client_context

NOW = 1_800_000_000


class Bench:
    """An attester over a software device and a live context."""

    def __init__(self, folder, platform, *, own=False):
        self.device = SoftwareDevice(folder / "dev", platform, mrenclave=MRENCLAVE, mrsigner=b"S" * 32)
        self.device.start()
        self.quoter = Quoter(str(folder / "dev"), deadline_s=2)
        self.context = server_context(())
        self.keys = InstanceKeys()
        self.now = NOW
        identity = Identity("hello", ("localhost", "127.0.0.1"), own)
        self.attester = Attester(
            identity, self.keys, self.quoter, self.context, clock=lambda: self.now, directory=str(folder)
        )
        self.folder = folder

    def attestation(self):
        return Attestation.from_bytes(self.attester.current())

    def claims(self):
        return Claims.from_bytes(self.attestation().claims)


@pytest.fixture
def bench(tmp_path, platform):
    """Return a function that makes a bench."""
    made = []

    def make(**options):
        folder = tmp_path / f"b{len(made)}"
        folder.mkdir()
        made.append(Bench(folder, platform, **options))
        return made[-1]

    yield make
    for one in made:
        one.device.stop()


def test_each_renewal_is_new_and_chained(bench):
    """Key, number, quote and certificate are new; prev is the digest of the claims before; the window is at most 25 h."""
    one = bench()
    seen = []
    for _ in range(4):
        one.attester.renew()
        attestation = one.attestation()
        claims = Claims.from_bytes(attestation.claims)
        certificate = read_certificate(attestation.certificate)
        assert (attestation.quote, attestation.claims) == (certificate.quote, certificate.claims)
        assert claims_report_data(attestation.claims) == attestation.quote[368:432]
        seen.append((claims.spki_sha256, claims.session_facts(), hashlib.sha256(attestation.claims).digest()))
        one.now += 43_000
    sessions = [session for _, session, _ in seen]

    assert 4 == len({key for key, _, _ in seen})
    assert [1, 2, 3, 4] == [session.seq for session in sessions]
    assert [None, *(digest for _, _, digest in seen[:-1])] == [session.prev for session in sessions]
    assert all(session.exp - session.nbf == LIFETIME_S + BACKDATE_S <= SESSION_MAX_S for session in sessions)
    assert [] == [path for path in one.folder.iterdir() if path.name.startswith(".tls")]


def test_the_certificate_is_put_in_place_between_handshakes(bench):
    """libssl takes a certificate and its key one after the other, so that happens when no handshake can begin."""
    one = bench()
    one.attester.renew()
    in_turn = []

    def hold(call):
        assert before == one.attester.live_spki_sha256
        with Server(one.context) as server, server.connect() as shown:
            assert before == read_certificate(shown.getpeercert(binary_form=True)).spki_sha256
        call()
        in_turn.append(1)

    before = one.attester.live_spki_sha256
    one.attester._in_turn = hold
    one.attester.renew()
    with Server(one.context) as server, server.connect() as shown:
        now = read_certificate(shown.getpeercert(binary_form=True)).spki_sha256

    assert [1] == in_turn
    assert before != now == one.attester.live_spki_sha256


def test_the_program_puts_it_in_place_in_the_loop_s_thread():
    """From the worker's thread the call is handed to the loop, and its error comes back; before the loop it is simply made."""
    one = program.Program.__new__(program.Program)
    one._loop = None
    where = []
    one._in_turn(lambda: where.append(threading.get_ident()))

    async def live():
        one._loop = asyncio.get_running_loop()
        await asyncio.to_thread(one._in_turn, lambda: where.append(threading.get_ident()))
        with pytest.raises(StorageError):
            await asyncio.to_thread(one._in_turn, fails)

    def fails():
        raise StorageError("enclave.device.failed", "no")

    asyncio.run(live())
    assert [threading.get_ident()] * 2 == where


def test_a_blocked_loop_gets_no_certificate_late(monkeypatch):
    """If the loop finds no time for it the renewal fails, and what failed is not put in place afterwards."""
    monkeypatch.setattr(program, "IN_TURN_S", 0.1)
    one = program.Program.__new__(program.Program)
    called = []

    async def live():
        one._loop = asyncio.get_running_loop()
        waiting = asyncio.get_running_loop().run_in_executor(None, one._in_turn, lambda: called.append(1))
        time.sleep(0.5)  # as an application does
        with pytest.raises(TimeoutError):
            await waiting
        await asyncio.sleep(0.05)

    asyncio.run(live())
    assert [] == called


def test_a_challenge_continues_the_chain(bench):
    """A challenge takes the next number over the live key, and the renewal after it names its claims."""
    one = bench()
    one.attester.renew()
    answer = Attestation.from_bytes(one.attester.attest(nonce=b"n" * 32, beacon=b"b" * 32))
    claims = Claims.from_bytes(answer.claims)
    live = one.claims()
    one.attester.renew()
    session = one.claims().session_facts()

    assert (live.spki_sha256, b"n" * 32, 2) == (claims.spki_sha256, claims.nonce, claims.session_facts().seq)
    assert (3, hashlib.sha256(answer.claims).digest(), b"b" * 32) == (session.seq, session.prev, session.beacon)


@pytest.mark.parametrize("moved_s", [-10 * 365 * 86_400, -7200, -3601, 0, LIFETIME_S + BACKDATE_S, 10 * 365 * 86_400])
def test_a_challenge_is_well_formed_whatever_the_clock(bench, moved_s):
    """A host that moves its clock gets claims of at most 25 hours that end with the certificate, never malformed ones."""
    one = bench()
    one.attester.renew()
    one.now += moved_s
    claims = Attestation.from_bytes(one.attester.attest(nonce=b"n" * 32, beacon=None)).claims
    session = Claims.from_bytes(claims).session_facts()

    assert session.exp <= one.attester.session.exp
    assert session.nbf <= one.now - BACKDATE_S
    assert 0 < session.exp - session.nbf <= SESSION_MAX_S


def test_a_failed_renewal_changes_nothing(bench):
    """When the device is silent the old attestation and certificate stay, and the next number is not used up."""
    one = bench()
    one.attester.renew()
    before = (one.attester.current(), one.attester.session, one.attester.live_spki_sha256)
    one.device.stop()
    one.quoter._deadline_s = 0.1
    for call in (one.attester.renew, lambda: one.attester.attest(nonce=None, beacon=None)):
        with pytest.raises(StorageError):
            call()

    assert before == (one.attester.current(), one.attester.session, one.attester.live_spki_sha256)
    one.device._stopping.clear()
    one.device.start()
    one.quoter._deadline_s = 5
    one.attester.renew()
    assert 2 == one.attester.session.seq


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOSPC])
def test_a_renewal_without_descriptors_or_room_is_tried_again(bench, monkeypatch, number):
    """The key's file cannot be made while the application has all descriptors: an error of ours, and the next try renews."""
    one = bench()
    one.attester.renew()
    before = one.attester.current()

    def fail(*_arguments, **_named):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch, pytest.raises(StorageError):
        patch.setattr("glasscase.enclave.keys.os.fdopen", fail)
        one.attester.renew()

    assert before == one.attester.current()
    one.attester.renew()
    assert before != one.attester.current()


def test_when_a_renewal_is_due(bench, monkeypatch):
    """Half-life counts by the host's clock, and by the time that has passed if that clock stands still or goes back."""
    one = bench()
    one.attester.renew()
    assert not one.attester.is_due()
    one.now = NOW + LIFETIME_S // 2
    assert one.attester.is_due()
    one.now = NOW - 10**6
    assert not one.attester.is_due()
    passed = time.monotonic() + LIFETIME_S / 2
    monkeypatch.setattr("glasscase.enclave.attest.time.monotonic", lambda: passed)
    assert one.attester.is_due()


def test_the_program_renews_what_is_due(monkeypatch):
    """It looks again and again; what is due is renewed, what fails is tried again, and an error ends nothing."""
    monkeypatch.setattr(program, "CHECK_S", 0.01)
    monkeypatch.setattr(program, "RETRY_S", 0.001)
    one = program.Program.__new__(program.Program)
    one._worker = ThreadPoolExecutor(1)
    due, calls = [False], []

    def renew(*, nonce=None, beacon=None):
        calls.append((nonce, beacon))
        if len(calls) <= program.RENEWAL_TRIES + 1:  # one whole round fails, and the first try of the next
            raise StorageError("enclave.device.failed", "the device is silent")
        due[0] = False

    one._attester = SimpleNamespace(is_due=lambda: due[0])
    one._renew = renew

    async def live():
        renewing = asyncio.create_task(one._keep_renewing())
        await asyncio.sleep(0.1)
        assert [] == calls
        due[0] = True
        for _ in range(500):
            await asyncio.sleep(0.01)
            if not due[0]:
                break
        await asyncio.sleep(0.1)
        assert not renewing.done()
        renewing.cancel()

    asyncio.run(live())
    one._worker.shutdown()
    assert [(None, None)] * (program.RENEWAL_TRIES + 2) == calls


def test_mode_own_keeps_its_key(bench):
    """In mode own the key stays, claims and quote are new, the request is by the key, and the owner's chain is served."""
    one = bench(own=True)
    one.attester.renew()
    first, request = one.claims(), one.attestation().request
    chain = one.attestation().certificate  # any certificate for this key
    one.attester.accept(Provision(b"e", b"r"), prov=b"p" * 32, chain=(chain,))
    one.attester.renew()
    second = one.claims()

    assert first.spki_sha256 == second.spki_sha256 == spki_digest(x509.load_der_x509_csr(request).public_key())
    assert first.session != second.session
    with Server(one.context) as server, server.connect() as shown:
        assert chain == shown.getpeercert(binary_form=True)


class Server:
    """A TLS echo server on the live context; all its handshakes run in one event loop, as in the program."""

    def __init__(self, context):
        self.context = context
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self):
        self.thread.start()
        self.server = self.on_loop(asyncio.start_server(self.echo, "127.0.0.1", 0, ssl=self.context))
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.server.close)
        self.on_loop(asyncio.sleep(0.1))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def on_loop(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    def in_turn(self, call):
        async def run():
            call()

        self.on_loop(run())

    async def echo(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(1024):
                writer.write(data)
                await writer.drain()
        writer.close()

    def connect(self):
        plain = socket.create_connection(self.server.sockets[0].getsockname(), timeout=10)
        return client_context().wrap_socket(plain)


def test_renewals_under_load(bench):
    """While handshakes go on in two threads, twenty renewals break none, each certificate is whole, and old connections live."""
    one = bench()
    one.attester.renew()
    stop, shown, faults = threading.Event(), set(), []

    def handshakes(server):
        while not stop.is_set():
            try:
                with server.connect() as connection:
                    der = connection.getpeercert(binary_form=True)
                    connection.sendall(b"x")
                    assert b"x" == connection.recv(16)
                    shown.add(read_certificate(der).spki_sha256)
            except (ssl.SSLError, OSError, AssertionError) as error:
                faults.append(error)

    with Server(one.context) as server, server.connect() as kept:
        one.attester._in_turn = server.in_turn
        threads = [threading.Thread(target=handshakes, args=(server,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(20):
            one.attester.renew()
        stop.set()
        for thread in threads:
            thread.join()
        kept.sendall(b"still here")

        assert b"still here" == kept.recv(64)
    assert [] == faults
    assert len(shown) > 3
