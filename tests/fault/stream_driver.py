"""Runs inside a process with the shim: every operation with every fault, or killed at every point. Prints what was wrong."""

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import shutil
import signal
import sys
import threading
from pathlib import Path

from glasscase.cli.main import run
from glasscase.fs.part import PartFile

SHIM = ctypes.CDLL(os.environ["LD_PRELOAD"])
SHIM.shim_arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int]
SHIM.shim_seen.restype = SHIM.shim_overlaps.restype = ctypes.c_long
CALLS = ("write", "pread", "pwrite", "fsync", "syncfs", "rename", "ftruncate", "fchmod", "create", "mkdir", "link")
ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT)
NO_EINTR = ("rename", "mkdir", "link", "syncfs")  # calls that POSIX and Linux do not interrupt: an error, should one be
OPTIONAL = ("create", "link")  # a file without a name, and a second name for what is replaced, may be done without
TAMPERING = {"grows": -1, "shrinks": -2, "changes where it was read": -3, "changes behind": -4}
OLD = b"what was there before"
NAMELESS = PartFile._open_nameless


def snapshot(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "d"
        for path in sorted(folder.rglob("*"))
    }


def prepare(root: Path, pieces: int, files: int) -> dict[str, list[str]]:
    """Make inputs; return the operations, each with OUT for its output.

    over: the output is there already; named: the file system has no files without a name; piped: the input is a pipe.
    """
    inputs = root / "in"
    inputs.mkdir(parents=True)
    (root / "out").mkdir()
    key = inputs / "key"
    key.write_bytes(bytes(range(32)))
    key.chmod(0o600)
    (inputs / "plain").write_bytes(os.urandom(1 << 20) * pieces + b"end")
    tree = inputs / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "a.py").write_bytes(b"print(1)\n")
    for number in range(files):
        (tree / "sub" / str(number)).write_bytes(os.urandom(1000))
    (tree / "sub" / "big").write_bytes(os.urandom(9 << 20))
    common = ["--key", str(key), "-q", "--threads", "2"]
    for source, target in ((inputs / "plain", inputs / "sealed"), (tree, inputs / "package")):
        if run(["encrypt", str(source), "-o", str(target), *common]):
            raise SystemExit("cannot prepare")
    files_only = {
        "encrypt": ["encrypt", str(inputs / "plain"), "-o", "OUT", *common],
        "decrypt": ["decrypt", str(inputs / "sealed"), "-o", "OUT", *common],
    }
    piped = {
        f"{name} piped": [f"PIPE{word}" if number == 1 else word for number, word in enumerate(arguments)]
        for name, arguments in files_only.items()
    }
    return files_only | piped | {
        "package": ["encrypt", str(tree), "-o", "OUT", *common],
        "unpack": ["decrypt", str(inputs / "package"), "-o", "OUT", *common],
    } | {f"{name} {how}": arguments for how in ("over", "named") for name, arguments in files_only.items()}  # fmt: skip


def attempt(arguments: list[str], target: Path) -> int:
    words = [str(target) if word == "OUT" else word for word in arguments]
    if not words[1].startswith("PIPE"):
        return run(words)
    source, sink = os.pipe2(os.O_CLOEXEC)
    feeder = threading.Thread(target=feed, args=(words[1].removeprefix("PIPE"), sink))
    feeder.start()
    words[1] = f"/dev/fd/{source}"
    try:
        return run(words)
    finally:
        os.close(source)
        feeder.join()


def feed(path: str, sink: int) -> None:
    """Send a file into a pipe, with no call that the shim counts, until its end or until nobody reads."""
    with open(path, "rb") as file, contextlib.suppress(BrokenPipeError):
        while os.sendfile(sink, file.fileno(), None, 1 << 20):
            pass
    os.close(sink)


def start(name: str, out: Path) -> None:
    """Leave in the output directory what is there before the operation, and files without a name or not."""
    PartFile._open_nameless = (lambda _self: False) if name.endswith("named") else NAMELESS
    for path in out.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if name.endswith("over"):
        (out / "x").write_bytes(OLD)


def untouched(name: str, out: Path) -> bool:
    """Whether the output directory is as the operation found it."""
    left = {path.name: path.read_bytes() if path.is_file() else b"" for path in out.iterdir()}
    return left == ({"x": OLD} if name.endswith("over") else {})


def calls_of(name: str, arguments: list[str], call: str, out: Path) -> int:
    """Return how often an operation makes a call."""
    start(name, out)
    SHIM.shim_arm(call.encode(), -1, 0)
    attempt(arguments, out / "x")
    total = SHIM.shim_seen()
    SHIM.shim_arm(b"", -1, 0)
    return total


def spread(total: int, most: int) -> list[int]:
    """Return all numbers below `total`, or of more than `most` the first, the last and some between."""
    return sorted({(total - 1) * step // (most - 1) for step in range(most)}) if total else []


def once(name: str, arguments: list[str], out: Path, *, call: str, nth: int, number: int) -> int:
    start(name, out)
    SHIM.shim_arm(call.encode(), nth, number)
    code = attempt(arguments, out / "x")
    SHIM.shim_arm(b"", -1, 0)
    return code


def faults(root: Path, operations: dict[str, list[str]], most: int) -> tuple[int, list[str]]:
    """Let each call fail, every time that it is made; of more than `most` times the first, the last and some between."""
    wrong, count = [], 0
    before = snapshot(root / "in")
    out = root / "out"
    for name, arguments in operations.items():
        for call in CALLS:
            total = calls_of(name, arguments, call, out)
            for number in ERRORS:
                for nth in spread(total, most):
                    code = once(name, arguments, out, call=call, nth=nth, number=number)
                    count += 1
                    if call in OPTIONAL and code == 0 and complete(name, out / "x", root):
                        continue
                    if code != 4 or not untouched(name, out):
                        left = sorted(path.name for path in out.iterdir())
                        wrong.append(f"{name} {call} {nth}/{total} {errno.errorcode[number]}: exit {code}, left {left}")
    if snapshot(root / "in") != before:
        wrong.append("an input changed")
    return count, wrong


def interrupted(root: Path, operations: dict[str, list[str]], most: int) -> tuple[int, list[str]]:
    """EINTR at a call that can be interrupted is not an error; at another one it is, as any."""
    wrong, count = [], 0
    out = root / "out"
    for name, arguments in operations.items():
        for call in CALLS:
            for nth in spread(calls_of(name, arguments, call, out), most):
                code = once(name, arguments, out, call=call, nth=nth, number=errno.EINTR)
                count += 1
                whole = code == 0 and complete(name, out / "x", root)
                if not whole and not (call in NO_EINTR and code == 4 and untouched(name, out)):
                    wrong.append(f"{name} EINTR at {call} {nth}: exit {code}")
    return count, wrong


def kills(root: Path, operations: dict[str, list[str]], points: int) -> tuple[int, list[str]]:
    """Kill a child at each call, or at `points` spread over them; then nothing has the final name, and the next run works.

    Then there is nothing but its output, unless the system has no files without a name, or a file was being replaced.
    """
    wrong, count = [], 0
    before = snapshot(root / "in")
    out = root / "out"
    key = (root / "in" / "key").read_bytes()
    for name, arguments in operations.items():
        total = calls_of(name, arguments, "any", out)
        for nth in spread(total, points if " " not in name else points // 4):
            start(name, out)
            child = os.fork()
            if child == 0:
                SHIM.shim_arm(b"any", nth, 0)
                os._exit(attempt(arguments, out / "x"))
            _, status = os.waitpid(child, 0)
            count += 1
            where = f"{name} killed at {nth}/{total}"
            if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
                wrong.append(f"{where}: it was not")
            final = (out / "x").exists()
            if (
                final
                and not (name.endswith("over") and (out / "x").read_bytes() == OLD)
                and not complete(name, out / "x", root)
            ):
                wrong.append(f"{where}: a final name with half a content")
            if any(key in path.read_bytes() for path in out.rglob("*") if path.is_file()):
                wrong.append(f"{where}: the key is on the disk")
            if final and (out / "x").is_dir():  # complete, and a directory is never overwritten
                shutil.rmtree(out / "x")
            if attempt(arguments, out / "x") or not complete(name, out / "x", root):
                wrong.append(f"{where}: the next run fails")
            left = sorted(path.name for path in out.iterdir() if path.name != "x")
            if left and " " not in name:
                wrong.append(f"{where}: after the next run there are {left}")
    if snapshot(root / "in") != before:
        wrong.append("an input changed")
    return count, wrong


def tampered(root: Path, operations: dict[str, list[str]], most: int) -> tuple[int, list[str]]:
    """An input that grows, shrinks or changes after any of the reads is an error when it is encrypted. When it is decrypted it is
    one too, unless what has changed was read before, and is not read again.
    """
    wrong, count = [], 0
    inputs = {path: path.read_bytes() for path in (root / "in").rglob("*") if path.is_file()}
    out = root / "out"
    for name, arguments in operations.items():
        total = calls_of(name, arguments, "data", out)
        for how, number in TAMPERING.items():
            for nth in spread(total, most):
                code = once(name, arguments, out, call="data", nth=nth, number=number)
                count += 1
                reading = name == "unpack" or (name.startswith("decrypt") and how.startswith("changes"))
                whole = reading and code == 0 and complete(name, out / "x", root)
                if not whole and not (code == 2 and untouched(name, out)):
                    wrong.append(f"{name}, input {how} after read {nth}/{total}: exit {code}")
                for path, data in inputs.items():
                    if path.read_bytes() != data:
                        path.write_bytes(data)
    return count, wrong


def read_once(root: Path, operations: dict[str, list[str]]) -> tuple[int, list[str]]:
    """No byte of a ciphertext is read twice, so a host that changes it in between gains nothing."""
    wrong, count = [], 0
    out = root / "out"
    for name in ("decrypt", "unpack"):
        start(name, out)
        SHIM.shim_forget()
        code = attempt(operations[name], out / "x")
        twice = SHIM.shim_overlaps()
        count += 1
        if code or twice or not complete(name, out / "x", root):
            wrong.append(f"{name}: exit {code}, {twice} ranges were read twice")
    return count, wrong


def complete(name: str, target: Path, root: Path) -> bool:
    """Whether an output is whole."""
    if name.startswith("decrypt"):
        return target.read_bytes() == (root / "in" / "plain").read_bytes()
    if name == "unpack":
        return snapshot(target) == snapshot(root / "in" / "tree")
    if name == "package":
        return snapshot(target) == snapshot(root / "in" / "package")
    from glasscase.core import stream

    stream.decrypt_file(target, None, key=bytes(range(32)))
    return True


def main() -> None:
    root, points, most = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    result = os.dup(1)
    nothing = os.open(os.devnull, os.O_WRONLY)  # the words of some hundred runs
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    small, large = root / "small", root / "large"  # for kills: at least as many calls as points
    operations = prepare(small, 14 if most > 3 else 3, 8)
    results = {}
    results["faults"] = faults(small, operations, most)
    results["interrupted"] = interrupted(small, operations, 3)
    results["tampered"] = tampered(small, operations, most)
    results["read_once"] = read_once(small, operations)
    results["kills"] = kills(large, prepare(large, points // 2 + 3, points // 3 + 8), points)
    os.write(result, json.dumps(results).encode())


if __name__ == "__main__":
    main()
