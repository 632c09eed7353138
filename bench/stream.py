"""How fast files are encrypted and read, through the public Python API, against cp, age, pyrage, tink and a plain AES-GCM loop.

All run interleaved on one file in memory (--dir, default /dev/shm), medians count, of the runs during which the machine was quiet
(bench/_quiet.py says how that is seen). Others are thrown away and repeated up to three times; if less than half of the rounds
is left of anything, nothing is reported but that (exit 3), unless --busy. Exit 1: below a target.
"By CPU time" is the same ratio from the processor time of each, ours shared by its two threads: what a machine with two free
cores would show, also read on a busy one.
Peers are installed by this program: age through apt-get when it is root, pyrage and tink into a temporary environment.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bench._peers import age, loop_decrypt, loop_encrypt, peers
from bench._quiet import Clock
from glasscase import provider
from glasscase.core import chunks, handles, stream
from glasscase.core.reader import Reader
from glasscase.seal.files import open_package
from glasscase.seal.package import build_package, source_of
from tests.oracle import stream_oracle

KEY = os.urandom(32)
NOISE = 0.95  # of a ratio
SMALL = "10,000 files of 4 KiB"
OURS = ("encrypt", "decrypt", "verify", "package", "lazy", "lazy, leaf")


def whole_files(clock: Clock, root: Path, rounds: int) -> list[str]:
    """Files of 1 GiB, everybody in turn. Returns the names of all that took part."""
    plain, sealed = root / "plain", root / "sealed"
    commands = age(root)
    with tempfile.TemporaryDirectory() as place:
        others = peers(root, Path(place))
        for _ in range(rounds):
            clock.run("cp", lambda: _command("cp", plain, root / "out"), output=root / "out")
            clock.run("encrypt", lambda: _void(provider.encrypt_file(plain, sealed, key=KEY, threads=2)), output=sealed)
            clock.run(
                "decrypt",
                lambda: _void(provider.decrypt_file(sealed, root / "out", key=KEY, threads=2)),
                output=root / "out",
            )
            clock.run("verify", lambda: _void(stream.decrypt_file(sealed, None, key=KEY, threads=2)))
            clock.run("loop encrypt", lambda: loop_encrypt(root, KEY), output=root / "loop")
            clock.run("loop decrypt", lambda: loop_decrypt(root, KEY), output=root / "out")
            clock.run("package", lambda: package(root))
            for name, peer in others.items():
                for what in ("encrypt", "decrypt"):
                    clock.run(
                        f"{name} {what}",
                        lambda peer=peer, what=what: peer.run(what),
                        output=root / ("out" if what == "decrypt" else name),
                    )  # type: ignore[misc]
            if commands is not None:
                clock.run("age encrypt", lambda: _command(*commands[0]), output=root / "age")
                clock.run("age decrypt", lambda: _command(*commands[1]), output=root / "out")
        for peer in others.values():
            peer.stop()
    names = ["cp", "encrypt", "decrypt", "verify", "loop encrypt", "loop decrypt", "package"]
    return [
        *names,
        *(f"{peer} {what}" for peer in [*others, *(["age"] if commands else [])] for what in ("encrypt", "decrypt")),
    ]


def package(root: Path) -> None:
    """Digest and encrypt the file as a lazily read model."""
    shutil.rmtree(root / "package", ignore_errors=True)
    (root / "package").mkdir()
    build_package([source_of(root / "plain", "model", lazy=True)], key=KEY, out_dir=root / "package", threads=2)


def random_access(clock: Clock, root: Path, rounds: int) -> dict[str, list[float]]:
    """Reads of 4 KiB and of everything, with and without leaf check; opening a file of 50 GB. Returns microseconds of each."""
    size = (root / "plain").stat().st_size
    buffer, small = bytearray(size), bytearray(4096)
    places = random.Random(1)
    found: dict[str, list[float]] = {}

    def reads(name: str, reader: Reader) -> None:
        times = []

        def work() -> None:
            times.clear()
            for offset in [places.randrange(size - 4096) for _ in range(1000)]:
                begin = time.perf_counter()
                reader.pread_into(small, offset)
                times.append((time.perf_counter() - begin) * 1e6)

        if clock.run(name, work) or clock.keep:
            found.setdefault(name, []).extend(times)

    package(root)
    with (
        provider.open_encrypted(root / "sealed", key=KEY) as plain,
        open_package(root / "package", key=KEY).open("model") as lazy,
    ):
        for _ in range(rounds):
            reads("read 4 KiB", plain)
            reads("read 4 KiB, leaf", lazy)
            clock.run("lazy, leaf", lambda: _void(lazy.pread_into(buffer, 0, threads=2)))
            clock.run("lazy", lambda: _void(plain.pread_into(buffer, 0, threads=2)))
    found["open 50 GB"] = open_sparse(root, 50 * 10**9)
    return found


def open_sparse(root: Path, size: int) -> list[float]:
    """Return the microseconds of twenty times opening a sparse file of which only header and last chunk are there."""
    header = stream.Encryptor(KEY, size=size).message.header
    context = b"glasscase/v1\0" + header[:72] + bytes(4)
    secret = stream_oracle.expand(KEY, stream_oracle.LABEL + header[72:96] + context, 76)
    number = size // chunks.CHUNK_SIZE
    nonce = (int.from_bytes(secret[32:44], "big") ^ number).to_bytes(12, "big")
    last = AESGCM(secret[:32]).encrypt(nonce, bytes(size % chunks.CHUNK_SIZE), None)
    path = root / "sparse"
    with path.open("wb") as file:
        file.write(header)
        file.seek(128 + number * (chunks.CHUNK_SIZE + 16))
        file.write(last)
    times = []
    for _ in range(20):
        begin = time.perf_counter()
        with provider.open_encrypted(path, key=KEY) as reader:
            times.append((time.perf_counter() - begin) * 1e6)
            if reader.size != size:
                raise RuntimeError("the size is wrong")
    path.unlink()
    return times


def small_files(clock: Clock, root: Path, rounds: int) -> None:
    """Encrypt 10,000 files of 4 KiB, each by one call of the public function."""
    folder = root / "small"
    folder.mkdir()
    for number in range(10_000):
        (folder / str(number)).write_bytes(os.urandom(4096))

    def work() -> tuple[float, float]:
        out = folder / "out"
        out.mkdir()
        begin, cpu = time.perf_counter(), time.process_time()
        for number in range(10_000):
            provider.encrypt_file(f"{folder}/{number}", f"{out}/{number}", key=KEY, threads=1)
        taken = time.perf_counter() - begin, time.process_time() - cpu
        shutil.rmtree(out)
        time.sleep(0.3)  # giving back so many files goes on in the kernel, and would look like somebody else's work
        return taken

    for _ in range(rounds):
        clock.run(SMALL, work)
    shutil.rmtree(folder)


MEMORY = """
import os, sys
from glasscase import provider
with open(sys.argv[1], "wb") as file:
    file.truncate(int(sys.argv[3]))
provider.encrypt_file(sys.argv[1], sys.argv[2], key=bytes(32), threads=2)
provider.decrypt_file(sys.argv[2], sys.argv[1], key=bytes(32), threads=2)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def memory(folder: Path, size: int) -> float:
    """Return the peak MiB of a process that encrypts and decrypts a file of `size` zero bytes on a disk."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, f"{place}/plain", f"{place}/sealed", str(size)], capture_output=True, text=True,
            check=True,
        )  # fmt: skip
    return int(done.stdout) / 1024


def _command(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True, capture_output=True)


def _void(_value: object) -> None:
    return None


def share(clock: Clock, name: str) -> float:
    """Return the wall time that the CPU time makes when both threads have a core: ours have two, all others one."""
    return clock.cpu(name) / (2 if name in OURS else 1)


def report(clock: Clock, numbers: dict[str, float], size: int) -> list[dict[str, object]]:
    """Return every figure with its target."""
    rows: list[dict[str, object]] = []

    def row(name: str, value: float, unit: str, target: float, *, least: bool, by_cpu: float | None = None) -> None:
        good = value >= target * NOISE if least else value <= target
        entry = {"what": name, "value": round(value, 3), "unit": unit, "target": target, "ok": good}
        rows.append(entry if by_cpu is None else {**entry, "by_cpu": round(by_cpu, 3)})

    base = clock.wall("cp")
    for name, target in (
        ("encrypt", 1.0), ("decrypt", 1.0), ("verify", 1.6), ("package", 0.35), ("lazy, leaf", 0.5),
    ):  # fmt: skip
        row(
            f"{name} / cp",
            base / clock.wall(name),
            "x",
            target,
            least=True,
            by_cpu=share(clock, "cp") / share(clock, name),
        )
    for peer, encrypt, decrypt in (("age", 2.3, 2.8), ("loop", 1.5, 1.5), ("pyrage", 0, 0), ("tink", 0, 0)):
        for what, target in (("encrypt", encrypt), ("decrypt", decrypt)):
            if f"{peer} {what}" in clock.runs:
                name = f"{peer} {what}"
                by_cpu = share(clock, name) / share(clock, what)
                row(f"{what} / {peer}", clock.wall(name) / clock.wall(what), "x", target, least=True, by_cpu=by_cpu)
    for name, unit, limit in (
        ("read 4 KiB", "us", 12), ("read 4 KiB, leaf", "us", 30), ("open 50 GB", "us", 1000),
        (SMALL, "s", 1.0), ("peak memory", "MiB", 64),
    ):  # fmt: skip
        if name in numbers:
            row(name, numbers[name], unit, limit, least=False)
    for name in clock.runs:
        if name in numbers:
            continue
        rate = size / clock.wall(name) / 1e9
        rows.append({
            "what": name, "value": round(clock.wall(name), 3), "unit": "s", "cpu": round(clock.cpu(name), 3),
            "gb_per_s": round(rate, 2),
        })  # fmt: skip
    return rows


def main(arguments: list[str]) -> int:
    """Print the table; 1 below a target, 3 if the machine was busy."""
    parser = argparse.ArgumentParser(prog="bench/run.py stream")
    parser.add_argument("--dir", default="/dev/shm", help="where the files are; a file system in memory")
    parser.add_argument("--size", type=int, default=1 << 30, help="bytes of the file")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--huge", metavar="DIR", help="also the peak memory at 20 GiB, on this disk (40 GiB free)")
    parser.add_argument("--busy", action="store_true", help="report also if the machine was busy")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    clock = Clock(keep=options.busy)
    with tempfile.TemporaryDirectory(dir=options.dir) as place:
        root = Path(place)
        with (root / "plain").open("wb") as file:
            for _ in range(options.size >> 20):
                file.write(os.urandom(1 << 20))
        names = whole_files(clock, root, options.rounds)
        reads = random_access(clock, root, options.rounds)
        for name in ("plain", "sealed", "out", "loop", "age", "pyrage", "tink"):
            (root / name).unlink(missing_ok=True)
        small_files(clock, root, options.rounds)
    lacking = clock.lacking(
        [*names, "read 4 KiB", "read 4 KiB, leaf", "lazy", "lazy, leaf", SMALL], (options.rounds + 1) // 2
    )
    if lacking:
        print(f"stream: {clock}: too few are left of {', '.join(lacking)}: no figures; see --busy", file=sys.stderr)
        return 3
    numbers = {name: statistics.median(times) for name, times in reads.items()} | {SMALL: clock.wall(SMALL)}
    numbers["peak memory"] = memory(Path(options.huge or options.dir), 20 << 30 if options.huge else 1 << 30)
    rows = report(clock, numbers, options.size)
    if options.json:
        facts = {"libcrypto": handles.libcrypto_version(), "runs": clock.total, "disturbed": clock.disturbed}
        print(json.dumps({**facts, "rows": rows}, indent=2))
    else:
        print(f"{handles.libcrypto_version()}; {clock}")
        for entry in rows:
            print(line(entry))
    return 0 if all(entry.get("ok", True) for entry in rows) else 1


def line(entry: dict[str, object]) -> str:
    """Return one figure for people."""
    if "target" not in entry:
        return f"{entry['what']!s:28} {entry['value']:9} s    cpu {entry['cpu']:<8} {entry['gb_per_s']} GB/s"
    verdict = "ok" if entry["ok"] else "BELOW"
    by_cpu = f"  by CPU time: {entry['by_cpu']}" if "by_cpu" in entry else ""
    return f"{entry['what']!s:28} {entry['value']:9} {entry['unit']:4} target {entry['target']:<6} {verdict:5}{by_cpu}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
