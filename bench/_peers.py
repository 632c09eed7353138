"""What bench/stream.py is compared with: age, pyrage and tink, each installed here and told what to do, and a plain AES-GCM loop.

Each encrypts root/plain to a file of its own name and decrypts that to root/out.
"""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PEER = """
import io, os, sys, time
root = sys.argv[1]
def pyrage():
    import pyrage
    me = pyrage.x25519.Identity.generate()
    return (lambda: pyrage.encrypt_file(root + "/plain", root + "/pyrage", [me.to_public()]),
            lambda: pyrage.decrypt_file(root + "/pyrage", root + "/out", [me]))
def tink():
    import tink
    from tink import streaming_aead
    streaming_aead.register()
    one = tink.new_keyset_handle(streaming_aead.streaming_aead_key_templates.AES256_GCM_HKDF_1MB)
    one = one.primitive(streaming_aead.StreamingAead)
    def copy(source, target):
        while part := source.read(1 << 20):
            target.write(part)
    def encrypt():
        with open(root + "/plain", "rb") as source, one.new_encrypting_stream(open(root + "/tink", "wb"), b"") as target:
            copy(source, target)
    def decrypt():
        with one.new_decrypting_stream(open(root + "/tink", "rb"), b"") as source, open(root + "/out", "wb") as target:
            copy(source, target)
    return encrypt, decrypt
encrypt, decrypt = {"pyrage": pyrage, "tink": tink}[sys.argv[2]]()
print("ready", flush=True)
for line in sys.stdin:
    work = encrypt if line.strip() == "encrypt" else decrypt
    begin, cpu = time.perf_counter(), time.process_time()
    work()
    print(time.perf_counter() - begin, time.process_time() - cpu, flush=True)
"""


class Peer:
    """A Python peer in an environment of its own."""

    def __init__(self, python: Path, root: Path, name: str) -> None:
        self._process = subprocess.Popen(
            [python, "-c", PEER, root, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.ready = self._process.stdout.readline() == "ready\n"  # type: ignore[union-attr]

    def run(self, what: str) -> tuple[float, float]:
        """Return wall and CPU seconds of one run."""
        self._process.stdin.write(what + "\n")  # type: ignore[union-attr]
        self._process.stdin.flush()  # type: ignore[union-attr]
        wall, cpu = self._process.stdout.readline().split()  # type: ignore[union-attr]
        return float(wall), float(cpu)

    def stop(self) -> None:
        """End the process."""
        self._process.communicate()


def peers(root: Path, place: Path) -> dict[str, Peer]:
    """Install pyrage and tink and start them; say which are not to be had."""
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    found = {}
    for name in ("pyrage", "tink"):
        done = subprocess.run([python, "-m", "pip", "install", "-q", name], capture_output=True, check=False)
        peer = Peer(python, root, name) if done.returncode == 0 else None
        if peer is None or not peer.ready:
            print(f"stream: {name} cannot be installed here", file=sys.stderr)
        else:
            found[name] = peer
    return found


def installed(program: str) -> bool:
    """Return whether a program is there; apt-get installs it if need be, when we are root."""
    if shutil.which(program) is None and os.getuid() == 0:
        subprocess.run(
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", program], capture_output=True, check=False
        )
    return shutil.which(program) is not None


def age(root: Path) -> tuple[list[str], list[str]] | None:
    """Return the commands of age, installed if need be."""
    if not installed("age"):
        print("stream: age is not installed: apt-get install age", file=sys.stderr)
        return None
    identity = root / "age-key"
    subprocess.run(["age-keygen", "-o", identity], capture_output=True, check=True)
    recipient = subprocess.run(
        ["age-keygen", "-y", identity], capture_output=True, text=True, check=True
    ).stdout.strip()
    return (
        ["age", "-e", "-r", recipient, "-o", f"{root}/age", f"{root}/plain"],
        ["age", "-d", "-i", str(identity), "-o", f"{root}/out", f"{root}/age"],
    )


def loop_encrypt(root: Path, key: bytes) -> None:
    """The plain loop: read 1 MiB, AES-GCM, write."""
    gcm = AESGCM(key)
    with (root / "plain").open("rb") as source, (root / "loop").open("wb") as target:
        number = 0
        while part := source.read(1 << 20):
            target.write(gcm.encrypt(number.to_bytes(12, "big"), part, None))
            number += 1


def loop_decrypt(root: Path, key: bytes) -> None:
    """The plain loop backwards."""
    gcm = AESGCM(key)
    with (root / "loop").open("rb") as source, (root / "out").open("wb") as target:
        number = 0
        while part := source.read((1 << 20) + 16):
            target.write(gcm.decrypt(number.to_bytes(12, "big"), part, None))
            number += 1
