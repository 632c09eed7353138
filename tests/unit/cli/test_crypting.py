"""keygen, encrypt, decrypt, disclose: the contract of the command line, and no key anywhere but in its file."""

import base64
import hashlib
import json
import os
import pty
import resource
import signal
import stat
import subprocess
import sys
import time

import pytest
from cryptography.hazmat.primitives import serialization

from glasscase.core.chunks import Key
from glasscase.seal.manifest import commitment
from glasscase.seal.package import digest_sources, sources_of
from tests.oracle import stream_oracle


def glasscase(*arguments, **options):
    return subprocess.run([sys.executable, "-m", "glasscase", *arguments], capture_output=True, check=False, **options)


def ok(*arguments, **options):
    done = glasscase(*arguments, **options)
    assert 0 == done.returncode, done.stderr
    assert b"Traceback" not in done.stderr
    return done


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def refused(code, reason, *arguments, **options):
    """The command ends with this exit code and id, one error line, nothing on stdout."""
    done = glasscase(*arguments, **options)
    assert code == done.returncode, done.stderr
    assert f"[{reason}]".encode() in done.stderr
    assert b"Traceback" not in done.stderr
    assert 1 == done.stderr.count(b"glasscase: error:")
    assert b"" == done.stdout
    return done


@pytest.fixture
def key(tmp_path):
    ok("keygen", "-o", tmp_path / "key")
    return tmp_path / "key"


class TestKeygen:
    """Keys of three kinds."""

    @pytest.mark.parametrize("umask", [0o000, 0o077])
    def test_kinds(self, tmp_path, umask):
        """Each kind has its file form, modes and id, whatever the umask."""
        facts = {}
        for kind in ("package", "owner", "enclave"):
            done = ok("keygen", "-o", tmp_path / kind, "--kind", kind, "--json", umask=umask)
            facts[kind] = json.loads(done.stdout)
            assert {"kind", "path", "public", "id"} == set(facts[kind])
            assert 0o600 == stat.S_IMODE((tmp_path / kind).stat().st_mode)
        raw = (tmp_path / "package").read_bytes()
        owner = serialization.load_pem_private_key((tmp_path / "owner").read_bytes(), None)
        enclave = serialization.load_pem_private_key((tmp_path / "enclave").read_bytes(), None)
        numbers = enclave.public_key().public_numbers()

        assert (32, None) == (len(raw), facts["package"]["public"])
        assert stream_oracle.key_id(raw).hex() == facts["package"]["id"]
        assert owner.public_key().public_bytes_raw().hex() == facts["owner"]["id"]
        assert (3, 3072) == (numbers.e, enclave.key_size)
        assert hashlib.sha256(numbers.n.to_bytes(384, "little")).hexdigest() == facts["enclave"]["id"]
        for kind, private in (("owner", owner), ("enclave", enclave)):
            public = tmp_path / f"{kind}.pub"
            assert 0o644 == stat.S_IMODE(public.stat().st_mode)
            assert str(public) == facts[kind]["public"]
            assert serialization.load_pem_public_key(public.read_bytes()) == private.public_key()

    @pytest.mark.parametrize("taken", ["key", "key.pub"])
    def test_never_overwrites(self, taken, tmp_path):
        """A name that is taken, of the key or of its public part, is refused and nothing is written."""
        (tmp_path / taken).write_bytes(b"old")
        refused(1, "fs.output.exists", "keygen", "-o", tmp_path / "key", "--kind", "owner")

        assert [taken] == names(tmp_path)
        assert b"old" == (tmp_path / taken).read_bytes()

    def test_missing_directory(self, tmp_path):
        """A directory that is not there is an I/O error."""
        refused(4, "fs.file.missing", "keygen", "-o", tmp_path / "none" / "key")

    def test_two_keys_differ(self, tmp_path):
        """Keys are random."""
        ok("keygen", "-o", tmp_path / "a")
        ok("keygen", "-o", tmp_path / "b")
        assert (tmp_path / "a").read_bytes() != (tmp_path / "b").read_bytes()


class TestFiles:
    """Single files and pipes."""

    def test_round_trip(self, tmp_path, key):
        """Encrypt and decrypt, with --json, threads and context; an independent reader agrees."""
        plain = os.urandom(300_000)
        (tmp_path / "in").write_bytes(plain)
        options = ("--key", key, "--threads", "2", "--context", "käse")
        done = json.loads(ok("encrypt", tmp_path / "in", "-o", tmp_path / "f", *options, "--json").stdout)
        sealed = (tmp_path / "f").read_bytes()
        again = json.loads(ok("decrypt", tmp_path / "f", "-o", tmp_path / "out", *options, "--json").stdout)

        assert {"bytes": 300_000, "files": 1, "header": sealed[:128].hex()} == done == again
        assert plain == (tmp_path / "out").read_bytes() == stream_oracle.ours(key.read_bytes(), sealed, "käse".encode())
        assert plain == (tmp_path / "in").read_bytes()
        refused(2, "stream.header.unauthentic", "decrypt", tmp_path / "f", "-o", tmp_path / "x", "--key", key)
        assert not (tmp_path / "x").exists()

    def test_pipes(self, tmp_path, key):
        """stdin to stdout both ways, and mixed with files."""
        plain = os.urandom(100_000)
        sealed = ok("encrypt", "-", "-o", "-", "--key", key, input=plain).stdout
        assert plain == ok("decrypt", "-", "-o", "-", "--key", key, input=sealed).stdout
        (tmp_path / "f").write_bytes(sealed)
        assert plain == ok("decrypt", tmp_path / "f", "-o", "-", "--key", key).stdout
        ok("decrypt", "-", "-o", tmp_path / "out", "--key", key, input=sealed)
        assert plain == (tmp_path / "out").read_bytes()

    @pytest.mark.parametrize("threads", [1, 2, 8])
    def test_pipes_with_threads(self, threads, tmp_path, key):
        """Any number of threads gives the bytes in their order; a reader that goes away ends the command with 5."""
        plain = os.urandom(1 << 20) * 5 + b"end"
        options = ("-", "-o", "-", "--key", key, "--threads", str(threads))
        sealed = ok("encrypt", *options, input=plain).stdout
        assert plain == ok("decrypt", *options, input=sealed).stdout
        (tmp_path / "f").write_bytes(sealed)
        process = subprocess.Popen(
            [sys.executable, "-m", "glasscase", "decrypt", tmp_path / "f", *options[1:]], stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        assert plain[:1000] == process.stdout.read(1000)
        process.stdout.close()
        words = process.stderr.read()
        process.stderr.close()
        assert (5, b"") == (process.wait(), words)

    def test_only_verified_chunks_leave(self, tmp_path, key):
        """A pipe gets the good chunks before a bad one, then exit 2; a file gets nothing."""
        plain = os.urandom(100_000)
        sealed = bytearray(ok("encrypt", "-", "-o", "-", "--key", key, input=plain).stdout)
        sealed[128 + 3 * 16400 + 5] ^= 1
        done = glasscase("decrypt", "-", "-o", "-", "--key", key, input=bytes(sealed))

        assert 2 == done.returncode
        assert plain[: 3 * 16384].startswith(done.stdout)
        assert b"[stream.chunk.unauthentic]" in done.stderr
        refused(2, "stream.chunk.unauthentic", "decrypt", "-", "-o", tmp_path / "x", "--key", key, input=bytes(sealed))
        assert ["key"] == names(tmp_path)

    @pytest.mark.parametrize("chunk", [3, 40])
    def test_a_part_on_stdout_is_called_so(self, chunk, key):
        """When a part has left before a bad chunk, stderr says how much that was and that it is not all; else there is no such line."""
        plain = os.urandom(1_000_000)
        sealed = bytearray(ok("encrypt", "-", "-o", "-", "--key", key, input=plain).stdout)
        sealed[128 + chunk * 16400] ^= 1
        done = glasscase("decrypt", "-", "-o", "-", "--key", key, input=bytes(sealed))
        said = b"stdout has got 524288 bytes of the content, which are authentic but not all of it" in done.stderr

        assert (2, chunk == 40) == (done.returncode, said)
        assert plain[: 32 * 16384 if chunk == 40 else 0] == done.stdout

    def test_a_part_of_an_encrypted_file_is_called_so(self, tmp_path, key):
        """When the input grows after a part has left, stderr says that stdout has no encrypted file, and does not call it authentic."""
        source = tmp_path / "grows"
        source.write_bytes(bytes(8 << 20))
        argv = [sys.executable, "-m", "glasscase", "encrypt", source, "-o", "-", "--key", key]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            got = process.stdout.read(1)
            with open(source, "ab") as file:
                file.write(b"x")
            got += process.stdout.read()
            said = process.stderr.read()

        assert 2 == process.returncode
        assert b"[stream.content.changed]" in said
        assert b"stdout has got the beginning of an encrypted file" in said and b"authentic" not in said
        refused(2, "stream.length.truncated", "decrypt", "-", "-o", tmp_path / "x", "--key", key, input=got)

    @pytest.mark.parametrize("what", ["empty", "random", "directory", "missing", "zero", "cut", "tail"])
    def test_bad_input(self, what, tmp_path, key):
        """Anything that is not a whole file of ours exits with the code of the contract and leaves no output."""
        source = tmp_path / "in"
        expected = {"empty": (2, "stream.length.truncated"), "random": (2, "stream.header.magic"),
                    "directory": (2, "package.manifest.missing"), "missing": (4, "fs.file.missing"),
                    "zero": (2, "stream.header.magic"), "cut": (2, "stream.length.truncated"),
                    "tail": (2, "stream.length.trailing")}[what]  # fmt: skip
        if what == "zero":
            source = "/dev/zero"
        elif what == "directory":
            source.mkdir()
        elif what != "missing":
            sealed = ok("encrypt", key, "-o", "-", "--key", key).stdout
            data = {"empty": b"", "random": os.urandom(500), "cut": sealed[:-1], "tail": sealed + b"x"}[what]
            source.write_bytes(data)
        refused(*expected, "decrypt", source, "-o", tmp_path / "out", "--key", key)

        assert not (tmp_path / "out").exists()

    def test_keys(self, tmp_path, key):
        """A key of another kind, length or mode, a missing one and a wrong one are told apart."""
        (tmp_path / "in").write_bytes(b"hello")
        ok("encrypt", tmp_path / "in", "-o", tmp_path / "f", "--key", key)
        ok("keygen", "-o", tmp_path / "owner", "--kind", "owner")
        ok("keygen", "-o", tmp_path / "other")
        (tmp_path / "newline").write_bytes(key.read_bytes() + b"\n")
        (tmp_path / "newline").chmod(0o600)
        (tmp_path / "open").write_bytes(key.read_bytes())
        (tmp_path / "open").chmod(0o644)
        for name, code, reason in (
            ("owner", 1, "stream.key.malformed"), ("newline", 1, "stream.key.malformed"), ("open", 1, "fs.key.exposed"),
            ("none", 4, "fs.file.missing"), ("other", 2, "stream.key.wrong"),
        ):  # fmt: skip
            done = refused(code, reason, "decrypt", tmp_path / "f", "-o", tmp_path / "out", "--key", tmp_path / name)
            assert (name == "owner") == (b"is a PEM key" in done.stderr)
        assert not (tmp_path / "out").exists()

    def test_places(self, tmp_path, key):
        """Input and output must differ; stdout takes either JSON or the file; a directory does not go to stdout."""
        (tmp_path / "in").write_bytes(b"hello")
        (tmp_path / "tree").mkdir()
        for arguments in (
            ("encrypt", tmp_path / "in", "-o", tmp_path / "in"), ("encrypt", tmp_path / "in", "-o", key),
            ("encrypt", tmp_path / "tree", "-o", "-"), ("decrypt", tmp_path / "tree" / ".." / "in", "-o", tmp_path / "in"),
        ):  # fmt: skip
            refused(1, "cli.usage.wrong", *arguments, "--key", key)
        done = glasscase("encrypt", tmp_path / "in", "-o", "-", "--key", key, "--json")
        assert 1 == done.returncode
        assert "error" in json.loads(done.stdout)
        assert b"hello" == (tmp_path / "in").read_bytes()
        assert 32 == len(key.read_bytes())


@pytest.mark.parametrize("verb", ["encrypt", "decrypt"])
def test_redirections_to_the_input(verb, tmp_path, key):
    """A shell's redirection that makes one file of input and output, or of key and output, is refused before a byte is written."""
    (tmp_path / "plain").write_bytes(os.urandom(600_000))
    ok("encrypt", tmp_path / "plain", "-o", tmp_path / "sealed", "--key", key)
    file = tmp_path / ("plain" if verb == "encrypt" else "sealed")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for arguments, stdin, stdout in (
        ((file, "-o", "-"), None, file), (("-", "-o", "-"), file, file), (("-", "-o", file), file, None),
        ((file, "-o", "-"), None, key),
    ):  # fmt: skip
        with open(stdin or "/dev/null", "rb") as source, open(stdout or "/dev/null", "ab") as target:
            done = subprocess.run(
                [sys.executable, "-m", "glasscase", verb, *arguments, "--key", key], stdin=source, stdout=target,
                stderr=subprocess.PIPE, check=False,
            )  # fmt: skip

        assert (1, True) == (done.returncode, b"[cli.usage.wrong]" in done.stderr), done.stderr
        assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


def test_devices_are_not_replaced(tmp_path, key):
    """A device, FIFO or name in /dev is never replaced by a file; /dev/stdout is stdout."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    plain = os.urandom(1000)
    sealed = ok("encrypt", "-", "-o", "/dev/stdout", "--key", key, input=plain).stdout
    (tmp_path / "f").write_bytes(sealed)
    for target in (fifo, "/dev/null", "/dev/stderr"):
        refused(1, "fs.output.special", "decrypt", tmp_path / "f", "-o", target, "--key", key)
        refused(1, "fs.output.special", "encrypt", "-", "-o", target, "--key", key, input=plain)

    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert plain == ok("decrypt", tmp_path / "f", "-o", "-", "--key", key).stdout
    assert ["f", "fifo", "key"] == names(tmp_path)


class TestDirectories:
    """Packages."""

    @pytest.fixture
    def tree(self, tmp_path):
        root = tmp_path / "tree"
        (root / "sub" / "empty").mkdir(parents=True)
        (root / "main.py").write_bytes(b"print(1)\n")
        (root / "main.py").chmod(0o755)
        (root / "sub" / "data").write_bytes(os.urandom(200_000))
        return root

    def test_round_trip(self, tree, tmp_path, key):
        """A tree comes back the same, with modes and empty directories, and twice the same package."""
        done = json.loads(ok("encrypt", tree, "-o", tmp_path / "p", "--key", key, "--json").stdout)
        ok("encrypt", tree, "-o", tmp_path / "q", "--key", key, "--threads", "1")
        again = json.loads(ok("decrypt", tmp_path / "p", "-o", tmp_path / "out", "--key", key, "--json").stdout)
        header = (tmp_path / "p" / "manifest").read_bytes()[:128].hex()

        assert {"bytes": 200_009, "files": 2, "header": header} == done == again
        assert {path.name: path.read_bytes() for path in (tmp_path / "p").iterdir()} == {
            path.name: path.read_bytes() for path in (tmp_path / "q").iterdir()
        }
        assert (tree / "sub" / "data").read_bytes() == (tmp_path / "out" / "sub" / "data").read_bytes()
        assert 0o755 == stat.S_IMODE((tmp_path / "out" / "main.py").stat().st_mode)
        assert (tmp_path / "out" / "sub" / "empty").is_dir()
        assert 0o700 == stat.S_IMODE((tmp_path / "out").stat().st_mode)
        files, _ = stream_oracle.package(tmp_path / "p", key.read_bytes())
        assert {"main.py", "sub/data"} == set(files)

    def test_existing_output(self, tree, tmp_path, key):
        """A directory that exists is not overwritten."""
        (tmp_path / "p").mkdir()
        refused(1, "fs.output.exists", "encrypt", tree, "-o", tmp_path / "p", "--key", key)
        assert [] == names(tmp_path / "p")

    def test_damage_leaves_nothing(self, tree, tmp_path, key):
        """One bad bit in one blob: exit 2 and no output directory."""
        ok("encrypt", tree, "-o", tmp_path / "p", "--key", key)
        blob = max((path for path in (tmp_path / "p").iterdir()), key=lambda path: path.stat().st_size)
        data = bytearray(blob.read_bytes())
        data[-1] ^= 1
        blob.write_bytes(data)
        refused(2, "stream.chunk.unauthentic", "decrypt", tmp_path / "p", "-o", tmp_path / "out", "--key", key)
        assert ["key", "p", "tree"] == names(tmp_path)

    def test_disclose(self, tree, tmp_path, key):
        """The opening file has the fields of the format and confirms the source; it is private."""
        ok("encrypt", tree, "-o", tmp_path / "p", "--key", key)
        done = json.loads(
            ok("disclose", tmp_path / "p", "--key", key, "-o", tmp_path / "opening.json", "--json").stdout
        )
        value = json.loads((tmp_path / "opening.json").read_bytes())

        assert {"v": 1, "type": "glasscase-opening"} == {name: value[name] for name in ("v", "type")}
        digest = digest_sources(sources_of(tree))
        assert digest.hex() == value["package_digest"] == done["package_digest"]
        assert commitment(bytes.fromhex(value["opening"]), digest).hex() == done["commitment"]
        assert 0o600 == stat.S_IMODE((tmp_path / "opening.json").stat().st_mode)
        ok("keygen", "-o", tmp_path / "other")
        refused(2, "stream.key.wrong", "disclose", tmp_path / "p", "--key", tmp_path / "other", "-o", tmp_path / "x")
        assert not (tmp_path / "x").exists()


def on_a_terminal(*arguments, stdin=None):
    """Run a command whose stderr is a terminal; return what it wrote there."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "glasscase", *arguments], stdin=stdin, stderr=slave, stdout=subprocess.PIPE
    )
    os.close(slave)
    shown = b""
    try:
        while part := os.read(master, 65536):
            shown += part
    except OSError:  # the other end is closed
        pass
    process.communicate(timeout=60)
    os.close(master)

    assert 0 == process.returncode
    return shown


def test_progress_on_a_terminal(tmp_path, key):
    """On a terminal stderr shows share, rate and time left, also of a pipe that states its size; elsewhere nothing is shown."""
    with (tmp_path / "in").open("wb") as file:
        file.truncate(400_000_000)
    options = ("--key", key, "--threads", "1")
    shown = [on_a_terminal("encrypt", tmp_path / "in", "-o", tmp_path / "f", *options)]
    with (tmp_path / "f").open("rb") as file:
        cat = subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE)
    with cat.stdout:
        shown.append(on_a_terminal("decrypt", "-", "-o", tmp_path / "g", *options, stdin=cat.stdout))
    cat.wait()

    for text in shown:
        assert b"%" in text and b"B/s" in text and b" s left" in text
    (tmp_path / "f").unlink()
    assert b"" == ok("encrypt", tmp_path / "in", "-o", tmp_path / "f", "--key", key).stderr


def with_core_dumps():
    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))


def test_canary(tmp_path):
    """A known key is in no output, log, file, argv or environment, and the process leaves no core."""
    secret = hashlib.sha256(b"canary").digest()
    forms = [secret, secret.hex().encode(), base64.b64encode(secret)[:40], base64.urlsafe_b64encode(secret)[:40],
             repr(secret).encode()[2:40]]  # fmt: skip
    (tmp_path / "key").write_bytes(secret)
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a").write_bytes(os.urandom(100_000))
    seen = []
    common = ("--key", tmp_path / "key")
    for arguments in (
        ("encrypt", tmp_path / "tree", "-o", tmp_path / "p", *common), ("decrypt", tmp_path / "p", "-o", tmp_path / "q", *common),
        ("encrypt", tmp_path / "tree" / "a", "-o", tmp_path / "f", *common, "--json"),
        ("decrypt", tmp_path / "f", "-o", tmp_path / "g", *common), ("decrypt", tmp_path / "key", "-o", tmp_path / "h", *common),
        ("disclose", tmp_path / "p", "-o", tmp_path / "o", *common), ("encrypt", tmp_path / "none", "-o", "x", *common),
    ):  # fmt: skip
        done = glasscase(*arguments)
        seen += [done.stdout, done.stderr]
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    process = subprocess.Popen(
        [sys.executable, "-m", "glasscase", "encrypt", fifo, "-o", tmp_path / "r", *common], cwd=tmp_path,
        stderr=subprocess.PIPE, preexec_fn=with_core_dumps,
    )  # fmt: skip
    with fifo.open("wb") as file:
        file.write(b"x" * 50_000)
        file.flush()
        time.sleep(0.3)
        for name in ("cmdline", "environ"):
            with open(f"/proc/{process.pid}/{name}", "rb") as facts:
                seen.append(facts.read())
        with open(f"/proc/{process.pid}/limits") as facts:
            limit = next(line for line in facts if line.startswith("Max core file size")).split()
        process.send_signal(signal.SIGABRT)
        process.wait(timeout=30)
    seen.append(process.stderr.read())
    process.stderr.close()
    fifo.unlink()
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name != "key":
            assert not path.name.startswith("core")
            seen.append(path.read_bytes())

    assert ["1", "1"] == limit[4:6]
    assert [] == [form for form in forms for text in seen if form in text]


def test_key_pages_are_left_out_of_core_dumps():
    """The page that holds a key is marked so that no core dump contains it."""
    kept = Key(bytes(range(32)))
    with open("/proc/self/smaps") as file:
        flags = [line.split()[1:] for line in file if line.startswith("VmFlags:")]

    assert any("dd" in line for line in flags)
    assert repr(kept) == "<32 secret bytes>"


def test_inspect_shows_whose_key_a_package_has(tmp_path, key):
    """`inspect` of a package directory shows the id of the key that keygen has shown, so that the right one is found."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(b"x")
    ok("encrypt", tmp_path / "in", "-o", tmp_path / "out", "--key", key)
    package = json.loads(ok("inspect", tmp_path / "out", "--json").stdout)

    assert ("encrypted-file", Key(key.read_bytes()).id.hex()) == (package["kind"], package["key_id"])


@pytest.mark.parametrize("place", ["out", "sub/out", "../in/out", "../link/out"])
def test_no_output_goes_into_the_input(tmp_path, key, place):
    """A package with a file more does not open, and sources with a package in them are other sources: both are refused."""
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "x").write_bytes(b"content")
    (tmp_path / "link").symlink_to("in")
    refused(1, "cli.usage.wrong", "encrypt", tmp_path / "in", "-o", tmp_path / "in" / place, "--key", key)
    assert ["sub", "x"] == names(tmp_path / "in")
    ok("encrypt", tmp_path / "in", "-o", tmp_path / "inside", "--key", key)
    before = names(tmp_path / "inside")
    refused(1, "cli.usage.wrong", "decrypt", tmp_path / "inside", "-o", tmp_path / "inside" / "out", "--key", key)

    assert before == names(tmp_path / "inside")
