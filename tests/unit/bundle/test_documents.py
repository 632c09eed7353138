"""SBOM and provenance are what their standards want, and say nothing they must not say."""

import json
import uuid

import pytest
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation import make_schemabased_validator

from glasscase.bundle.provenance import provenance
from glasscase.bundle.sbom import bill_of_materials
from glasscase.codec.strictjson import parse_canonical
from glasscase.lock.model import LockedDebian, LockedPackage


@pytest.fixture
def lock(workshop):
    """Give a lock with wheels and Debian packages."""
    package = LockedPackage(
        "zlib1g", "1:1.2.13.dfsg-1", "amd64", "pool/main/z/zlib/zlib1g_1.2.13.dfsg-1_amd64.deb", 8, bytes(32)
    )
    debian = LockedDebian("bookworm", bytes(32), bytes(20), bytes(32), (package,))
    return workshop.lock(debian=debian)


def test_sbom_is_valid_cyclonedx(lock):
    """The document passes the schema of CycloneDX 1.6, lists every input once, and carries no time."""
    document = bill_of_materials(lock, name="shop", mrenclave=bytes(32))
    problem = make_schemabased_validator(OutputFormat.JSON, SchemaVersion.V1_6).validate_str(document.decode())
    value = parse_canonical(document, max_bytes=1 << 20, what="bom")

    assert problem is None, problem
    assert [
        "pkg:deb/debian/zlib1g@1%3A1.2.13.dfsg-1?arch=amd64",
        "pkg:pypi/demo@1.0",
        "pkg:pypi/glasscase@0.1",
        "runtime",
    ] == [row["bom-ref"] for row in value["components"]]
    assert value["serialNumber"] == f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, 'urn:glasscase:mrenclave:' + '00' * 32)}"
    assert "timestamp" not in document.decode()


def test_provenance_is_an_in_toto_statement(lock):
    """The subject is MRENCLAVE alone; every input stands among the dependencies with its SHA-256; there is no time."""
    value = json.loads(provenance(lock, name="shop", mrenclave=bytes(range(32))))

    assert ("https://in-toto.io/Statement/v1", "https://slsa.dev/provenance/v1") == (
        value["_type"],
        value["predicateType"],
    )
    assert [{"name": "MRENCLAVE", "digest": {"sgxMrEnclave": bytes(range(32)).hex()}}] == value["subject"]
    definition = value["predicate"]["buildDefinition"]
    assert "urn:glasscase:build:v1" == definition["buildType"]
    assert lock.inputs() == len(definition["resolvedDependencies"])
    assert {wheel.sha256.hex() for wheel in lock.wheels} <= {
        row["digest"]["sha256"] for row in definition["resolvedDependencies"]
    }
    assert not {"metadata", "startedOn"} & set(value["predicate"]["runDetails"])
