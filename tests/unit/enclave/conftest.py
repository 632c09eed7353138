"""A real enclave program in a process of its own: minimal rootfs, software attestation device, TLS client."""

import dataclasses
import datetime
import hashlib
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from glasscase.bundle.imports import import_table
from glasscase.config.enclave import EnclaveConfig, GramineOptions, ServerOptions
from glasscase.enclave import bootstrap
from glasscase.evidence.attestation import Attestation, Claims, instance_digest
from glasscase.seal import cose
from glasscase.seal.envelope import FORM, NO_PACKAGE, Contents, Context, make_payload, sign_payload
from glasscase.seal.package import build_package, sources_of
from glasscase.sim.device import SoftwareDevice
from glasscase.sim.platform import SimPlatform

SITE = Path(sysconfig.get_path("purelib"))
PACKAGES = (
    "glasscase", "cryptography", "cffi", "cbor2", "nacl", "uvicorn", "h11", "a2wsgi", "click", "fastapi", "starlette",
    "pydantic", "pydantic_core", "anyio", "idna", "sniffio", "typing_inspection", "annotated_types", "annotated_doc",
    "opentelemetry", "flask", "werkzeug", "jinja2", "markupsafe", "itsdangerous", "blinker", "django", "asgiref", "sqlparse",
)  # fmt: skip
MRENCLAVE = b"M" * 32
OWNER_SEED = b"\x07" * 32
OWNER = cose.public_key(OWNER_SEED)
PACKAGE_KEY = b"k" * 32
ASGI_APP = """
import asyncio, os, threading, time
from glasscase import runtime

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                scope["state"]["started"] = "yes"
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                print("app: shut down", flush=True)
                return
    path = scope["path"]
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return
        body += message["body"]
        more = message.get("more_body", False)
    if path == "/secret":
        answer = str(runtime.secrets["token"])
    elif path == "/quote":
        answer = runtime.quote(body).hex()
    elif path == "/length":
        answer = str(len(body))
    elif path == "/state":
        answer = scope["state"]["started"]
    elif path == "/env":
        answer = os.environ.get("GREETING", "") + repr(runtime.secrets)
    elif path == "/slow":
        await asyncio.sleep(float(body or b"1"))
        answer = "done"
    elif path == "/boom":
        raise ValueError("canary-message")
    else:
        answer = "hello from " + path
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": answer.encode()})
"""


HTTP2_PACKAGES = ("hypercorn", "h2", "hpack", "hyperframe", "wsproto", "priority")


def wheel_files(packages=PACKAGES):
    """Return the paths of the files of packages, relative to the directory of wheels."""
    paths = []
    for entry in sorted(SITE.iterdir()):
        name = entry.name
        if entry.is_file() and (name.startswith("_cffi_backend") or name == "typing_extensions.py"):
            paths.append(name)
        elif entry.is_dir() and (name in packages or name.endswith((".dist-info", ".libs"))):
            paths += [str(file.relative_to(SITE)) for file in entry.rglob("*") if file.is_file()]
    return [path for path in paths if "__pycache__" not in path]


@pytest.fixture(scope="session")
def site_paths():
    """Return the paths below rootfs/ of the packages that an enclave may need."""
    return [f"rootfs/opt/site/{path}" for path in wheel_files()]


@pytest.fixture(scope="session")
def platform(tmp_path_factory):
    """Return one simulated platform."""
    return SimPlatform.open(tmp_path_factory.mktemp("platform"))


def make_config(**changes):
    """Return a configuration with defaults that tests change; server: changes of the server options."""
    server = ServerOptions(
        **{"app_threads": 4, "header_timeout": 3, "idle_timeout": 10, "drain": 3, **changes.pop("server", {})}
    )
    values = {
        "name": "hello", "entry": "demo:app", "interface": "asgi", "health": None, "encrypt": False, "models": "digest",
        "build_epoch": 1_700_000_000, "owners": (OWNER,), "threshold": 1, "package": None, "commitment": None,
        "gramine": GramineOptions("simulator", "512M", 32, 1, 3), "server": server, "env": {"GREETING": "hi"},
    }  # fmt: skip
    return EnclaveConfig(**{**values, **changes})


class Peer:
    """What answers over HTTPS at `port`."""

    def connection(self, *, timeout=10):
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=client_context(), timeout=timeout)

    def ask(self, method, path, body=None, headers=None, *, connection=None):
        own = connection or self.connection()
        try:
            own.request(method, path, body=body, headers=headers or {})
            answer = own.getresponse()
            return answer.status, answer.read()
        finally:
            if connection is None:
                own.close()


class Enclave(Peer):
    """One enclave process and everything a host and an owner do with it."""

    def __init__(self, folder, site_paths, platform, *, config=None, app=None, instance=None, blobs=None):
        self.folder = folder
        self.config = config or make_config()
        self.root = folder / "rootfs"
        self.instance = folder / "instance"
        self.blobs = blobs or folder / "blobs"
        self.run = folder / "run"
        self.log = folder / "log.txt"
        self.process = None
        for path in (self.root / "opt/glasscase", self.instance, self.blobs):
            path.mkdir(parents=True, exist_ok=True)
        (self.root / "opt/site").symlink_to(SITE)
        (self.root / "opt/glasscase/main.py").write_bytes(Path(bootstrap.__file__).read_bytes())
        (self.root / "opt/glasscase/enclave.cbor").write_bytes(self.config.to_bytes())
        files = ["rootfs/opt/glasscase/main.py", "rootfs/opt/glasscase/enclave.cbor", *site_paths]
        for name, text in (app if app is not None else {"demo.py": ASGI_APP}).items():
            (self.root / "app" / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / "app" / name).write_text(text)
            files.append(f"rootfs/app/{name}")
        self.table = self.root / "opt/glasscase/imports.txt"
        self.table.write_bytes(import_table(files))
        facts = {"port": 0, "host": "127.0.0.1", "san": ["localhost", "127.0.0.1"], "timeout": 60}
        (self.instance / "instance.json").write_text(json.dumps({**facts, **(instance or {})}))
        self.device = SoftwareDevice(
            folder / "sim", platform, mrenclave=MRENCLAVE, mrsigner=b"S" * 32, isv_prod_id=1, isv_svn=3
        )
        self.device.start()

    def argv(self):
        return [
            sys.executable, "-I", "-S", "-B", "-u", "-X", "utf8", str(self.root / "opt/glasscase/main.py"),
            "--simulated-root", str(self.root), "--attestation", str(self.folder / "sim"),
            "--instance", str(self.instance), "--blobs", str(self.blobs), "--run", str(self.run),
        ]  # fmt: skip

    def start(self, *, wait="waiting", stdout=None):
        """Start the program and wait for a state. stdout: where it writes, the log unless given."""
        environment = {"PATH": "/nonexistent", "HOME": "/tmp", "LC_ALL": "C", "TZ": "UTC"}
        environment |= {name: os.environ[name] for name in ("LD_PRELOAD", "LATE_CLOCK_S") if name in os.environ}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.argv(),
                stdin=subprocess.DEVNULL,
                stdout=stdout or log,
                stderr=stdout or log,
                env=environment,
                start_new_session=True,
            )
        if wait:
            self.wait_for(wait)
        return self

    def status_file(self):
        try:
            return json.loads((self.instance / "status.json").read_text())
        except (FileNotFoundError, ValueError):
            return {"state": None}

    def wait_for(self, state, *, seconds=30):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.status_file()["state"] == state:
                return
            if self.process.poll() is not None and self.status_file()["state"] != state:
                raise AssertionError(f"ended with {self.process.returncode}: {self.text()}")
            time.sleep(0.02)
        raise AssertionError(f"not {state}: {self.status_file()} {self.text()}")

    def text(self):
        return self.log.read_text(errors="replace")

    @property
    def port(self):
        return self.status_file()["port"]

    def well_known(self, method, name, body=None, kind=None):
        return self.ask(method, f"/.well-known/glasscase/{name}", body, {"content-type": kind} if kind else {})

    def refusal(self, data, kind="application/cose"):
        """Return everything of the answer to an envelope but its date: version, status, reason, headers in order, body."""
        connection = self.connection()
        try:
            connection.request("POST", "/.well-known/glasscase/provision", body=data, headers={"content-type": kind})
            answer = connection.getresponse()
            headers = tuple(item for item in answer.getheaders() if item[0].lower() != "date")
            return answer.version, answer.status, answer.reason, headers, answer.read()
        finally:
            connection.close()

    def attestation(self):
        status, data = self.well_known("GET", "evidence")
        assert status == 200
        return Attestation.from_bytes(data)

    def claims(self):
        return Claims.from_bytes(self.attestation().claims)

    def context(self, contents, **changes):
        claims = self.claims()
        package = hashlib.sha256(self.config.package).digest() if self.config.package else NO_PACKAGE
        now = int(time.time())
        values = Context(
            b"e" * 16,
            MRENCLAVE,
            instance_digest(claims.instance),
            package,
            contents.commitment,
            (OWNER,),
            3,
            now,
            now + 3600,
        )
        return dataclasses.replace(values, **changes)

    def envelope(self, contents=None, *, seeds=(OWNER_SEED,), seal_key=None, **changes):
        contents = contents or Contents(os.urandom(32), secrets={"token": "s3cret-canary"})
        owners = tuple(sorted(cose.public_key(seed) for seed in seeds))
        context = self.context(contents, **{"owners": owners, **changes})
        key = seal_key or self.claims().instance_facts().seal_key
        payload = make_payload(contents, context, seal_key=key)
        return cose.encode_sign(payload, tuple(sign_payload(payload, owner_seed=seed) for seed in seeds), form=FORM)

    def provision(self, envelope=None, *, kind="application/cose"):
        return self.well_known("POST", "provision", envelope or self.envelope(), kind)

    def serve(self, envelope=None):
        status, receipt = self.provision(envelope)
        assert status == 200, self.text()
        self.wait_for("serving")
        return receipt

    def stop(self, *, seconds=15):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def close(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self.device.stop()


def client_context():
    """Return a TLS client that verifies nothing: these tests look at the enclave, not at the client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def self_signed(folder):
    """Write a key and a certificate for it; return the path."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = folder / "certificate.pem"
    path.write_bytes(private + builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    return path


def _maker(folder, site_paths, platform, made):
    def make(**options):
        place = folder / f"e{len(made)}"
        place.mkdir()
        made.append(Enclave(place, options.pop("site_paths", site_paths), platform, **options))
        return made[-1]

    return make


@pytest.fixture
def enclave(tmp_path, site_paths, platform):
    """Return a function that makes an enclave; all of them end with the test."""
    made = []
    yield _maker(tmp_path, site_paths, platform, made)
    for one in made:
        one.close()


@pytest.fixture
def application(enclave, tmp_path):
    """Return a function that makes an enclave with this main.py, encrypted or not, and hands it its secrets."""

    def make(text, *, encrypt):
        if not encrypt:
            one = enclave(app={"main.py": text}, config=make_config(entry="main:app")).start()
            assert 200 == one.provision()[0]
            return one
        source, blobs = tmp_path / "src", tmp_path / "blobs"
        source.mkdir()
        blobs.mkdir()
        (source / "main.py").write_text(text)
        built = build_package(sources_of(str(source), prefix="app"), key=PACKAGE_KEY, out_dir=str(blobs))
        config = make_config(encrypt=True, package=built.header, commitment=built.commitment, entry="main:app")
        one = enclave(config=config, app={}, blobs=blobs).start()
        contents = Contents(os.urandom(32), PACKAGE_KEY, secrets={"token": "s3cret-canary"})
        assert 200 == one.provision(one.envelope(contents))[0]
        return one

    return make


@pytest.fixture(scope="module")
def enclaves(tmp_path_factory, site_paths, platform):
    """The same for all tests of a module."""
    made = []
    yield _maker(tmp_path_factory.mktemp("enclaves"), site_paths, platform, made)
    for one in made:
        one.close()
