"""Runs inside a process with the shim: every operation with every fault, or killed at every point. Prints what was wrong."""

import ctypes
import errno
import hashlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path

from glasscase.cli.main import run

SHIM = ctypes.CDLL(os.environ["LD_PRELOAD"])
SHIM.shim_arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int]
SHIM.shim_seen.restype = SHIM.shim_overlaps.restype = ctypes.c_long
CALLS = ("write", "pread", "pwrite", "fsync", "syncfs", "rename", "ftruncate", "fchmod")
ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT)


def snapshot(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "d"
        for path in sorted(folder.rglob("*"))
    }


def prepare(root: Path, pieces: int) -> dict[str, list[str]]:
    """Make inputs; return the operations, each with OUT for its output."""
    inputs = root / "in"
    inputs.mkdir()
    key = inputs / "key"
    key.write_bytes(bytes(range(32)))
    key.chmod(0o600)
    (inputs / "plain").write_bytes(os.urandom(1 << 20) * pieces + b"end")
    tree = inputs / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "a.py").write_bytes(b"print(1)\n")
    for number in range(10):
        (tree / "sub" / str(number)).write_bytes(os.urandom(1000))
    (tree / "sub" / "big").write_bytes(os.urandom(9 << 20))
    common = ["--key", str(key), "-q", "--threads", "2"]
    for source, target in ((inputs / "plain", inputs / "sealed"), (tree, inputs / "package")):
        if run(["encrypt", str(source), "-o", str(target), *common]):
            raise SystemExit("cannot prepare")
    return {
        "encrypt": ["encrypt", str(inputs / "plain"), "-o", "OUT", *common],
        "decrypt": ["decrypt", str(inputs / "sealed"), "-o", "OUT", *common],
        "package": ["encrypt", str(tree), "-o", "OUT", *common],
        "unpack": ["decrypt", str(inputs / "package"), "-o", "OUT", *common],
    }


def attempt(arguments: list[str], target: Path) -> int:
    return run([str(target) if word == "OUT" else word for word in arguments])


def faults(root: Path, operations: dict[str, list[str]], most: int) -> tuple[int, list[str]]:
    """Let each call fail, every time that it is made; of more than `most` times the first, the last and some between."""
    wrong, count = [], 0
    before = snapshot(root / "in")
    out = root / "out"
    out.mkdir()
    for name, arguments in operations.items():
        for call in CALLS:
            SHIM.shim_arm(call.encode(), -1, 0)
            attempt(arguments, out / "x")
            total = SHIM.shim_seen()
            _clear(out)
            for number in ERRORS:
                for nth in sorted({(total - 1) * step // (most - 1) for step in range(most)} if total else ()):
                    SHIM.shim_arm(call.encode(), nth, number)
                    code = attempt(arguments, out / "x")
                    SHIM.shim_arm(b"", -1, 0)
                    count += 1
                    left = sorted(path.name for path in out.iterdir())
                    if code != 4 or left:
                        wrong.append(f"{name} {call} {nth}/{total} {errno.errorcode[number]}: exit {code}, left {left}")
                    _clear(out)
    if snapshot(root / "in") != before:
        wrong.append("an input changed")
    return count, wrong


def interrupted(root: Path, operations: dict[str, list[str]]) -> tuple[int, list[str]]:
    """EINTR at a read, write, sync or truncation is not an error."""
    wrong, count = [], 0
    out = root / "out"
    for name, arguments in operations.items():
        for call in ("pread", "pwrite", "write", "fsync", "ftruncate"):
            SHIM.shim_arm(call.encode(), 0, errno.EINTR)
            code = attempt(arguments, out / "x")
            SHIM.shim_arm(b"", -1, 0)
            count += 1
            if code != 0:
                wrong.append(f"{name} EINTR at {call}: exit {code}")
            _clear(out)
    return count, wrong


def kills(root: Path, operations: dict[str, list[str]], points: int) -> tuple[int, list[str]]:
    """Kill a child at points spread over all calls; then nothing has the final name, and the next run works."""
    wrong, count = [], 0
    before = snapshot(root / "in")
    out = root / "out"
    key = (root / "in" / "key").read_bytes()
    for name, arguments in operations.items():
        SHIM.shim_arm(b"any", -1, 0)
        attempt(arguments, out / "x")
        total = SHIM.shim_seen()
        _clear(out)
        for nth in sorted({total * point // points for point in range(points)}):
            child = os.fork()
            if child == 0:
                SHIM.shim_arm(b"any", nth, 0)
                os._exit(attempt(arguments, out / "x"))
            _, status = os.waitpid(child, 0)
            count += 1
            killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
            final = (out / "x").exists()
            if final and not complete(name, out / "x", root):
                wrong.append(f"{name} killed at {nth}/{total}: a final name with half a content")
            if not killed:
                wrong.append(f"{name} at {nth}/{total} was not killed")
            if any(key in path.read_bytes() for path in out.rglob("*") if path.is_file()):
                wrong.append(f"{name} killed at {nth}: the key is on the disk")
            if final:
                _clear(out)
            if attempt(arguments, out / "x") or not complete(name, out / "x", root):
                wrong.append(f"{name} after a kill at {nth}: the next run fails")
            _clear(out)
    if snapshot(root / "in") != before:
        wrong.append("an input changed")
    return count, wrong


def read_once(root: Path, operations: dict[str, list[str]]) -> tuple[int, list[str]]:
    """No byte of a ciphertext is read twice, so a host that changes it in between gains nothing."""
    wrong, count = [], 0
    out = root / "out"
    for name in ("decrypt", "unpack"):
        SHIM.shim_forget()
        code = attempt(operations[name], out / "x")
        twice = SHIM.shim_overlaps()
        count += 1
        if code or twice or not complete(name, out / "x", root):
            wrong.append(f"{name}: exit {code}, {twice} ranges were read twice")
        _clear(out)
    return count, wrong


def complete(name: str, target: Path, root: Path) -> bool:
    """Whether an output is whole."""
    if name == "decrypt":
        return target.read_bytes() == (root / "in" / "plain").read_bytes()
    if name == "unpack":
        return snapshot(target) == snapshot(root / "in" / "tree")
    if name == "package":
        return snapshot(target) == snapshot(root / "in" / "package")
    from glasscase.core import stream

    stream.decrypt_file(target, None, key=bytes(range(32)))
    return True


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def main() -> None:
    root, points = Path(sys.argv[1]), int(sys.argv[2])
    result = os.dup(1)
    nothing = os.open(os.devnull, os.O_WRONLY)  # the words of some hundred runs
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    operations = prepare(root, 40 if points > 50 else 3)
    results = {}
    results["faults"] = faults(root, operations, 12 if points > 50 else 3)
    results["interrupted"] = interrupted(root, operations)
    results["read_once"] = read_once(root, operations)
    results["kills"] = kills(root, operations, points)
    os.write(result, json.dumps(results).encode())


if __name__ == "__main__":
    main()
