"""Every option that a bundle's manifest sets is one that Gramine of its profile knows, in the right table and of the right type.

Gramine's loader and LibOS look up what they know and ignore the rest without a word, so an option that is misspelt, misplaced or
of a later release would be dead text; of a known option with a wrong type they say "Cannot parse" and end. The table is that of
python/graminelibos/manifest_check.py (1.8 refuses what it does not list), with what 1.6 and 1.7 had instead.
"""

import itertools
import tomllib

import pytest

from glasscase.gramine.manifest import TrustedFile, bundle_manifest
from tests.unit.gramine.test_manifest import config

URI, SIZE = str, str
FEATURE, HARDENED = {"unspecified", "disabled", "required"}, {"disabled", "required"}
MOUNTS = {
    "chroot": {"type": str, "path": str, "uri": URI},
    "encrypted": {"type": str, "path": str, "uri": URI, "key_name": str},
    "tmpfs": {"type": str, "path": str},
}
SINCE_1_6 = {
    "fs": {"mounts": [MOUNTS], "root": {"type": {"chroot"}, "uri": URI}, "start_dir": str},
    "libos": {"entrypoint": str},
    "loader": {
        "entrypoint": str,
        "argv": [str],
        "env": {None: str},
        "gid": int,
        "uid": int,
        "log_level": {"none", "error", "warning", "debug", "trace", "all"},
    },
    "sgx": {
        "allowed_files": [str],
        "cpu_features": {"avx": FEATURE, "avx512": FEATURE, "amx": FEATURE, "mpx": HARDENED, "pkru": HARDENED},
        "debug": bool,
        "edmm_enable": bool,
        "enable_stats": bool,
        "enclave_size": SIZE,
        "file_check_policy": {"strict", "allow_all_but_log"},
        "isvprodid": int,
        "isvsvn": int,
        "max_threads": int,
        "remote_attestation": {"none", "dcap"},
        "trusted_files": [{"uri": URI, "sha256": str}],
        "use_exinfo": bool,
    },
    "sys": {
        "brk": {"max_size": SIZE},
        "disallow_subprocesses": bool,
        "enable_extra_runtime_domain_names_conf": bool,
        "enable_sigterm_injection": bool,
        "fds": {"limit": int},
        "stack": {"size": SIZE},
    },
}
SINCE_1_8 = SINCE_1_6 | {"loader": SINCE_1_6["loader"] | {"entrypoint": {"uri": URI, "sha256": str}}}
KNOWN = {"v1.6": SINCE_1_6, "v1.8": SINCE_1_8}


def strange(value, known, path=""):
    """Return the options of a value that are unknown or of another type, by their paths."""
    if known is MOUNTS:
        known = MOUNTS.get(value.get("type"), {})
    if isinstance(known, dict):
        if not isinstance(value, dict):
            return [path]
        rows = ((f"{path}.{key}".lstrip("."), item, known.get(key, known.get(None))) for key, item in value.items())
        return [name for key, item, one in rows for name in (strange(item, one, key) if one is not None else [key])]
    if isinstance(known, list):
        wrong = not isinstance(value, list)
        return [path] if wrong else [name for item in value for name in strange(item, known[0], path + "[]")]
    good = value in known if isinstance(known, set) else type(value) is known
    return [] if good else [path]


def manifest(series, **changes):
    insecure = ("debug",) if changes.get("debug") else ()
    env = {"A_B": 'text "with" \\ and ü'}
    files = [
        TrustedFile("file:rootfs/lib/libc.so.6", bytes(32)),
        TrustedFile("file:rootfs/usr/bin/python3.11", bytes(32)),
    ]
    made = config(profile=series, insecure=insecure, env=env, **changes)
    return tomllib.loads(bundle_manifest(made, files, libsysdb_sha256=bytes(32)).decode())


@pytest.mark.parametrize("series", sorted(KNOWN))
def test_gramine_knows_every_option(series):
    """For each profile, with and without each option of a project that changes the text."""
    for edmm, dns, debug, persist in itertools.product(
        (False, True), (False, True), (False, True), ("none", "mrenclave")
    ):
        document = manifest(series, edmm=edmm, dns=dns, debug=debug, persist=persist)
        assert [] == strange(document, KNOWN[series])


@pytest.mark.parametrize("series", sorted(KNOWN))
def test_the_loader_finds_what_it_cannot_do_without(series):
    """Absent, each of these ends the start: the signer fills defaults in, and no signer of Gramine reads a bundle."""
    document = manifest(series)

    for table, keys in {
        "loader": ("entrypoint", "argv"), "libos": ("entrypoint",), "fs": ("mounts",),
        "sgx": ("enclave_size", "max_threads", "trusted_files"),
    }.items():  # fmt: skip
        assert set(keys) <= set(document[table])


def test_the_table_sees_strange_options():
    """A misspelt, misplaced or mistyped option is found, and the other profile's form of the entry point."""
    document = manifest("v1.8")
    document["sgx"]["thread_num"] = 4
    document["sgx"]["cpu_features"]["avx"] = True
    document["sys"]["stack"]["size"] = 8
    document["uid"] = 0
    document["fs"]["mounts"][0]["key_name"] = "x"

    found = {"sgx.thread_num", "sgx.cpu_features.avx", "sys.stack.size", "uid", "fs.mounts[].key_name"}
    assert found == set(strange(document, SINCE_1_8))
    assert ["loader.entrypoint"] == strange(manifest("v1.8"), SINCE_1_6)
    assert ["loader.entrypoint"] == strange(manifest("v1.6"), SINCE_1_8)
