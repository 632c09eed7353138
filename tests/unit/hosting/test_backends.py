"""What each backend would start."""

import sys
import tomllib
from pathlib import Path

import pytest

from glasscase.bundle.index import IndexRuntime
from glasscase.errors import FormatError, StorageError, UsageError
from glasscase.gramine.importing import pin_text
from glasscase.gramine.pins import RuntimeFile, RuntimePin
from glasscase.hosting import backends
from glasscase.hosting.state import Place

MANIFEST = b"""[fs]
mounts = [{ type = "tmpfs", path = "/tmp" }]

[sgx]
allowed_files = ["file:blobs/", "file:instance/"]
trusted_files = [{ uri = "file:rootfs/a", sha256 = "00" }]
"""


def test_a_machine_without_sgx_needs_a_named_backend(monkeypatch, tmp_path):
    """Without the device nothing is chosen silently; the answer names the others; with it the real one is the default."""
    monkeypatch.setattr(backends, "SGX_DEVICE", tmp_path / "none")
    with pytest.raises(UsageError) as caught:
        backends.choose(None)

    assert "hosting.backend.none" == caught.value.reason
    assert "gramine-direct" in caught.value.hint and "simulator" in caught.value.hint
    monkeypatch.setattr(backends, "SGX_DEVICE", tmp_path)
    assert "gramine-sgx" == backends.choose(None)
    assert "simulator" == backends.choose("simulator")


def test_the_direct_manifest_adds_one_mount_and_nothing_else():
    """Only /dev/attestation and its files are added; all else stays as it was measured."""
    before = tomllib.loads(MANIFEST.decode())
    after = tomllib.loads(backends.direct_manifest(MANIFEST).decode())

    assert backends.ATTESTATION_MOUNT == after["fs"]["mounts"].pop()
    assert "file:sim/" == after["sgx"]["allowed_files"].pop()
    assert before == after


def test_the_direct_manifest_keeps_records_in_a_plain_directory():
    """The key of an encrypted mount is set through /dev/attestation, which the software device takes the place of."""
    kept = b'{ type = "encrypted", path = "/persist", uri = "file:instance/persist", key_name = "persist" }'
    after = tomllib.loads(
        backends.direct_manifest(MANIFEST.replace(b"mounts = [", b"mounts = [" + kept + b", ")).decode()
    )

    assert {"type": "chroot", "path": "/persist", "uri": "file:instance/persist"} == after["fs"]["mounts"][0]
    assert b"encrypted" not in backends.direct_manifest(MANIFEST)


@pytest.mark.parametrize("manifest", [b"\xff", b"[", b"", b"[fs]\nmounts = 3\n[sgx]\nallowed_files = []\n"])
def test_a_manifest_that_is_not_ours_is_refused(manifest):
    """Garbage gives a format error, not a traceback."""
    with pytest.raises(FormatError) as caught:
        backends.direct_manifest(manifest)

    assert "hosting.manifest.malformed" == caught.value.reason


def test_direct_needs_the_direct_loader(bundle, tmp_path):
    """The bundle holds the SGX loader only; without an imported runtime the error says what to import."""
    place = Place(tmp_path)
    with pytest.raises(StorageError) as caught:
        backends.prepare(place, bundle, "gramine-direct", runtime_directory=tmp_path / "runtimes" / "none")

    assert "hosting.runtime.missing" == caught.value.reason


def test_direct_starts_the_direct_loader_on_the_derived_manifest(bundle, tmp_path):
    """app.manifest is the derived text, direct/ holds copies that every account may run, a software device is asked for."""
    runtime = tmp_path / "runtimes" / "gramine"
    (runtime / "direct").mkdir(parents=True)
    for name in ("loader", "libpal.so"):
        (runtime / "direct" / name).write_bytes(b"elf")
    (bundle / "app.manifest.sgx").write_bytes(MANIFEST)
    place = Place(tmp_path / "one")
    place.path.mkdir()
    backends.prepare(place, bundle, "gramine-direct", runtime_directory=runtime)
    command = backends.command(place, "gramine-direct")

    assert ("direct/loader", "direct/libpal.so", "init", "app") == command.argv
    assert command.simulated and {} == command.environment and place.path == command.directory
    assert backends.direct_manifest(MANIFEST) == (place.path / "app.manifest").read_bytes()
    for name in ("loader", "libpal.so"):
        assert b"elf" == (place.path / "direct" / name).read_bytes()
        assert 0o755 == (place.path / "direct" / name).stat().st_mode & 0o777
    backends.prepare(place, bundle, "gramine-sgx", runtime_directory=None)
    assert not (place.path / "direct").exists()


def test_a_runtime_is_found_by_its_name_or_its_pal(tmp_path):
    """The name in a bundle is the provider's; the operator may have imported the same Gramine under another."""
    runtime = IndexRuntime("theirs", "1.9", libpal=b"\1" * 32, loader=bytes(32), libsysdb=bytes(32))
    assert tmp_path / "runtimes/theirs" == backends.runtime_directory(tmp_path, runtime)
    for name, libpal in (("another", b"\2" * 32), ("ours", b"\1" * 32)):
        pin = RuntimePin(name, "1.9", None, "v1.8", (RuntimeFile("libpal.so", 5, libpal),))
        (tmp_path / "runtimes" / name).mkdir(parents=True)
        (tmp_path / "runtimes" / name / "pin.toml").write_bytes(pin_text(pin))
    assert tmp_path / "runtimes/ours" == backends.runtime_directory(tmp_path, runtime)

    (tmp_path / "runtimes/theirs").mkdir()
    assert tmp_path / "runtimes/theirs" == backends.runtime_directory(tmp_path, runtime)


def test_sgx_gets_absolute_paths_and_the_name_of_the_application(bundle, tmp_path):
    """Gramine's SGX loader refuses a relative path of libpal.so; manifest and signature are found by prefix, from here."""
    place = Place(tmp_path / "one")
    place.path.mkdir()
    backends.prepare(place, bundle, "gramine-sgx", runtime_directory=None)
    command = backends.command(place, "gramine-sgx")

    loader, libpal, *rest = command.argv
    assert str(bundle.resolve() / "runtime/loader") == loader
    assert str(bundle.resolve() / "runtime/libpal.so") == libpal
    assert ["init", "app"] == rest
    assert place.path == command.directory and {} == command.environment and not command.simulated
    assert {"app.manifest.sgx", "app.sig"} <= {path.name for path in place.path.iterdir()}


def test_the_simulator_isolates_the_interpreter(bundle, tmp_path):
    """The argv of the manifest with the simulator's paths behind it, an environment without PYTHON* and HOME."""
    place = Place(tmp_path / "one")
    place.path.mkdir()
    backends.prepare(place, bundle, "simulator", runtime_directory=None)
    command = backends.command(place, "simulator")

    rootfs = bundle / "rootfs"
    assert (
        sys.executable, "-I", "-S", "-B", "-u", "-X", "utf8", str(rootfs / "opt/glasscase/main.py"),
        "--simulated-root", str(rootfs), "--attestation", str(place.path / "sim"), "--instance", str(place.instance),
        "--blobs", str(bundle / "blobs"), "--run", str(place.path / "run"),
    ) == command.argv  # fmt: skip
    assert {"PATH", "LC_ALL", "TZ"} == set(command.environment)
    assert command.simulated


def test_the_simulator_uses_the_bundles_own_interpreter(bundle, tmp_path):
    """A Python in rootfs runs with the libraries of rootfs, but not with its C library."""
    own = bundle / "rootfs" / "usr" / "bin" / "python3.11"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"elf")
    own.chmod(0o755)
    place = Place(tmp_path / "one")
    place.path.mkdir()
    backends.prepare(place, bundle, "simulator", runtime_directory=None)
    command = backends.command(place, "simulator")

    assert str(own) == command.argv[0]
    assert str(Path(bundle) / "rootfs/usr/lib/x86_64-linux-gnu") == command.environment["LD_LIBRARY_PATH"]
