"""The doctor describes any machine, names a remedy for each lack, and works without SGX."""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from glasscase.errors import CannotVerify
from glasscase.hosting import doctor
from glasscase.hosting.doctor import FAIL, PASS, UNKNOWN, WARN, Machine, Needs

GOOD = Needs(enclave_size=512 << 20, disk=0, edmm=False, epoch=1000, runtime="gramine-1.9", path="/")
QCNL = '// comment\n{\n  // where\n  "pccs_url": "https://localhost:8081/sgx/certification/v4/",\n  "use_secure_cert": true\n}\n'


def answers(host, port):
    """Pretend that something listens."""


def refuses(host, port):
    raise ConnectionRefusedError(111, "Connection refused")


@pytest.fixture
def machine(tmp_path):
    """Return a function(**changes) -> Machine with all that SGX needs; a change removes or replaces a file."""
    root = Path(tempfile.mkdtemp(dir="/tmp"))  # short, as the path of a socket must be
    listener = socket.socket(socket.AF_UNIX)

    def make(*, probe=answers, clock=0, now=2000, verifier="libsgx_dcap_quoteverify.so.1", direct=True, **changes):
        files = {
            "proc/cpuinfo": "model name\t: Xeon\nflags\t\t: fpu sgx sgx_lc\n",
            "proc/sys/kernel/osrelease": "6.1.0-25-amd64\n",
            "proc/mounts": "proc /proc proc rw,noexec 0 0\nudev /dev devtmpfs rw,nosuid,size=4096k 0 0\n",
            "proc/sys/vm/mmap_min_addr": "65536\n",
            "proc/self/limits": "Limit  Soft Limit  Hard Limit  Units\nMax open files  1024  524288  files\n",
            "dev/sgx_enclave": "",
            "dev/sgx_provision": "",
            "dev/cpu/0/cpuid": "\0" * 0x12 + "\x03\0\0\0" * 4,
            "sys/devices/system/node/node0/x86/sgx_total_bytes": str(8 << 30) + "\n",
            "usr/lib/x86_64-linux-gnu/libsgx_dcap_ql.so.1": "",
            "usr/lib/x86_64-linux-gnu/libdcap_quoteprov.so.1": "",
            "etc/sgx_default_qcnl.conf": QCNL,
            **changes,
        }
        for name, content in files.items():
            if content is not None:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(content)
        socket_path = root / doctor.AESM
        socket_path.parent.mkdir(parents=True, exist_ok=True)
        listener.bind(str(socket_path))
        listener.listen()
        return Machine(root, tmp_path, ("gramine-1.9",), now, clock, probe, lambda: verifier, direct)

    yield make
    listener.close()
    shutil.rmtree(root)


def item(items, name):
    """Return the one item of a name."""
    return next(found for found in items if found.name == name)


@pytest.mark.parametrize("host", ["a..b", "a" * 64])
def test_a_pccs_whose_name_no_host_can_have_is_an_item_that_fails(machine, host):
    """It is said in one line, as any other mistake in the file; nothing is connected to."""
    text = QCNL.replace("localhost", host)
    found = item(doctor.examine(machine(probe=doctor.probe_tcp, **{doctor.QCNL: text}), None), "PCCS")

    assert (FAIL, "pccs_url names the service") == (found.outcome, found.remedy.rpartition("; ")[2])


def test_a_complete_machine_passes(machine, monkeypatch):
    """Every item passes and gramine-sgx can work."""
    items = doctor.examine(machine(), None)

    assert {PASS} == {found.outcome for found in items}, [found for found in items if found.outcome != PASS]
    assert doctor.can(items, "gramine-sgx") and doctor.can(items, "gramine-direct")


def test_gramine_direct_needs_an_imported_loader(machine):
    """No bundle has it; the other backends work without."""
    items = doctor.examine(machine(direct=False), None)

    assert FAIL == item(items, "direct loader").outcome and "runtime import" in item(items, "direct loader").remedy
    assert [True, False, True] == [doctor.can(items, name) for name in ("gramine-sgx", "gramine-direct", "simulator")]


@pytest.mark.parametrize(
    ("name", "changes", "outcome"),
    [
        ("cpu", {"proc/cpuinfo": "model name: x\nflags : fpu\n"}, FAIL),
        ("cpu", {"proc/cpuinfo": "model name: x\nflags : fpu sgx\n"}, FAIL),
        ("cpu", {"proc/cpuinfo": ""}, UNKNOWN),
        ("kernel", {"proc/sys/kernel/osrelease": "5.4.0\n"}, FAIL),
        ("kernel", {"proc/sys/kernel/osrelease": None}, UNKNOWN),
        ("/dev/sgx_enclave", {"dev/sgx_enclave": None}, FAIL),
        ("/dev/sgx_provision", {"dev/sgx_provision": None}, FAIL),
        ("mapping", {"proc/mounts": "udev /dev devtmpfs rw,nosuid,noexec,size=4096k 0 0\n"}, FAIL),
        ("mapping", {"proc/sys/vm/mmap_min_addr": "98304\n"}, FAIL),
        ("EPC", {"sys/devices/system/node/node0/x86/sgx_total_bytes": None}, UNKNOWN),
        ("EDMM", {"proc/sys/kernel/osrelease": "5.15.0\n"}, WARN),
        ("EDMM", {"dev/cpu/0/cpuid": "\0" * 64}, WARN),
        ("EDMM", {"dev/cpu/0/cpuid": None}, UNKNOWN),
        ("EXINFO", {"dev/cpu/0/cpuid": "\0" * 0x12 + "\x03\0\0\0" + "\0" * 12}, FAIL),
        ("EXINFO", {"dev/cpu/0/cpuid": None}, UNKNOWN),
        ("quote provider", {"usr/lib/x86_64-linux-gnu/libsgx_dcap_ql.so.1": None}, WARN),
        ("PCCS", {"etc/sgx_default_qcnl.conf": None}, WARN),
        ("PCCS", {"etc/sgx_default_qcnl.conf": "nonsense"}, FAIL),
        ("PCCS", {"etc/sgx_default_qcnl.conf": "{}"}, FAIL),
        ("PCCS", {"probe": refuses}, FAIL),
        ("open files", {"proc/self/limits": "Max open files  1024  2048  files\n"}, WARN),
        ("open files", {"proc/self/limits": None}, UNKNOWN),
        ("clock", {"clock": 5}, WARN),
        ("clock", {"clock": None}, UNKNOWN),
        ("Intel's verifier", {"verifier": None}, WARN),
    ],
)
def test_each_lack_is_one_item_with_a_remedy(machine, name, changes, outcome):
    """One thing missing changes that item, and only such as depend on it, and says what to do."""
    found = item(doctor.examine(machine(**changes), None), name)

    assert outcome == found.outcome
    assert found.remedy and found.observed


def test_a_library_that_crashes_is_one_item(machine):
    """Intel's library that cannot be loaded without a crash is said in its line; every other line stands."""

    def crashes():
        raise CannotVerify("engine.intel.failed", "the worker with Intel's library ended with -11")

    good = machine()
    whole, items = doctor.examine(good, None), doctor.examine(replace(good, verifier=crashes), None)

    assert WARN == item(items, "Intel's verifier").outcome
    assert "-11" in item(items, "Intel's verifier").observed
    assert [found.name for found in whole] == [found.name for found in items]


def test_open_files_without_a_limit_are_enough(machine):
    """The kernel writes `unlimited` then."""
    limits = "Max cpu time  1  1  seconds\nMax open files  1024  unlimited  files\n"

    assert PASS == item(doctor.examine(machine(**{"proc/self/limits": limits}), None), "open files").outcome


def test_what_a_bundle_needs_is_compared(machine):
    """EPC, EDMM, clock and runtime against a bundle; a simulator's bundle cannot run on hardware."""
    good = machine()
    for change, name, outcome in (
        ({}, "EPC", PASS),
        ({"enclave_size": 16 << 30}, "EPC", WARN),
        ({"epoch": 3000}, "clock", FAIL),
        ({"runtime": "simulator"}, "runtime", FAIL),
        ({"disk": 1 << 60}, "disk", WARN),
    ):
        needs = Needs(**{**vars(GOOD), **change})
        assert outcome == item(doctor.examine(good, needs), name).outcome, change


def test_the_libraries_of_the_loader_come_from_the_machine(machine, tmp_path):
    """Gramine's loader is linked to libprotobuf-c and the C library of the host, which no bundle brings."""
    (tmp_path / "runtime").mkdir()
    (tmp_path / "main.c").write_text("int main(void) { return 0; }\n")
    subprocess.run(["cc", "-o", "runtime/loader", "main.c"], cwd=tmp_path, check=True)
    needs = Needs(**{**vars(GOOD), "path": str(tmp_path)})

    here = machine()
    items = doctor.examine(here, needs)
    assert (FAIL, "needs libc.so.6") == (item(items, "loader").outcome, item(items, "loader").observed)
    assert not doctor.can(items, "gramine-sgx")
    (here.root / "usr/lib64").mkdir(parents=True)
    (here.root / "usr/lib64/libc.so.6").touch()
    assert PASS == item(doctor.examine(here, needs), "loader").outcome
    (tmp_path / "runtime/loader").write_bytes(b"no program")
    assert UNKNOWN == item(doctor.examine(here, needs), "loader").outcome
    simulated = Needs(**{**vars(needs), "runtime": "simulator"})
    assert "loader" not in [one.name for one in doctor.examine(here, simulated)]


def test_edmm_that_a_bundle_needs_is_a_failure(machine):
    """A bundle with edmm = true cannot run where SGX2 is absent."""
    items = doctor.examine(machine(**{"dev/cpu/0/cpuid": "\0" * 64}), Needs(**{**vars(GOOD), "edmm": True}))

    assert FAIL == item(items, "EDMM").outcome
    assert not doctor.can(items, "gramine-sgx")


def test_a_state_directory_is_looked_at_and_not_made(machine, tmp_path, monkeypatch):
    """Where none is yet, the disk of what is there counts; where none can be made, no backend can work."""
    described = replace(machine(), state_directory=tmp_path / "none" / "state")
    assert PASS == item(doctor.examine(described, None), "disk").outcome
    assert not (tmp_path / "none").exists()
    monkeypatch.setattr(doctor.os, "access", lambda path, _mode: path != tmp_path)
    items = doctor.examine(described, None)
    assert FAIL == item(items, "disk").outcome and str(tmp_path) in item(items, "disk").observed
    assert not doctor.can(items, "simulator")
    (tmp_path / "none").write_text("")
    assert FAIL == item(doctor.examine(described, None), "disk").outcome


def test_the_verb_works_without_sgx(tmp_path):
    """On this machine the command ends with 0, says whether there is SGX, and exits 4 only if it is required."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}

    def run(*options):
        argv = [sys.executable, "-m", "glasscase", "doctor", "--json", *options]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)

    done = run()
    assert 0 == done.returncode, done.stderr
    assert [] == list(tmp_path.iterdir())  # it changes nothing
    value = json.loads(done.stdout)
    assert value["backends"]["simulator"]
    assert {"cpu", "kernel", "EPC", "aesmd", "PCCS", "clock", "disk"} <= {row["name"] for row in value["items"]}
    assert (0 if value["sgx"] else 4) == run("--require", "gramine-sgx").returncode
    for code in (4, 0):
        assert code == run("--require", "gramine-direct").returncode
        for name in ("loader", "libpal.so"):
            place = tmp_path / ".local/share/glasscase/runtimes/one/direct"
            place.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(b"")
