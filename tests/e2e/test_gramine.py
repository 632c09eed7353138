"""A bundle of the imported kind, Debian's Python inside, under a stand-in for gramine-direct (see gramine_direct.py)."""

import concurrent.futures
import json
import os
import platform
import shutil
import ssl
import subprocess
import tempfile
import urllib.request
from pathlib import Path

import pytest

from glasscase.gramine.importing import LIBC
from glasscase.hosting import state
from glasscase.sim.runtime import runtime_files

from .conftest import SECRET, Shell, environment_of

HERE = Path(__file__).resolve().parent
PYTHON = next((path for path in ("/usr/bin/python3", "/usr/local/bin/python3") if os.path.exists(path)), "")
GRAMINE = "tree/usr/lib/x86_64-linux-gnu/gramine"
# what lock says on a machine whose apt reaches no such archive
NO_ARCHIVE = {"lock.apt.failed", "lock.debian.sources", "lock.debian.missing", "lock.debian.unsigned"}
HELPERS = 4  # threads of Gramine itself, which need a place each
pytestmark = pytest.mark.xdist_group("e2e")


def can_stand_in():
    """Return whether the stand-in's demands are met: a C library for Debian 12's Python, apt, namespaces."""
    if not PYTHON or not shutil.which("apt-get") or platform.libc_ver()[0] != "glibc":
        return False
    done = subprocess.run(["unshare", "-Urm", "true"], capture_output=True, check=False)
    version = tuple(int(part) for part in platform.libc_ver()[1].split("."))
    return done.returncode == 0 and version >= (2, 36)


def make_gramine(directory):
    """Write what looks like an installed Gramine: the simulator's files, the host's C library."""
    tree = directory / GRAMINE
    made = runtime_files()
    for name, content in {
        "sgx/libpal.so": made["libpal.so"], "sgx/loader": made["loader"], "libsysdb.so": made["libsysdb.so"],
        "direct/libpal.so": made["libpal.so"], "direct/loader": made["loader"],
    }.items():  # fmt: skip
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)
    (tree / "runtime/glibc").mkdir(parents=True)
    for soname in LIBC:
        for folder in ("/lib/x86_64-linux-gnu", "/lib64"):
            if os.path.exists(f"{folder}/{soname}"):
                shutil.copyfile(f"{folder}/{soname}", tree / "runtime/glibc" / soname)
                break


PROBE = """
import errno, os, socket
def said(call):
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
print(said(lambda: os.preadv(0, [bytearray(1)], 0)), said(os.fork), said(lambda: os.open("/tmp", os.O_TMPFILE | os.O_RDWR)),
      said(lambda: socket.socket(socket.AF_NETLINK)), said(lambda: os.memfd_create("x")), said(os.getpid))
"""


@pytest.mark.skipif(not PYTHON or platform.machine() != "x86_64", reason="the numbers of the calls are those of x86-64")
def test_the_stand_in_withholds():
    """What a real Gramine refused in spite of Linux is refused here with the same errors; the rest is answered."""
    command = [PYTHON, "-I", HERE / "gramine_direct.py", "--withhold", PYTHON, "-I", "-c", PROBE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert "ENOSYS EAGAIN EISDIR EAFNOSUPPORT ENOSYS done" == done.stdout.strip(), done.stderr


@pytest.fixture(scope="module")
def shell():
    """Return the shell in a project built for an imported Gramine, with records and names, and signed."""
    if not can_stand_in():
        pytest.skip("no apt-get, no user namespaces or an older C library here")
    base = Path(tempfile.mkdtemp(prefix="glasscase gramine "))
    base.chmod(0o755)  # as a bundle is: every account may read it
    one = Shell(base, environment_of(base))
    make_gramine(base)
    one.run("runtime", "import", "tree", "--version", "1.9", "--name", "gramine")
    loader = base / "data/runtimes/gramine/direct/loader"
    shutil.copyfile(HERE / "gramine_direct.py", base / "direct.py")
    loader.write_text(f'#!/bin/sh\nexec {PYTHON} -I "{base}/direct.py" "$@"\n')
    one.run("init", "project", "--kind", "fastapi", "--name", "app")
    one.directory = base / "project"
    text = (one.directory / "glasscase.toml").read_text()
    text = text.replace('runtime = "simulator"', 'runtime = "gramine"\npersist = "mrenclave"\ndns = true')
    (one.directory / "glasscase.toml").write_text(text)
    for kind, name in (("package", "package.key"), ("owner", "owner"), ("enclave", "enclave.pem")):
        one.run("keygen", "--kind", kind, "-o", f"keys/{name}")
    locked = one.raw("lock", "--json")
    absent = json.loads(locked.stdout).get("error", {}).get("id") if locked.returncode else None
    if absent in NO_ARCHIVE:
        shutil.rmtree(base)
        pytest.skip(f"no archive with Debian's Python 3.11 here [{absent}]")
    assert 0 == locked.returncode, locked.stderr
    built = one.run("build", "-o", "app.bundle")
    assert ["dev-enclave"] == built["insecure"]
    one.run("sign", "app.bundle", "--key", "keys/enclave.pem")
    (one.directory / "secrets.json").write_text(json.dumps({"threshold": "70", "token": SECRET}))
    (one.directory / "secrets.json").chmod(0o600)
    yield one
    for name in one.names:
        one.raw("stop", name, "--timeout", "5", "--remove")
    shutil.rmtree(base)


@pytest.fixture(scope="module")
def serving(shell):
    """Return what `run` said of the one instance, which serves, and its place."""
    user = ["--user", "nobody"] if os.geteuid() == 0 else []
    started = shell.run("run", "app.bundle", "--backend", "gramine-direct", "--name", "gram", *user)
    (shell.directory / "root.pem").write_text(started["insecure_anchor"])
    shell.seal("gram")
    shell.run("provision", "gram", "gram.sealed")
    return started, state.place_of(Path(shell.environment["GLASSCASE_STATE"]), "gram")


def fact(place, name):
    """Return one number that the kernel tells of the process."""
    lines = Path(f"/proc/{place.record().process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name + ":")).split()[1])


def test_it_serves_without_what_gramine_lacks(shell, serving):
    """No system call beyond Gramine's, no process, no file beyond the manifest's: evidence, secrets and answers all the same."""
    started, place = serving
    shell.run("verify", "gram.json", *shell.trust)
    answer = shell.raw("get", started["url"] + "health", *shell.trust)

    assert {"status": "ok"} == json.loads(answer.stdout)
    assert "serving" == shell.run("status", "gram")["state"]
    assert "nobody" == place.instance.owner() or os.geteuid() != 0
    assert "Traceback" not in place.log.read_text()


def test_threads_and_memory_stay_within_the_measured_ones(serving):
    """Under more requests at once than threads there are, those that Gramine needs still have a place."""
    started, place = serving
    context = ssl._create_unverified_context()

    def ask(_):
        body = json.dumps({"amount": 12, "hour": 3, "known_payee": False}).encode()
        request = urllib.request.Request(
            started["url"] + "score", data=body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, context=context, timeout=30) as answer:
            return answer.status

    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        statuses = list(pool.map(ask, range(240)))

    assert {200} == set(statuses)
    assert fact(place, "Threads") <= 32 - HELPERS
    assert fact(place, "VmPeak") << 10 <= (512 << 20) - (128 << 20)


def test_a_restart_needs_no_secrets(shell, serving):
    """The record lies in instance/persist and opens again; SIGTERM ends both runs cleanly."""
    _started, place = serving
    again = shell.run("restart", "gram")
    shell.run("evidence", "gram", "-o", "again.json")
    answer = shell.raw("get", again["url"] + "health", *shell.trust)

    assert {"status": "ok"} == json.loads(answer.stdout)
    assert "with kept secrets" in place.log.read_text()
    assert "stopped" == shell.run("stop", "gram")["how"]
