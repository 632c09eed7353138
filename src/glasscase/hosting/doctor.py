"""What a machine has and lacks for running enclaves: one item a line, each with its remedy.

Invariants: nothing is changed, started or installed; what cannot be found out says so and is no PASS; every file is read
below one root directory, so a test can describe any machine.
Source: docs/operating.md, "The machine"; Linux Documentation/arch/x86/sgx.rst; Intel's QCNL configuration file.
"""

import json
import os
import re
import shutil
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from glasscase.errors import CannotVerify, FormatError
from glasscase.gramine.dynamic import read_dynamic

PASS, WARN, FAIL, UNKNOWN = "PASS", "WARN", "FAIL", "UNKNOWN"
KERNEL_MIN = (5, 11)
KERNEL_EDMM_MIN = (6, 0)
CLOCK_UNSYNCHRONISED = 5  # TIME_ERROR of adjtimex(2)
READ_MAX = 1 << 20  # bytes
OPEN_FILES_MIN = 3000  # of the host, for all connections that an enclave takes
SPARE_DISK = 256 << 20  # bytes that should stay free beside a bundle
QCNL = "etc/sgx_default_qcnl.conf"
AESM = "var/run/aesmd/aesm.socket"
QUOTE_LIBRARIES = ("libsgx_dcap_ql.so.1", "libdcap_quoteprov.so.1")
LIBRARY_DIRECTORIES = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib64", "usr/lib", "usr/local/lib")
CPUID_SGX_LEAF = 0x12
ENCLAVE_START = 0x10000  # where the heap of an enclave begins
PROBE_S = 3.0
EVERY = ("gramine-sgx", "gramine-direct", "simulator")  # backends


@dataclass(frozen=True)
class Item:
    """One thing about the machine. outcome: PASS, WARN, FAIL or UNKNOWN. needed: what cannot work without it."""

    name: str
    outcome: str
    observed: str
    remedy: str = ""
    needed: tuple[str, ...] = ("gramine-sgx",)

    def to_json(self) -> dict[str, Any]:
        """Return the object that `doctor --json` shows."""
        return {
            "name": self.name, "outcome": self.outcome, "observed": self.observed, "remedy": self.remedy,
            "needed": list(self.needed),
        }  # fmt: skip


@dataclass(frozen=True)
class Needs:
    """What one bundle asks of the machine. Sizes in bytes; epoch: unix seconds before which its enclave refuses to work."""

    enclave_size: int
    disk: int
    edmm: bool
    epoch: int
    runtime: str
    path: str


@dataclass(frozen=True)
class Machine:
    """Where to look. root: "/" or a described machine; state_directory: it need not be there.

    runtimes: names of the imported Gramine runtimes. direct: whether the bundle's runtime, or without a bundle any imported one,
    has Gramine's loader for gramine-direct. probe(host, port): raises OSError if nothing answers there. clock_state: what
    adjtimex(2) returned, or None. verifier(): Intel's quote verification library that loads here, or None; raises CannotVerify if
    it crashes.
    """

    root: Path
    state_directory: Path
    runtimes: tuple[str, ...]
    now: int
    clock_state: int | None
    probe: Callable[[str, int], None]
    verifier: Callable[[], str | None] = lambda: None
    direct: bool = False

    def read(self, path: str) -> str | None:
        """Return a small text file below the root, None if it cannot be read."""
        try:
            with open(self.root / path, "rb") as file:
                return file.read(READ_MAX).decode("utf-8", "replace")
        except OSError:
            return None


def examine(machine: Machine, needs: Needs | None) -> tuple[Item, ...]:
    """Return all items, in a fixed order; those about a bundle only if one is given."""
    sgx = _cpu(machine)
    items: list[Item] = [sgx, _kernel(machine), *_devices(machine), _mapping(machine), _epc(machine, needs)]
    items += [_exinfo(machine), _edmm(machine, needs), _aesm(machine), _libraries(machine), *_pccs(machine)]
    items += [_clock(machine, needs), _disk(machine, needs), _open_files(machine)]
    items += [_runtime(machine, needs), _direct(machine), _verifier(machine)]
    if needs is not None:
        items += [_loader(machine, needs)] if needs.runtime != "simulator" else []
        items.append(_bundle_owner(needs))
    return tuple(items)


def can(items: Sequence[Item], backend: str) -> bool:
    """Return whether nothing that the backend needs has failed or could not be found out."""
    return all(item.outcome in (PASS, WARN) for item in items if backend in item.needed)


def probe_tcp(host: str, port: int) -> None:
    """Connect once and close; raises OSError if nothing listens there."""
    socket.create_connection((host, port), timeout=PROBE_S).close()


def clock_state() -> int | None:
    """Return what adjtimex(2) says of the clock; None where it cannot be asked."""
    import ctypes

    try:
        buffer = ctypes.create_string_buffer(512)  # struct timex, modes = 0: read only
        return int(ctypes.CDLL(None, use_errno=True).adjtimex(buffer))
    except (OSError, AttributeError):
        return None


def _cpu(machine: Machine) -> Item:
    text = machine.read("proc/cpuinfo") or ""
    match = re.search(r"^flags\s*:\s*(.*)$", text, re.MULTILINE)
    flags = set(match[1].split()) if match else set()
    model = re.search(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    name = model[1].strip() if model else "unknown processor"
    if not match:
        return Item("cpu", UNKNOWN, "no flags in /proc/cpuinfo", "run this on the machine itself")
    if "sgx" not in flags:
        return Item(
            "cpu", FAIL, f"{name}: no SGX",
            "a server processor with SGX, and SGX switched on in the BIOS; without it: --backend simulator",
        )  # fmt: skip
    if "sgx_lc" not in flags:
        return Item("cpu", FAIL, f"{name}: SGX without launch control", "switch on Flexible Launch Control in the BIOS")
    return Item("cpu", PASS, f"{name}: SGX with launch control")


def _kernel(machine: Machine) -> Item:
    release = (machine.read("proc/sys/kernel/osrelease") or "").strip()
    version = _version(release)
    if version is None:
        return Item("kernel", UNKNOWN, release or "no release", "uname -r")
    good = version >= KERNEL_MIN
    remedy = "" if good else f"Linux {KERNEL_MIN[0]}.{KERNEL_MIN[1]} or newer has the driver"
    return Item("kernel", PASS if good else FAIL, release, remedy)


def _devices(machine: Machine) -> list[Item]:
    found = []
    for name, group in (("sgx_enclave", "sgx"), ("sgx_provision", "sgx_prv")):
        path = machine.root / "dev" / name
        if not path.exists():
            found.append(Item(f"/dev/{name}", FAIL, "absent", "see cpu and kernel; in a container, pass the device in"))
        elif not os.access(path, os.R_OK | os.W_OK):
            found.append(
                Item(f"/dev/{name}", FAIL, "no access for this account", f"usermod -aG {group} USER, then log in again")
            )
        else:
            found.append(Item(f"/dev/{name}", PASS, "there"))
    return found


def _mapping(machine: Machine) -> Item:
    """Gramine maps its enclave from address 64 KiB on, executable, out of a file in /dev."""
    lowest = (machine.read("proc/sys/vm/mmap_min_addr") or "").strip()
    mounts = [line.split() for line in (machine.read("proc/mounts") or "").splitlines()]
    options = [fields[3].split(",") for fields in mounts if len(fields) > 3 and fields[1] == "/dev"]
    if lowest.isdigit() and int(lowest) > ENCLAVE_START:
        return Item("mapping", FAIL, f"vm.mmap_min_addr is {lowest}", f"sysctl vm.mmap_min_addr={ENCLAVE_START}")
    if options and "noexec" in options[-1]:
        return Item("mapping", FAIL, "/dev is mounted noexec", "mount -o remount,exec /dev")
    return Item("mapping", PASS, "an enclave can be mapped")


def _epc(machine: Machine, needs: Needs | None) -> Item:
    nodes = sorted((machine.root / "sys/devices/system/node").glob("node*/x86/sgx_total_bytes"))
    sizes = [machine.read(str(path.relative_to(machine.root))) for path in nodes]
    if not sizes or not all(size and size.strip().isdigit() for size in sizes):
        return Item("EPC", UNKNOWN, "the kernel does not say how much there is", "Linux 5.17 or newer says it", ())
    total = sum(int(size or 0) for size in sizes)
    if needs is not None and total < needs.enclave_size:
        return Item(
            "EPC", WARN, f"{_size(total)}, the bundle's enclave has {_size(needs.enclave_size)}: it will page",
            "a larger PRMRR in the BIOS, or build --size",
        )  # fmt: skip
    return Item("EPC", PASS, _size(total))


def _exinfo(machine: Machine) -> Item:
    """Every bundle asks for EXINFO (MISCSELECT bit 0); a processor without it refuses to create the enclave."""
    leaf = _cpuid_sgx(machine)
    if leaf is None:
        return Item("EXINFO", UNKNOWN, "cpuid cannot be asked", "modprobe cpuid, as root")
    if not leaf[1] & 1:
        return Item(
            "EXINFO", FAIL, "this processor does not report page faults", "a processor with SGX2: Ice Lake or newer"
        )
    return Item("EXINFO", PASS, "there")


def _edmm(machine: Machine, needs: Needs | None) -> Item:
    wanted = needs is not None and needs.edmm
    kernel = _version((machine.read("proc/sys/kernel/osrelease") or "").strip())
    leaf = _cpuid_sgx(machine)
    needed = ("gramine-sgx",) if wanted else ()
    if kernel is not None and kernel < KERNEL_EDMM_MIN:
        return Item(
            "EDMM", FAIL if wanted else WARN, "the kernel is older than 6.0", "Linux 6.0, or edmm = false", needed
        )
    if leaf is None:
        return Item("EDMM", UNKNOWN, "SGX2 cannot be asked for", "modprobe cpuid, as root", needed)
    if not leaf[0] & 2:
        return Item("EDMM", FAIL if wanted else WARN, "no SGX2", "edmm = false, which is the default", needed)
    return Item("EDMM", PASS, "SGX2 and a kernel that has it", "", needed)


def _cpuid_sgx(machine: Machine) -> tuple[int, int] | None:
    """Return EAX and EBX of CPUID leaf 12H, None if the cpuid device cannot be read."""
    try:
        descriptor = os.open(machine.root / "dev/cpu/0/cpuid", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        eax, ebx, _ecx, _edx = struct.unpack("<IIII", os.pread(descriptor, 16, CPUID_SGX_LEAF))
    except (OSError, struct.error):
        return None
    finally:
        os.close(descriptor)
    return eax, ebx


def _aesm(machine: Machine) -> Item:
    path = machine.root / AESM
    if not path.exists():
        return Item("aesmd", FAIL, f"no socket /{AESM}", "apt install sgx-aesm-service libsgx-aesm-quote-ex-plugin")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(PROBE_S)
        try:
            connection.connect(str(path))
        except OSError as error:
            return Item(
                "aesmd", FAIL, (error.strerror or "no answer").lower(), "systemctl restart aesmd; journalctl -u aesmd"
            )
    return Item("aesmd", PASS, "answers")


def _libraries(machine: Machine) -> Item:
    missing = _absent(machine, QUOTE_LIBRARIES)
    if missing:
        return Item(
            "quote provider",
            WARN,
            f"not found: {', '.join(missing)}",
            "apt install libsgx-dcap-ql libsgx-dcap-default-qpl",
        )
    return Item("quote provider", PASS, "installed")


def _pccs(machine: Machine) -> list[Item]:
    """Look at Intel's provider configuration and at the service that it names."""
    text = machine.read(QCNL)
    if text is None:
        return [Item("PCCS", WARN, f"no /{QCNL}", "apt install libsgx-dcap-default-qpl, then set pccs_url")]
    try:
        # the file is JSON with comments
        url = json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE)).get("pccs_url", "")
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 443
        (host or "").encode("idna")  # as connecting does; UnicodeError is a ValueError
    except (ValueError, AttributeError):
        return [Item("PCCS", FAIL, f"/{QCNL} cannot be read", "it is JSON; pccs_url names the service")]
    if not host:
        return [Item("PCCS", FAIL, f"/{QCNL} names no pccs_url", "set pccs_url to the PCCS of your platform")]
    try:
        machine.probe(host, port)
    except OSError as error:
        why = (error.strerror or str(error) or "no answer").lower()
        return [
            Item("PCCS", FAIL, f"{host}:{port}: {why} (Intel code 0xe019)",
                 "systemctl start pccs, or another pccs_url; evidence --collateral-source intel works without"),
        ]  # fmt: skip
    return [Item("PCCS", PASS, f"{host}:{port} answers")]


def _clock(machine: Machine, needs: Needs | None) -> Item:
    if needs is not None and machine.now < needs.epoch:
        return Item(
            "clock", FAIL, "behind the bundle's own date", "set the clock; the enclave refuses to work before it", EVERY
        )
    if machine.clock_state is None:
        return Item("clock", UNKNOWN, "cannot be asked", "timedatectl", ())
    if machine.clock_state == CLOCK_UNSYNCHRONISED or machine.clock_state < 0:
        return Item("clock", WARN, "not synchronised", "systemctl start systemd-timesyncd, or chrony", EVERY)
    return Item("clock", PASS, "synchronised", "", EVERY)


def _disk(machine: Machine, needs: Needs | None) -> Item:
    # it may be made by the first `run`, below what is there
    there = next(
        (path for path in (machine.state_directory, *machine.state_directory.parents) if os.path.exists(path)),
        Path("/"),
    )
    if not os.path.isdir(there) or not os.access(there, os.W_OK | os.X_OK):
        return Item(
            "disk",
            FAIL,
            f"this account cannot write to {there}",
            "GLASSCASE_STATE=DIR, one that it can write to",
            EVERY,
        )
    free = shutil.disk_usage(there).free
    wanted = SPARE_DISK + (0 if needs is None else needs.disk)
    if free < wanted:
        return Item(
            "disk", WARN, f"{_size(free)} free in {machine.state_directory}", f"make {_size(wanted)} free", EVERY
        )
    return Item("disk", PASS, f"{_size(free)} free", "", EVERY)


def _open_files(machine: Machine) -> Item:
    """The hard limit of whoever asks, which is what `run` can raise the soft one to."""
    found = re.search(r"^Max open files +\S+ +(\d+|unlimited)\b", machine.read("proc/self/limits") or "", re.MULTILINE)
    if found is None:
        return Item("open files", UNKNOWN, "the limit cannot be read", "ulimit -Hn", ())
    if found[1] != "unlimited" and int(found[1]) < OPEN_FILES_MIN:
        return Item(
            "open files", WARN, f"at most {found[1]}: a flood of connections would keep others out",
            "nofile in /etc/security/limits.conf, or LimitNOFILE= of the unit, 8192 or more", EVERY,
        )  # fmt: skip
    return Item("open files", PASS, f"at most {found[1]}", "", EVERY)


def _runtime(machine: Machine, needs: Needs | None) -> Item:
    every = ("gramine-sgx", "gramine-direct")
    if needs is not None and needs.runtime == "simulator":
        return Item(
            "runtime", FAIL, "the bundle was built with the simulator's", "glasscase build --runtime NAME", every
        )
    if needs is not None:
        return Item("runtime", PASS, f"{needs.runtime}, inside the bundle", "", ("gramine-sgx",))
    if not machine.runtimes:
        return Item(
            "runtime", WARN, "no Gramine is imported; a bundle brings its own", "glasscase runtime import PATH", ()
        )
    return Item("runtime", PASS, ", ".join(machine.runtimes), "", ())


def _direct(machine: Machine) -> Item:
    """No bundle brings the loader of gramine-direct: it is the imported runtime's."""
    needed = ("gramine-direct",)
    if machine.direct:
        return Item("direct loader", PASS, "imported", "", needed)
    return Item(
        "direct loader",
        FAIL,
        "not imported, and no bundle brings it",
        "glasscase runtime import PATH (for gramine-direct)",
        needed,
    )


def _loader(machine: Machine, needs: Needs) -> Item:
    """Gramine's untrusted part is a program of this machine: its libraries come from here, not from the bundle."""
    try:
        program = read_dynamic(Path(needs.path, "runtime/loader").read_bytes(), "runtime/loader")
    except (OSError, FormatError):
        return Item("loader", UNKNOWN, "runtime/loader cannot be read", "give the bundle that shall run")
    missing = _absent(machine, program.needed)
    if missing:
        return Item("loader", FAIL, f"needs {', '.join(missing)}", "for libprotobuf-c.so.1: apt install libprotobuf-c1")
    return Item("loader", PASS, "its libraries are there")


def _absent(machine: Machine, names: Sequence[str]) -> list[str]:
    """Return those of the libraries that no usual directory has."""
    return [name for name in names if not any((machine.root / place / name).exists() for place in LIBRARY_DIRECTORIES)]


def _verifier(machine: Machine) -> Item:
    try:
        found = machine.verifier()
    except CannotVerify as error:
        return Item(
            "Intel's verifier", WARN, f"verify --engine intel and both cannot work: {error.message}",
            "update libsgx-dcap-quote-verify, or remove it", (),
        )  # fmt: skip
    if found is None:
        return Item(
            "Intel's verifier", WARN, "not installed: verify --engine intel and both cannot work",
            "apt install libsgx-dcap-quote-verify, or with Python 3.11 pip install 'glasscase[intel]'", (),
        )  # fmt: skip
    return Item("Intel's verifier", PASS, found, "", ())


def _bundle_owner(needs: Needs) -> Item:
    mine = os.access(needs.path, os.W_OK) and os.stat(needs.path).st_uid == os.geteuid()
    if mine:
        return Item(
            "bundle.writable.by_enclave", WARN, "this account owns the bundle, and an enclave can delete its own files",
            "run as root with --user U, or give the bundle to another owner",
        )  # fmt: skip
    return Item("bundle.writable.by_enclave", PASS, "the bundle belongs to another account")


def _version(release: str) -> tuple[int, int] | None:
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match else None


def _size(count: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
