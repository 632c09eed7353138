"""A bundle whose loader is a stand-in that writes down how it was started."""

import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from glasscase.hosting import launch, processes, state, stopping
from glasscase.hosting.launch import LaunchRequest

USER = "nobody" if os.geteuid() == 0 else None
# an interpreter that every account can run, for the tests as root
PYTHON = next((p for p in ("/usr/bin/python3", "/usr/local/bin/python3") if Path(p).exists()), sys.executable)

LOADER = """#!/bin/sh
exec {python} -I -c '
import json, os, resource, signal, sys, time
facts = {{"argv": sys.argv[1:], "cwd": os.getcwd(), "env": dict(os.environ),
         "uid": os.getuid(), "groups": os.getgroups(), "sid": os.getsid(0),
         "pid": os.getpid(), "links": {{n: os.readlink(n) for n in ("runtime", "rootfs", "blobs")}},
         "stdin": os.read(0, 1).decode(), "fds": sorted(map(int, os.listdir("/proc/self/fd"))), "umask": os.umask(0o77),
         "descriptors": resource.getrlimit(resource.RLIMIT_NOFILE)}}
def status(state):
    with open("instance/.s", "w") as f:
        json.dump({{"v": 1, "state": state, "port": 4321, "since": 5, "seq": 1, "exp": 9}}, f)
    os.rename("instance/.s", "instance/status.json")
def stop(*_):
    print("stopping", flush=True)
    status("stopped")
    os._exit(0)
mode = open("mode").read() if os.path.exists("mode") else ""
if mode == "die":
    print("cannot open /dev/sgx_enclave", file=sys.stderr)
    os._exit(254)
if mode == "deaf" and os.fork() == 0:
    time.sleep(60)
signal.signal(signal.SIGTERM, signal.SIG_IGN if mode == "deaf" else stop)
if os.path.isdir("sim"):
    data = bytes(range(64))
    with open("sim/user_report_data", "wb") as f:
        f.write(data)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        quote = open("sim/quote", "rb").read()
        if quote[368:432] == data:
            break
        time.sleep(0.01)
    facts["quoted"] = {{"mrenclave": quote[112:144].hex(), "mrsigner": quote[176:208].hex(), "data": quote[368:432].hex()}}
    with open("sim/keys/persist", "wb") as f:
        f.write(bytes(16))
    facts["mount_key"] = len(open("sim/keys/persist", "rb").read())
    facts["sealing"] = len(open("sim/keys/_sgx_mrenclave", "rb").read())
with open("instance/facts", "w") as f:
    json.dump(facts, f)
print("started", flush=True)
status("waiting")
while True:
    time.sleep(60)
' "$0" "$@"
"""


@pytest.fixture
def workplace():
    """Return a directory that every account can enter."""
    root = os.geteuid() == 0  # who starts enclaves under another account, to which TMPDIR may be closed
    path = Path(tempfile.mkdtemp(prefix="glasscase test ", dir="/tmp" if root else None))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def bundle(workplace):
    """Return the directory of a bundle with the stand-in loader."""
    path = workplace / "app.bundle"
    for name in ("runtime", "rootfs", "blobs"):
        (path / name).mkdir(parents=True)
    loader = path / "runtime" / "loader"
    loader.write_text(LOADER.format(python=PYTHON))
    loader.chmod(0o755)
    (path / "runtime" / "libpal.so").write_bytes(b"pal")
    (path / "app.manifest.sgx").write_bytes(b"manifest")
    (path / "app.sig").write_bytes(b"signature")
    return path


@pytest.fixture
def checked(bundle):
    """Return what bundle.check says of the bundle, as far as a launch looks at it."""
    index = SimpleNamespace(runtime=SimpleNamespace(name="gramine"))
    return SimpleNamespace(
        bundle=SimpleNamespace(id=b"\x11" * 32, index=index, path=bundle),
        measurement=SimpleNamespace(mrenclave=b"\x22" * 32),
        sigstruct=None,
        config=SimpleNamespace(gramine=SimpleNamespace(persist="none")),
    )


def start(workplace, checked, name="one", **options):
    """Start an instance under its lock and wait until it answers; return its place and record."""
    root = workplace / "state"
    root.mkdir(mode=0o700, exist_ok=True)
    place = state.place_of(root, name)
    place.path.mkdir(parents=True, exist_ok=True)
    request = LaunchRequest(name, checked.bundle.path, "gramine-sgx", **{"user": USER, **options})
    with state.locked(place):
        record = launch.launch(root, request, checked=checked, data_directory=workplace / "data", now=77)
        launch.wait_ready(place, record, lambda port: port == 4321, deadline_s=20)
    return place, record


@pytest.fixture
def running(workplace, checked):
    """Return place and record of a running instance, which is stopped afterwards."""
    place, record = start(workplace, checked, san=("api.example",))
    yield place, record
    stopping.stop(place, record, deadline_s=10)


def crash(record):
    """Kill a process from outside and wait until it is gone."""
    os.kill(record.process.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while processes.is_alive(record.process) and time.monotonic() < deadline:
        time.sleep(0.02)
