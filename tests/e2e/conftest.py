"""One project, built and signed once, and commands run as a person would run them."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

SECRET = "canary-7f3a9c51-secret-value"


@dataclass
class Shell:
    """A directory with the environment of one user. names: the instances that were started."""

    directory: Path
    environment: dict
    names: list = field(default_factory=list)
    bundle_id: str = ""

    def run(self, *arguments, code=0, **options):
        """Run one command with --json, expect an exit code, return its JSON."""
        if arguments[0] == "run":
            self.names.append(arguments[arguments.index("--name") + 1])
        done = self.raw(*arguments, "--json", **options)
        assert code == done.returncode, (arguments, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
        assert "Traceback" not in done.stderr
        return json.loads(done.stdout)

    def raw(self, *arguments, **options):
        """Run one command and return the finished process."""
        return subprocess.run(
            [sys.executable, "-I", "-m", "glasscase", *map(str, arguments)],
            cwd=self.directory, env=self.environment, capture_output=True, text=True, check=False, timeout=280, **options,
        )  # fmt: skip

    def start(self, *arguments):
        """Start one command that keeps running."""
        return subprocess.Popen(
            [sys.executable, "-I", "-m", "glasscase", *map(str, arguments)],
            cwd=self.directory, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # as at a terminal, also below nohup
        )  # fmt: skip

    def stay(self, name):
        """Run the bundle with --foreground; return the process, once the enclave answers, and what it said."""
        process = self.start("run", "app.bundle", "--backend", "simulator", "--name", name, "--foreground", "--json")
        self.names.append(name)
        return process, self.first(process)

    def first(self, process):
        """Return the object that a command which keeps running says first."""
        text = ""
        while not text.endswith("}\n"):
            line = process.stdout.readline()
            assert line, process.stderr.read()
            text += line
        return json.loads(text)

    @contextlib.contextmanager
    def proxy(self, url, listen):
        """Give the address of a proxy to an instance; SIGTERM ends it with 5."""
        process = self.start("proxy", url, *self.trust, "--listen", listen, "--json")
        try:
            yield self.first(process)["listen"]
        finally:
            process.send_signal(signal.SIGTERM)
            rest, _ = process.communicate(timeout=20)
        assert (5, "") == (process.returncode, rest)  # the one object was written when it listened

    def serve(self, name, **options):
        """Bring one instance up to serving; return what run said."""
        started = self.run("run", "app.bundle", "--backend", "simulator", "--name", name, **options)
        (self.directory / "root.pem").write_text(started["insecure_anchor"])
        self.seal(name, f"{name}.second.sealed")
        self.seal(name)
        self.run("provision", name, f"{name}.sealed")
        return started

    def seal(self, name, output=None):
        """Collect evidence of an instance and seal the secrets to it."""
        self.run("evidence", name, "-o", f"{name}.json")
        output = output or f"{name}.sealed"
        self.run(
            "seal", "secrets.json", "--evidence", f"{name}.json", *self.trust, "--owner-key", "keys/owner",
            "--package-key", "keys/package.key", "-o", output, "--force",
        )  # fmt: skip
        return output

    @property
    def trust(self):
        """Return the options that name the bundle and the simulator's root."""
        return ("--policy", "policy.toml", "--bundle", "app.bundle", "--insecure-anchor", "root.pem")


def environment_of(directory):
    """Return an environment whose files are all below a directory, but for the cache of inputs."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "TMPDIR", "LANG", "GLASSCASE_CACHE")}
    kept |= {name: value for name, value in os.environ.items() if name.lower().endswith(("_proxy", "_cert_file"))}
    kept |= {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_", "XDG_CACHE"))}
    return {**kept, "HOME": os.environ.get("HOME", ""), "GLASSCASE_STATE": f"{directory}/state",
            "GLASSCASE_DATA": f"{directory}/data"}  # fmt: skip


@pytest.fixture(scope="session")
def home():
    """Return the directory of one user, with a space in its path; his processes are ended with the session."""
    base = Path(tempfile.mkdtemp(prefix="glasscase e2e "))
    shell = Shell(base, environment_of(base))
    yield shell
    for name in shell.names:
        shell.raw("stop", name, "--timeout", "5", "--remove")
    shutil.rmtree(base)


@pytest.fixture(scope="session")
def shell(home):
    """Return the shell in a project that is built and signed."""
    project = home.directory / "project"
    home.run("init", project, "--kind", "fastapi", "--name", "app")
    home.directory = project
    home.run("keygen", "--kind", "package", "-o", "keys/package.key")
    home.run("keygen", "--kind", "owner", "-o", "keys/owner")
    home.run("keygen", "--kind", "enclave", "-o", "keys/enclave.pem")
    locked = home.run("lock")
    assert locked["inputs"]
    built = home.run("build", "-o", "app.bundle")
    home.run("sign", "app.bundle", "--key", "keys/enclave.pem")
    policy = (project / "policy.toml").read_text()
    (project / "policy.toml").write_text(
        policy.replace("bundle = true", f'bundle = true\nbundle_id = "{built["bundle_id"]}"')
    )
    home.bundle_id = built["bundle_id"]
    (project / "secrets.json").write_text(json.dumps({"threshold": "70", "token": SECRET}))
    (project / "secrets.json").chmod(0o600)
    return home


@pytest.fixture(scope="session")
def serving(shell):
    """Return what `run` said of an instance that serves."""
    return shell.serve("main")
