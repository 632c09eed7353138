"""SBOM and provenance are what their standards want, and say nothing they must not say."""

import hashlib
import json
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation import make_schemabased_validator

from glasscase.bundle.debfiles import GENERATED
from glasscase.bundle.index import FileEntry
from glasscase.bundle.origin import WheelFile, coverage, trace, wheel_records
from glasscase.bundle.provenance import provenance
from glasscase.bundle.sbom import bill_of_materials, debian_claims
from glasscase.codec.strictjson import parse_canonical
from glasscase.errors import FormatError
from glasscase.lock.model import LockedDebian, LockedPackage, LockedWheel


@pytest.fixture
def lock(workshop):
    """Give a lock with wheels and Debian packages."""
    package = LockedPackage(
        "zlib1g", "1:1.2.13.dfsg-1", "amd64", "pool/main/z/zlib/zlib1g_1.2.13.dfsg-1_amd64.deb", 8, bytes(32)
    )
    debian = LockedDebian("bookworm", bytes(32), bytes(20), bytes(32), (package,))
    return workshop.lock(debian=debian)


FILES = (
    FileEntry("rootfs/etc/hosts", 1, "0644", hashlib.sha256(GENERATED["etc/hosts"]).digest()),
    FileEntry("rootfs/etc/odd", 1, "0644", bytes(32)),
    FileEntry("rootfs/opt/site/demo/x.py", 1, "0644", b"\1" * 32),
    FileEntry("rootfs/opt/site/demo/y.py", 1, "0644", b"\2" * 32),
    FileEntry("rootfs/usr/lib/python3.11/__pycache__/os.cpython-311.pyc", 1, "0644", bytes(32)),
    FileEntry("rootfs/usr/lib/python3.11/os.py", 1, "0644", bytes(32)),
    FileEntry("rootfs/usr/lib/x86_64-linux-gnu/libz.so.1", 1, "0644", bytes(32)),
)
RECORDS = {f"rootfs/opt/site/demo/{name}.py": WheelFile("demo", "1.0", b"\1" * 32) for name in "xy"}


def files_of(lock, debian):
    return trace(FILES, lock, records=RECORDS, debian=debian)


def nested(document):
    """Return path -> bom-ref of the component that a file stands below."""
    value = json.loads(document)
    return {file["name"]: row["bom-ref"] for row in value["components"] for file in row.get("components", ())}


def test_sbom_names_the_origin_of_every_file(lock):
    """A file stands below the package that its bytes prove or a rebuild will; what nothing explains is listed as such.

    Compiled Python is not said to be glasscase's own: anybody may have put other code beside a source.
    """
    debian = {"rootfs/usr/lib/x86_64-linux-gnu/libz.so.1": "zlib1g", "rootfs/usr/lib/python3.11/os.py": "absent"}
    zlib, demo = "pkg:deb/debian/zlib1g@1%3A1.2.13.dfsg-1?arch=amd64", "pkg:pypi/demo@1.0"
    document = bill_of_materials(lock, name="shop", mrenclave=bytes(32), files=files_of(lock, debian))
    problem = make_schemabased_validator(OutputFormat.JSON, SchemaVersion.V1_6).validate_str(document.decode())

    assert problem is None, problem
    expected = ["generated", "unexplained", demo, "unexplained", "compiled", "unexplained", zlib]
    assert dict(zip([file.path for file in FILES], expected, strict=True)) == nested(document)
    assert {"rootfs/usr/lib/x86_64-linux-gnu/libz.so.1": "zlib1g"} == debian_claims(document)
    again = bill_of_materials(lock, name="shop", mrenclave=bytes(32), files=files_of(lock, debian_claims(document)))
    assert document == again
    assert (300 / 7, 300 / 7) == pytest.approx(coverage(files_of(lock, debian)))


@pytest.mark.parametrize("document", [b"", b"[]\n", b'{"components":1}\n', b'{"components":[{"bom-ref":1}]}\n'])
def test_claims_of_no_bill_of_materials(document):
    """A document of another shape claims nothing."""
    assert {} == debian_claims(document)


def test_sbom_of_a_bundle_lists_every_trusted_file(workshop):
    """All of rootfs/ and runtime/ stands there once with its digest, and nothing of an encrypted application."""
    workshop.edit("encrypt = false", "encrypt = true")
    built = workshop.build()
    document = (Path(built.path) / "bom.cdx.json").read_bytes()
    value = json.loads(document)
    listed = [file for row in value["components"] for file in row.get("components", ())]

    trusted = [file for file in built.index.files if file.path.startswith(("rootfs/", "runtime/"))]
    assert sorted((file.path, file.sha256.hex()) for file in trusted) == sorted(
        (file["name"], file["hashes"][0]["content"]) for file in listed
    )
    assert "pkg:pypi/demo@1.0" == nested(document)["rootfs/opt/site/demo/__init__.py"]
    assert "unexplained" not in nested(document).values()
    assert b"app/main" not in document


def test_sbom_is_valid_cyclonedx(lock):
    """The document passes the schema of CycloneDX 1.6, lists every input once, and carries no time."""
    document = bill_of_materials(lock, name="shop", mrenclave=bytes(32), files=())
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


@pytest.mark.parametrize(
    "row", ["x,sha256=\xe9,3\n", "x,sha256=AAAAA,3\n", "x\n", '"x\n', "x,sha256=A\n", "x," + "a" * 200_000 + ",\n"]
)
def test_a_record_that_is_no_list_of_files_is_refused(row):
    """A RECORD of a hostile bundle is bytes like all others, its digests too."""
    wheel = LockedWheel("a", "1", "a-1-py3-none-any.whl", 1, bytes(32))
    lock = SimpleNamespace(wheels=(wheel,))
    files = [FileEntry("rootfs/opt/site/a-1.dist-info/RECORD", 1, "0644", bytes(32))]
    with pytest.raises(FormatError) as caught:
        wheel_records(files, lock, lambda _: row.encode())

    assert "bundle.wheel.malformed" == caught.value.reason
    assert 2 == len(wheel_records(files, lock, lambda _: b"x,sha256=" + b"A" * 43 + b",3\n"))
