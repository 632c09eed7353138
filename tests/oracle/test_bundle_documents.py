"""SBOM, provenance and import table written a second time, from docs/bundle-format.md alone: nothing of glasscase is used."""

import hashlib
import json
import re
import tomllib
import uuid
from pathlib import Path

import pytest

from tests.unit.bundle.conftest import Workshop

PART = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def canonical(value):
    return (json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n").encode()


def sha(hex_digits):
    return [{"alg": "SHA-256", "content": hex_digits}]


def origin(file, bundle, lock):
    """Return the bom-ref of the component that a trusted file stands below."""
    path = file["path"]
    if path in ("rootfs/opt/glasscase/enclave.cbor", "rootfs/opt/glasscase/imports.txt"):
        return "generated"
    if path.startswith(("runtime/", "rootfs/lib/")):
        return "runtime"
    looked_up = path.replace("opt/glasscase/main.py", "opt/site/glasscase/enclave/bootstrap.py")
    for wheel in lock["wheel"]:
        record = f"{wheel['name']}-{wheel['version']}.dist-info/RECORD"
        listed = {line.split(",")[0] for line in (bundle / "rootfs/opt/site" / record).read_text().splitlines()}
        if looked_up.removeprefix("rootfs/opt/site/") in listed:
            return f"pkg:pypi/{wheel['name']}@{wheel['version']}"
    return "app" if path.startswith("rootfs/app/") else "unexplained"


def bill_of_materials(bundle, index, lock):
    below = {}
    for file in index["files"]:
        if file["path"].startswith(("rootfs/", "runtime/")):
            row = {"type": "file", "bom-ref": file["path"], "name": file["path"], "hashes": sha(file["sha256"])}
            below.setdefault(origin(file, bundle, lock), []).append(row)

    def nested(ref):
        return {"components": below[ref]} if ref in below else {}

    rows = []
    for wheel in lock["wheel"]:
        ref = f"pkg:pypi/{wheel['name']}@{wheel['version']}"
        row = {"type": "library", "bom-ref": ref, "name": wheel["name"], "version": wheel["version"], "purl": ref}
        rows.append(row | {"hashes": sha(wheel["sha256"])} | nested(ref))
    runtime = lock["runtime"]
    rows.append(
        {
            "type": "platform", "bom-ref": "runtime", "name": f"gramine runtime {runtime['name']}",
            "version": runtime["version"], "properties": [{"name": "glasscase:profile", "value": runtime["profile"]}],
        } | nested("runtime")
    )  # fmt: skip
    words = {"app": "files of the application in clear", "generated": "files that glasscase makes"}
    rows += [
        {"type": "application", "bom-ref": ref, "name": text} | nested(ref)
        for ref, text in words.items()
        if ref in below
    ]
    measured = [{"name": "glasscase:mrenclave", "value": index["mrenclave"]}]
    serial = uuid.uuid5(uuid.NAMESPACE_URL, "urn:glasscase:mrenclave:" + index["mrenclave"])
    return {
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "serialNumber": f"urn:uuid:{serial}", "components": rows,
        "metadata": {
            "component": {"type": "application", "bom-ref": "enclave", "name": index["name"], "properties": measured},
            "tools": {"components": [{"type": "application", "name": "glasscase", "version": lock["tool"]}]},
        },
    }  # fmt: skip


def provenance(bundle, index, lock):
    runtime = lock["runtime"]
    rows = [(f"pkg:pypi/{w['name']}@{w['version']}", w["file"], w["sha256"]) for w in lock["wheel"]]
    rows += [
        (f"urn:glasscase:runtime:{runtime['name']}:{runtime['version']}", f["path"], f["sha256"])
        for f in runtime["file"]
    ]
    digest = hashlib.sha256((bundle / "glasscase.lock").read_bytes()).hexdigest()
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "MRENCLAVE", "digest": {"sgxMrEnclave": index["mrenclave"]}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "urn:glasscase:build:v1",
                "externalParameters": {"lock": {"sha256": digest}, "name": index["name"], "profile": index["profile"]},
                "resolvedDependencies": [{"uri": u, "name": n, "digest": {"sha256": d}} for u, n, d in sorted(rows)],
            },
            "runDetails": {"builder": {"id": f"urn:glasscase:tool:{lock['tool']}"}},
        },
    }


def import_table(index):
    """Return the table of a bundle whose only directory on the search path is opt/site."""
    paths = [f["path"].removeprefix("rootfs") for f in index["files"] if f["path"].startswith("rootfs/")]
    paths.remove("/opt/glasscase/imports.txt")
    modules, folders = {}, set()
    for path in paths:
        parts = path.removeprefix("/opt/site/").split("/")
        if not path.startswith("/opt/site/") or not path.endswith(".py"):
            continue
        parts[-1] = parts[-1].removesuffix(".py")
        if not all(PART.fullmatch(part) for part in parts):
            continue
        package = parts[-1] == "__init__"
        modules[".".join(parts[:-1] if package else parts)] = ("p" if package else "m", path)
        folders |= {tuple(parts[:depth]) for depth in range(1, len(parts))}
    lines = [f"{kind} {name} {path}" for name, (kind, path) in modules.items()]
    lines += [f"n {'.'.join(f)} /opt/site/{'/'.join(f)}" for f in folders if ".".join(f) not in modules]
    lines += [f"f - {path}" for path in paths if path not in {path for _, path in modules.values()}]
    return ("\n".join(["glasscase-imports 1", *sorted(lines, key=str.encode)]) + "\n").encode()


@pytest.mark.parametrize("encrypt", ["true", "false"])
def test_documents_follow_from_their_description(tmp_path, encrypt):
    """Whoever follows the description writes the same bytes as the builder."""
    shop = Workshop(tmp_path)
    shop.edit("encrypt = false", f"encrypt = {encrypt}")
    bundle = Path(shop.build().path)
    index = json.loads((bundle / "bundle.json").read_bytes())
    lock = tomllib.loads((bundle / "glasscase.lock").read_text())

    assert canonical(bill_of_materials(bundle, index, lock)) == (bundle / "bom.cdx.json").read_bytes()
    assert canonical(provenance(bundle, index, lock)) == (bundle / "provenance.json").read_bytes()
    assert import_table(index) == (bundle / "rootfs/opt/glasscase/imports.txt").read_bytes()
    assert canonical(index) == (bundle / "bundle.json").read_bytes()
