"""The one text of a bundle, and what the lint refuses."""

import dataclasses
import tomllib

import pytest

from glasscase.config.enclave import EnclaveConfig, GramineOptions
from glasscase.errors import FormatError
from glasscase.gramine.expand import sgx_manifest
from glasscase.gramine.lint import lint, require_clean
from glasscase.gramine.manifest import TrustedFile, bundle_manifest, parse_manifest
from glasscase.gramine.options import enclave_options
from glasscase.gramine.profiles import known_profiles
from glasscase.gramine.toml import write_toml

TRUSTED = [
    TrustedFile(f"file:rootfs/{name}", bytes([n]) * 32) for n, name in enumerate(["app/a", 'b"\\{{ x }}', "etc/hosts"])
]
DIGEST = bytes(range(32))


def config(**changes) -> EnclaveConfig:
    options = {key: changes.pop(key) for key in list(changes) if key in GramineOptions.__dataclass_fields__}
    gramine = GramineOptions(
        **({"profile": "v1.8", "size": "512M", "max_threads": 32, "isv_prod_id": 1, "isv_svn": 2} | options)
    )
    fields = {
        "name": "api", "entry": "app.main:app", "interface": "asgi", "health": None, "encrypt": True, "models": "digest",
        "build_epoch": 1_700_000_000, "owners": (bytes(32),), "threshold": 1, "package": bytes(128),
        "commitment": bytes(32), "gramine": gramine,
    }  # fmt: skip
    return EnclaveConfig(**(fields | changes))


def text(**changes) -> bytes:
    return bundle_manifest(config(**changes), TRUSTED, libsysdb_sha256=DIGEST)


@pytest.mark.parametrize("series", ["v1.6", "v1.8"])
@pytest.mark.parametrize("encrypt", [True, False])
@pytest.mark.parametrize("persist", ["none", "mrenclave"])
def test_text_of_a_bundle_is_clean_and_stable(series, encrypt, persist, tmp_path):
    """The lint finds nothing, the loader's rules hold, and Gramine's own steps would not change the text."""
    sealed = {} if encrypt else {"encrypt": False, "package": None, "commitment": None}
    manifest = text(profile=series, persist=persist, **sealed)

    assert () == lint(manifest)
    assert manifest == sgx_manifest(manifest, directory=tmp_path, series=series)
    options = enclave_options(parse_manifest(manifest))
    assert (512 << 20, 32, 1, 2) == (options.size, options.max_threads, options.isv_prod_id, options.isv_svn)
    assert (4, 1) == (options.attributes_flags, options.misc_select)
    document = tomllib.loads(manifest.decode())
    kinds = {mount["path"]: mount["type"] for mount in document["fs"]["mounts"]}
    assert encrypt == ("/blobs" in kinds) == ("/models" in kinds)
    assert (persist == "mrenclave") == ("encrypted" in kinds.values())
    assert "tmpfs" == kinds["/tmp"] == kinds["/run/glasscase"]
    assert (["file:blobs/"] if encrypt else []) + ["file:instance/"] == document["sgx"]["allowed_files"]


def test_options_reach_the_text():
    """Every measured option of enclave.cbor changes the manifest."""
    changes = [
        {"size": "1G"}, {"max_threads": 33}, {"isv_prod_id": 2}, {"isv_svn": 3}, {"edmm": True}, {"dns": True},
        {"persist": "mrenclave"}, {"env": {"A": "1"}}, {"debug": True, "insecure": ("debug",)}, {"profile": "v1.6"},
    ]  # fmt: skip
    texts = {text(), *(text(**change) for change in changes)}

    assert len(changes) + 1 == len(texts)


def test_file_names_cannot_inject_lines():
    """A name with quotes, braces and backslashes is one string of the document, as it was given."""
    entries = tomllib.loads(text().decode())["sgx"]["trusted_files"]

    assert [{"uri": file.uri, "sha256": file.sha256.hex()} for file in TRUSTED] == entries


def test_environment_is_sorted_and_ours_stays():
    """The order in which the project names variables does not matter; reserved names are refused."""
    assert text(env={"B": "2", "A": "1"}) == text(env={"A": "1", "B": "2"})
    assert b'TZ = "Europe/Paris"' in text(env={"TZ": "Europe/Paris"})
    for name in (
        "PATH",
        "HOME",
        "PYTHONPATH",
        "OPENSSL_CONF",
        "GLIBC_TUNABLES",
        "GCONV_PATH",
        "LOCPATH",
        "SSLKEYLOGFILE",
    ):
        with pytest.raises(FormatError) as caught:
            text(env={name: "x"})
        assert "gramine.env.reserved" == caught.value.reason


def test_gramine_1_5_is_outdated():
    """No bundle is built for a release with a known way to inject signals."""
    with pytest.raises(FormatError) as caught:
        text(profile="v1.5")
    assert "gramine.profile.outdated" == caught.value.reason
    with pytest.raises(FormatError) as caught:
        text(profile="v9.9")
    assert "gramine.profile.unknown" == caught.value.reason


@pytest.mark.parametrize(
    "trusted",
    [
        [TRUSTED[1], TRUSTED[0]],
        [TRUSTED[0], TRUSTED[0]],
        [TrustedFile("file:runtime/x", bytes(32))],
        [TrustedFile("file:rootfs/x", bytes(31))],
    ],
)
def test_trusted_files_must_be_sorted_files_of_rootfs(trusted):
    """The writer takes no other list, so two builds cannot differ by order."""
    with pytest.raises(FormatError) as caught:
        bundle_manifest(config(), trusted, libsysdb_sha256=DIGEST)
    assert "gramine.trusted.malformed" == caught.value.reason


def changed(path: str, value: object) -> bytes:
    document = tomllib.loads(text().decode())
    table = document
    *parents, last = path.split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
    table[last] = value
    return write_toml(document)


MOUNTS = tomllib.loads(text().decode())["fs"]["mounts"]
ARGV = tomllib.loads(text().decode())["loader"]["argv"]
PERSIST = {"type": "encrypted", "path": "/persist", "uri": "file:instance/persist", "key_name": "persist"}


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("sgx.debug", True, "debug"),
        ("loader.insecure__use_cmdline_argv", True, "cmdline_argv"),
        ("loader.argv_src_file", "file:x", "cmdline_argv"),
        ("loader.insecure__use_host_env", True, "host_env"),
        ("loader.env_src_file", "file:x", "host_env"),
        ("loader.env.X", {"passthrough": True}, "host_env"),
        ("loader.env", "X=1", "value"),
        ("loader.env.LD_PRELOAD", "/instance/x.so", "value"),
        ("loader.env.LD_AUDIT", "/instance/x.so", "value"),
        ("loader.env.LD_LIBRARY_PATH", "/instance", "value"),
        ("loader.env.GCONV_PATH", "/instance", "value"),
        ("loader.env.PYTHONPATH", "/instance", "value"),
        ("loader.env.SSLKEYLOGFILE", "/instance/keys", "value"),
        ("loader.env.PATH", "/instance", "value"),
        ("loader.insecure__disable_aslr", True, "aslr"),
        ("sgx.allowed_files", ["file:blobs/", "file:instance/", "file:rootfs/etc/"], "allowed_files"),
        ("sgx.allowed_files", ["file:blobs"], "allowed_files"),
        ("sgx.file_check_policy", "allow_all_but_log", "file_policy"),
        ("fs.insecure__keys", {"default": "00" * 16}, "fs_keys"),
        ("sys.insecure__allow_eventfd", True, "eventfd"),
        ("sgx.insecure__allow_memfaults_without_exinfo", True, "memfaults"),
        ("sgx.insecure__rpc_thread_num", 1, "rpc_threads"),
        ("sys.disallow_subprocesses", False, "subprocesses"),
        ("sys.allowed_ioctls", [{"request_code": 1}], "ioctl"),
        ("sys.debug__mock_syscalls", [{"name": "x"}], "debug"),
        ("loader.log_level", "debug", "log_level"),
        ("loader.log_file", "x", "log_level"),
        ("libos.entrypoint", "/bin/sh", "shell"),
        ("libos.entrypoint", "python3", "value"),
        ("libos.entrypoint", "/instance/python3.11", "value"),
        ("loader.argv", ["python3.11", "-c", "x"], "value"),
        ("loader.argv", ["python3.11", "-I", "-c", "x"], "value"),
        ("loader.argv", [*ARGV, "more"], "value"),
        ("loader.argv", [*ARGV[:-1], "/instance/main.py"], "value"),
        ("loader.argv", ["/instance/python3.11", *ARGV[1:]], "value"),
        ("loader.argv", [word for word in ARGV if word != "-S"], "value"),
        ("loader.entrypoint.uri", "file:/usr/lib/libsysdb.so", "value"),
        ("sgx.remote_attestation", "none", "value"),
        ("sgx.trusted_files", [{"uri": "file:/etc/passwd", "sha256": "00" * 32}], "trusted_files"),
        ("sgx.trusted_files", [{"uri": "file:rootfs/../x", "sha256": "00" * 32}], "trusted_files"),
        ("sgx.trusted_files", [{"uri": "file:rootfs/x", "sha256": "00" * 32}] * 2, "trusted_files"),
        ("sgx.trusted_files", ["file:rootfs/x"], "trusted_files"),
        ("fs.root", {"type": "chroot", "uri": "file:/"}, "mount"),
        ("fs.mounts", [*MOUNTS, {"type": "chroot", "path": "/dev/attestation", "uri": "file:sim"}], "mount"),
        ("fs.mounts", [*MOUNTS, {"type": "tmpfs", "path": "/proc"}], "mount"),
        ("fs.mounts", [*MOUNTS, {"type": "tmpfs", "path": "/sys/x"}], "mount"),
        ("fs.mounts", [*MOUNTS, {"type": "tmpfs", "path": "//dev"}], "mount"),
        ("fs.mounts", [*MOUNTS, {"type": "tmpfs", "path": "/x/../dev"}], "mount"),
        ("fs.mounts", [*MOUNTS, {"type": "tmpfs", "path": "/./dev/attestation"}], "mount"),
        ("fs.mounts", [*MOUNTS, {"type": "tmpfs", "path": "/."}], "mount"),
        ("fs.mounts", [*MOUNTS, {"type": "chroot", "path": "/x", "uri": "file:/etc"}], "mount"),
        ("fs.mounts", [*MOUNTS, {"type": "untrusted_shm", "path": "/x", "uri": "dev:/dev/shm"}], "mount"),
        ("fs.mounts", [*MOUNTS, PERSIST | {"key_name": "default"}], "mount"),
        ("fs.mounts", [*MOUNTS, PERSIST | {"uri": "file:rootfs/x"}], "mount"),
        ("fs.mounts", [*MOUNTS, PERSIST, PERSIST | {"path": "/two"}], "mount"),
        ("fs.mounts", [*MOUNTS, {"type": "tmpfs", "path": "/tmp"}], "mount"),
        ("sgx.something_new", 1, "unknown"),
        ("sgx.seal_key.flags_mask", "0x0", "unknown"),
    ],
)  # fmt: skip
def test_lint_refuses_each_weakening(path, value, problem):
    """Each option that weakens an enclave is found, by its own id, and nothing else is."""
    assert [f"gramine.lint.{problem}"] == [found.id for found in lint(changed(path, value))]


def test_debug_passes_only_if_it_is_named():
    """insecure_debug lets a debug enclave pass the lint, and only that option."""
    require_clean(changed("sgx.debug", True), insecure=("debug",))
    with pytest.raises(FormatError) as caught:
        require_clean(changed("sgx.debug", True), insecure=("dev-enclave",))
    assert "gramine.lint.debug" == caught.value.reason
    assert lint(changed("loader.insecure__use_host_env", True), insecure=("debug",))


def test_absent_options_are_found():
    """An empty manifest is not clean."""
    assert {"gramine.lint.missing"} == {problem.id for problem in lint(b"")}


def test_one_memory_layout_for_all_profiles():
    """The constants of the layout are those of every profile."""
    from glasscase.gramine import elf, layout

    constants = {
        "page": elf.PAGE, "ssa_frame": layout.SSA_FRAME, "ssa_frames": layout.SSA_FRAMES, "stack": layout.STACK,
        "signal_stack": layout.SIGNAL_STACK, "heap_min": layout.HEAP_MIN, "gpr_size": layout.GPR_SIZE,
    }  # fmt: skip
    assert ["v1.5", "v1.6", "v1.8"] == [known.name for known in known_profiles()]
    for known in known_profiles():
        assert constants == dict(known.layout)
        assert dataclasses.is_dataclass(known)
