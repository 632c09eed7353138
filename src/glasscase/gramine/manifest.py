"""Gramine manifests: parsing one, and the one measured text that a bundle has.

Invariants: parse_manifest refuses what Gramine's own parser in C would read another way (NUL, integers beyond 64 bits);
bundle_manifest depends on its arguments alone.
Source: docs/bundle-format.md, "The manifest".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from glasscase.codec import stricttoml
from glasscase.errors import FormatError
from glasscase.gramine.profiles import Profile, profile
from glasscase.gramine.toml import write_toml

if TYPE_CHECKING:
    from glasscase.config.enclave import EnclaveConfig

MANIFEST_MAX = 256 << 20  # bytes
SIZE_WITHOUT_EDMM = "256M"
SIZE_WITH_EDMM = "1024G"
THREADS_DEFAULT = 4
LIBSYSDB_URI = "file:runtime/libsysdb.so"
ROOT_URI = "file:rootfs"
BLOBS_URI, INSTANCE_URI, PERSIST_URI = "file:blobs/", "file:instance/", "file:instance/persist"
PERSIST_PATH, PERSIST_KEY = "/persist", "persist"
MAIN = "/opt/glasscase/main.py"
PYTHON = "/usr/bin/python3.11"
_I64 = range(-(2**63), 2**63)
_ENVIRONMENT = {
    "LD_LIBRARY_PATH": "/lib:/usr/lib/x86_64-linux-gnu",
    "PATH": "/nonexistent",
    "HOME": "/tmp",  # noqa: S108 - inside the enclave: a tmpfs of its own
    "TMPDIR": "/tmp",  # noqa: S108
    "LC_ALL": "C",
    "TZ": "UTC",
    "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
    "OPENBLAS_NUM_THREADS": "4",
    "MALLOC_ARENA_MAX": "2",
}
ARGUMENTS = ("-I", "-S", "-B", "-u", "-X", "utf8", MAIN)  # of the interpreter
# what glibc or a TLS library would read code, names, keys or settings from; -I makes Python ignore PYTHON*
_RESERVED = frozenset(
    ("PATH", "HOME", "TMPDIR", "LC_ALL", "GCONV_PATH", "GETCONF_DIR", "HOSTALIASES", "LOCALDOMAIN", "LOCPATH", "MALLOC_TRACE",
     "NIS_PATH", "NLSPATH", "RESOLV_HOST_CONF", "RES_OPTIONS", "SSLKEYLOGFILE", "TZDIR")
)  # fmt: skip
_RESERVED_PREFIXES = ("LD_", "PYTHON", "GLIBC_", "OPENSSL_")


@dataclass(frozen=True)
class TrustedFile:
    """One file whose content Gramine checks. uri: "file:" and a path; sha256: 32 bytes."""

    uri: str
    sha256: bytes


def parse_manifest(manifest: bytes) -> dict[str, Any]:
    """Return the document of a manifest, keys in the order of their first appearance.

    Raises FormatError: gramine.manifest.oversize, .nul, .malformed (not TOML 1.0 in UTF-8).
    """
    if len(manifest) > MANIFEST_MAX:
        raise FormatError(
            "gramine.manifest.oversize", f"the manifest has {len(manifest)} bytes, at most {MANIFEST_MAX}"
        )
    if b"\0" in manifest:
        raise _nul(manifest.index(b"\0"))
    try:
        document = stricttoml.loads(manifest.decode("utf-8"))
        _check_values(document)
    except UnicodeDecodeError as error:
        raise _malformed("it is not UTF-8", offset=error.start) from None
    except RecursionError:
        raise _malformed("it is nested too deeply") from None
    except ValueError as error:
        raise _malformed(str(error)) from None
    return document


def bundle_manifest(
    config: "EnclaveConfig", trusted: Sequence[TrustedFile], *, libsysdb_sha256: bytes, python: str = PYTHON
) -> bytes:
    """Return the measured text of a bundle, the one that its enclave.cbor and its files have.

    trusted: the files of rootfs as "file:rootfs/...", sorted by the bytes of their URIs, without repeats. libsysdb_sha256: 32
    bytes. python: path of the interpreter inside.
    Raises FormatError("gramine.profile.outdated"), ("gramine.trusted.malformed"), ("gramine.env.reserved").
    """
    series = profile(config.gramine.profile)
    if not series.bundles:
        raise FormatError(
            "gramine.profile.outdated",
            f"Gramine {series.releases[0]} lets the host inject signals into the enclave (CVE-2024-25371)",
            hint="use Gramine 1.6 or newer",
        )
    _check_trusted(trusted)
    return write_toml(
        {
            "libos": {"entrypoint": python},
            "loader": _loader(config, series, libsysdb_sha256, python),
            "fs": _file_systems(config),
            "sys": {
                "enable_sigterm_injection": True,
                "disallow_subprocesses": True,
                "enable_extra_runtime_domain_names_conf": config.gramine.dns,
                "fds": {"limit": 4096},
                "stack": {"size": "8M"},
                "brk": {"max_size": "16M"},
            },
            "sgx": _sgx(config, series, trusted, libsysdb_sha256),
        }
    )


def environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return the measured environment: ours, then that of the project sorted by name.

    Raises FormatError("gramine.env.reserved") for a name that must keep our value.
    """
    for name in env:
        if reserved(name):
            raise FormatError("gramine.env.reserved", f"the variable {name!r} cannot be set by a project")
    return _ENVIRONMENT | {name: env[name] for name in sorted(env)}


def reserved(name: str) -> bool:
    """Return whether only glasscase may set this variable: it decides which code is loaded, or gives away keys."""
    return name in _RESERVED or name.startswith(_RESERVED_PREFIXES)


def fixed_value(name: str) -> str | None:
    """Return what glasscase sets a variable to, or None if it does not."""
    return _ENVIRONMENT.get(name)


def _loader(config: "EnclaveConfig", series: Profile, libsysdb_sha256: bytes, python: str) -> dict[str, Any]:
    loader: dict[str, Any] = {
        "argv": [python.rpartition("/")[2], *ARGUMENTS],
        "log_level": "error",
        "uid": 0,
        "gid": 0,
        "entrypoint": {"uri": LIBSYSDB_URI, "sha256": libsysdb_sha256.hex()}
        if series.entrypoint_table
        else LIBSYSDB_URI,
        "env": environment(config.env),
    }
    return loader


def _file_systems(config: "EnclaveConfig") -> dict[str, Any]:
    in_memory = ["/tmp", "/run/glasscase"]  # noqa: S108 - inside the enclave
    outside = [("/instance", INSTANCE_URI)]
    if config.encrypt:
        in_memory.append("/models")
        outside.insert(0, ("/blobs", BLOBS_URI))
    mounts = [{"type": "tmpfs", "path": path} for path in in_memory]
    mounts += [{"type": "chroot", "path": path, "uri": uri.rstrip("/")} for path, uri in outside]
    if config.gramine.persist != "none":
        mounts.append({"type": "encrypted", "path": PERSIST_PATH, "uri": PERSIST_URI, "key_name": PERSIST_KEY})
    return {"start_dir": "/tmp", "mounts": mounts, "root": {"type": "chroot", "uri": ROOT_URI}}  # noqa: S108


def _sgx(
    config: "EnclaveConfig", series: Profile, trusted: Sequence[TrustedFile], libsysdb_sha256: bytes
) -> dict[str, Any]:
    """Return the table sgx with every default written out, so that Gramine's own tools would not change the text."""
    gramine = config.gramine
    files = [*trusted] if series.entrypoint_table else [*trusted, TrustedFile(LIBSYSDB_URI, libsysdb_sha256)]
    return {
        "debug": gramine.debug,
        "edmm_enable": gramine.edmm,
        "enclave_size": gramine.size,
        "max_threads": gramine.max_threads,
        "remote_attestation": "dcap",
        "isvprodid": gramine.isv_prod_id,
        "isvsvn": gramine.isv_svn,
        "use_exinfo": True,
        "enable_stats": False,
        "file_check_policy": "strict",
        "allowed_files": [BLOBS_URI, INSTANCE_URI] if config.encrypt else [INSTANCE_URI],
        "trusted_files": [{"uri": file.uri, "sha256": file.sha256.hex()} for file in files],
        "cpu_features": {
            "avx": "unspecified",
            "avx512": "unspecified",
            "amx": "unspecified",
            "mpx": "disabled",
            "pkru": "disabled",
        },
    }


def _check_trusted(trusted: Sequence[TrustedFile]) -> None:
    before = b""
    for file in trusted:
        uri = file.uri.encode("utf-8", "surrogateescape")
        if not file.uri.startswith(ROOT_URI + "/") or len(file.sha256) != 32:
            raise FormatError("gramine.trusted.malformed", f"{file.uri!r} is not a file of rootfs with its SHA-256")
        if uri <= before:
            raise FormatError("gramine.trusted.malformed", f"{file.uri!r} is out of order or listed twice")
        before = uri


def _check_values(value: Any) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise _nul(None)
    elif isinstance(value, int):
        if value not in _I64:
            raise _malformed("an integer does not fit 64 bits")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_values(key)
            _check_values(item)
    elif isinstance(value, list):
        for item in value:
            _check_values(item)


def _nul(offset: int | None) -> FormatError:
    return FormatError(
        "gramine.manifest.nul",
        "the manifest holds a NUL character: Gramine's loader would read less of it than was signed",
        offset=offset,
        what="manifest",
    )


def _malformed(why: str, *, offset: int | None = None) -> FormatError:
    return FormatError(
        "gramine.manifest.malformed", f"the manifest is not usable: {why}", offset=offset, what="manifest"
    )
