"""An enclave with a certificate of its owner's CA, and with mutual TLS, through the command line."""

import datetime
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from glasscase import auditor

pytestmark = pytest.mark.xdist_group("e2e")


class Authority:
    """A CA of the test's own."""

    def __init__(self, name):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        self.certificate = self._builder(self.name, self.key.public_key()).add_extension(constraints, critical=True)
        self.certificate = self.certificate.sign(self.key, hashes.SHA256())

    def _builder(self, subject, key):
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
        return builder.not_valid_after(now + datetime.timedelta(days=1))

    def issue(self, subject, key, extension=None):
        """Return a certificate for a key."""
        builder = self._builder(subject, key)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        if extension is not None:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self.key, hashes.SHA256())


def pem(*certificates):
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def client_identity(authority, path):
    """Write key and certificate of a client into one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "client")])
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(pem(authority.issue(name, key.public_key())) + private)


def test_own_certificate_and_mutual_tls(shell, serving):
    """The CA signs the request in the evidence, the chain travels in the envelope, clients check evidence for that key."""
    authority, clients = Authority("Owner CA"), Authority("Client CA")
    directory = shell.directory
    (directory / "client-ca.pem").write_bytes(pem(clients.certificate))
    project = directory / "glasscase.toml"
    before = project.read_text()
    project.write_text(before.replace("[server]", '[server]\ncertificate = "own"\nclient_ca = "client-ca.pem"'))
    try:
        built = shell.run("build", "-o", "own.bundle")
    finally:
        project.write_text(before)
    shell.run("sign", "own.bundle", "--key", "keys/enclave.pem")
    (directory / "own.toml").write_text(
        (directory / "policy.toml").read_text().replace(shell.bundle_id, built["bundle_id"])
    )
    trust = ("--policy", "own.toml", "--bundle", "own.bundle", "--insecure-anchor", "root.pem")
    started = shell.run("run", "own.bundle", "--backend", "simulator", "--name", "own")
    shell.run("evidence", "own", "-o", "own.json")
    request = x509.load_der_x509_csr(auditor.load_evidence(directory / "own.json").attestation.request)
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    chain = authority.issue(request.subject, request.public_key(), names)
    (directory / "chain.pem").write_bytes(pem(chain, authority.certificate))
    shell.run(
        "seal", "secrets.json", "--evidence", "own.json", *trust, "--owner-key", "keys/owner",
        "--package-key", "keys/package.key", "--chain", "chain.pem", "-o", "own.sealed",
    )  # fmt: skip
    assert "serving" == shell.run("provision", "own", "own.sealed")["state"]

    client_identity(clients, directory / "client.pem")
    client_identity(authority, directory / "stranger.pem")
    url = started["url"] + "health"
    good = shell.run("get", url, *trust, "--own-certificate", "--client-cert", "client.pem")
    assert (200, {"status": "ok"}) == (good["status"], good["body_json"])
    untold = shell.run("get", url, *trust, "--client-cert", "client.pem", code=2)
    assert untold["error"]["id"].startswith("evidence.certificate.")
    nobody = shell.run("get", url, *trust, "--own-certificate", code=4)
    assert 403 == nobody["status"]
    assert 4 == shell.raw("get", url, *trust, "--own-certificate", "--client-cert", "stranger.pem").returncode
    other = shell.run("get", url, *shell.trust, "--own-certificate", "--client-cert", "client.pem", code=2)
    assert "policy.mrenclave.mismatch" == other["error"]["id"], json.dumps(other)
    shell.run("stop", "own")
