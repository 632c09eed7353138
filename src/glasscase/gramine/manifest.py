"""Gramine manifests: parsing one, and the one measured text that a bundle has.

Invariants: parse_manifest refuses what Gramine's own parser in C would read another way (NUL, integers beyond 64 bits);
bundle_manifest depends on its arguments alone.
Source: docs/bundle-format.md, "The manifest".
"""

import tomllib
from dataclasses import dataclass
from typing import Any

from glasscase.errors import FormatError

MANIFEST_MAX = 256 << 20  # bytes
SIZE_WITHOUT_EDMM = "256M"
SIZE_WITH_EDMM = "1024G"
THREADS_DEFAULT = 4
_I64 = range(-(2**63), 2**63)


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
        document = tomllib.loads(manifest.decode("utf-8"))
        _check_values(document)
    except UnicodeDecodeError as error:
        raise _malformed("it is not UTF-8", offset=error.start) from None
    except RecursionError:
        raise _malformed("it is nested too deeply") from None
    except ValueError as error:
        raise _malformed(str(error)) from None
    return document


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
