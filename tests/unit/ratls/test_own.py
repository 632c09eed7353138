"""Enclaves with a certificate of their owner's CA: the evidence must name the key of the connection itself."""

import concurrent.futures
import datetime
import ipaddress
import ssl
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from glasscase import client
from glasscase.errors import FormatError
from glasscase.evidence.attestation import Attestation
from glasscase.ratls.judging import PeerRefused
from glasscase.ratls.shown import OwnEvidence, read_shown

from .test_client import STACKS, by_http_client, refusal


def by_ca(key, *, names=("127.0.0.1", "localhost"), days=(-1, 1)):
    """Return a certificate of some CA for a key, DER."""
    now = datetime.datetime.now(datetime.UTC)
    authority = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "A CA")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "service")])
    san = []
    for name in names:
        try:
            san.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            san.append(x509.DNSName(name))
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(7).not_valid_before(now + datetime.timedelta(days=days[0]))
    builder = builder.not_valid_after(now + datetime.timedelta(days=days[1]))
    builder = builder.add_extension(x509.SubjectAlternativeName(san), critical=False)
    return builder.sign(authority, hashes.SHA256()).public_bytes(Encoding.DER)


@pytest.fixture
def owned(serve, identity):
    """Return a function(evidence_of=None, **certificate) -> server of mode own, with the evidence of another if given."""

    def start(*, evidence_of=None, facts=None, **certificate):
        one = identity(**(facts or {}))
        other = evidence_of or one
        one.certificate = by_ca(one.key, **certificate)
        server = serve(one)
        server.evidence = Attestation(other.quote, other.claims).to_bytes()
        return server

    return start


@pytest.fixture
def context_for(policy, anchor, collateral):
    """Return a function(server) -> context that asks that server for its evidence."""
    return lambda server: client.context(
        policy, anchor, collateral_source=collateral, own_certificate_at=(server.host, server.port)
    )


@pytest.mark.parametrize("ask", STACKS, ids=lambda f: f.__name__)
def test_the_right_enclave_is_reached(ask, owned, context_for):
    """Each client gets the answer, and the evidence was asked for once."""
    server = owned()
    context = context_for(server)

    assert b"hello" == ask(server.url, context)
    assert b"hello" == ask(server.url, context)
    assert 1 == server.asked


def test_connections_that_begin_together_ask_once(owned, context_for):
    """Eight first connections at the same time are one request for evidence."""
    server = owned()
    server.delay = 0.3
    context = context_for(server)
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        assert [b"hello"] * 8 == list(threads.map(lambda _: by_http_client(server.url, context), range(8)))

    assert 1 == server.asked


def test_without_being_told_it_is_refused(owned, policy, anchor, collateral):
    """An ordinary certificate is no evidence unless the caller has said where to ask."""
    server = owned()
    with pytest.raises(PeerRefused) as caught:
        by_http_client(server.url, client.context(policy, anchor, collateral_source=collateral))

    assert "evidence.certificate.malformed" == caught.value.reason
    assert "--own-certificate" in caught.value.hint
    assert (b"", 0) == (server.received, server.asked)


@pytest.mark.parametrize("ask", STACKS, ids=lambda f: f.__name__)
def test_evidence_of_another_key_is_refused(ask, owned, identity, context_for):
    """A relay that shows its own certificate and the true enclave's evidence gets no byte."""
    server = owned(evidence_of=identity())
    with pytest.raises(Exception) as caught:
        ask(server.url, context_for(server))

    assert "client.key.unbound" == refusal(caught.value).reason
    assert b"" == server.received


def test_every_fault_of_certificate_and_evidence_is_refused(owned, context_for):
    """Another name, an expired certificate, another enclave, an expired session, garbage as evidence."""
    past = int(time.time()) - 7200
    for options, reason in (
        ({"names": ("other.example",)}, "client.name.mismatch"),
        ({"days": (-2, -1)}, "client.certificate.expired"),
        ({"days": (1, 2)}, "client.certificate.expired"),
        ({"facts": {"mrenclave": bytes(32)}}, "policy.mrenclave.unlisted"),
        ({"facts": {"nbf": past, "exp": past + 60}}, "freshness.session.outside"),
    ):
        server = owned(**options)
        with pytest.raises(PeerRefused) as caught:
            by_http_client(server.url, context_for(server))
        assert (reason, b"") == (caught.value.reason, server.received)
    server = owned()
    server.evidence = b"garbage"
    with pytest.raises(PeerRefused):
        by_http_client(server.url, context_for(server))
    assert b"" == server.received


@pytest.mark.parametrize(
    ("part", "instead"),
    [
        ("a003020102", "a003020103"),
        ("06082a8648ce3d030107", "06082a8648ce3d030177"),
        ("06072a8648ce3d0201", "06072a8648ce3d0202"),
    ],
    ids=["version", "curve", "key"],
)
def test_a_strange_certificate_is_malformed(part, instead):
    """What the parser of certificates does not know is refused like any other, and nobody is asked for evidence."""
    der = by_ca(ec.generate_private_key(ec.SECP256R1()))
    assert 1 == der.count(bytes.fromhex(part))
    with pytest.raises(FormatError) as caught:
        read_shown(der.replace(bytes.fromhex(part), bytes.fromhex(instead)), OwnEvidence("", 0), int(time.time()))

    assert "client.certificate.malformed" == caught.value.reason


def test_a_new_key_is_asked_for_again(owned, identity, context_for, tmp_path):
    """After a restart with another key the evidence is fetched anew, and is judged for that key."""
    server = owned()
    context = context_for(server)
    assert b"hello" == by_http_client(server.url, context)
    second = identity()
    evidence = Attestation(second.quote, second.claims).to_bytes()
    second.certificate = by_ca(second.key)
    server.use(second, tmp_path)
    with pytest.raises(ssl.SSLError):
        by_http_client(server.url, context)
    server.evidence = evidence
    assert b"hello" == by_http_client(server.url, context)
