"""The life of an enclave: boot, wait, secrets, serving, renewal, stop."""

import asyncio
import concurrent.futures
import contextlib
import hashlib
import http.client
import json
import threading
import time
from types import SimpleNamespace

import pytest

from glasscase.enclave import health, program
from glasscase.enclave.instancefile import parse_instance
from glasscase.errors import FormatError, UsageError
from glasscase.evidence.attestation import Claims, instance_digest
from glasscase.ratls.reading import read_certificate
from glasscase.seal.envelope import read_envelope
from glasscase.seal.receipt import read_receipt
from glasscase.sgx.reportdata import app_report_data, claims_report_data

from .conftest import ASGI_APP, MRENCLAVE, OWNER, make_config


def test_from_boot_to_stop(enclave):
    """An enclave boots, attests itself, takes secrets, serves the application and stops with exit code 0."""
    one = enclave().start()
    assert (503, b"not serving\n") == one.ask("GET", "/secret")

    before = one.attestation()
    claims = Claims.from_bytes(before.claims)
    facts = claims.instance_facts()
    assert claims_report_data(before.claims) == before.quote[368:432]
    assert MRENCLAVE == before.quote[112:144]
    assert read_certificate(before.certificate).claims == before.claims
    assert claims.session_facts().prov is None
    assert 1 == claims.session_facts().seq

    envelope = one.envelope()
    receipt = read_receipt(one.serve(envelope), receipt_key=facts.receipt_key)
    digest = hashlib.sha256(read_envelope(envelope).payload).digest()
    assert (digest, instance_digest(claims.instance), (OWNER,)) == (receipt.envelope, receipt.instance, receipt.owners)

    after = one.attestation()
    session = Claims.from_bytes(after.claims).session_facts()
    assert digest == session.prov
    assert hashlib.sha256(before.claims).digest() == session.prev
    assert 2 == session.seq
    assert Claims.from_bytes(after.claims).instance == claims.instance
    assert Claims.from_bytes(after.claims).spki_sha256 != claims.spki_sha256
    assert envelope == after.provision.envelope

    assert (200, b"s3cret-canary") == one.ask("GET", "/secret")
    assert (200, b"yes") == one.ask("GET", "/state")
    assert (200, b"hi<secrets of the enclave>") == one.ask("GET", "/env")
    status, quote = one.ask("POST", "/quote", b"said")
    assert 200 == status
    assert app_report_data(instance_digest(claims.instance), b"said") == bytes.fromhex(quote.decode())[368:432]

    assert 0 == one.stop()
    assert "stopped" == one.status_file()["state"]
    assert "app: shut down" in one.text()
    assert "s3cret-canary" not in one.text()


def test_no_secrets_in_time(enclave):
    """When the time-out fires the program ends with exit code 3 and the application was never imported."""
    one = enclave(app={"demo.py": "print('imported', flush=True)\n" + ASGI_APP}, instance={"timeout": 1}).start()

    assert 3 == one.process.wait(15)
    assert "failed" == one.status_file()["state"]
    assert "imported" not in one.text()


def test_an_acceptance_counts_although_its_sender_is_gone():
    """A request that is cancelled while its envelope is judged loses the answer, not the secrets: the program goes on."""
    one = program.Program.__new__(program.Program)
    one._worker = concurrent.futures.ThreadPoolExecutor(1)
    one._store = None
    begun, judged = threading.Event(), threading.Event()
    acceptance = SimpleNamespace(fresh=True, receipt=b"receipt")

    def accept(_envelope):
        begun.set()
        assert judged.wait(10)
        return acceptance

    one._provisioner = SimpleNamespace(accept=accept)
    one._announce = lambda _acceptance: None

    async def live():
        one._loop = asyncio.get_running_loop()
        one._accepted = one._loop.create_future()
        request = asyncio.create_task(one.provision(b"envelope"))
        await asyncio.to_thread(begun.wait, 10)
        request.cancel()
        await asyncio.wait({request})
        judged.set()
        return request.cancelled(), await asyncio.wait_for(one._accepted, 10)

    assert (True, acceptance) == asyncio.run(live())
    one._worker.shutdown()


@pytest.mark.parametrize("begun", [True, False])
def test_no_receipt_is_for_nothing(enclave, begun):
    """An envelope that is judged when the time-out fires counts, whatever takes its time; one that comes later is refused."""
    one = enclave(instance={"timeout": 2}).start()
    envelope = one.envelope()
    one.device.stop()  # which keeps what comes next waiting, for up to 30 s
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        slow = threads.submit(one.well_known, "POST", "evidence", b"\xa0")
        time.sleep(0.5 if begun else 2.5)
        provision = threads.submit(one.provision, envelope)
        time.sleep(2.5 if begun else 0.5)
        one.device._stopping.clear()
        one.device.start()
        assert 200 == slow.result()[0]
        assert provision.result()[0] == (200 if begun else 403)
    if begun:
        one.wait_for("serving")
        assert (200, b"s3cret-canary") == one.ask("GET", "/secret")
    else:
        assert 3 == one.process.wait(15)


def test_stop_while_waiting(enclave):
    """SIGTERM before any secrets is a clean stop."""
    one = enclave().start()

    assert 0 == one.stop()
    assert "stopped" == one.status_file()["state"]


def test_a_request_in_flight_is_finished(enclave):
    """SIGTERM lets a request end, and cuts off what takes longer than the drain."""
    one = enclave().start()
    one.serve()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        short = pool.submit(one.ask, "POST", "/slow", b"1")
        endless = pool.submit(one.ask, "POST", "/slow", b"60")
        time.sleep(0.5)
        start = time.monotonic()
        code = one.stop()

        assert (0, (200, b"done")) == (code, short.result())
        assert time.monotonic() - start < 3 + 5
        with contextlib.suppress(OSError, http.client.HTTPException):
            assert 200 != endless.result()[0]
    assert "app: shut down" in one.text()  # the drain has ended it, not the alarm after the drain
    assert "did not end in time" not in one.text()


@pytest.mark.parametrize(
    ("app", "entry"),
    [
        ({"demo.py": "raise ValueError('canary')"}, "demo:app"),
        ({"demo.py": "import absent_module"}, "demo:app"),
        ({"demo.py": ""}, "demo:app"),
        ({"demo.py": "app = 1"}, "demo:app"),
        ({"demo.py": ASGI_APP}, "other:app"),
        (
            {"demo.py": "async def app(scope, receive, send):\n    await send({'type': 'lifespan.startup.failed'})"},
            "demo:app",
        ),
    ],
)
def test_an_application_that_does_not_start(enclave, app, entry):
    """An application that cannot be imported, found or started ends the program: failed, exit code 1."""
    one = enclave(config=make_config(entry=entry), app=app).start()

    assert 200 == one.provision()[0]
    assert 1 == one.process.wait(20)
    assert "failed" == one.status_file()["state"]


@pytest.mark.parametrize("answer", [200, 503, None])
def test_the_health_path_is_asked_before_serving(answer, monkeypatch):
    """A good answer lets it serve, a bad one or an exception does not; it is asked again until the deadline."""
    asked = []

    async def app(scope, receive, send):
        asked.append((scope["path"], scope["query_string"], scope["headers"]))
        assert {"type": "http.request", "body": b"", "more_body": False} == await receive()
        if answer is None:
            raise ValueError("broken")
        await send(
            {
                "type": "http.response.start",
                "status": answer if len(asked) == 1 or answer == 200 else 500,
                "headers": [],
            }
        )
        await send({"type": "http.response.body", "body": b"x"})
        assert {"type": "http.disconnect"} == await receive()

    monkeypatch.setattr(health, "DEADLINE_S", 0.3)
    monkeypatch.setattr(health, "RETRY_S", 0.05)
    ask = health.require_health(app, "/health?deep=1", host="localhost", state={})
    if answer == 200:
        asyncio.run(ask)
        assert [("/health", b"deep=1", [(b"host", b"localhost")])] == asked
    else:
        with pytest.raises(UsageError) as caught:
            asyncio.run(ask)
        assert "enclave.app.unhealthy" == caught.value.reason
        assert len(asked) > 1


def test_a_healthy_application_is_served(enclave):
    """With a health path the enclave serves once the application has answered it well, and not before."""
    app = ASGI_APP.replace(
        '    if path == "/secret":',
        '    if path == "/health" and (asked := asked + 1) < 9:\n        raise OSError\n    if path == "/secret":',
    )
    app = app.replace('"hello from " + path', 'f"asked {asked}"').replace(
        "    path = scope", "    global asked\n    path = scope", 1
    )
    one = enclave(config=make_config(health="/health"), app={"demo.py": "asked = 0\n" + app}).start()
    assert 200 == one.provision()[0]
    one.wait_for("provisioning")
    assert (503, b"not serving\n") == one.ask("GET", "/any")
    one.wait_for("serving")

    assert (200, b"asked 9") == one.ask("GET", "/any")


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"port": 0}', "x" * 70_000, "\ufeff{}",
        *(
            json.dumps({"port": 0, "host": "127.0.0.1", "san": [], "timeout": 5, **change})
            for change in (
                {"more": 1}, {"v": 1}, {"port": -1}, {"port": 65536}, {"port": True}, {"port": "1"}, {"timeout": 0},
                {"timeout": 10**9}, {"host": "evil.example.com"}, {"host": ""}, {"san": ["a b"]}, {"san": ["x"] * 33},
                {"nonce": "00"}, {"nonce": 1}, {"beacon": 5},
            )
        ),
    ],
)  # fmt: skip
def test_instance_json_is_read_strictly(text):
    """Whatever is not the one form of instance.json is refused."""
    with pytest.raises(FormatError) as caught:
        parse_instance(text.encode())

    assert "enclave.instance.malformed" == caught.value.reason


def test_a_wrong_instance_json_ends_the_program(enclave):
    """An unknown key in instance.json is exit code 1, with one line and no traceback."""
    one = enclave(instance={"insecure": True})
    one.start(wait=None)

    assert 1 == one.process.wait(15)
    assert "enclave.instance.malformed" in one.text()
    assert "Traceback" not in one.text()


def test_a_taken_port_ends_the_program(enclave):
    """A port that somebody has is exit code 1, with its id."""
    one = enclave().start()
    other = enclave(instance={"port": one.port})
    other.start(wait=None)

    assert 1 == other.process.wait(15)
    assert "enclave.port.taken" in other.text()
    assert "failed" == other.status_file()["state"]


def test_nonce_and_beacon_of_the_operator(enclave):
    """instance.json's nonce stands in the first claims only; a beacon in later ones too, until a newer one is offered."""
    one = enclave(instance={"nonce": "ab" * 32, "beacon": '{"old":1}'}).start()
    first = one.claims()
    (one.instance / "beacon").write_text('{"new":2}')
    one.serve()
    later = one.claims()

    assert (bytes.fromhex("ab" * 32), None) == (first.nonce, later.nonce)
    assert hashlib.sha256(b'{"old":1}').digest() == first.session_facts().beacon
    assert hashlib.sha256(b'{"new":2}').digest() == later.session_facts().beacon


def test_a_connection_survives_the_renewal(enclave):
    """A connection that was open before the renewal goes on; a new one sees the new certificate."""
    one = enclave().start()
    with contextlib.closing(one.connection()) as kept, contextlib.closing(one.connection()) as fresh:
        assert 200 == one.ask("GET", "/.well-known/glasscase/status", connection=kept)[0]
        old = kept.sock.getpeercert(binary_form=True)
        one.serve()

        assert (200, b"hello from /x") == one.ask("GET", "/x", connection=kept)
        assert old == kept.sock.getpeercert(binary_form=True)
        fresh.connect()
        new = fresh.sock.getpeercert(binary_form=True)
        assert old != new
        assert one.attestation().certificate == new


def test_the_launch_leaves_no_key_behind(enclave):
    """No key file stays in the private directory, and the seal key's bytes are in no file."""
    one = enclave().start()
    one.serve()

    assert [] == [path for path in one.run.rglob("*") if path.is_file()]
