"""A build gives the files of the format, normalised, and the same bytes again; what it must not take it refuses."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from glasscase.bundle.check import check_bundle
from glasscase.bundle.index import BundleIndex, open_bundle
from glasscase.config.enclave import EnclaveConfig
from glasscase.errors import FormatError, StorageError, UsageError
from glasscase.seal.files import open_package
from tests.unit.bundle.conftest import OWN, add_wheel


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


def test_only_our_own_wheel_may_give_files_of_ours(workshop):
    """Another wheel with a module in the package glasscase is refused, as it would run as measured code of the tool."""
    workshop.wheels[0] = add_wheel(workshop.cache, "demo", "1.0", {"demo/__init__.py": b"", "glasscase/extra.py": b""})
    workshop.lock()

    refused(workshop, "bundle.wheel.unsupported", FormatError)


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


def test_a_module_that_is_not_listed_stays_outside(workshop):
    """Of glasscase's own wheel the listed modules and the core are taken, whatever else is in it."""
    more = (
        "glasscase/enclave/unlisted.py",
        "glasscase/enclave/unpack/__init__.py",
        "glasscase/notes.txt",
        "glasscase/_native.abi3.so",
        "other.py",
    )
    workshop.wheels[1] = add_wheel(workshop.cache, "glasscase", "0.1", OWN | dict.fromkeys(more, b"x = 1\n"))
    workshop.lock()
    taken = {file.path.removeprefix("rootfs/opt/site/") for file in workshop.build().index.files}

    assert {"glasscase/_native.abi3.so"} == taken & set(more)
    assert set(OWN) - {"glasscase/cli/main.py"} == {path for path in taken if path in OWN}


def test_compiled_python_is_left_out(workshop):
    """__pycache__ and .pyc files of the sources never go in, and nothing else is left out."""
    cache = workshop.project / "src" / "app" / "__pycache__"
    cache.mkdir()
    (cache / "main.cpython-311.pyc").write_bytes(b"x")
    (workshop.project / "src" / "app" / "old.pyc").write_bytes(b"x")
    (workshop.project / "src" / "app" / "weights.pyo").write_bytes(b"x")
    result = workshop.build()

    assert not [file.path for file in result.index.files if "pyc" in file.path]
    assert "rootfs/app/app/weights.pyo" in {file.path for file in result.index.files}


@pytest.mark.parametrize("folders", [10, pytest.param(100, marks=pytest.mark.long)])
def test_many_files(workshop, folders):
    """1,000 (with --long 10,000) small files are built and checked."""
    many = workshop.project / "src" / "many"
    for number in range(folders):
        (many / f"{number}").mkdir(parents=True)
        for inner in range(100):
            (many / f"{number}" / f"{inner}.txt").write_bytes(b"%d" % inner)
    result = workshop.build()

    assert result.files > 100 * folders
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


@pytest.fixture
def secret(workshop):
    """Give a project whose application and models are encrypted, with names and content that can be searched for."""
    workshop.edit("encrypt = false", "encrypt = true")
    (workshop.project / "src" / "app" / "hidden_module_name.py").write_bytes(b"CANARY_SOURCE_TEXT = 1\n")
    (workshop.project / "src" / "empty_directory_name").mkdir()
    (workshop.project / "models").mkdir()
    (workshop.project / "models" / "weights_file_name.bin").write_bytes(b"CANARY_MODEL" * 5000)
    text = (workshop.project / "glasscase.toml").read_text()
    model = '[[model]]\npath = "models/weights_file_name.bin"\n'
    (workshop.project / "glasscase.toml").write_text(text.replace("[enclave]", model + "[enclave]"))
    return workshop


def test_encrypted_bundle_passes_its_check_and_opens(secret):
    """The package of a bundle opens under the measured header and commitment, and gives the sources back."""
    result = secret.build()
    checked = check_bundle(result.path, full=True)
    assert () == checked.problems
    package = open_package(
        os.path.join(result.path, "blobs"), key=secret.key.read_bytes(), header=checked.config.package,
        commitment=checked.config.commitment,
    )  # fmt: skip

    assert b"CANARY_SOURCE_TEXT = 1\n" == package.read("app/app/hidden_module_name.py")
    assert b"CANARY_MODEL" * 5000 == package.open("models/weights_file_name.bin").read()
    assert "app/empty_directory_name" in [entry.path for entry in package.entries if entry.directory]


def test_nothing_of_encrypted_entries_is_in_clear(secret):
    """No digest, path or text of an encrypted entry occurs in any clear file of the bundle, hex or raw (protocol 2)."""
    result = secret.build()
    clear = {
        path: content for path, (_, _, content) in tree(result.path).items()
        if content is not None and not path.startswith("blobs/")
    }  # fmt: skip
    package = open_package(os.path.join(result.path, "blobs"), key=secret.key.read_bytes())
    needles = {b"hidden_module_name", b"weights_file_name", b"empty_directory_name", b"CANARY"}
    for folder, _, files in os.walk(secret.project):
        for name in files:
            content = (Path(folder) / name).read_bytes()
            inside = Path(folder, name).relative_to(secret.project).parts[0] in ("src", "models")
            if inside and content:
                digest = hashlib.sha256(content).digest()
                needles |= {digest, digest.hex().encode()}
    needles |= {
        digest
        for entry in package.entries
        if not entry.directory and entry.size
        for digest in (entry.digest, entry.digest.hex().encode())
    }
    needles |= {package.package.digest, package.package.digest.hex().encode(), package.package.opening}

    assert len(needles) > 12
    assert [] == [(path, needle) for path, content in clear.items() for needle in needles if needle in content]


def test_encrypted_bundles_are_the_same_bytes(secret):
    """The same sources and key give the same bundle; another key changes MRENCLAVE, another place does not."""
    first = secret.build("one.bundle", jobs=1)
    second = secret.build("two.bundle", jobs=2)
    assert tree(first.path) == tree(second.path)
    other = secret.project / "keys" / "other.key"
    other.write_bytes(bytes(range(32)))
    other.chmod(0o600)
    third = secret.build("three.bundle", package_key=str(other))

    assert first.measurement.mrenclave != third.measurement.mrenclave


def test_changed_blob_shows(secret):
    """The package header is compared always, every blob by size, and with full=True by its bytes too."""
    result = secret.build()
    blobs = sorted(path for path in os.listdir(os.path.join(result.path, "blobs")) if path != "manifest")
    for name in (blobs[0], "manifest"):
        path = Path(result.path, "blobs", name)
        before = path.read_bytes()
        path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        assert [] == [problem.id for problem in check_bundle(result.path).problems]
        assert ["bundle.file.changed"] == [problem.id for problem in check_bundle(result.path, full=True).problems]
        path.write_bytes(before + b"x")
        assert "bundle.file.changed" in [problem.id for problem in check_bundle(result.path).problems]
        path.write_bytes(before)
    path = Path(result.path, "blobs", "manifest")
    path.write_bytes(bytes(len(path.read_bytes())))

    assert "bundle.package.mismatch" in [problem.id for problem in check_bundle(result.path).problems]


def test_keys_are_checked(secret):
    """A package key that is exposed, short or missing, and a weak or doubled owner key, are refused."""
    secret.key.chmod(0o644)
    refused(secret, "fs.key.exposed")
    secret.key.chmod(0o600)
    for wrong in (bytes(31), b"-----BEGIN PRIVATE KEY-----\n" * 5):  # the second is an owner key's file: longer
        secret.key.write_bytes(wrong)
        refused(secret, "bundle.key.malformed")
    secret.key.unlink()
    refused(secret, "fs.file.missing", StorageError)
    secret.key.write_bytes(bytes(range(32)))
    secret.key.chmod(0o600)
    owner = str(secret.project / "keys" / "owner.pub")
    refused(secret, "bundle.owner.malformed", owners=(owner, owner))
    small_order = Ed25519PublicKey.from_public_bytes(bytes(32))
    weak = secret.project / "keys" / "weak.pub"
    weak.write_bytes(small_order.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    refused(secret, "bundle.owner.malformed", owners=(str(weak),))
    refused(secret, "bundle.owner.malformed", owners=(str(secret.key),))


def test_models_without_leaf_lists_are_named(secret):
    """models = "key" is measured and stands in the list of weakenings."""
    secret.edit("encrypt = true", 'encrypt = true\nmodels = "key"')
    checked = check_bundle(secret.build().path).require_sound()

    assert "models-key" in checked.insecure


@pytest.mark.parametrize("out", ["project/src/a.bundle", "project/src"])
def test_bundle_is_not_written_into_the_sources(workshop, out):
    """A bundle among the files that go into it would hold a part of itself; nothing is written."""
    before = tree(workshop.root / "project")

    with pytest.raises(UsageError) as caught:
        workshop.build(out)

    assert "bundle.output.inside" == caught.value.reason
    assert before == tree(workshop.root / "project")


def test_no_key_is_reached_among_the_sources(workshop):
    """A key that lies in the sources is refused by whatever path it is named: a link in the project, an option."""
    keys, sources = workshop.project / "keys", workshop.project / "src"
    inside = sources / "keys"
    keys.rename(inside)
    keys.symlink_to("src/keys")
    refused(workshop, "bundle.key.inside")
    keys.unlink()
    shutil.copytree(inside, keys)
    refused(workshop, "bundle.key.inside", package_key=str(inside / "package.key"))
    refused(workshop, "bundle.key.inside", owners=(str(inside / "owner.pub"),))


def test_nothing_in_clear_is_reached_among_encrypted_sources(secret):
    """The requirements, whose digest is in the lock, are not a link into sources that nobody may know."""
    (secret.project / "requirements.txt").rename(secret.project / "src" / "requirements.txt")
    (secret.project / "requirements.txt").symlink_to("src/requirements.txt")
    refused(secret, "bundle.key.inside")


def test_a_size_below_all_areas_is_the_projects_fault(workshop):
    """An enclave that cannot hold its own manifest and threads is wrong use, said in the project's words."""
    refused(workshop, "bundle.size.small", size="1M")


@pytest.mark.parametrize("options", [{"size": ""}, {"package_key": ""}])
def test_an_empty_option_is_not_an_absent_one(secret, options):
    """What a shell makes of a variable that is not set is refused; the project's value is not taken instead."""
    with pytest.raises((UsageError, StorageError)):
        secret.build(**options)
