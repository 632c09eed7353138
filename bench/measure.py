"""How fast measuring is, against hashing the same bytes with libcrypto and against gramine-sgx-sign's published times.

Prints one line for each case or, with --json, one object. Times are the best of several runs; ratios compare processor time, so
that a busy machine changes them little.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from glasscase.core.measure import digest_files
from glasscase.gramine.expand import sgx_manifest
from glasscase.gramine.toml import write_toml
from glasscase.measure.mrenclave import measure
from glasscase.sim.runtime import runtime_files

PAGE_RECORDS = 5184  # bytes hashed for a measured page
# seconds of gramine-sgx-sign (commit ff71d7af) as published with the specification: 2 cores of a Xeon VM with SHA-NI
PEER = {"512M": 0.26, "8G": 0.68, "64G": 4.3, "files": 0.68}
RATIO_LIMITS = {"64G": 1.25}
PROCESS_LIMIT = 0.120  # seconds
FILES_LIMIT = 0.4  # seconds


def best(work: Callable[[], object], runs: int) -> tuple[float, float]:
    """Return the shortest wall time and the shortest processor time (children included) of several runs, in seconds."""
    times = []
    for _ in range(runs):
        start, used = time.perf_counter(), sum(os.times()[:4])
        work()
        times.append((time.perf_counter() - start, sum(os.times()[:4]) - used))
    return min(wall for wall, _ in times), min(used for _, used in times)


def manifest(size: str) -> bytes:
    """Return a manifest.sgx without trusted files."""
    entrypoint = {"uri": "file:runtime/libsysdb.so", "sha256": "00" * 32}
    sgx = {"enclave_size": size, "max_threads": 4, "trusted_files": [], "isvprodid": 0, "isvsvn": 0}
    return write_toml({"loader": {"entrypoint": entrypoint}, "sgx": sgx})


def hash_plain(count: int) -> None:
    """Hash `count` bytes with libcrypto in this thread, 64 KiB at a time."""
    block = os.urandom(1 << 16)
    digest = hashlib.sha256()
    for _ in range(count >> 16):
        digest.update(block)
    digest.update(block[: count & 0xFFFF])
    digest.digest()


def against_libcrypto(size: str, runs: int) -> dict[str, object]:
    """Measure an enclave of `size` without EDMM and hash as many bytes, in turn."""
    text, libpal = manifest(size), runtime_files()["libpal.so"]
    result = measure(text, libpal)
    hashed = 64 + result.pages_measured * PAGE_RECORDS + (result.pages_added - result.pages_measured) * 64
    repeat = max(1, 2**30 // hashed)  # long enough for the clock of the processor time

    def own() -> None:
        for _ in range(repeat):
            measure(text, libpal)

    def plain() -> None:
        for _ in range(repeat):
            hash_plain(hashed)

    pairs = [(best(own, 1), best(plain, 1)) for _ in range(runs)]
    wall = min(pair[0][0] for pair in pairs) / repeat
    used = [min(pair[side][1] for pair in pairs) / repeat for side in (0, 1)]
    return {
        "case": f"measure {size}",
        "seconds": wall,
        "cpu_seconds": used[0],
        "libcrypto_cpu_seconds": used[1],
        "ratio": used[0] / used[1],
        "hashed_bytes": hashed,
        "peer_seconds": PEER[size],
        "limit_ratio": RATIO_LIMITS.get(size),
    }


def as_new_process(runs: int) -> dict[str, object]:
    """Run `glasscase measure` of a 512 MiB enclave from the shell's side."""
    with tempfile.TemporaryDirectory() as folder:
        text, libpal = Path(folder) / "m.sgx", Path(folder) / "libpal.so"
        text.write_bytes(manifest("512M"))
        libpal.write_bytes(runtime_files()["libpal.so"])
        command = [
            str(Path(sys.executable).with_name("glasscase")),
            "measure",
            "--manifest",
            str(text),
            "--libpal",
            str(libpal),
        ]
        seconds, used = best(lambda: subprocess.run(command, check=True, capture_output=True), runs)
        bare, _ = best(lambda: subprocess.run([sys.executable, "-c", ""], check=True), runs)
    return {
        "case": "glasscase measure 512M, new process",
        "seconds": seconds,
        "cpu_seconds": used,
        "python_seconds": bare,
        "peer_seconds": PEER["512M"],
        "limit_seconds": PROCESS_LIMIT,
    }


def many_files(count: int, runs: int) -> list[dict[str, object]]:
    """Hash and index `count` files of 8 kB, and expand a manifest that trusts them all."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            path = Path(folder) / f"d{number % 100:02}" / f"{number:05}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(os.urandom(32) * 256)

        def index() -> None:
            paths = []
            for base, folders, names in os.walk(folder):
                folders.sort()
                paths += [os.path.join(base, name) for name in names]
            digest_files(sorted(paths))

        seconds, used = best(index, runs)
        text = b'loader.entrypoint = {uri = "file:x", sha256 = "%s"}\nsgx.trusted_files = ["file:./"]\n' % (b"00" * 32)
        whole, whole_used = best(lambda: sgx_manifest(text, directory=folder), runs)
    common = {"peer_seconds": PEER["files"]}
    return [
        {
            "case": f"{count:,} files walked and hashed",
            "seconds": seconds,
            "cpu_seconds": used,
            "limit_seconds": FILES_LIMIT,
            **common,
        },
        {"case": f"{count:,} files expanded to manifest.sgx", "seconds": whole, "cpu_seconds": whole_used, **common},
    ]


def main(arguments: list[str]) -> int:
    """Run all cases; exit 1 if one is above its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="leave out 64 GiB")
    options = parser.parse_args(arguments)
    runs = 3 if options.quick else 5
    rows = [against_libcrypto(size, runs) for size in (["512M"] if options.quick else ["512M", "8G", "64G"])]
    rows += [as_new_process(3 * runs), *many_files(10_000, runs)]
    slow = False
    for row in rows:
        above = any(row.get(f"limit_{kind}") and row[kind] > row[f"limit_{kind}"] for kind in ("ratio", "seconds"))
        slow = slow or above
        ratio = f"{row['ratio']:.2f} x libcrypto" if "ratio" in row else ""
        limit = next((f"limit {row[key]}" for key in ("limit_ratio", "limit_seconds") if row.get(key)), "")
        if not options.json:
            peer = f"gramine-sgx-sign {row['peer_seconds']} s"
            taken = f"{row['seconds']:.3f} s  cpu {row['cpu_seconds']:.3f} s"
            print(f"{row['case']:<42} {taken}  {ratio:<18} {limit:<12} {peer}{'  ABOVE' if above else ''}")
    if options.json:
        print(json.dumps({"rows": rows}, indent=2))
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
