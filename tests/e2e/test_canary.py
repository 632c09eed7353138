"""The canary: no secret and no private key gets out of the whole flow, whether its steps succeed or fail.

Looked at: what every command prints, argv and environment of every process of the flow while it runs, every file below the
user's directories and TMPDIR, transient ones too, and what a crash of the enclave leaves behind.
"""

import base64
import contextlib
import json
import os
import re
import secrets
import signal
import threading
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from .conftest import SECRET

pytestmark = pytest.mark.xdist_group("e2e")

KEYS = ("package.key", "owner", "enclave.pem")


class Witness:
    """Everything of one flow that somebody else could read. words: name to bytes that must not be seen."""

    def __init__(self, shell, words, own):
        self.shell = shell
        self.words = words
        self.own = own  # files that hold the words rightly
        self.temporary = shell.directory.parent / "canary tmp"
        self.temporary.mkdir()
        self.seen = set()
        self.looks = 0
        self.processes = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self):
        self.shell.environment["TMPDIR"] = str(self.temporary)
        self._thread.start()
        return self

    def __exit__(self, *_):
        del self.shell.environment["TMPDIR"]
        self._over.set()
        self._thread.join()
        self.scan(self.shell.directory.parent)

    def hear(self, *arguments, fails=False):
        """Run one command and look at all that it prints."""
        done = self.shell.raw(*arguments)
        self.scan(self.shell.directory.parent / "state")
        self.look(f"output of {' '.join(map(str, arguments))}", (done.stdout + done.stderr).encode())
        assert fails == (done.returncode != 0), (arguments, done.returncode, done.stderr[-1000:])
        assert "Traceback" not in done.stderr
        assert "fs.key.exposed" not in done.stderr
        return done

    def look(self, where, content):
        self.looks += 1
        self.seen |= {(where, name) for name, word in self.words.items() if word in content}

    def scan(self, directory):
        for path in directory.rglob("*"):
            with contextlib.suppress(OSError):
                if path.is_file() and not path.is_symlink() and path not in self.own:
                    self.look(str(path), path.read_bytes())

    def _watch(self):
        mine = f"GLASSCASE_STATE={self.shell.environment['GLASSCASE_STATE']}".encode()
        base = str(self.shell.directory.parent).encode()
        while not self._over.is_set():
            for entry in Path("/proc").iterdir():
                if entry.name.isdigit():
                    with contextlib.suppress(OSError):
                        line, variables = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
                        if base in line or mine in variables:
                            self.processes.add(line)
                            self.look(f"argv {line!r}", line)
                            self.look(f"environment of {line!r}", variables)
            self.scan(self.temporary)
            time.sleep(0.05)


def forms(name, raw):
    """Return a value as it is, in hexadecimal and in both kinds of base64."""
    return {
        name: raw,
        f"{name} in hex": raw.hex().encode(),
        f"{name} in base64": base64.b64encode(raw).rstrip(b"="),
        f"{name} in base64url": base64.urlsafe_b64encode(raw).rstrip(b"="),
    }


@pytest.fixture
def words(shell):
    """Return all that must stay secret: the secrets and the three private keys."""
    keys = shell.directory / "keys"
    binary = secrets.token_bytes(32)
    owner = load_pem_private_key((keys / "owner").read_bytes(), None).private_bytes_raw()
    signing = load_pem_private_key((keys / "enclave.pem").read_bytes(), None).private_numbers()
    found = {"secret": SECRET.encode(), **forms("binary secret", binary), **forms("owner key", owner)}
    found |= forms("package key", (keys / "package.key").read_bytes())
    found |= forms("enclave key", signing.p.to_bytes(192, "big"))
    for name in ("owner", "enclave.pem"):
        found |= {f"PEM of {name}": (keys / name).read_bytes().splitlines()[1]}
    return found, binary


def test_the_canary(shell, words):
    """The whole flow, its failures and a crash: none of the words is anywhere but in the files of their owner."""
    found, binary = words
    project = shell.directory
    private = project / "canary.json"
    value = {"threshold": "70", "token": SECRET, "binary": {"base64": base64.b64encode(binary).decode()}}
    private.write_text(json.dumps(value))
    broken = {
        "unquoted.json": private.read_text().replace('"70"', "70"),
        "cut.json": private.read_text()[:-3],
        "twice.json": private.read_text().replace('"threshold"', '"token"'),
        "number.json": json.dumps({**value, "n": 1.5}),
        "control.json": json.dumps({**value, "c": "x"}).replace('"x"', '"\x01"'),
    }
    for name, text in broken.items():
        (project / name).write_text(text)
    (project / "long.key").write_bytes((project / "keys/package.key").read_bytes() + b"\n")
    (project / "cut.pem").write_bytes((project / "keys/owner").read_bytes()[:-40])
    (project / "plain.txt").write_text("hello")
    own = {project / "keys" / name for name in KEYS} | {private, project / "secrets.json"}
    own |= {project / name for name in (*broken, "long.key", "cut.pem")}
    for path in own:
        path.chmod(0o600)  # else nothing but that would be looked at
    with Witness(shell, found, own) as witness:
        shell.names.append("canary")
        hear = witness.hear
        hear("run", "app.bundle", "--backend", "simulator", "--name", "canary")
        hear("evidence", "canary", "-o", "canary.evidence.json")
        root = shell.run("run", "app.bundle", "--backend", "simulator", "--name", "canary2")["insecure_anchor"]
        (project / "root.pem").write_text(root)
        sealing = ("--evidence", "canary.evidence.json", *shell.trust, "-o", "canary.sealed")
        keys = ("--owner-key", "keys/owner", "--package-key", "keys/package.key")
        for name in broken:
            hear("seal", name, *sealing, *keys, fails=True)
        for wrong in (
            ("--owner-key", "keys/package.key", "--package-key", "keys/package.key"),
            ("--owner-key", "keys/owner", "--package-key", "keys/owner"),
            ("--owner-key", "keys/enclave.pem", "--package-key", "keys/package.key"),
            ("--owner-key", "cut.pem", "--package-key", "keys/package.key"),
            ("--owner-key", "keys/owner", "--package-key", "long.key"),
        ):
            hear("seal", "canary.json", *sealing, *wrong, fails=True)
        hear("seal", "canary.json", *sealing, *keys)
        hear("seal", "canary.json", *sealing, *keys, fails=True)  # never overwritten silently
        hear("inspect", "canary.sealed")
        hear("provision", "canary2", "canary.sealed", fails=True)
        hear("provision", "canary", "canary.sealed", "-o", "canary.receipt")
        shell.run("status", "canary")
        for name in ("canary.json", "keys/owner", "keys/enclave.pem", "keys/package.key", "long.key", "cut.pem"):
            with contextlib.suppress(AssertionError):  # whether it knows the kind does not matter here
                hear("inspect", name)
            hear("provision", "canary", name, fails=True)
            hear("verify", name, *shell.trust, fails=True)
        hear("encrypt", "plain.txt", "-o", "plain.enc", "--key", "keys/package.key")
        for name in ("keys/owner", "long.key", "canary.json"):
            hear("encrypt", "plain.txt", "-o", "other.enc", "--key", name, fails=True)
            hear("decrypt", "plain.enc", "-o", "plain.out", "--key", name, fails=True)
        hear("disclose", "app.bundle", "--key", "keys/package.key", "-o", "opening.json")
        for name in ("keys/owner", "long.key", "canary.json"):
            hear("disclose", "app.bundle", "--key", name, "-o", "other.json", fails=True)
        hear("keygen", "--kind", "owner", "-o", "keys/owner", fails=True)
        hear("sign", "app.bundle", "--key", "keys/package.key", fails=True)
        hear("get", f"{shell.run('status', 'canary')['url']}health", *shell.trust)
        hear("verify", "canary.evidence.json", *shell.trust)
        hear("report", "canary.evidence.json", *shell.trust, "-o", "canary.html")
        hear("evidence", "canary", "-o", "canary.after.json", "--nonce", os.urandom(32).hex())
        pid = shell.run("status", "canary")["pid"]
        assert "Max core file size        1 " in Path(f"/proc/{pid}/limits").read_text()
        os.kill(pid, signal.SIGSEGV)
        deadline = time.monotonic() + 20
        while shell.run("status", "canary")["state"] != "failed" and time.monotonic() < deadline:
            time.sleep(0.1)
        hear("status", "canary")
        hear("logs", "canary")
        hear("stop", "canary2")

    assert set() == witness.seen
    assert [] == list(witness.temporary.iterdir())
    cores = [path for path in shell.directory.parent.rglob("core*") if re.fullmatch(r"core(\.\d+)?", path.name)]
    assert [] == [path for path in cores if path.is_file()]
    assert witness.looks > 1000 and any(b"main.py" in line for line in witness.processes)  # it did look
    for path in own - {project / "keys" / name for name in KEYS} - {project / "secrets.json"}:
        path.unlink()
    witness.temporary.rmdir()
