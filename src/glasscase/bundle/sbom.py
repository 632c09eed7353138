"""bom.cdx.json, the CycloneDX 1.6 bill of materials of a bundle: its packages, and below each the files that come from it.

Invariants: a function of lock, name, MRENCLAVE and the trusted files with their origins; no time, no bundle id, and nothing about
encrypted sources or models. A file that no package explains is listed as such.
Source: CycloneDX 1.6; package URL specification; docs/bundle-format.md, "Documents".
"""

import uuid
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from glasscase.bundle.origin import FileOrigin
from glasscase.codec import strictjson
from glasscase.codec.strictjson import write_canonical
from glasscase.errors import FormatError
from glasscase.fs.walk import FILES_MAX
from glasscase.gramine.manifest import MANIFEST_MAX
from glasscase.lock.model import Lock

BOM_MAX = MANIFEST_MAX  # bytes: both list every trusted file
_ITEMS_MAX = 16 * FILES_MAX  # commas and brackets: nine a file
_DEBIAN = "pkg:deb/debian/"
_BESIDE = {
    "app": "files of the application in clear",
    "compiled": "compiled Python beside its source, to be checked by a rebuild",
    "generated": "files that glasscase makes",
    "unexplained": "files that nothing explains",
}


def bill_of_materials(lock: Lock, *, name: str, mrenclave: bytes, files: Iterable[FileOrigin]) -> bytes:
    """Return the document as cJSON. files: the trusted files with their origins."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for file in files:
        key = (file.kind, file.package if file.kind in ("deb", "wheel") else "")
        groups.setdefault(key, []).append(_file(file))
    rows = [
        _component(f"pkg:pypi/{w.name}@{quote(w.version, safe='.')}", w.name, w.version, w.sha256)
        | _nested(groups.get(("wheel", w.name)))
        for w in lock.wheels
    ]
    for package in () if lock.debian is None else lock.debian.packages:
        purl = f"{_DEBIAN}{package.name}@{quote(package.version, safe='.')}?arch={package.arch}"
        row = _component(purl, package.name, package.version, package.sha256)
        rows.append(row | _nested(groups.get(("deb", package.name))))
    beside = [_beside(kind, groups[kind, ""]) for kind in _BESIDE if (kind, "") in groups]
    serial = uuid.uuid5(uuid.NAMESPACE_URL, f"urn:glasscase:mrenclave:{mrenclave.hex()}")
    measured = {"name": "glasscase:mrenclave", "value": mrenclave.hex()}
    document: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "component": {"type": "application", "bom-ref": "enclave", "name": name, "properties": [measured]},
            "tools": {"components": [{"type": "application", "name": "glasscase", "version": lock.tool}]},
        },
        "components": [
            *sorted(rows, key=lambda row: str(row["bom-ref"])),
            _runtime(lock) | _nested(groups.get(("gramine", ""))),
            *beside,
        ],
    }
    return write_canonical(document)


def debian_claims(document: bytes) -> dict[str, str]:
    """Return path -> Debian package as a bill of materials says; empty for one that is malformed.

    A claim that the bundle's bytes cannot confirm: writing the document again with it must give the same bytes, and whether
    the packages hold these files, a rebuild says.
    """
    try:
        value = strictjson.parse_canonical(document, max_bytes=BOM_MAX, what="bill of materials", max_items=_ITEMS_MAX)
        rows = value["components"] if isinstance(value, dict) else []
        return {
            str(file["name"]): str(row["name"])
            for row in rows
            if str(row["bom-ref"]).startswith(_DEBIAN)
            for file in row.get("components", ())
        }
    except (FormatError, KeyError, TypeError, AttributeError):
        return {}


def _component(purl: str, name: str, version: str, sha256: bytes) -> dict[str, Any]:
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "hashes": [_hash(sha256)],
    }


def _runtime(lock: Lock) -> dict[str, Any]:
    runtime = lock.runtime
    commit = [] if runtime.commit is None else [{"name": "glasscase:commit", "value": runtime.commit}]
    return {
        "type": "platform",
        "bom-ref": "runtime",
        "name": f"gramine runtime {runtime.name}",
        "version": runtime.version,
        "properties": [*commit, {"name": "glasscase:profile", "value": runtime.profile}],
    }


def _beside(kind: str, files: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "application", "bom-ref": kind, "name": _BESIDE[kind]} | _nested(files)


def _nested(files: list[dict[str, Any]] | None) -> dict[str, Any]:
    return {"components": files} if files else {}


def _file(file: FileOrigin) -> dict[str, Any]:
    return {"type": "file", "bom-ref": file.path, "name": file.path, "hashes": [_hash(file.sha256)]}


def _hash(sha256: bytes) -> dict[str, str]:
    return {"alg": "SHA-256", "content": sha256.hex()}
