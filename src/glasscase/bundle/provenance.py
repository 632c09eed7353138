"""provenance.json, the SLSA provenance of a bundle as an in-toto statement: which pinned inputs gave which MRENCLAVE.

Invariants: a function of the lock and MRENCLAVE; no time, no bundle id, and nothing about own sources or models.
Source: SLSA provenance v1; in-toto Statement v1; docs/bundle-format.md, "Documents".
"""

import hashlib
from typing import Any

from glasscase.codec.strictjson import write_canonical
from glasscase.lock.model import Lock

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:glasscase:build:v1"


def provenance(lock: Lock, *, name: str, mrenclave: bytes) -> bytes:
    """Return the statement as cJSON."""
    parameters = {
        "lock": {"sha256": hashlib.sha256(lock.to_bytes()).hexdigest()},
        "name": name,
        "profile": lock.runtime.profile,
    }
    statement: dict[str, Any] = {
        "_type": STATEMENT,
        "subject": [{"name": "MRENCLAVE", "digest": {"sgxMrEnclave": mrenclave.hex()}}],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": parameters,
                "resolvedDependencies": _dependencies(lock),
            },
            "runDetails": {"builder": {"id": f"urn:glasscase:tool:{lock.tool}"}},
        },
    }
    return write_canonical(statement)


def _dependencies(lock: Lock) -> list[dict[str, Any]]:
    rows = [(f"pkg:pypi/{wheel.name}@{wheel.version}", wheel.file, wheel.sha256) for wheel in lock.wheels]
    packages = () if lock.debian is None else lock.debian.packages
    rows += [(f"pkg:deb/debian/{p.name}@{p.version}?arch={p.arch}", p.file, p.sha256) for p in packages]
    runtime = lock.runtime
    rows += [(f"urn:glasscase:runtime:{runtime.name}:{runtime.version}", f.path, f.sha256) for f in runtime.files]
    return [{"uri": uri, "name": name, "digest": {"sha256": digest.hex()}} for uri, name, digest in sorted(rows)]
