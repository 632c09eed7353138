"""What a manifest says about the enclave itself: size, threads, attributes; and all that Gramine's loader would refuse.

Invariants: an EnclaveOptions describes an enclave that the loader starts, as far as the manifest decides it; the signer of
Gramine checks less, so a signed enclave could otherwise fail on the machine.
Source: docs/bundle-format.md, "What is refused"; Intel SDM vol. 3D, ATTRIBUTES and XFRM.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from glasscase.errors import FormatError

SIZE_MAX = 1 << 40  # bytes: the debugger's page lies right above
THREADS_MAX = 4096
RPC_THREADS_MAX = 256
RPC_QUEUE = 1024  # enclave threads that exitless calls can serve
FLAG_DEBUG, FLAG_MODE64 = 0x2, 0x4
XFRM_LEGACY = 0x3
XFRM_MASK = 0xFFFF_FFFF_FFF9_FF1B
MISC_EXINFO = 0x1
# in the order in which they act: AVX-512 contains the bit of AVX
_XFRM_BITS = {"avx": 0x4, "avx512": 0xE4, "amx": 0x60000, "mpx": 0x18, "pkru": 0x200}
_HARDENED = ("mpx", "pkru")
_OLD_XFRM_KEYS = {f"require_{name}": bits for name, bits in _XFRM_BITS.items()}
_SIZE = re.compile(r"(0|[1-9][0-9]{0,18})([KMG]?)", re.ASCII)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_ATTESTATION = ("none", "dcap", "epid")
_FILE_POLICIES = ("strict", "allow_all_but_log")
_LOG_LEVELS = ("none", "error", "warning", "debug", "trace", "all")
_HASH = re.compile(r"[0-9A-Fa-f]{64}", re.ASCII)


@dataclass(frozen=True)
class EnclaveOptions:
    """size in bytes; attributes_flags, xfrm, xfrm_mask, misc_select as they stand in SIGSTRUCT."""

    size: int
    max_threads: int
    edmm: bool
    attributes_flags: int
    xfrm: int
    xfrm_mask: int
    misc_select: int
    isv_prod_id: int
    isv_svn: int

    @property
    def debug(self) -> bool:
        """Return whether the enclave can be read by a debugger."""
        return bool(self.attributes_flags & FLAG_DEBUG)


def enclave_options(document: Mapping[str, Any]) -> EnclaveOptions:
    """Return what the parsed manifest.sgx says about the enclave.

    Raises FormatError("gramine.manifest.incomplete") if a field that decides the measurement is absent, and
    FormatError("gramine.manifest.unloadable") for a value that Gramine's loader refuses or reads in another way.
    """
    sgx = document.get("sgx")
    if not isinstance(sgx, Mapping):
        raise FormatError("gramine.manifest.incomplete", "the manifest has no table sgx", hint=_HINT, what="manifest")
    size = parse_size(_required(sgx, "enclave_size"))
    threads = _integer("max_threads", _required(sgx, "max_threads"), 1, THREADS_MAX)
    edmm = _flag(sgx, "edmm_enable")
    _check_loader_rules(document, sgx, threads, edmm=edmm)
    _check_files(sgx)
    xfrm, xfrm_mask = _xfrm(sgx)
    exinfo = _flag(sgx, "use_exinfo") or _flag(sgx, "require_exinfo")
    return EnclaveOptions(
        size=size,
        max_threads=threads,
        edmm=edmm,
        attributes_flags=FLAG_MODE64 | (FLAG_DEBUG if _flag(sgx, "debug") else 0),
        xfrm=xfrm,
        xfrm_mask=xfrm_mask,
        misc_select=MISC_EXINFO if exinfo else 0,
        isv_prod_id=_integer("isvprodid", sgx.get("isvprodid", 0), 0, 0xFFFF),
        isv_svn=_integer("isvsvn", sgx.get("isvsvn", 0), 0, 0xFFFF),
    )


def parse_size(text: Any) -> int:
    """Return the bytes of sgx.enclave_size: a power of two from 4096 to 1024G, spelt so that signer and loader agree."""
    match = _SIZE.fullmatch(text) if isinstance(text, str) else None
    if not match:
        raise _unloadable("enclave_size", text, 'text of decimal digits and K, M or G, like "512M"')
    size = int(match[1]) * _UNITS[match[2]]
    if size < 4096 or size & (size - 1) or size > SIZE_MAX:
        raise _unloadable("enclave_size", text, "a power of two of at most 1024G")
    return size


def _check_loader_rules(document: Mapping[str, Any], sgx: Mapping[str, Any], threads: int, *, edmm: bool) -> None:
    rpc = _integer("insecure__rpc_thread_num", sgx.get("insecure__rpc_thread_num", 0), 0, RPC_THREADS_MAX)
    if rpc and threads > RPC_QUEUE:
        raise _unloadable("max_threads", threads, f"at most {RPC_QUEUE} with sgx.insecure__rpc_thread_num")
    if _flag(sgx, "preheat_enclave") and edmm:
        raise _unloadable("preheat_enclave", True, "false together with sgx.edmm_enable")
    if _flag(sgx, "enable_stats"):
        raise _unloadable("enable_stats", True, "false: a release build of Gramine refuses it")
    if _flag(sgx, "nonpie_binary"):
        raise _unloadable("nonpie_binary", True, "false: gone since Gramine 1.5")
    for gone in ("sigfile", "thread_num", "protected_files", "static_address"):
        if gone in sgx:
            raise _unloadable(gone, sgx[gone], "nothing: the loader no longer takes this option")
    _choice(sgx, "remote_attestation", _ATTESTATION, "none", "sgx")
    _choice(sgx, "file_check_policy", _FILE_POLICIES, "strict", "sgx")
    profile = sgx.get("profile", {})
    if not isinstance(profile, Mapping) or profile.get("enable", "none") != "none":
        raise _unloadable("profile", profile, 'enable = "none": profiling needs a debug build of Gramine')
    loader = document.get("loader", {})
    if not isinstance(loader, Mapping):
        raise _unloadable("loader", loader, "a table", table="")
    _choice(loader, "log_level", _LOG_LEVELS, "error", "loader")


def _check_files(sgx: Mapping[str, Any]) -> None:
    trusted = sgx.get("trusted_files", [])
    if not isinstance(trusted, list):
        raise _unloadable("trusted_files", trusted, "an array")
    for entry in trusted:
        uri = entry.get("uri") if isinstance(entry, Mapping) else None
        digest = entry.get("sha256") if isinstance(entry, Mapping) else None
        if not isinstance(uri, str) or not uri.startswith("file:"):
            raise _unloadable("trusted_files", entry, 'tables {uri = "file:...", sha256 = "..."}')
        if not isinstance(digest, str) or not _HASH.fullmatch(digest):
            raise _unloadable("trusted_files", uri, "a sha256 of 64 hex digits with each file: sign the manifest first")
    allowed = sgx.get("allowed_files", [])
    if not isinstance(allowed, list) or not all(isinstance(uri, str) and uri.startswith("file:") for uri in allowed):
        raise _unloadable("allowed_files", allowed, 'an array of "file:..."')


def _xfrm(sgx: Mapping[str, Any]) -> tuple[int, int]:
    features = sgx.get("cpu_features")
    xfrm, mask = XFRM_LEGACY, XFRM_MASK
    if features is None:  # the spelling of Gramine 1.5
        for key, bits in _OLD_XFRM_KEYS.items():
            xfrm |= bits if _flag(sgx, key) else 0
        return xfrm, mask
    if any(key in sgx for key in _OLD_XFRM_KEYS):
        raise _unloadable("cpu_features", features, "not together with sgx.require_*")
    if not isinstance(features, Mapping):
        raise _unloadable("cpu_features", features, "a table")
    for name, bits in _XFRM_BITS.items():
        choices = ("required", "disabled") if name in _HARDENED else ("required", "disabled", "unspecified")
        wish = features.get(name, "")
        if name in features and wish not in choices:
            raise _unloadable(f"cpu_features.{name}", wish, " or ".join(choices))
        if wish in ("required", "disabled"):
            mask |= bits
            xfrm = xfrm | bits if wish == "required" else xfrm & ~bits
    return xfrm, mask


_HINT = "give the manifest.sgx that sign wrote, or sign this manifest first"


def _required(sgx: Mapping[str, Any], key: str) -> Any:
    if key not in sgx:
        raise FormatError("gramine.manifest.incomplete", f"the manifest lacks sgx.{key}", hint=_HINT, what="manifest")
    return sgx[key]


def _flag(sgx: Mapping[str, Any], key: str) -> bool:
    value = sgx.get(key, False)
    if not isinstance(value, bool):
        raise _unloadable(key, value, "true or false")
    return value


def _integer(key: str, value: Any, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise _unloadable(key, value, f"an integer from {low} to {high}")
    return value


def _choice(table: Mapping[str, Any], key: str, choices: tuple[str, ...], default: str, name: str) -> None:
    value = table.get(key, default)
    if not isinstance(value, str) or value not in choices:
        raise _unloadable(key, value, " or ".join(choices), table=name)


def _unloadable(key: str, value: Any, expected: str, *, table: str = "sgx") -> FormatError:
    name = f"{table}.{key}" if table else key
    text = repr(value)
    text = text if len(text) <= 80 else text[:77] + "..."
    return FormatError(
        "gramine.manifest.unloadable", f"{name} is {text}, Gramine's loader needs {expected}", what="manifest"
    )
