"""A collateral server is untrusted transport: whatever it does, the answer is verified collateral or exit code 3."""

import gzip
import resource
import socket
import ssl
import time
from urllib.parse import quote

import pytest

from glasscase.collateral import fetch, http
from glasscase.collateral.store import MARKS, Marks, Store
from glasscase.errors import CannotVerify, UsageError
from glasscase.sim import faults
from glasscase.sim.pcs import BASE, Answer

TCB = f"{BASE}/tcb"
CRL = f"{BASE}/pckcrl"
QE = f"{BASE}/qe/identity"
ROOT = f"{BASE}/rootcacrl"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Retries without their pauses, and short waits for a byte."""
    monkeypatch.setattr(http, "BACKOFF_S", 0.001)
    monkeypatch.setattr(http, "READ_S", 0.5)


def run(site, url, **options):
    return fetch.fetch_collateral(site.quote, **{"anchor": site.anchor, "at": site.at, "source": url, **options})


def refused(site, url, **options):
    with pytest.raises(CannotVerify) as caught:
        run(site, url, **options)
    assert 3 == caught.value.exit_code
    return caught.value.reason


def test_an_honest_service_gives_verified_collateral(site):
    """The seven objects come back verbatim, from the five requests of API version 4 and the root CRL."""
    with site.serve() as server:
        found = run(site, server.url)
        wanted = site.platform.collateral(at=site.at)

    assert wanted["tcb_info"] == found.tcb_info
    assert wanted["qe_identity"] == found.qe_identity
    assert wanted["pck_crl"] == found.pck_crl.hex()
    assert wanted["root_ca_crl"] == found.root_ca_crl.hex()
    assert wanted["pck_crl_issuer_chain"] == found.pck_crl_issuer_chain
    assert (server.url + BASE, site.at) == (found.source, found.fetched_at)
    assert [
        f"{CRL}?ca=platform&encoding=der", f"{TCB}?fmspc=53494d554c41&update=standard", f"{QE}?update=standard", ROOT,
    ] == server.paths  # fmt: skip


def test_the_early_channel_and_a_full_base_url(site):
    """--update early reaches both documents; a URL with a path is taken as it is."""
    with site.serve() as server:
        run(site, server.url + BASE + "/", update="early")

        assert f"{TCB}?fmspc=53494d554c41&update=early" in server.paths
        assert f"{QE}?update=early" in server.paths


@pytest.mark.parametrize("name", ["TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain", "tcb-info-issuer-chain"])
def test_both_names_of_the_issuer_chain_header(site, name):
    """The header of version 4 and that of older caches are read, in any case."""
    with site.serve() as server:
        honest = server.answer(f"{TCB}?fmspc=53494d554c41&update=standard")
        server.override[TCB] = Answer(200, honest.body, headers={name: honest.headers["TCB-Info-Issuer-Chain"]})

        assert run(site, server.url).tcb_info_issuer_chain.startswith("-----BEGIN CERTIFICATE-----")


@pytest.mark.parametrize("form", ["hex", "HEX", "pem"])
def test_crls_in_the_forms_of_caches(site, form):
    """A CRL in hex or PEM is the same CRL."""
    import base64

    der = site.platform.collateral(at=site.at)["root_ca_crl"]
    encoded = base64.encodebytes(bytes.fromhex(der)).decode()
    body = {"hex": der, "HEX": der.upper(), "pem": f"-----BEGIN X509 CRL-----\n{encoded}-----END X509 CRL-----\n"}[form]
    with site.serve() as server:
        server.override[ROOT] = Answer(200, body.encode())

        assert der == run(site, server.url).root_ca_crl.hex()


STATUSES = [301, 302, 307, 308, 400, 401, 404, 410, 418, 429, 500, 502, 503, 504]


@pytest.mark.parametrize("status", STATUSES)
def test_every_other_status_is_refused(site, status):
    """No status but 200 gives collateral; a redirect is never followed, whatever it points to."""
    with site.serve() as server:
        server.override[TCB] = Answer(status, b"{}", headers={"Location": "file:///etc/passwd"})

        assert "collateral.source.refused" == refused(site, server.url)
        again = 4 if status in (429, 500, 502, 503, 504) else 1
        assert again == sum(path.startswith(TCB) for path in server.paths)


def test_a_passing_fault_is_retried(site):
    """An error that goes away within three retries does no harm."""
    with site.serve() as server:
        honest, left = server.answer, [3]

        def flaky(target):
            if target.startswith(TCB) and left[0]:
                left[0] -= 1
                server.paths.append(target)
                return Answer(503, headers={"Retry-After": "0"})
            return honest(target)

        server.answer = flaky

        assert run(site, server.url)


def test_the_limits_of_a_whole_fetch():
    """30 s for everything, at most three retries, later ones after longer pauses, and never after the same pause."""
    assert (30.0, 3) == (http.DEADLINE_S, http.RETRIES)
    first = [http.pause(0) for _ in range(50)]

    assert 0.5 * http.BACKOFF_S <= min(first) < max(first) <= 1.5 * http.BACKOFF_S
    assert len(set(first)) > 1
    assert min(http.pause(2) for _ in range(50)) >= max(first)


def test_retry_after_beyond_the_deadline_ends_at_once(site):
    """A server that asks to wait longer than the deadline is not waited for."""
    with site.serve() as server:
        server.override[TCB] = Answer(503, headers={"Retry-After": "3600"})
        began = time.monotonic()

        assert "collateral.source.refused" == refused(site, server.url)
        assert time.monotonic() - began < 5


BODIES = {
    "html": (TCB, b"<html>login</html>", "collateral.source.malformed"),
    "empty": (TCB, b"", "collateral.source.malformed"),
    "array": (TCB, b"[]", "collateral.source.malformed"),
    "duplicate keys": (TCB, b'{"tcbInfo":{},"tcbInfo":{},"signature":"00"}', "collateral.source.malformed"),
    "deep": (
        TCB,
        b'{"tcbInfo":' + b"[" * 100_000 + b"]" * 100_000 + b',"signature":""}',
        "collateral.source.malformed",
    ),
    "not utf-8": (TCB, b'{"tcbInfo":{"a":"\xff"},"signature":"00"}', "collateral.source.malformed"),
    "no CRL": (ROOT, b"<html>", "collateral.source.malformed"),
    "half a CRL in hex": (ROOT, b"308", "collateral.source.malformed"),
    "a CRL of nothing": (ROOT, b"\x30\x00", "collateral.source.unsigned"),
    "a CRL that is too long": (ROOT, b"\x30" + bytes(11 << 20), "collateral.source.malformed"),
    "a CRL of a platform that is too long": (CRL, b"\x30" + bytes(11 << 20), "collateral.source.malformed"),
    "qe identity as tcb info": (QE, None, "collateral.source.malformed"),
    "too long": (TCB, b" " * (1024 * 1024 + 1), "collateral.source.oversize"),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_is_no_collateral(site, name):
    """HTML, garbage, hostile JSON and oversized bodies end without collateral."""
    path, body, reason = BODIES[name]
    with site.serve() as server:
        honest = server.answer(f"{TCB}?fmspc=53494d554c41&update=standard")
        content = honest.body if body is None else body
        server.override[path] = Answer(200, content, headers=_renamed(honest.headers))

        assert reason == refused(site, server.url)


def _renamed(headers):
    chain = headers["TCB-Info-Issuer-Chain"]
    return {
        "TCB-Info-Issuer-Chain": chain,
        "SGX-Enclave-Identity-Issuer-Chain": chain,
        "SGX-PCK-CRL-Issuer-Chain": chain,
    }


HEADERS = {
    "missing": {},
    "empty": {"TCB-Info-Issuer-Chain": ""},
    "garbage": {"TCB-Info-Issuer-Chain": "hello"},
    "broken percent": {"TCB-Info-Issuer-Chain": "-----BEGIN%2"},
    "not ascii": {"TCB-Info-Issuer-Chain": "-----BEGIN CERTIFICATE-----%FF%FE"},
    "both names": {"TCB-Info-Issuer-Chain": "-----BEGIN CERTIFICATE-----", "SGX-TCB-Info-Issuer-Chain": "x"},
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_bad_issuer_chain_header(site, name):
    """A missing, repeated, or wrongly encoded issuer chain is refused."""
    with site.serve() as server:
        honest = server.answer(f"{TCB}?fmspc=53494d554c41&update=standard")
        server.override[TCB] = Answer(200, honest.body, headers=HEADERS[name])

        assert "collateral.source.malformed" == refused(site, server.url)


def test_a_repeated_header_is_refused(site, raw_server):
    """The same header twice is not taken as one."""
    chain = b"TCB-Info-Issuer-Chain: -----BEGIN CERTIFICATE-----\r\n"
    url = raw_server(lambda c, _: c.sendall(b"HTTP/1.1 200 OK\r\n" + chain.replace(b"TCB-Info", b"SGX-PCK-CRL") * 2 +
                                            b"Content-Length: 2\r\n\r\n\x30\x00"))  # fmt: skip

    assert "collateral.source.malformed" == refused(site, url)


def test_collateral_that_is_signed_by_another_root(site, tmp_path):
    """A service whose objects are of another root, however well-formed, gives nothing."""
    from glasscase.sim.pcs import PcsServer
    from glasscase.sim.platform import SimPlatform

    with PcsServer(SimPlatform.open(tmp_path / "other"), at=site.at) as server:
        assert "collateral.source.unsigned" == refused(site, server.url)


def test_old_collateral_that_is_still_signed(site):
    """Collateral outside its window is refused although every signature holds."""
    with site.serve(at=site.at - 40 * 86400) as server:
        assert "collateral.source.unsigned" == refused(site, server.url)
    with site.serve(at=site.at + 60) as server:
        assert "collateral.source.unsigned" == refused(site, server.url)


def test_a_changed_byte_is_refused(site):
    """One byte of a signed document changed on the way is found by its signature."""
    with site.serve() as server:
        honest = server.answer(f"{TCB}?fmspc=53494d554c41&update=standard")
        server.override[TCB] = Answer(200, honest.body.replace(b"UpToDate", b"UpToDat3", 1), headers=honest.headers)

        assert "collateral.source.unsigned" == refused(site, server.url)


def test_another_platforms_tcb_info_is_refused(site, monkeypatch):
    """A genuine TCB info of another FMSPC is not collateral of this platform."""
    import json

    from glasscase.sim import documents

    scene = site.platform.scene(body=bytes(384), at=site.at)
    scene.tcb_info = {**scene.tcb_info, "fmspc": "00906ed50000"}
    other = scene.render().collateral
    assert documents and json.loads(other["tcb_info"])["tcbInfo"]["fmspc"] == "00906ed50000"
    with site.serve() as server:
        honest = server.answer(f"{TCB}?fmspc=53494d554c41&update=standard")
        server.override[TCB] = Answer(200, other["tcb_info"].encode(), headers=honest.headers)

        assert "collateral.source.unsigned" == refused(site, server.url)


def served(site, server, **parts):
    """Let the server hand out other objects, each with the issuer chain that belongs to it."""
    headers = {
        "pck_crl": (CRL, "SGX-PCK-CRL-Issuer-Chain", bytes.fromhex),
        "tcb_info": (TCB, "TCB-Info-Issuer-Chain", str.encode),
    }
    for name, collateral in parts.items():
        path, header, encoded = headers[name]
        chain = quote(collateral[f"{name}_issuer_chain"], safe="")
        server.override[path] = Answer(200, encoded(collateral[name]), headers={header: chain})


def faulty(site, name):
    """Return the collateral of one named fault of the simulator, and the check that it fails."""
    fault = faults.all_faults()[name]
    return faults.exhibit(site.platform, fault, body=bytes(384), at=site.at).collateral, fault.check


@pytest.mark.parametrize(
    ("part", "name", "check"),
    [
        ("pck_crl", "pck-crl-chain-of-processor-ca", "crl.ca.mismatch"),
        ("tcb_info", "tcb-info-version-2", "tcbinfo.version.unsupported"),
    ],
)
def test_genuine_objects_of_another_kind_are_refused(site, tmp_path, part, name, check):
    """The PCK CRL of the other CA, and a TCB info of the older version 2, are signed and are not taken."""
    collateral, fails = faulty(site, name)
    store = Store(tmp_path / "cache")
    with site.serve() as server:
        served(site, server, **{part: collateral})
        with pytest.raises(CannotVerify) as caught:
            run(site, server.url, store=store)

    assert check == fails
    assert ("collateral.source.unsigned", 3) == (caught.value.reason, caught.value.exit_code)
    assert f": {check}: " in caught.value.message
    assert not (tmp_path / "cache").exists()


def test_mixed_epochs_are_refused(site):
    """A cache that serves TCB info and QE identity of different TCB evaluations gives nothing."""
    scene = site.platform.scene(body=bytes(384), at=site.at)
    scene.qe_identity = {**scene.qe_identity, "tcbEvaluationDataNumber": 99}
    other = scene.render().collateral
    with site.serve() as server:
        honest = server.answer(f"{QE}?update=standard")
        server.override[QE] = Answer(200, other["qe_identity"].encode(), headers=honest.headers)

        assert "collateral.source.unsigned" == refused(site, server.url)


def test_nobody_listens(site):
    """A refused connection ends within the retries."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    assert "collateral.source.unreachable" == refused(site, f"http://127.0.0.1:{port}")


def test_a_name_that_does_not_resolve(site):
    """A name that does not exist is a network fault, not a crash."""
    assert refused(site, "http://no-such-host.invalid", deadline_s=3) in (
        "collateral.source.unreachable", "collateral.source.slow",
    )  # fmt: skip


def test_tls_that_is_not_tls(site):
    """https to a server that speaks plain HTTP is a network fault."""
    with site.serve() as server:
        assert "collateral.source.unreachable" == refused(site, server.url.replace("http:", "https:"))


def test_a_tls_certificate_of_nobody(site, tmp_path):
    """https to a server with a certificate that no authority of this machine has signed is a network fault."""
    key, certificate = self_signed()
    (tmp_path / "both.pem").write_bytes(key + certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    with site.serve() as server:
        server._server.socket = context.wrap_socket(server._server.socket, server_side=True)

        assert "collateral.source.unreachable" == refused(site, server.url.replace("http:", "https:"))
        assert [] == server.paths


def self_signed():
    """Return key and certificate of 127.0.0.1, PEM."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - datetime.timedelta(days=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=1))
    made = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False).sign(key, hashes.SHA256())
    return (
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        made.public_bytes(Encoding.PEM),
    )


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_server_is_not_followed(site, status):
    """The server that a redirect points to, even over plain http, is never asked."""
    with site.serve() as other, site.serve() as server:
        server.override[CRL] = Answer(status, headers={"Location": other.url + CRL})

        assert "collateral.source.refused" == refused(site, server.url)
        assert [] == other.paths


@pytest.mark.parametrize("announced", [True, False])
def test_a_compressed_bomb_is_never_unpacked(site, raw_server, announced):
    """A gigabyte of zeros in a megabyte is refused as it is, with or without its header."""
    bomb = gzip.compress(bytes(64 * 1024 * 1024), 9) * 8
    encoding = b"Content-Encoding: gzip\r\n" if announced else b""
    head = b"HTTP/1.1 200 OK\r\nSGX-PCK-CRL-Issuer-Chain: -----BEGIN CERTIFICATE-----\r\n" + encoding
    url = raw_server(lambda c, _: c.sendall(head + b"Content-Length: %d\r\n\r\n" % len(bomb) + bomb))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    assert refused(site, url) in ("collateral.source.malformed", "collateral.source.refused")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 * 1024


def hang(connection, _request):
    time.sleep(4)


def drip(connection, _request):
    connection.sendall(b"HTTP/1.1 200 OK\r\nSGX-PCK-CRL-Issuer-Chain: x\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(60):
        connection.sendall(b"0")
        time.sleep(0.1)


def drip_headers(connection, _request):
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for number in range(60):
        connection.sendall(b"X-%d: y\r\n" % number)
        time.sleep(0.1)


@pytest.mark.parametrize("behave", [hang, drip, drip_headers])
def test_a_slow_server_meets_the_deadline(site, raw_server, behave):
    """A server that hangs, or sends a byte now and then, is left at the deadline of the whole fetch."""
    url = raw_server(behave)
    began = time.monotonic()
    reason = refused(site, url, deadline_s=1.0)

    assert reason in ("collateral.source.slow", "collateral.source.unreachable")
    assert time.monotonic() - began < 3


RAW = {
    "nothing": b"",
    "half a line": b"HTTP/1.1 20",
    "not http": b"\x16\x03\x01\x00\x00hello\r\n\r\n",
    "truncated": b"HTTP/1.1 200 OK\r\nSGX-PCK-CRL-Issuer-Chain: x\r\nContent-Length: 500\r\n\r\nabc",
    "a header of 100 kB": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    "thousand headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nabc",
    "broken chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n",
    "compressed": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
}


@pytest.mark.parametrize("name", RAW)
def test_broken_http(site, raw_server, name):
    """Broken, truncated and compressed answers end with an id."""
    url = raw_server(lambda connection, _: connection.sendall(RAW[name]))

    assert refused(site, url, deadline_s=5).startswith("collateral.source.")


def test_an_endless_body_stops_at_its_limit(site, raw_server, monkeypatch):
    """A gigabyte that is announced or only sent is not read beyond the limit."""
    monkeypatch.setattr(fetch, "CRL_MAX", 64 * 1024)
    sent = [0]

    def flood(connection, _request):
        connection.sendall(b"HTTP/1.1 200 OK\r\nSGX-PCK-CRL-Issuer-Chain: x\r\nContent-Length: 1073741824\r\n\r\n")
        for _ in range(1024):
            sent[0] += connection.send(b"0" * 65536)

    assert "collateral.source.oversize" == refused(site, raw_server(flood))
    assert sent[0] < 32 * 1024 * 1024


@pytest.mark.parametrize("url", [
    "ftp://host", "file:///etc/passwd", "http://", "intel.com", "", "https://user:pw@host", "https://u:a pw@host", "http://host/?a=b",
    "http://host:0", "http://host:99999", "http://ho st", "http://h\nost",
])  # fmt: skip
def test_a_source_that_is_no_url(site, url):
    """Only intel, http and https are sources; nothing is opened."""
    with pytest.raises(UsageError) as caught:
        run(site, url)

    assert "collateral.url.malformed" == caught.value.reason and "pw@" not in str(caught.value)


def test_a_quote_without_platform_asks_nobody(site, shared):
    """A quote that names no platform ends before any request."""
    with site.serve() as server:
        for quote in (b"", b"garbage", (shared / "corpus" / "parse-only-sgx-2f59d4cb" / "quote.bin").read_bytes()):
            with pytest.raises(CannotVerify) as caught:
                fetch.fetch_collateral(quote, anchor=site.anchor, at=site.at, source=server.url)
            assert "collateral.platform.unknown" == caught.value.reason

        assert [] == server.paths


def test_the_store_keeps_only_what_was_verified_and_never_goes_back(site, tmp_path):
    """Verified collateral is kept; older data that is still signed is refused afterwards and changes nothing."""
    store = Store(tmp_path / "cache")
    key = {"fmspc": b"SIMULA", "ca": "platform"}
    with site.serve(at=site.at - 86400) as server:
        old = run(site, server.url, store=store)
    with site.serve() as server:
        new = run(site, server.url, store=store)
        server.override[TCB] = Answer(200, b"<html>")
        refused(site, server.url, store=store)

    assert new == store.get(**key) != old
    before = {path.name: path.read_bytes() for path in (tmp_path / "cache").iterdir()}
    with site.serve(at=site.at - 86400) as server:
        assert "collateral.source.older" == refused(site, server.url, store=store)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "cache").iterdir()}
    assert {0o600} == {path.stat().st_mode & 0o777 for path in (tmp_path / "cache").iterdir()}
    assert store.get(fmspc=b"SIMULA", ca="processor") is None
    (tmp_path / "cache" / "53494d554c41-platform-standard.json").write_bytes(b"{")
    assert store.get(**key) is None


def test_a_crl_number_may_have_twenty_bytes(site, tmp_path):
    """RFC 5280 allows numbers that JSON has no integers for; they are marks like any other."""
    store, large = Store(tmp_path / "cache"), 2**160 - 1
    with site.serve() as server:
        collateral = run(site, server.url)
    for number in (2, large - 1, large):
        store.keep(collateral, Marks("x", {"pck_crl.platform.number": number}))
    before = (tmp_path / "cache" / MARKS).read_bytes()
    for number in (large - 1, 3):
        with pytest.raises(CannotVerify) as caught:
            store.keep(collateral, Marks("x", {"pck_crl.platform.number": number}))
        assert "collateral.source.older" == caught.value.reason

    assert before == (tmp_path / "cache" / MARKS).read_bytes()
