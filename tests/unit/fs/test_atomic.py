"""Files appear whole or not at all."""

import errno
import os
import resource
import socket
import stat
import subprocess
import sys
import threading
import time

import pytest

from glasscase.errors import FormatError, StorageError, UsageError
from glasscase.fs import atomic
from glasscase.fs.directory import atomic_directory
from glasscase.fs.part import PartFile


def names(folder):
    return sorted(os.listdir(folder))


def test_a_file_is_written_with_its_mode_whatever_the_umask(tmp_path):
    """The mode is the one asked for."""
    old = os.umask(0o077)
    try:
        atomic.write_file(tmp_path / "a", b"x", mode=0o644)
        atomic.write_file(tmp_path / "k", b"x", mode=0o600)
    finally:
        os.umask(old)

    assert tuple(stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ak") == (0o644, 0o600)
    assert names(tmp_path) == ["a", "k"]


@pytest.mark.parametrize(("number", "hint"), [(errno.EISDIR, "name a file"), (errno.EROFS, "written"), (errno.EIO, "")])
def test_the_systems_refusal_has_a_next_step(number, hint):
    """A directory and a read-only place say what to name; for the rest the reason's remedy stands."""
    error = atomic.storage_error(OSError(number, os.strerror(number)), "/x")

    assert ("fs.file.failed", number) == (error.reason, error.errno)
    assert hint in error.hint
    assert bool(hint) == bool(error.hint)


@pytest.mark.parametrize("name", ["new/", "new/.", "new/.."])
@pytest.mark.parametrize("writing", [atomic.atomic_file, PartFile])
def test_the_name_of_a_directory_is_not_taken_for_a_file(tmp_path, name, writing):
    """A slash at the end, or a dot, means a directory: no file of the name before it is made."""
    with pytest.raises(StorageError) as caught:
        with writing(f"{tmp_path}/{name}"):
            pass

    assert ("fs.file.failed", "name a file") == (caught.value.reason, caught.value.hint)
    assert names(tmp_path) == []


def test_a_directory_is_refused_before_anything_is_done_for_its_name(tmp_path):
    """What the block does may not be done twice, so a name that no file can take ends before it; a link to one is replaced."""
    (tmp_path / "new").mkdir()
    (tmp_path / "link").symlink_to("new")
    with pytest.raises(StorageError) as caught:
        with atomic.atomic_file(tmp_path / "new"):
            pytest.fail("the block ran")
    assert ("fs.file.failed", "name a file") == (caught.value.reason, caught.value.hint)
    atomic.write_file(tmp_path / "link", b"content")

    assert (True, False) == ((tmp_path / "new").is_dir(), (tmp_path / "link").is_symlink())
    assert names(tmp_path) == ["link", "new"]


@pytest.mark.parametrize(("name", "hint"), [("owner", "chmod 600 "), ("owner.pub", "that is the public key")])
def test_a_public_key_is_not_to_be_hidden(tmp_path, name, hint):
    """A key that others can read is refused; for FILE.pub in its place another mode is no advice."""
    path = tmp_path / name
    path.write_bytes(b"key")
    path.chmod(0o644)
    with pytest.raises(UsageError) as caught:
        atomic.read_private(path, max_bytes=9, what="key")

    assert "fs.key.exposed" == caught.value.reason
    assert caught.value.hint.startswith(hint)


def test_only_a_missing_directory_is_said_to_be_missing(tmp_path):
    """A directory that takes no files, like /proc, is there: making it is no advice."""
    with pytest.raises(StorageError) as missing:
        atomic.write_file(tmp_path / "none" / "a", b"")
    with pytest.raises(StorageError) as there:
        atomic.write_file("/proc/no-such-file", b"")

    assert f"mkdir -p {tmp_path}/none" == missing.value.hint
    assert "mkdir" not in there.value.hint
    assert "there is no directory" not in there.value.message


def test_a_failure_keeps_the_old_content(tmp_path):
    """An exception in the block leaves the old file and no temporary one."""
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError):
        with atomic.atomic_file(path) as file:
            file.write(b"new")
            raise RuntimeError

    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_nothing_is_overwritten_when_refused(tmp_path):
    """overwrite=False refuses a taken name, also one taken in the meantime."""
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(UsageError) as caught:
        atomic.write_file(path, b"new", overwrite=False)
    assert caught.value.reason == "fs.output.exists"
    with pytest.raises(UsageError):
        with atomic.atomic_file(tmp_path / "b", overwrite=False) as file:
            file.write(b"new")
            (tmp_path / "b").write_bytes(b"other")

    assert path.read_bytes() == b"old"
    assert (tmp_path / "b").read_bytes() == b"other"
    assert names(tmp_path) == ["a", "b"]


@pytest.mark.parametrize(
    "key", [bytes(32), b"-----BEGIN PRIVATE KEY-----\nMC4\n", b"-----BEGIN RSA PRIVATE KEY-----\r\nMC4\n",
            b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMC4\n", b"\nmine\n-----BEGIN PRIVATE KEY-----\nMC4\n",
            b"-----BEGIN CERTIFICATE-----\r\nMC4\r\n-----END CERTIFICATE-----\r\n-----BEGIN EC PRIVATE KEY-----\r\nMC4\r\n",
            b"-----BEGIN PRIVATE KEY-----\n" + bytes(100_000)], ids=range(7),
)  # fmt: skip
def test_no_output_takes_the_place_of_a_key(tmp_path, key):
    """A secret key is what nobody can make again: another name is asked for; a link to one may be replaced."""
    path = tmp_path / "key"
    atomic.write_file(path, key, mode=0o600)
    with pytest.raises(UsageError) as caught:
        atomic.write_file(path, b"x")
    assert "fs.output.key" == caught.value.reason
    assert (["key"], key) == (names(tmp_path), path.read_bytes())
    (tmp_path / "link").symlink_to("key")
    atomic.write_file(tmp_path / "link", b"x")

    assert (key, b"x") == (path.read_bytes(), (tmp_path / "link").read_bytes())


@pytest.mark.parametrize("mode", [0o000, 0o200, 0o400])
def test_a_key_that_cannot_be_read_stays(tmp_path, monkeypatch, mode):
    """Whoever has taken away all rights to a key has not given it up."""
    path = tmp_path / "key"
    atomic.write_file(path, bytes(32), mode=mode)

    def denied(*_, **__):
        raise PermissionError(errno.EACCES, "permission denied")

    monkeypatch.setattr("os.open", denied)
    with pytest.raises(UsageError) as caught:
        atomic.write_file(path, b"x")

    assert ("fs.output.key", 32) == (caught.value.reason, path.stat().st_size)


def test_a_key_that_is_made_meanwhile_stays(tmp_path):
    """A build takes minutes; the key that somebody makes under the name of its output is not lost at its end."""
    path = tmp_path / "key"
    with pytest.raises(UsageError) as caught, atomic.atomic_file(path) as file:
        file.write(b"x")
        atomic.write_file(path, bytes(32), mode=0o600, overwrite=False)

    assert ("fs.output.key", bytes(32), ["key"]) == (caught.value.reason, path.read_bytes(), names(tmp_path))


def test_what_is_no_key_is_overwritten(tmp_path):
    """A public key, a certificate, and 32 bytes that everybody may read are outputs like any other."""
    for name, content, mode in (
        ("pub", b"-----BEGIN PUBLIC KEY-----\n", 0o600), ("raw", bytes(32), 0o644), ("long", bytes(33), 0o600),
        ("text", b"key: -----BEGIN PRIVATE KEY-----\n", 0o600),
        ("archive", bytes(70_000) + b"\n-----BEGIN PRIVATE KEY-----\n", 0o600),
    ):  # fmt: skip
        atomic.write_file(tmp_path / name, content, mode=mode)
        atomic.write_file(tmp_path / name, b"x")

        assert b"x" == (tmp_path / name).read_bytes()


def test_a_full_disk_leaves_nothing(tmp_path):
    """A write that fails is a storage error, and the unfinished file is gone."""
    code = f"""
import resource, signal, sys
from glasscase.errors import StorageError
from glasscase.fs import atomic
from glasscase.fs.directory import atomic_directory
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    atomic.write_file({str(tmp_path / "a")!r}, b"x" * 100_000)
except StorageError as error:
    sys.exit(0 if error.reason == "fs.file.full" else 9)
sys.exit(8)
"""
    assert resource.RLIMIT_FSIZE is not None
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert names(tmp_path) == []


@pytest.fixture
def unsynced(monkeypatch):
    """Let the sync of a directory with this name fail."""

    def fail_for(folder):
        real = os.fsync

        def fsync(descriptor):
            if os.path.samestat(os.fstat(descriptor), os.stat(folder)):
                raise OSError(errno.EIO, "Input/output error")
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)

    return fail_for


def test_a_name_that_is_not_durable_is_taken_back(tmp_path, unsynced):
    """If the disk cannot keep the new name, the run fails and the name is gone; what was there is there again."""
    with atomic_directory(tmp_path / "old") as part:
        open(os.path.join(part, "x"), "w").close()
    atomic.write_file(tmp_path / "e", b"old")
    atomic.write_file(tmp_path / "f", b"old")
    unsynced(tmp_path)
    with pytest.raises(StorageError):
        atomic.write_file(tmp_path / "e", b"new")
    with pytest.raises(StorageError), PartFile(tmp_path / "f") as descriptor:
        os.write(descriptor, b"new")
    with pytest.raises(StorageError):
        atomic.write_file(tmp_path / "a", b"new")
    with pytest.raises(StorageError):
        atomic.write_file(tmp_path / "b", b"new", overwrite=False)
    with pytest.raises(StorageError), PartFile(tmp_path / "c") as descriptor:
        os.write(descriptor, b"new")
    with pytest.raises(StorageError), atomic_directory(tmp_path / "d"):
        pass
    with pytest.raises(StorageError), atomic_directory(tmp_path / "old", overwrite=True):
        pass

    assert names(tmp_path) == ["e", "f", "old"]
    assert names(tmp_path / "old") == ["x"]
    assert (tmp_path / "e").read_bytes() == (tmp_path / "f").read_bytes() == b"old"


def test_reads_are_capped(tmp_path):
    """A longer file, and a device without end, are refused; a directory and a missing file are storage errors."""
    (tmp_path / "a").write_bytes(b"12345")

    assert atomic.read_file(tmp_path / "a", max_bytes=5, what="test") == b"12345"
    for path in (tmp_path / "a", "/dev/zero"):
        with pytest.raises(FormatError) as caught:
            atomic.read_file(path, max_bytes=4, what="test", streams=True)
        assert caught.value.reason == "fs.file.oversize"
    for path in (tmp_path, tmp_path / "missing", tmp_path / "a" / "b"):
        with pytest.raises(StorageError):
            atomic.read_file(path, max_bytes=4, what="test")


def test_a_key_is_a_file_or_a_pipe_that_is_written_to(tmp_path):
    """Nobody waits for the other end of a FIFO; devices, sockets and directories hold no key."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    assert b"" == atomic.read_private(fifo, max_bytes=32, what="key")
    reader, writer = os.pipe()
    os.write(writer, b"k" * 32)
    later = threading.Timer(0.2, os.close, [writer])
    later.start()
    assert b"k" * 32 == atomic.read_private(f"/dev/fd/{reader}", max_bytes=32, what="key")
    later.join()
    os.close(reader)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for name in ("/dev/zero", "/dev/null", tmp_path / "socket"):
            with pytest.raises(UsageError) as caught:
                atomic.read_private(name, max_bytes=32, what="key")
            assert "fs.entry.refused" == caught.value.reason
    with pytest.raises(StorageError):
        atomic.read_private(tmp_path, max_bytes=32, what="key")


def test_an_exposed_key_is_refused(tmp_path):
    """A key that others may read is not used; the hint is a command that mends it, whatever the file is called."""
    path = tmp_path / "a b; touch c"
    path.write_bytes(b"k" * 32)
    path.chmod(0o640)
    with pytest.raises(UsageError) as caught:
        atomic.read_private(path, max_bytes=32, what="key")
    assert caught.value.reason == "fs.key.exposed"
    subprocess.run(caught.value.hint, shell=True, check=True, cwd=tmp_path)

    assert atomic.read_private(path, max_bytes=32, what="key") == b"k" * 32
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert [path.name] == names(tmp_path)


@pytest.mark.timeout(10)
def test_only_regular_files_are_read_and_nobody_is_waited_for(tmp_path):
    """A FIFO, device or socket where a file is read is refused at once, whoever is at its other end."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for path in (tmp_path / "fifo", tmp_path / "link", "/dev/zero", "/dev/null", tmp_path / "socket"):
            with pytest.raises(UsageError) as caught:
                atomic.read_file(path, max_bytes=9, what="input")
            assert "fs.entry.refused" == caught.value.reason
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "good").symlink_to("file")

    assert b"abc" == atomic.read_file(tmp_path / "good", max_bytes=9, what="input")
    with pytest.raises(UsageError):
        atomic.open_regular(tmp_path / "good", follow=False)


def test_an_argument_may_be_a_pipe(tmp_path):
    """Where a caller takes streams, as for /dev/fd/N of a shell, a pipe is read to its end."""
    reading, writing = os.pipe()
    os.write(writing, b"abc")
    os.close(writing)
    try:
        assert b"abc" == atomic.read_file(f"/dev/fd/{reading}", max_bytes=9, what="input", streams=True)
    finally:
        os.close(reading)


def test_two_writers_never_mix(tmp_path):
    """Whoever renames last wins, whole."""
    path = tmp_path / "a"
    stop = time.monotonic() + 0.5

    def writer(byte):
        while time.monotonic() < stop:
            atomic.write_file(path, byte * 50_000)

    threads = [threading.Thread(target=writer, args=(byte,)) for byte in (b"a", b"b")]
    for thread in threads:
        thread.start()
    while time.monotonic() < stop:
        if path.exists():
            content = path.read_bytes()
            assert content in (b"a" * 50_000, b"b" * 50_000)
    for thread in threads:
        thread.join()

    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("name", ["a\0b", "\ud800"], ids=["nul", "surrogate"])
def test_what_cannot_be_a_file_name_is_a_missing_file(name):
    """A name with NUL or a lone surrogate raises our error, for a path that is given as an argument too."""
    for streams in (False, True):
        with pytest.raises(StorageError) as caught:
            atomic.read_file(name, max_bytes=1, what="x", streams=streams)

        assert "fs.file.missing" == caught.value.reason


@pytest.mark.parametrize("name", ["", "-"])
def test_dash_and_nothing_are_no_names_of_an_output(tmp_path, monkeypatch, name):
    """`-` means stdout, so no file or directory is made that is called so."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        atomic.write_file(name, b"x")
    assert "fs.output.special" == caught.value.reason
    with pytest.raises(UsageError), atomic_directory(name):
        pass

    assert [] == os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("path", "word"),
    [("a.key", "a.key"), ("-", "-"), ("-rf", "./-rf"), ("my files/x", "'my files/x'"), ("$(id)", "'$(id)'"),
     ("it's", "'it'\"'\"'s'"), ("a\nb", "'a\nb'")],
)  # fmt: skip
def test_paths_in_hints_are_one_word_of_a_shell(path, word):
    """A hint is a command that people copy: a name with a blank must not become two, nor one with $( run."""
    assert word == atomic.shell_word(path)


@pytest.mark.parametrize("taken", [False, True])
def test_a_file_has_no_name_before_it_is_complete(taken, tmp_path):
    """While a file is written nothing of it is in the directory; what has its name already stays until then."""
    if taken:
        (tmp_path / "f").write_bytes(b"old")
    with PartFile(tmp_path / "f", mode=0o644) as descriptor:
        os.write(descriptor, b"new")
        assert 0o600 == stat.S_IMODE(os.fstat(descriptor).st_mode)
        assert (["f"] if taken else []) == names(tmp_path)
        assert not taken or b"old" == (tmp_path / "f").read_bytes()

    assert (["f"], b"new") == (names(tmp_path), (tmp_path / "f").read_bytes())
    assert 0o644 == stat.S_IMODE((tmp_path / "f").stat().st_mode)


def written_whole(path):
    with atomic.atomic_file(path) as file:
        file.write(b"new")


def written_nameless(path):
    with PartFile(path) as descriptor:
        os.write(descriptor, b"new")


@pytest.mark.parametrize("taken", [False, True])
@pytest.mark.parametrize("write", [written_whole, written_nameless])
def test_a_name_is_given_to_what_the_disk_has(write, taken, tmp_path, monkeypatch):
    """The content is made durable before the name, and the directory after it: a crash between them leaves no half file."""
    calls = []
    if taken:
        (tmp_path / "f").write_bytes(b"old")

    def record(name, real):
        def call(*arguments, **options):
            synced = name == "fsync" and ("fsync", os.readlink(f"/proc/self/fd/{arguments[0]}") == str(tmp_path))
            named = name != "fsync" and str(tmp_path / "f") == os.fspath(arguments[1])
            done = real(*arguments, **options)
            calls.extend([synced] if synced else ["named"] if named else [])
            return done

        return call

    for name in ("fsync", "link", "rename"):
        monkeypatch.setattr(os, name, record(name, getattr(os, name)))
    write(tmp_path / "f")

    assert [("fsync", False), "named", ("fsync", True)] == calls


@pytest.mark.parametrize("taken", [False, True])
def test_a_process_that_may_not_link(taken, tmp_path, monkeypatch):
    """Where a file without a name cannot be named it is copied; if that fails nothing is left."""
    content = os.urandom(100_000)
    if taken:
        (tmp_path / "f").write_bytes(b"old")

    def refuse(*_arguments, **_options):
        raise PermissionError(errno.EACCES, "denied")

    monkeypatch.setattr(os, "link", refuse)
    with PartFile(tmp_path / "f", mode=0o644) as descriptor:
        os.write(descriptor, content)
    assert (["f"], content) == (names(tmp_path), (tmp_path / "f").read_bytes())
    assert 0o644 == stat.S_IMODE((tmp_path / "f").stat().st_mode)
    monkeypatch.setattr(os, "sendfile", refuse)
    with pytest.raises(StorageError), PartFile(tmp_path / "f") as descriptor:
        os.write(descriptor, b"new")

    assert (["f"], content) == (names(tmp_path), (tmp_path / "f").read_bytes())
