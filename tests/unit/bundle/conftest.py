"""A small project with wheels made here, so that bundles are built without a network and in a moment."""

import base64
import csv
import hashlib
import io
import zipfile

import pytest

from glasscase.bundle.build import BuildOptions, build
from glasscase.bundle.runtime import RuntimeFiles
from glasscase.gramine.pins import known_pins
from glasscase.lock.cache import InputCache
from glasscase.lock.model import Lock, LockedWheel
from glasscase.sim import runtime as simulator

EPOCH = 1_700_000_000
PROJECT = """version = 1
[app]
name = "shop"
entry = "app.main:app"
encrypt = false
[enclave]
size = "64M"
max_threads = 4
insecure_dev_enclave = true
"""
# the seed is part of the test, so the key is the same everywhere
OWNER_SEED = bytes(range(32))


def make_wheel(name, version, files, *, tag="py3-none-any", executables=(), record=None):
    """Return a wheel: files (path -> bytes), metadata and a true RECORD (or the one given)."""
    info = f"{name}-{version}.dist-info"
    files = dict(files)
    files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n".encode()
    files.setdefault(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode())
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    for path, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.writerow([path, f"sha256={digest}", len(content)])
    rows.writerow([f"{info}/RECORD", "", ""])
    files[f"{info}/RECORD"] = out.getvalue().encode() if record is None else record
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_STORED) as archive:
        for path, content in files.items():
            entry = zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0))
            entry.external_attr = (0o100755 if path in executables else 0o100644) << 16
            archive.writestr(entry, content)
    return data.getvalue()


OWN = {
    "glasscase/__init__.py": b"",
    "glasscase/enclave/__init__.py": b"",
    "glasscase/enclave/bootstrap.py": b"# bootstrap\n",
    "glasscase/cli/main.py": b"# host only\n",
}


def add_wheel(cache, name, version, files, **options):
    """Put a wheel into the cache and return its line of a lock."""
    data = make_wheel(name, version, files, **options)
    digest = hashlib.sha256(data).digest()
    cache.add((data,), sha256=digest, size=len(data), limit=1 << 30, what=name)
    file = f"{name}-{version}-{options.get('tag', 'py3-none-any')}.whl"
    return LockedWheel(name.replace("_", "-"), version, file, len(data), digest)


def simulator_files():
    """Return the built-in simulator runtime."""
    pin = next(pin for pin in known_pins() if pin.name == "simulator")
    return RuntimeFiles(pin, simulator.runtime_files())


class Workshop:
    """A project directory with lock, cache and keys; `build` makes a bundle of it."""

    def __init__(self, root):
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        self.root = root
        self.project = root / "project"
        self.cache = InputCache(root / "cache" / "inputs")
        self.runtime = simulator_files()
        (self.project / "src" / "app").mkdir(parents=True)
        (self.project / "keys").mkdir()
        (self.project / "src" / "app" / "__init__.py").write_bytes(b"")
        (self.project / "src" / "app" / "main.py").write_bytes(b"SECRET_OF_THE_APP = 1\napp = None\n")
        (self.project / "requirements.txt").write_bytes(b"demo\n")
        (self.project / "glasscase.toml").write_text(PROJECT)
        owner = Ed25519PrivateKey.from_private_bytes(OWNER_SEED).public_key()
        pem = owner.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (self.project / "keys" / "owner.pub").write_bytes(pem)
        self.key = self.project / "keys" / "package.key"
        self.key.write_bytes(hashlib.sha256(b"package key of the tests").digest())
        self.key.chmod(0o600)
        demo = {"demo/__init__.py": b"x = 1\n", "demo/data/text.txt": b"hello\n"}
        self.wheels = [add_wheel(self.cache, "demo", "1.0", demo), add_wheel(self.cache, "glasscase", "0.1", OWN)]
        self.lock()

    def edit(self, old, new):
        """Replace text of the project file."""
        path = self.project / "glasscase.toml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def lock(self, **changes):
        """Write the lock of the project as it is now."""
        requirements = hashlib.sha256((self.project / "requirements.txt").read_bytes()).digest()
        fields = {
            "tool": "0.1.0", "epoch": EPOCH, "requirements": requirements, "runtime": self.runtime.locked(), "debian": None,
            "wheels": tuple(sorted(self.wheels, key=lambda wheel: wheel.name)),
        }  # fmt: skip
        made = Lock(**(fields | changes))
        (self.project / "glasscase.lock").write_bytes(made.to_bytes())
        return made

    def build(self, out="out.bundle", *, overwrite=False, **options):
        """Build and return the result."""
        made = BuildOptions(**options)
        return build(
            str(self.project),
            str(self.root / out),
            runtime=self.runtime,
            cache=self.cache,
            options=made,
            overwrite=overwrite,
        )


@pytest.fixture
def workshop(tmp_path):
    """Give a fresh project with an application in clear."""
    return Workshop(tmp_path)
