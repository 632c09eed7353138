"""What a bundle's manifest may not say. Anything that is not known to be harmless is a problem.

Invariants: an empty answer means that every key of the manifest is one of those below with a value that is allowed; a
weakening is accepted only if it is named in `insecure`.
Source: docs/bundle-format.md, "What the lint refuses".
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from glasscase.errors import FormatError
from glasscase.gramine.manifest import (
    ARGUMENTS,
    BLOBS_URI,
    INSTANCE_URI,
    LIBSYSDB_URI,
    PERSIST_KEY,
    PERSIST_URI,
    ROOT_URI,
    fixed_value,
    parse_manifest,
    reserved,
)

_SHELLS = frozenset({"ash", "bash", "busybox", "csh", "dash", "env", "fish", "ksh", "sh", "tcsh", "zsh"})
_PYTHON = re.compile(r"/usr/bin/python3(\.[0-9]+)?", re.ASCII)
_KERNEL = ("/dev", "/proc", "/sys")
_OUTSIDE = {"/blobs": "file:blobs", "/instance": "file:instance"}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. id: of docs/checks.md; text: the key and what it says."""

    id: str
    text: str


def lint(manifest: bytes, *, insecure: Collection[str] = ()) -> tuple[Problem, ...]:
    """Return what is wrong with a manifest for a bundle, in the order of the manifest's tables; empty if nothing is.

    insecure: the weakenings that enclave.cbor names; only "debug" concerns the manifest.
    Raises FormatError("gramine.manifest.*") if it is no manifest.
    """
    return lint_document(parse_manifest(manifest), insecure=insecure)


def lint_document(document: Mapping[str, Any], *, insecure: Collection[str] = ()) -> tuple[Problem, ...]:
    """Return the same for a manifest that has been parsed already."""
    return tuple(_problems(document, frozenset(insecure)))


def require_clean(manifest: bytes, *, insecure: Collection[str] = ()) -> None:
    """Return if lint finds nothing; raises FormatError with the id of the first problem."""
    problems = lint(manifest, insecure=insecure)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise FormatError(problems[0].id, f"{problems[0].text}{more}", what="manifest")


def _problems(document: Mapping[str, Any], insecure: frozenset[str]) -> Iterator[Problem]:
    for path, value in _leaves(document, ""):
        rule = _RULES.get(path) or next((rule for prefix, rule in _PREFIX_RULES if path.startswith(prefix)), None)
        if rule is None:
            yield Problem("gramine.lint.unknown", f"{path} is not an option that a bundle uses")
        else:
            yield from rule(path, value, insecure)
    for path in _REQUIRED:
        if not _has(document, path):
            yield Problem("gramine.lint.missing", f"{path} is not set")


def _leaves(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and path not in _TABLES:
            yield from _leaves(value, path + ".")
            if not value:
                yield path, value
        else:
            yield path, value


def _has(document: Mapping[str, Any], path: str) -> bool:
    value: Any = document
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return True


_Rule = Callable[[str, Any, frozenset[str]], Iterator[Problem]]


def _equal(expected: Any, problem: str, why: str) -> _Rule:
    def rule(path: str, value: Any, _insecure: frozenset[str]) -> Iterator[Problem]:
        if type(value) is not type(expected) or value != expected:
            yield Problem(problem, f"{path} is {_show(value)}, must be {_show(expected)}: {why}")

    return rule


def _never(problem: str, why: str) -> _Rule:
    def rule(path: str, value: Any, _insecure: frozenset[str]) -> Iterator[Problem]:
        if value not in (False, 0):
            yield Problem(problem, f"{path} is {_show(value)}: {why}")

    return rule


def _is(kind: type) -> _Rule:
    def rule(path: str, value: Any, _insecure: frozenset[str]) -> Iterator[Problem]:
        if type(value) is not kind:
            yield Problem("gramine.lint.value", f"{path} is {_show(value)}")

    return rule


def _debug(path: str, value: Any, insecure: frozenset[str]) -> Iterator[Problem]:
    if value is not False and "debug" not in insecure:
        yield Problem("gramine.lint.debug", f"{path} is {_show(value)}: a debugger on the host reads the whole enclave")


def _entrypoint(path: str, value: Any, _insecure: frozenset[str]) -> Iterator[Problem]:
    if not isinstance(value, str) or not value.startswith("/"):
        yield Problem("gramine.lint.value", f"{path} is {_show(value)}, must be an absolute path")
    elif value.rpartition("/")[2] in _SHELLS:
        yield Problem("gramine.lint.shell", f"{path} is {value!r}: a shell runs what it is told")
    elif not _PYTHON.fullmatch(value):
        yield Problem("gramine.lint.value", f"{path} is {value!r}, must be the interpreter in /usr/bin")


def _argv(path: str, value: Any, _insecure: frozenset[str]) -> Iterator[Problem]:
    if not isinstance(value, list) or not value or not all(isinstance(word, str) for word in value):
        yield Problem("gramine.lint.value", f"{path} is {_show(value)}, must be words")
    elif not _PYTHON.fullmatch(f"/usr/bin/{value[0]}") or tuple(value[1:]) != ARGUMENTS:
        yield Problem("gramine.lint.value", f"{path} is {_show(value)}, must be python3.N {' '.join(ARGUMENTS)}")


def _loader_entrypoint(path: str, value: Any, _insecure: frozenset[str]) -> Iterator[Problem]:
    uri = value.get("uri") if isinstance(value, Mapping) else value
    if uri != LIBSYSDB_URI:
        yield Problem("gramine.lint.value", f"{path} is {_show(uri)}, must be {LIBSYSDB_URI!r}")
    elif isinstance(value, Mapping) and set(value) != {"uri", "sha256"}:
        yield Problem("gramine.lint.value", f"{path} must hold uri and sha256")


def _environment(path: str, value: Any, _insecure: frozenset[str]) -> Iterator[Problem]:
    if not isinstance(value, Mapping):
        yield Problem("gramine.lint.value", f"{path} is {_show(value)}, must be a table")
        return
    for name, setting in value.items():
        if not isinstance(setting, str):
            yield Problem(
                "gramine.lint.host_env", f"{path}.{name} is {_show(setting)}: the host would decide the value"
            )
        elif reserved(name) and setting != fixed_value(name):
            yield Problem("gramine.lint.value", f"{path}.{name} is {_show(setting)}: glasscase alone may set it")


def _root(path: str, value: Any, _insecure: frozenset[str]) -> Iterator[Problem]:
    if value != {"type": "chroot", "uri": ROOT_URI}:
        yield Problem("gramine.lint.mount", f"{path} is {_show(value)}, must be the chroot of {ROOT_URI!r}")


def _mounts(path: str, value: Any, _insecure: frozenset[str]) -> Iterator[Problem]:
    encrypted = 0
    seen: set[str] = set()
    for mount in value if isinstance(value, list) else [value]:
        kind, where, uri = (
            (mount.get(key) for key in ("type", "path", "uri")) if isinstance(mount, Mapping) else [None] * 3
        )
        if not isinstance(where, str) or not where.startswith("/") or (where != "/" and not _plain(where[1:])):
            yield Problem("gramine.lint.mount", f"{path}: {_show(mount)} has no plain absolute path")
        elif any(where == top or where.startswith(top + "/") for top in _KERNEL) or where == "/":
            yield Problem("gramine.lint.mount", f"{path}: a mount at {where!r} would stand for what Gramine provides")
        elif where in seen:
            yield Problem("gramine.lint.mount", f"{path}: two mounts at {where!r}")
        elif kind == "encrypted":
            encrypted += 1
            if encrypted > 1 or uri != PERSIST_URI or mount.get("key_name") != PERSIST_KEY or len(mount) != 4:
                yield Problem("gramine.lint.mount", f"{path}: the one encrypted mount is of {PERSIST_URI!r}")
        elif kind == "chroot":
            if _OUTSIDE.get(where) != uri or len(mount) != 3:
                yield Problem("gramine.lint.mount", f"{path}: {where!r} shows {_show(uri)} of the host")
        elif kind != "tmpfs" or len(mount) != 2:
            yield Problem("gramine.lint.mount", f"{path}: {_show(mount)} is not a mount that a bundle uses")
        if isinstance(where, str):
            seen.add(where)


def _allowed(path: str, value: Any, _insecure: frozenset[str]) -> Iterator[Problem]:
    for uri in value if isinstance(value, list) else [value]:
        if uri not in (BLOBS_URI, INSTANCE_URI):
            yield Problem("gramine.lint.allowed_files", f"{path} lets the host change {_show(uri)} unseen")


def _trusted(path: str, value: Any, _insecure: frozenset[str]) -> Iterator[Problem]:
    seen: set[str] = set()
    for entry in value if isinstance(value, list) else [value]:
        uri = entry.get("uri") if isinstance(entry, Mapping) else None
        digest = entry.get("sha256") if isinstance(entry, Mapping) else None
        if not isinstance(uri, str) or not isinstance(digest, str) or len(digest) != 64 or len(entry) != 2:
            yield Problem("gramine.lint.trusted_files", f"{path}: {_show(entry)} is not a URI with its SHA-256")
        elif uri != LIBSYSDB_URI and not (uri.startswith(ROOT_URI + "/") and _plain(uri)):
            yield Problem("gramine.lint.trusted_files", f"{path}: {uri!r} is not a plain path below {ROOT_URI!r}")
        elif uri in seen:
            yield Problem("gramine.lint.trusted_files", f"{path}: {uri!r} is listed twice")
        else:
            seen.add(uri)


def _plain(uri: str) -> bool:
    return not any(part in ("", ".", "..") for part in uri.removeprefix("file:").split("/"))


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."


_HOST = "the host would decide what the enclave does"
_DEBUGGING = "it is for debugging only"
_TABLES = ("loader.entrypoint", "loader.env", "fs.root", "fs.insecure__keys", "sgx.profile")
_REQUIRED = (
    "libos.entrypoint", "loader.entrypoint", "loader.argv", "loader.log_level", "fs.mounts", "fs.root", "sgx.debug",
    "sgx.enclave_size", "sgx.max_threads", "sgx.remote_attestation", "sgx.trusted_files", "sgx.allowed_files",
    "sys.disallow_subprocesses",
)  # fmt: skip
_RULES: dict[str, _Rule] = {
    "libos.entrypoint": _entrypoint,
    "loader.entrypoint": _loader_entrypoint,
    "loader.argv": _argv,
    "loader.env": _environment,
    "loader.log_level": _equal("error", "gramine.lint.log_level", "other levels show what happens inside"),
    "loader.uid": _equal(0, "gramine.lint.value", "the user inside is 0"),
    "loader.gid": _equal(0, "gramine.lint.value", "the group inside is 0"),
    "loader.argv_src_file": _never("gramine.lint.cmdline_argv", _HOST),
    "loader.env_src_file": _never("gramine.lint.host_env", _HOST),
    "loader.insecure__use_cmdline_argv": _never("gramine.lint.cmdline_argv", _HOST),
    "loader.insecure__use_host_env": _never("gramine.lint.host_env", _HOST),
    "loader.insecure__disable_aslr": _never("gramine.lint.aslr", _DEBUGGING),
    "loader.log_file": _never("gramine.lint.log_level", "it writes to the host"),
    "fs.start_dir": _equal("/tmp", "gramine.lint.value", "the program starts in memory"),  # noqa: S108
    "fs.root": _root,
    "fs.mounts": _mounts,
    "fs.insecure__keys": _never("gramine.lint.fs_keys", "a key that everybody can read protects nothing"),
    "sys.enable_sigterm_injection": _equal(True, "gramine.lint.value", "stop needs it"),
    "sys.disallow_subprocesses": _equal(True, "gramine.lint.subprocesses", "each process would be another enclave"),
    "sys.enable_extra_runtime_domain_names_conf": _is(bool),
    "sys.fds.limit": _is(int),
    "sys.stack.size": _is(str),
    "sys.brk.max_size": _is(str),
    "sys.insecure__allow_eventfd": _never("gramine.lint.eventfd", _HOST),
    "sys.allowed_ioctls": _never("gramine.lint.ioctl", "device calls leave the enclave unprotected"),
    "sgx.debug": _debug,
    "sgx.edmm_enable": _is(bool),
    "sgx.enclave_size": _is(str),
    "sgx.max_threads": _is(int),
    "sgx.remote_attestation": _equal("dcap", "gramine.lint.value", "evidence needs DCAP quotes"),
    "sgx.isvprodid": _is(int),
    "sgx.isvsvn": _is(int),
    "sgx.use_exinfo": _equal(True, "gramine.lint.value", "without it a page fault ends the enclave"),
    "sgx.enable_stats": _never("gramine.lint.debug", _DEBUGGING),
    "sgx.profile": _never("gramine.lint.debug", _DEBUGGING),
    "sgx.vtune_profile": _never("gramine.lint.debug", _DEBUGGING),
    "sgx.file_check_policy": _equal("strict", "gramine.lint.file_policy", "unlisted files of the host could be read"),
    "sgx.insecure__allow_memfaults_without_exinfo": _never("gramine.lint.memfaults", _HOST),
    "sgx.insecure__rpc_thread_num": _never("gramine.lint.rpc_threads", "exitless calls are open to side channels"),
    "sgx.allowed_files": _allowed,
    "sgx.trusted_files": _trusted,
}
_PREFIX_RULES: tuple[tuple[str, _Rule], ...] = (
    ("sys.debug__", _never("gramine.lint.debug", _DEBUGGING)),
    ("sgx.cpu_features.", _is(str)),
)
