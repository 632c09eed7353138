"""Certificate modes: RA-TLS, the owner's own certificate for the key made inside, and mutual TLS."""

import datetime
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from glasscase.codec import cbor
from glasscase.evidence.attestation import Attestation, Claims
from glasscase.ratls.cert import spki_digest
from glasscase.ratls.reading import read_certificate
from glasscase.seal.envelope import Contents

from .conftest import client_context, make_config

CONTENTS = Contents(b"r" * 32, secrets={"token": "x"})
KEY_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign",
    "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


class Authority:
    """A certificate authority outside."""

    def __init__(self, name="Test CA"):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self.issue(self.key.public_key(), self.name, ca=True)

    def issue(self, public, subject, *, ca=False, names=()):
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(public)
            .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )  # fmt: skip
        if ca:
            usage = dict.fromkeys(KEY_USAGES, False) | {"key_cert_sign": True}
            builder = builder.add_extension(x509.KeyUsage(**usage), critical=True)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def from_request(self, der):
        request = x509.load_der_x509_csr(der)
        assert request.is_signature_valid
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return self.issue(request.public_key(), request.subject, names=list(names))


def der(certificate):
    return certificate.public_bytes(Encoding.DER)


def test_the_owners_certificate(enclave):
    """Mode own: the request in the evidence is by the live key; the chain from the envelope is served for that key."""
    ca = Authority()
    one = enclave(config=make_config(server={"certificate": "own"})).start()
    before = one.attestation()
    key = read_certificate(before.certificate).spki_sha256
    leaf = ca.from_request(before.request)
    assert key == spki_digest(leaf.public_key())
    assert (403, b"refused") == one.provision(one.envelope(CONTENTS))

    other = ca.issue(ec.generate_private_key(ec.SECP256R1()).public_key(), ca.name)
    weak = ca.issue(rsa.generate_private_key(65537, 1024).public_key(), ca.name, ca=True)  # which no TLS takes
    chains = ((der(other),), (b"junk",), (der(ca.certificate), der(leaf)), (der(leaf), der(weak)), (der(leaf), b"junk"))
    for chain in chains:
        wrong = Contents(b"r" * 32, secrets={"token": "x"}, chain=chain)
        assert (403, b"refused") == one.provision(one.envelope(wrong))
    one.serve(one.envelope(Contents(b"r" * 32, secrets={"token": "x"}, chain=(der(leaf), der(ca.certificate)))))

    verifying = ssl.create_default_context(cadata=ca.certificate.public_bytes(Encoding.PEM).decode())
    with _connect(one, verifying) as connection:
        shown = x509.load_der_x509_certificate(connection.getpeercert(binary_form=True))
    after = one.attestation()
    claims = Claims.from_bytes(after.claims)
    assert key == spki_digest(shown.public_key()) == claims.spki_sha256
    assert claims.session_facts().prov is not None
    assert (200, b"x") == one.ask("GET", "/secret")
    fresh = Attestation.from_bytes(one.well_known("POST", "evidence", cbor.encode({"nonce": b"n" * 32}))[1])
    assert key == Claims.from_bytes(fresh.claims).spki_sha256


def _connect(one, context, name="localhost"):
    import socket

    plain = socket.create_connection(("127.0.0.1", one.port), timeout=10)
    try:
        return context.wrap_socket(plain, server_hostname=name)
    except BaseException:
        plain.close()
        raise


@pytest.fixture
def mutual(enclave, tmp_path):
    """Return an enclave with a measured client CA, and a function that gives client contexts."""
    ca, stranger = Authority(), Authority("Other CA")
    one = enclave(config=make_config(server={"client_ca": (der(ca.certificate),)})).start()
    one.serve()

    def client(authority=None):
        context = client_context()
        if authority is not None:
            key = ec.generate_private_key(ec.SECP256R1())
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "client")])
            path = tmp_path / f"{authority.name.rfc4514_string()}.pem"
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            path.write_bytes(pem + authority.issue(key.public_key(), name).public_bytes(Encoding.PEM))
            context.load_cert_chain(path)
        return context

    return one, client, ca, stranger


def ask(one, context, path):
    """Return the status of one request, or None if the server ended the connection."""
    import http.client

    connection = http.client.HTTPSConnection("127.0.0.1", one.port, context=context, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (ssl.SSLError, OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def test_mutual_tls(mutual):
    """The application is for clients of the measured CA; evidence and status are for everybody."""
    one, client, ca, stranger = mutual

    assert 200 == ask(one, client(ca), "/secret")
    assert 403 == ask(one, client(), "/secret")
    assert ask(one, client(stranger), "/secret") is None
    assert 200 == ask(one, client(), "/.well-known/glasscase/evidence")
    assert 200 == ask(one, client(ca), "/.well-known/glasscase/status")
