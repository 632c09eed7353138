"""Full disks, broken disks, interrupted calls, kill -9, signals, limits: no half output, no changed input, the right exit."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
KEY = bytes(range(32))


@pytest.fixture(scope="session")
def shim(tmp_path_factory):
    """Return the compiled fault shim."""
    target = tmp_path_factory.mktemp("shim") / "shim.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", target, HERE / "shim.c", "-ldl"], check=True)
    return target


def drive(shim, tmp_path, points, most):
    environment = {**os.environ, "LD_PRELOAD": str(shim), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, HERE / "stream_driver.py", tmp_path, str(points), str(most)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    results = json.loads(done.stdout)
    assert {name: [] for name in results} == {name: wrong for name, (_, wrong) in results.items()}
    return {name: count for name, (count, _) in results.items()}


def glasscase(*arguments, **options):
    return subprocess.run([sys.executable, "-m", "glasscase", *arguments], capture_output=True, check=False, **options)


@pytest.fixture
def key(tmp_path):
    (tmp_path / "key").write_bytes(KEY)
    (tmp_path / "key").chmod(0o600)
    return tmp_path / "key"


def test_failing_calls_and_kills(shim, tmp_path):
    """Each write, fsync, rename, truncate and chmod that fails ends with exit 4 and no output; EINTR is nothing; an input that
    grows, shrinks or changes is an error; after a kill at any point there is no half output and the next run works; no byte of a
    ciphertext is read twice.
    """
    counts = drive(shim, tmp_path, 8, 3)

    assert counts["faults"] >= 300
    assert counts["interrupted"] >= 120
    assert counts["tampered"] == 8 * 4 * 3
    assert counts["read_once"] == 2
    assert counts["kills"] == 4 * 8 + 6 * 2


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_every_call_and_two_hundred_kills(shim, tmp_path):
    """The same with each call failing at up to twelve of its times, and kills at each call or at 200 of each operation."""
    counts = drive(shim, tmp_path, 200, 12)

    assert counts["faults"] >= 900
    assert counts["tampered"] == 8 * 4 * 12
    assert counts["kills"] == 4 * 200 + 6 * 50


@pytest.mark.parametrize("verb", ["encrypt", "decrypt"])
def test_file_size_limit(verb, tmp_path, key):
    """A file size limit is a full disk: exit 4, no output."""
    (tmp_path / "in").write_bytes(bytes(3_000_000))
    if verb == "decrypt":
        assert 0 == glasscase("encrypt", tmp_path / "in", "-o", tmp_path / "sealed", "--key", key).returncode
        (tmp_path / "in").unlink()
        (tmp_path / "sealed").rename(tmp_path / "in")
    done = glasscase(
        verb, tmp_path / "in", "-o", tmp_path / "out", "--key", key,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000)),
    )  # fmt: skip

    assert 4 == done.returncode, done.stderr
    assert b"[fs.file.full]" in done.stderr or b"[stream.disk.full]" in done.stderr
    assert ["in", "key"] == sorted(path.name for path in tmp_path.iterdir())


def hear_interrupts():
    """Undo what a shell does to a job in the background: there SIGINT is ignored, also by its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("verb", ["encrypt", "decrypt"])
def test_signals(verb, number, tmp_path, key):
    """Ctrl-C and SIGTERM end a running command with exit 5 and no output."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    process = subprocess.Popen(
        [sys.executable, "-m", "glasscase", verb, fifo, "-o", tmp_path / "out", "--key", key],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=hear_interrupts,
    )  # fmt: skip
    with fifo.open("wb"):  # opens when the command reads
        time.sleep(0.3)
        process.send_signal(number)
        _, words = process.communicate(timeout=60)

    assert 5 == process.returncode, words
    assert b"Traceback" not in words
    assert ["fifo", "key"] == sorted(path.name for path in tmp_path.iterdir())


def test_ctrl_c_during_a_long_call(tmp_path, key):
    """A signal is heard while the core works on a large file, and the file does not appear."""
    with (tmp_path / "in").open("wb") as file:
        file.truncate(40 << 30)  # sparse: half a minute of work, cut short
    (tmp_path / "out").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c",
         "import sys\nfrom glasscase.core import stream\n"
         "print('go', flush=True)\nstream.encrypt_file(sys.argv[1], '/dev/shm/glasscase-test-out', key=bytes(32))",
         tmp_path / "in"],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=hear_interrupts,
    )  # fmt: skip
    assert b"go\n" == process.stdout.readline()
    time.sleep(0.3)
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=60)

    assert process.returncode != 0
    assert b"KeyboardInterrupt" in words or b"stream.disk.full" in words
    assert 10 > time.monotonic() - begin
    assert not Path("/dev/shm/glasscase-test-out").exists()
    assert not list(Path("/dev/shm").glob(".part-*"))


def test_input_that_changes_all_the_time(tmp_path):
    """A file that another process keeps changing is an error, never a mix under a good name."""
    from glasscase.core import stream
    from glasscase.errors import FormatError

    path = tmp_path / "in"
    path.write_bytes(bytes(60_000_000))
    stop = threading.Event()

    def change():
        with path.open("r+b") as file:
            while not stop.is_set():
                file.seek(30_000_000)
                file.write(os.urandom(16))
                file.flush()

    writer = threading.Thread(target=change)
    writer.start()
    try:
        with pytest.raises(FormatError) as caught:
            stream.encrypt_file(path, tmp_path / "out", key=KEY)
    finally:
        stop.set()
        writer.join()

    assert "stream.content.changed" == caught.value.reason
    assert ["in"] == [entry.name for entry in tmp_path.iterdir()]


def test_missing_blob_and_full_stdout(tmp_path, key):
    """A package without a blob exits 2; a full device on stdout exits 4."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a").write_bytes(b"a")
    assert 0 == glasscase("encrypt", tmp_path / "tree", "-o", tmp_path / "p", "--key", key).returncode
    next(path for path in (tmp_path / "p").iterdir() if path.name != "manifest").unlink()
    done = glasscase("decrypt", tmp_path / "p", "-o", tmp_path / "out", "--key", key)
    assert (2, True) == (done.returncode, b"[package.blob.missing]" in done.stderr)
    assert not (tmp_path / "out").exists()
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "glasscase", "encrypt", key, "-o", "-", "--key", key], stdout=full,
            stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
    assert 4 == done.returncode, done.stderr
    assert b"Traceback" not in done.stderr
