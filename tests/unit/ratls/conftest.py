"""A server with an RA-TLS certificate of the simulator's, right or wrong in one way, that counts what it received."""

import contextlib
import hashlib
import json
import socket
import ssl
import threading
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from glasscase.collateral.model import parse_collateral
from glasscase.evidence.attestation import SUITE_HYBRID, Claims, Instance, Session
from glasscase.ratls.cert import make_certificate, spki_digest
from glasscase.sgx.reportdata import claims_report_data
from glasscase.sim.platform import SimPlatform
from glasscase.sim.quoting import report_body
from glasscase.verify.anchor import TrustAnchor
from glasscase.verify.policy import parse_policy

MRENCLAVE = hashlib.sha256(b"the right enclave").digest()
MRSIGNER = hashlib.sha256(b"the signer").digest()
FLAG_DEBUG = 2
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello"


@pytest.fixture(scope="session")
def platforms(tmp_path_factory):
    """Return two simulated platforms with different roots: the right one and a forger's."""
    root = tmp_path_factory.mktemp("platforms")
    return SimPlatform.open(root / "right"), SimPlatform.open(root / "forger")


@pytest.fixture
def anchor(platforms):
    """Return the right platform's root as trust anchor."""
    return TrustAnchor.insecure_root(platforms[0].root_pem.encode("ascii"))


@pytest.fixture
def policy():
    """Return a policy that names the right enclave."""
    return parse_policy(
        f'version = 1\n[measurement]\nmrenclave = "{MRENCLAVE.hex()}"\n[platform]\nplatforms = ["any-intel"]\n'.encode()
    )


@pytest.fixture
def collateral(platforms):
    """Return the right platform's collateral, issued now."""
    return collateral_of(platforms[0], int(time.time()))


def collateral_of(platform, at):
    return parse_collateral(json.dumps(platform.collateral(at=at)).encode("ascii"))


class Identity:
    """Key and certificate of one enclave. Every argument is a fact that a bad server has wrong."""

    def __init__(
        self, platform, *, mrenclave=MRENCLAVE, flags=5, nbf=None, exp=None, san=None, quote_key=None, prov=None
    ):
        now = int(time.time())
        self.key = ec.generate_private_key(ec.SECP256R1())
        nbf = now - 60 if nbf is None else nbf
        exp = now + 3600 if exp is None else exp
        san = ("127.0.0.1", "localhost", "::1", "enclave.example") if san is None else san
        instance = Instance(bytes(16), SUITE_HYBRID, bytes(1216), bytes(32))
        session = Session(1, nbf, exp, san, prov=prov)
        bound = (quote_key or self.key).public_key()
        claims = Claims(spki_digest(bound), instance.to_bytes(), session.to_bytes()).to_bytes()
        body = report_body(
            mrenclave=mrenclave, mrsigner=MRSIGNER, attributes_flags=flags, report_data=claims_report_data(claims)
        )
        self.claims, self.quote = claims, platform.quote(body)
        self.certificate = make_certificate(
            self.key, claims, self.quote, name="app", not_before=nbf, not_after=exp, san=san
        )


class Server:
    """A TLS server on a port of its own. received: the application bytes that reached it, over all connections.

    names: what each handshake asked for by SNI, None if it named nothing.
    """

    def __init__(
        self, identity, directory, *, host="127.0.0.1", port=0, version=ssl.TLSVersion.TLSv1_3, answer=ANSWER, hang_up=False
    ):  # fmt: skip
        self.received = b""
        self.names = []
        self._talks = []
        self.connections = 0
        self.evidence = b""  # what GET evidence answers; such requests are counted apart
        self.asked = 0
        self.polite = False  # ends TLS as it should be, and then reads on
        self.in_clear = b""
        self.delay = 0.0  # seconds before evidence is answered
        self.answer = answer
        self.hang_up = hang_up  # after an answer, without a word of TLS; "politely": with TLS's own end
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._context.maximum_version = version
        self._context.sni_callback = lambda _connection, name, _context: self.names.append(name)
        self.use(identity, directory)
        self._listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.port = self._listener.getsockname()[1]
        self.host = host
        self._sockets = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def use(self, identity, directory):
        """Show this certificate from the next handshake on."""
        path = directory / f"{id(identity)}.pem"
        pem = ssl.DER_cert_to_PEM_cert(identity.certificate).encode("ascii")
        key = identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(pem + key)
        self._context.load_cert_chain(path)
        path.unlink()

    @property
    def url(self):
        """Return the URL of this server."""
        return f"https://[{self.host}]:{self.port}/" if ":" in self.host else f"https://{self.host}:{self.port}/"

    def _serve(self):
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            self._talks.append(threading.Thread(target=self._talk, args=(plain,), daemon=True))
            self._talks[-1].start()

    def carried(self):
        """Return what was received once every connection is over, of which there must have been one: nothing comes later."""
        assert wait_until(lambda: self._talks, 5), "nobody connected"
        for talk in list(self._talks):
            talk.join(5)
            assert not talk.is_alive(), "a connection is still open"
        return self.received

    def _talk(self, plain):
        with contextlib.suppress(OSError):
            plain.settimeout(10)
            with self._context.wrap_socket(plain, server_side=True) as connection:
                self._sockets.append(connection)
                self.connections += 1
                while data := connection.recv(65536):
                    if data.startswith(b"GET /.well-known/glasscase/evidence "):
                        self.asked += 1
                        time.sleep(self.delay)
                        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(self.evidence)}\r\n\r\n"
                        connection.sendall(head.encode("ascii") + self.evidence)
                        continue
                    self.received += data
                    if data.endswith(b"\r\n\r\n"):
                        connection.sendall(self.answer)
                        if self.hang_up == "politely":
                            connection.unwrap()
                            return
                        if self.hang_up:
                            connection.shutdown(socket.SHUT_RDWR)
                            return
                if self.polite:
                    rest = connection.unwrap()
                    while data := rest.recv(65536):
                        self.in_clear += data

    def close(self):
        """Stop listening and end what is open."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._listener.close()
        self._thread.join(5)
        # each thread closes its own: OpenSSL would go on reading a number that the next test's socket has by then
        for connection in self._sockets:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        for talk in self._talks:
            talk.join(5)


def wait_until(condition, seconds):
    """Return whether the condition holds within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(condition())


@pytest.fixture
def serve(tmp_path):
    """Return a function(identity, **options) -> Server; all are closed afterwards."""
    servers = []

    def start(identity, **options):
        servers.append(Server(identity, tmp_path, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def identity(platforms):
    """Return a function(**facts) -> Identity on the right platform, or on platform=... ."""

    def make(*, platform=None, **facts):
        return Identity(platform or platforms[0], **facts)

    return make


@pytest.fixture
def collateral_at(platforms):
    """Return a function(at) -> collateral of the right platform issued then."""
    return lambda at: collateral_of(platforms[0], at)
