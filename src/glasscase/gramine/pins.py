"""Pins of Gramine runtimes: which files a release consists of, by size and SHA-256.

Invariants: a pin is data; nothing here says that a runtime is good, only that its files are these.
Source: reproducible/README.md; docs/bundle-format.md, "Runtime".
"""

import importlib.resources
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from glasscase.codec import stricttoml
from glasscase.codec.hexid import from_hex
from glasscase.errors import FormatError

PIN_MAX = 1 << 20  # bytes of one pin file
NAME = re.compile(r"[a-z0-9][a-z0-9.+-]{0,62}", re.ASCII)  # of a runtime


@dataclass(frozen=True)
class RuntimeFile:
    """One file of a runtime. path: below the bundle's runtime/. size: bytes. sha256: 32 bytes."""

    path: str
    size: int
    sha256: bytes


@dataclass(frozen=True)
class RuntimePin:
    """One runtime. commit: of Gramine's sources, None for the simulator. profile: which manifest writer it needs."""

    name: str
    version: str
    commit: str | None
    profile: str
    files: tuple[RuntimeFile, ...]


def parse_pin(text: bytes) -> RuntimePin:
    """Return the pin of a pin file; raises FormatError("bundle.runtime.malformed") for unknown, missing or wrong values."""
    try:
        value = stricttoml.loads(text.decode("utf-8"))
        rows = value.pop("file")
        files = tuple(_read_file(row) for row in rows)
        commit = value.pop("commit", None)
        names = [value.pop(key) for key in ("name", "version", "profile")]
    except (ValueError, RecursionError, KeyError, AttributeError, TypeError):
        raise _malformed() from None
    texts = [*names, *([] if commit is None else [commit])]
    paths = [file.path for file in files]
    if value or not all(isinstance(item, str) and item for item in texts) or len(set(paths)) != len(paths):
        raise _malformed()
    return RuntimePin(names[0], names[1], commit, names[2], tuple(sorted(files, key=lambda file: file.path)))


@cache
def known_pins() -> tuple[RuntimePin, ...]:
    """Return the pins that come with this glasscase, sorted by name."""
    folder = importlib.resources.files("glasscase") / "_pins" / "runtime"
    found = [entry for entry in folder.iterdir() if entry.name.endswith(".toml")] if folder.is_dir() else []
    return tuple(parse_pin(entry.read_bytes()) for entry in sorted(found, key=lambda entry: entry.name))


def _read_file(row: Any) -> RuntimeFile:
    if set(row) != {"path", "size", "sha256"} or type(row["size"]) is not int or not isinstance(row["path"], str):
        raise _malformed()
    return RuntimeFile(row["path"], row["size"], from_hex(row["sha256"], 32, "a digest in a pin"))


def _malformed() -> FormatError:
    return FormatError("bundle.runtime.malformed", "the pin of a runtime is not what such a file must hold", what="pin")
