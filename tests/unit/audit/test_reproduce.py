"""A rebuild says what is the same, what differs and what it could not compare, with and without a key."""

import shutil

import pytest

from glasscase.audit.reproduce import ReproduceRequest, read_opening, reproduce
from glasscase.bundle.check import check_bundle
from glasscase.codec.strictjson import write
from glasscase.errors import FormatError, StorageError, UsageError
from glasscase.seal.files import open_package


def run(workshop, bundle, *, source=None, opening=None, key=None):
    """Reproduce a bundle and return the result."""
    request = ReproduceRequest(
        checked=check_bundle(bundle, full=True), runtime=workshop.runtime, cache=workshop.cache, source=source,
        opening=opening, key=key, say=lambda _line: None,
    )  # fmt: skip
    return reproduce(request)


@pytest.fixture
def built(workshop):
    """Build, and give the bundle, its opening and a copy of the sources without the package key."""
    bundle = workshop.build().path
    opening = open_package(f"{bundle}/blobs", key=workshop.key.read_bytes()).package.opening
    source = workshop.root / "auditor" / "source"
    shutil.copytree(workshop.project, source, ignore=shutil.ignore_patterns("package.key"))
    return bundle, opening, source


def test_auditor_with_opening(workshop, built):
    """With sources and opening, and no key, everything is the same and nothing was left unchecked."""
    bundle, opening, source = built
    result = run(workshop, bundle, source=str(source), opening=opening)

    assert (True, "opening", ()) == (result.same, result.method, result.not_checked)
    assert check_bundle(bundle).measurement.mrenclave == result.mrenclave


def test_one_changed_byte_of_the_source(workshop, built):
    """One byte of one source file is named as a difference of the code commitment, with key as one of the blobs too."""
    bundle, opening, source = built
    (source / "src" / "app" / "main.py").write_bytes(b"SECRET_OF_THE_APP = 2\napp = None\n")
    result = run(workshop, bundle, source=str(source), opening=opening)
    assert ["code commitment"] == [difference.what for difference in result.differences]
    result = run(workshop, bundle, source=str(source), key=str(workshop.key))

    assert "rootfs/opt/glasscase/enclave.cbor" in [difference.what for difference in result.differences]
    assert "MRENCLAVE" in [difference.what for difference in result.differences]


def test_wrong_opening(workshop, built):
    """Another opening does not open the commitment."""
    bundle, _, source = built
    result = run(workshop, bundle, source=str(source), opening=bytes(32))

    assert ["code commitment"] == [difference.what for difference in result.differences]


def test_provider_with_key(workshop, built):
    """The provider's own key gives the same blobs again."""
    bundle, _, _ = built
    result = run(workshop, bundle, source=str(workshop.project), key=str(workshop.key))

    assert (True, "key", ()) == (result.same, result.method, result.not_checked)


def test_without_anything_says_what_was_not_checked(workshop, built):
    """With neither source nor secret the public part is rebuilt, and the rest is named; with source, only the code is."""
    bundle, _, source = built
    result = run(workshop, bundle)
    assert (True, "public", 2) == (result.same, result.method, len(result.not_checked))
    result = run(workshop, bundle, source=str(source))

    assert (True, 1) == (result.same, len(result.not_checked))
    assert "encrypted" in result.not_checked[0]


def test_changed_configuration_is_named(workshop, built):
    """Another size, entry or owner in the project shows as enclave.cbor, the manifest and MRENCLAVE."""
    bundle, opening, source = built
    text = (source / "glasscase.toml").read_text()
    (source / "glasscase.toml").write_text(text.replace("max_threads = 4", "max_threads = 8"))
    result = run(workshop, bundle, source=str(source), opening=opening)

    found = {difference.what for difference in result.differences}
    assert {"rootfs/opt/glasscase/enclave.cbor", "app.manifest.sgx", "MRENCLAVE"} <= found


def test_changed_requirements_are_named(workshop, built):
    """The requirements file of the source must be the locked one."""
    bundle, opening, source = built
    (source / "requirements.txt").write_bytes(b"demo>=1\n")
    result = run(workshop, bundle, source=str(source), opening=opening)

    assert ["requirements.txt"] == [difference.what for difference in result.differences]


def test_clear_application(workshop):
    """A clear application is rebuilt from source without any secret; a changed file is named by its path."""
    workshop.edit("encrypt = true", "encrypt = false")
    bundle = workshop.build().path
    assert run(workshop, bundle, source=str(workshop.project)).same
    assert not run(workshop, bundle, source=str(workshop.project)).not_checked
    (workshop.project / "src" / "app" / "main.py").write_bytes(b"app = 1\n")
    result = run(workshop, bundle, source=str(workshop.project))

    assert "rootfs/app/app/main.py" in [difference.what for difference in result.differences]


def test_swapped_wheel_is_refused(workshop, built):
    """An input in the cache that is not the pinned one never takes part in a rebuild."""
    bundle, _, _ = built
    with open(workshop.cache.path(workshop.wheels[0].sha256), "ab") as file:
        file.write(b"x")
    with pytest.raises(FormatError) as caught:
        run(workshop, bundle)

    assert "lock.input.mismatch" == caught.value.reason


def test_unsound_bundle_is_refused(workshop, built):
    """A bundle that fails its own check is not reproduced."""
    bundle, _, _ = built
    with open(f"{bundle}/runtime/loader", "ab") as file:
        file.write(b"x")
    with pytest.raises(FormatError):
        run(workshop, bundle)


def test_arguments(workshop, built):
    """Opening and key exclude each other, and both need the source."""
    bundle, opening, source = built
    for arguments in ({"opening": opening}, {"key": str(workshop.key)},
                      {"source": str(source), "opening": opening, "key": str(workshop.key)}):  # fmt: skip
        with pytest.raises(UsageError) as caught:
            run(workshop, bundle, **arguments)
        assert "bundle.reproduce.arguments" == caught.value.reason
    with pytest.raises(StorageError):
        run(workshop, bundle, source=str(source), key=str(source / "keys" / "package.key"))


def test_opening_file():
    """The file of `disclose` is read strictly."""
    value = {"v": 1, "type": "glasscase-opening", "package_digest": "00" * 32, "opening": "11" * 32}
    assert bytes([0x11]) * 32 == read_opening(write(value))
    for change in ({"v": 2}, {"type": "x"}, {"opening": "1"}, {"extra": 1}):
        with pytest.raises(FormatError):
            read_opening(write(value | change))
