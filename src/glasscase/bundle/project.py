"""glasscase.toml, the project file.

Invariants: a Project exists only with every value checked; its paths are relative and stay inside the project.
Source: docs/bundle-format.md, "Project".
"""

import os
import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from glasscase.codec import stricttoml
from glasscase.codec.version import require_version
from glasscase.config.enclave import ENTRY, NAME, parse_size
from glasscase.errors import FormatError, StorageError, UsageError
from glasscase.fs.atomic import read_file
from glasscase.fs.walk import check_path
from glasscase.gramine.pins import NAME as RUNTIME_NAME

FILE = "glasscase.toml"
MAX_BYTES = 64 << 10
_MALFORMED = "bundle.project.malformed"
_MUST_BE = {
    "app.name": "a lower-case letter, then up to 62 of a-z, 0-9 and -",
    "app.entry": "module:attribute, like app.main:app",
    "app.interface": "asgi or wsgi",
    "app.models": "digest or key",
    "enclave.runtime": "a name of glasscase runtime list",
    "enclave.persist": "none or mrenclave",
    "server.certificate": "ra-tls or own",
}
_U16 = Annotated[int, Meta(ge=0, le=0xFFFF)]
_Threads = Annotated[int, Meta(ge=1, le=4096)]
_Seconds = Annotated[int, Meta(ge=1, le=86_400)]


class App(Struct, frozen=True, forbid_unknown_fields=True):
    """[app]: what is served. source and requirements are paths inside the project."""

    name: Annotated[str, Meta(pattern=rf"^(?:{NAME.pattern})\Z")]
    entry: Annotated[str, Meta(pattern=rf"^(?:{ENTRY.pattern})\Z")]
    interface: Literal["asgi", "wsgi"] = "asgi"
    source: str = "src"
    requirements: str = "requirements.txt"
    health: str | None = None
    encrypt: bool = True
    models: Literal["digest", "key"] = "digest"
    pyc: bool = False


class Model(Struct, frozen=True, forbid_unknown_fields=True):
    """[[model]]: a file or directory that the application sees as /models/<last part>."""

    path: str
    lazy: bool = True
    key: str | None = None


class Keys(Struct, frozen=True, forbid_unknown_fields=True):
    """[keys]: the package key and the owners' public keys, of which `threshold` must sign."""

    package: str = "keys/package.key"
    owners: tuple[str, ...] = ("keys/owner.pub",)
    threshold: Annotated[int, Meta(ge=1, le=16)] = 1


class Enclave(Struct, frozen=True, forbid_unknown_fields=True):
    """[enclave]: what Gramine and SGX are told."""

    runtime: Annotated[str, Meta(pattern=rf"^(?:{RUNTIME_NAME.pattern})\Z")] = "simulator"
    size: str = "512M"
    max_threads: _Threads = 32
    isv_prod_id: _U16 = 1
    isv_svn: _U16 = 1
    edmm: bool = False
    dns: bool = False
    persist: Literal["none", "mrenclave"] = "none"
    insecure_debug: bool = False
    insecure_dev_enclave: bool = False


class Server(Struct, frozen=True, forbid_unknown_fields=True):
    """[server]: limits in bytes and seconds. client_ca: PEM file for mutual TLS."""

    certificate: Literal["ra-tls", "own"] = "ra-tls"
    client_ca: str | None = None
    app_threads: _Threads = 16
    body_max: Annotated[int, Meta(ge=1, le=1 << 40)] = 16 << 20
    header_timeout: _Seconds = 10
    idle_timeout: _Seconds = 60
    drain: _Seconds = 30


class Sources(Struct, frozen=True, forbid_unknown_fields=True):
    """[sources]: one package index, absent the tool's own; apt lines and their keyring, absent those of the host."""

    index: str | None = None
    apt: tuple[str, ...] = ()
    keyring: str | None = None


class Project(Struct, frozen=True, forbid_unknown_fields=True, rename={"models": "model"}):
    """The whole file. models: the [[model]] tables."""

    version: int
    app: App
    models: tuple[Model, ...] = ()
    keys: Keys = Keys()
    enclave: Enclave = Enclave()
    server: Server = Server()
    env: dict[str, str] = {}
    sources: Sources = Sources()


def parse_project(data: bytes) -> Project:
    """Return the project that these bytes describe.

    Raises UsageError("bundle.project.malformed") for anything that the format does not allow, FormatError("format.newer").
    """
    try:
        value: dict[str, Any] = stricttoml.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        text = "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)[:120]
        raise _bad(text[:1].lower() + text[1:]) from None
    require_version(value.get("version"), FILE)
    try:
        project = msgspec.convert(value, Project, strict=True)
        parse_size(project.enclave.size)
        for path in _paths(project):
            check_path(path)
    except msgspec.ValidationError as error:
        raise _bad(_in_words(str(error), value)) from None
    except FormatError as error:
        raise _bad(error.message) from None
    _check_together(project)
    return project


def _in_words(text: str, value: dict[str, Any]) -> str:
    """Return what a failed conversion says; of a text that has a form or a choice, what it is and what it must be."""
    path = text.rpartition(" - at `$.")[2].removesuffix("`")
    table, _, key = path.partition(".")
    found = value.get(table)
    given = found.get(key) if isinstance(found, dict) else None
    if path in _MUST_BE and isinstance(given, str):
        return f"{path} is {given!r}, expected {_MUST_BE[path]}"
    return text[:1].lower() + text[1:]


def load_project(directory: str | os.PathLike[str]) -> Project:
    """Return the project of a directory; raises StorageError if it has no readable glasscase.toml."""
    try:
        data = read_file(os.path.join(directory, FILE), max_bytes=MAX_BYTES, what=FILE)
    except StorageError as error:
        if error.reason == "fs.file.missing":
            error.hint = "go to the project's directory or name it; glasscase init DIR makes one"
        raise
    return parse_project(data)


def paths_taken(project: Project) -> tuple[str, ...]:
    """Return the paths of what goes into the bundle."""
    return project.app.source, *(model.path for model in project.models)


def paths_apart(project: Project) -> tuple[str, ...]:
    """Return the keys and, if the application is encrypted, the files whose digests or bytes go into the bundle in clear."""
    apart = [project.keys.package, *project.keys.owners, *(model.key for model in project.models)]
    if project.app.encrypt:
        apart += [project.app.requirements, project.server.client_ca, project.sources.keyring]
    return tuple(path for path in apart if path is not None)


def _paths(project: Project) -> list[str]:
    one = [project.app.source, project.app.requirements, project.keys.package, *project.keys.owners]
    one += [model.path for model in project.models] + [model.key for model in project.models if model.key is not None]
    return one + [path for path in (project.server.client_ca, project.sources.keyring) if path is not None]


def _check_apart(project: Project) -> None:
    for inside in paths_taken(project):
        for path in paths_apart(project):
            if f"{path}/".startswith(f"{inside}/"):
                raise _bad(f"{path!r} is inside {inside!r}, which goes into the bundle", hint="move it out of there")


def _check_together(project: Project) -> None:
    _check_apart(project)
    if project.models and not project.app.encrypt:
        raise _bad("[[model]] needs app.encrypt = true", hint="put clear models into the source directory")
    names = [model.path.rpartition("/")[2] for model in project.models]
    if len(set(names)) != len(names):
        raise _bad("two models have the same last part, so both would be the same /models entry")
    if project.keys.threshold > len(project.keys.owners):
        raise _bad(f"keys.threshold is {project.keys.threshold}, and keys.owners has {len(project.keys.owners)}")
    if len(project.keys.owners) > 16:
        raise _bad("there are more than 16 owners")
    if project.sources.index is not None and not _is_index(project.sources.index):
        raise _bad("sources.index is not the URL of a package index: https, http or file")  # it may hold a password
    for name in project.env:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,254}", name, re.ASCII):
            raise _bad(f"[env] holds the name {name!r}")


def _is_index(url: str) -> bool:
    try:
        parts = urlsplit(url)
        reached = parts.port != 0 and (bool(parts.hostname) or parts.scheme == "file")
    except ValueError:
        return False
    return reached and parts.scheme in ("https", "http", "file") and re.search(r"[\s\x00-\x1f]", url) is None


def _bad(message: str, *, hint: str = "docs/bundle-format.md describes the file") -> UsageError:
    return UsageError(_MALFORMED, f"{FILE}: {message}", hint=hint)
