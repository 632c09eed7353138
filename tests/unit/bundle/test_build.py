"""A build gives the files of the format, normalised, and the same bytes again; what it must not take it refuses."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from glasscase.bundle.check import check_bundle
from glasscase.bundle.index import BundleIndex, open_bundle
from glasscase.config.enclave import EnclaveConfig
from glasscase.errors import FormatError, StorageError, UsageError


def tree(root):
    """Return everything below a directory: path -> (mode, mtime, bytes)."""
    found = {}
    for folder, names, files in os.walk(root):
        for name in [*names, *files]:
            path = os.path.join(folder, name)
            facts = os.lstat(path)
            content = Path(path).read_bytes() if name in files else None
            found[os.path.relpath(path, root)] = (facts.st_mode, facts.st_mtime_ns, content)
    return found


def test_clear_bundle_is_what_the_format_says(workshop):
    """The files, modes, times, index and configuration of a small bundle are those of the format."""
    result = workshop.build()
    found = tree(result.path)

    assert {oct(mode & 0o7777) for mode, _, content in found.values() if content is not None} <= {"0o644", "0o755"}
    assert {0} == {mtime for _, mtime, _ in found.values()}
    assert {oct(mode & 0o7777) for mode, _, content in found.values() if content is None} == {"0o755"}
    files = {path for path, (_, _, content) in found.items() if content is not None}
    index = BundleIndex.from_bytes(found["bundle.json"][2])
    assert files == {file.path for file in index.files} | {"bundle.json"}
    assert result.bundle_id == hashlib.sha256(found["bundle.json"][2]).digest()
    assert {
        "rootfs/app/app/main.py",
        "rootfs/opt/site/demo/__init__.py",
        "runtime/libpal.so",
        "app.manifest.sgx",
    } <= files
    assert found["rootfs/opt/glasscase/main.py"][2] == b"# bootstrap\n"
    assert not [path for path in files if "glasscase/cli" in path]
    config = EnclaveConfig.from_bytes(found["rootfs/opt/glasscase/enclave.cbor"][2])
    assert ("dev-enclave", "host-python", "simulated") == config.insecure == index.insecure
    assert (1_700_000_000, False, None) == (config.build_epoch, config.encrypt, config.package)


def test_built_bundle_passes_its_check(workshop):
    """Checking recomputes the same MRENCLAVE and finds nothing wrong."""
    result = workshop.build()
    checked = check_bundle(result.path, full=True)

    assert () == checked.problems
    assert result.measurement == checked.measurement
    assert result.bundle_id == checked.bundle.id
    assert checked is checked.require_sound()


def test_same_inputs_give_the_same_bytes(workshop, tmp_path, monkeypatch):
    """Another place, umask, zone, date and file times do not change a byte."""
    first = workshop.build("one.bundle")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1234567890")
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    for folder, _, files in os.walk(workshop.project):
        for name in files:
            os.utime(os.path.join(folder, name), (1, 1))
    (tmp_path / "deep" / "er").mkdir(parents=True)
    previous = os.umask(0o077)
    try:
        second = workshop.build("deep/er/two.bundle")
    finally:
        os.umask(previous)

    assert tree(first.path) == tree(second.path)


def test_output_is_not_overwritten_unless_it_is_a_bundle(workshop):
    """A directory that is no bundle stays as it is; a bundle is replaced only if that was asked for."""
    workshop.build()
    with pytest.raises(UsageError):
        workshop.build()
    workshop.build(overwrite=True)
    other = workshop.root / "other"
    other.mkdir()
    (other / "precious").write_bytes(b"x")
    with pytest.raises(UsageError) as caught:
        workshop.build("other", overwrite=True)

    assert "fs.output.exists" == caught.value.reason
    assert [b"x"] == [path.read_bytes() for path in other.iterdir()]


def refused(workshop, reason, kind=UsageError, **options):
    """Build, expect this reason, and find no trace of a bundle."""
    before = sorted(os.listdir(workshop.root))
    with pytest.raises(kind) as caught:
        workshop.build(**options)
    assert reason == caught.value.reason
    assert before == sorted(os.listdir(workshop.root))


def test_wrong_projects_are_refused(workshop):
    """A stale lock, a missing entry, an unknown wheel and a bad size each have their reason and leave nothing."""
    (workshop.project / "requirements.txt").write_bytes(b"other\n")
    refused(workshop, "lock.file.stale")
    (workshop.project / "requirements.txt").write_bytes(b"demo\n")
    refused(workshop, "bundle.project.malformed", size="3M")
    workshop.edit("insecure_dev_enclave = true", "insecure_dev_enclave = false")
    refused(workshop, "bundle.wheel.unknown")
    workshop.edit("insecure_dev_enclave = false", "insecure_dev_enclave = true")
    (workshop.project / "src" / "app" / "main.py").unlink()
    refused(workshop, "bundle.app.entry")
    (workshop.project / "glasscase.lock").unlink()
    refused(workshop, "lock.file.missing")


def test_application_may_not_shadow_a_module(workshop):
    """A top-level module of the application with the name of an installed one is refused."""
    (workshop.project / "src" / "demo.py").write_bytes(b"")
    refused(workshop, "bundle.app.shadows")
    (workshop.project / "src" / "demo.py").unlink()
    (workshop.project / "src" / "demo").mkdir()
    (workshop.project / "src" / "demo" / "x.py").write_bytes(b"")
    refused(workshop, "bundle.app.shadows")


def test_changed_input_is_refused(workshop):
    """A wheel in the cache with other bytes, or none, stops the build."""
    path = workshop.cache.path(workshop.wheels[0].sha256)
    content = bytearray(Path(path).read_bytes())
    content[100] ^= 1
    with open(path, "wb") as file:
        file.write(content)
    refused(workshop, "lock.input.mismatch", FormatError)
    os.unlink(path)
    refused(workshop, "lock.input.missing", StorageError)


def link_loop(src):
    (src / "loop").symlink_to("loop")


def link_out(src):
    (src / "passwd").symlink_to("/etc/passwd")


def link_directory(src):
    (src / "dir").symlink_to("app")


def fifo(src):
    os.mkfifo(src / "pipe")


def socket(src):
    import socket as module

    with module.socket(module.AF_UNIX) as made:
        made.bind(str(src / "s"))


def setuid(src):
    (src / "su").write_bytes(b"x")
    (src / "su").chmod(0o4755)


def hard_link(src):
    os.link(src / "app" / "main.py", src / "twin.py")


def case_fold(src):
    (src / "Readme").write_bytes(b"")
    (src / "README").write_bytes(b"")


def case_fold_directory(src):
    (src / "App").mkdir()
    (src / "App" / "x").write_bytes(b"")


def nfc(src):
    (src / "e\u0301.txt").write_bytes(b"")


def newline(src):
    (src / "a\nb").write_bytes(b"")


def not_unicode(src):
    with open(os.path.join(os.fsencode(src), b"\xff.txt"), "wb"):
        pass


@pytest.mark.parametrize(
    ("prepare", "kind", "reason"),
    [
        (link_loop, UsageError, "fs.entry.refused"), (link_out, UsageError, "fs.entry.refused"),
        (link_directory, UsageError, "fs.entry.refused"), (fifo, UsageError, "fs.entry.refused"),
        (socket, UsageError, "fs.entry.refused"), (setuid, UsageError, "fs.entry.refused"),
        (hard_link, UsageError, "fs.entry.refused"), (case_fold, FormatError, "fs.path.clash"),
        (case_fold_directory, FormatError, "fs.path.clash"), (nfc, FormatError, "fs.path.refused"),
        (newline, FormatError, "fs.path.refused"), (not_unicode, FormatError, "fs.path.refused"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)  # fmt: skip
def test_what_cannot_be_normalised_is_refused(workshop, prepare, kind, reason):
    """Links, FIFOs, sockets, setuid files and names that fold or are not NFC are refused, never skipped."""
    prepare(workshop.project / "src")
    refused(workshop, reason, kind)


@pytest.mark.parametrize("name", ["it's", 'quo"te', "{{ braces }}", "back\\slash", "[[x]]", "a b", "ü", "#", "$(x)"])
def test_unusual_names_are_taken_as_they_are(workshop, name):
    """Quotes, braces and backslashes in names go through the manifest and come out the same."""
    (workshop.project / "src" / name).write_bytes(b"x")
    result = workshop.build()
    checked = check_bundle(result.path)

    assert () == checked.problems
    assert checked.bundle.index.find(f"rootfs/app/{name}") is not None


def test_no_files_are_refused(workshop):
    """A source directory without files is an error, an empty directory beside files is not there in the bundle."""
    (workshop.project / "src" / "empty").mkdir()
    result = workshop.build()
    assert not os.path.exists(os.path.join(result.path, "rootfs/app/empty"))
    for name in ("__init__.py", "main.py"):
        (workshop.project / "src" / "app" / name).unlink()
    refused(workshop, "bundle.app.empty", out="two.bundle")


def test_compiled_python_is_left_out(workshop):
    """__pycache__ and .pyc files of the sources never go in."""
    cache = workshop.project / "src" / "app" / "__pycache__"
    cache.mkdir()
    (cache / "main.cpython-311.pyc").write_bytes(b"x")
    (workshop.project / "src" / "app" / "old.pyc").write_bytes(b"x")
    result = workshop.build()

    assert not [file.path for file in result.index.files if "pyc" in file.path]


def test_ten_thousand_files(workshop):
    """10,000 small files are built and checked."""
    many = workshop.project / "src" / "many"
    for number in range(100):
        (many / f"{number}").mkdir(parents=True)
        for inner in range(100):
            (many / f"{number}" / f"{inner}.txt").write_bytes(b"%d" % inner)
    result = workshop.build()

    assert result.files > 10_000
    assert () == check_bundle(result.path).problems


def test_unreadable_file_is_refused(workshop):
    """A file that the user may not read stops the build with an error; root reads all, so another user tries."""
    secret = workshop.project / "src" / "secret.txt"
    secret.write_bytes(b"x")
    secret.chmod(0)
    code = f"""
import os
from glasscase.errors import StorageError
from glasscase.fs.walk import read_unchanged, walk
root = {str(workshop.project / "src")!r}
if os.geteuid() == 0:
    for part in {[str(path) for path in workshop.project.parents]!r}:
        os.path.isdir(part)
    descriptor = os.open(root, os.O_RDONLY)
    os.fchdir(descriptor)
    os.setgid(65534)
    os.setuid(65534)
    root = "."
entry = next(entry for entry in walk(root) if entry.path == "secret.txt")
try:
    list(read_unchanged(root, entry))
except StorageError as error:
    print(error.reason)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert "fs.file.denied\n" == done.stdout, done.stderr


def test_changing_file_is_refused(workshop):
    """A file that grows between the walk and the read, or while it is read, is an error."""
    from glasscase.fs.walk import read_unchanged, walk

    big = workshop.project / "src" / "big.bin"
    big.write_bytes(bytes(3 << 20))
    entry = next(entry for entry in walk(workshop.project / "src") if entry.path == "big.bin")
    chunks = read_unchanged(workshop.project / "src", entry)
    next(chunks)
    with open(big, "r+b") as file:
        file.write(b"changed")
    with pytest.raises(UsageError) as caught:
        list(chunks)
    assert "fs.entry.changed" == caught.value.reason
    big.write_bytes(b"shorter")
    with pytest.raises(UsageError):
        list(read_unchanged(workshop.project / "src", entry))


def test_opening_needs_the_lock_of_the_index(workshop):
    """A bundle whose lock was replaced is not opened."""
    result = workshop.build()
    other = workshop.lock(epoch=1)
    with open(os.path.join(result.path, "glasscase.lock"), "wb") as file:
        file.write(other.to_bytes())
    with pytest.raises(FormatError) as caught:
        open_bundle(result.path)

    assert "bundle.file.changed" == caught.value.reason
