"""bom.cdx.json, the CycloneDX 1.6 bill of materials of a bundle: wheels, Debian packages and the Gramine runtime.

Invariants: a function of lock, name and MRENCLAVE; no time, no bundle id, and nothing about own sources or models.
Source: CycloneDX 1.6; package URL specification; docs/bundle-format.md, "Documents".
"""

import uuid
from typing import Any
from urllib.parse import quote

from glasscase.codec.strictjson import write_canonical
from glasscase.lock.model import Lock


def bill_of_materials(lock: Lock, *, name: str, mrenclave: bytes) -> bytes:
    """Return the document as cJSON."""
    rows = [
        _component(f"pkg:pypi/{w.name}@{quote(w.version, safe='.')}", w.name, w.version, w.sha256) for w in lock.wheels
    ]
    packages = () if lock.debian is None else lock.debian.packages
    for package in packages:
        purl = f"pkg:deb/debian/{package.name}@{quote(package.version, safe='.')}?arch={package.arch}"
        rows.append(_component(purl, package.name, package.version, package.sha256))
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
        "components": [*sorted(rows, key=lambda row: str(row["bom-ref"])), _runtime(lock)],
    }
    return write_canonical(document)


def _component(purl: str, name: str, version: str, sha256: bytes) -> dict[str, Any]:
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "hashes": [{"alg": "SHA-256", "content": sha256.hex()}],
    }


def _runtime(lock: Lock) -> dict[str, Any]:
    runtime = lock.runtime
    commit = [] if runtime.commit is None else [{"name": "glasscase:commit", "value": runtime.commit}]
    files = [
        {
            "type": "file",
            "bom-ref": f"runtime/{file.path}",
            "name": file.path,
            "hashes": [{"alg": "SHA-256", "content": file.sha256.hex()}],
        }
        for file in runtime.files
    ]
    return {
        "type": "platform",
        "bom-ref": "runtime",
        "name": f"gramine runtime {runtime.name}",
        "version": runtime.version,
        "properties": [*commit, {"name": "glasscase:profile", "value": runtime.profile}],
        "components": files,
    }
