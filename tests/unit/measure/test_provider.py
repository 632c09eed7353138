"""glasscase.provider.measure, the function for programs."""

import pytest

from glasscase import provider
from glasscase.errors import Error
from tests.unit.gramine.pal import PLAIN, manifest


def test_bundle_files_and_bytes_give_the_same(tmp_path):
    """A bundle's directory, two paths, two byte strings."""
    (tmp_path / "runtime").mkdir()
    (tmp_path / "app.manifest.sgx").write_bytes(manifest())
    (tmp_path / "runtime/libpal.so").write_bytes(PLAIN)
    measured = provider.measure(tmp_path)

    assert measured == provider.measure(manifest(), PLAIN)
    assert measured == provider.measure(str(tmp_path / "app.manifest.sgx"), tmp_path / "runtime/libpal.so")
    assert 32 == len(measured.mrenclave)


@pytest.mark.parametrize(
    ("what", "reason"),
    [(manifest(), "measure.libpal.missing"), ("file", "measure.libpal.missing"), ("none", "fs.file.missing")],
    ids=["bytes", "file", "none"],
)
def test_half_of_the_input_is_refused(tmp_path, what, reason):
    """A manifest without libpal.so has no measurement."""
    (tmp_path / "file").write_bytes(manifest())
    with pytest.raises(Error) as caught:
        provider.measure(what if isinstance(what, bytes) else tmp_path / what)

    assert reason == caught.value.reason
