"""Hashing through the C core."""

import hashlib
import os

import pytest

from glasscase.core.measure import MeasurementHash, digest_files, hash_files
from glasscase.errors import Error


def test_digests_are_those_of_hashlib(tmp_path):
    """Sizes around the read size and more files than are open at once, on one and on several threads."""
    sizes = [0, 1, 63, 64, 262143, 262144, 262145, *range(600)]
    paths = []
    for number, size in enumerate(sizes):
        paths.append(tmp_path / str(number))
        paths[-1].write_bytes(bytes([number % 251]) * size)
    expected = [hashlib.sha256(path.read_bytes()).digest() for path in paths]

    assert expected == hash_files(paths, threads=1) == hash_files(paths, threads=3) == hash_files(paths)
    assert sizes == [digest.size for digest in digest_files(paths)]
    assert [] == hash_files([])


def test_what_is_no_file_is_refused(tmp_path):
    """Missing files, directories, FIFOs and (if wished) links have a reason; nothing hangs."""
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "link").symlink_to("a")
    os.mkfifo(tmp_path / "fifo")
    for path, reason in (
        (tmp_path / "none", "fs.file.missing"),
        (tmp_path, "fs.entry.refused"),
        (tmp_path / "fifo", "fs.entry.refused"),
        (os.devnull, "fs.entry.refused"),
    ):
        with pytest.raises(Error) as caught:
            hash_files([tmp_path / "a", path])
        assert reason == caught.value.reason
    assert hash_files([tmp_path / "a"]) == hash_files([tmp_path / "link"])
    with pytest.raises(Error):
        digest_files([tmp_path / "link"], follow_symlinks=False)


def test_no_descriptor_stays_open(tmp_path):
    """After success and after failure the same descriptors are open as before."""
    (tmp_path / "a").write_bytes(b"a")
    before = os.listdir("/proc/self/fd")
    hash_files([tmp_path / "a"] * 300)
    with pytest.raises(Error):
        hash_files([tmp_path / "a"] * 10 + [tmp_path / "none"])

    assert len(before) == len(os.listdir("/proc/self/fd"))


def test_measurement_ends_with_final():
    """Runs outside the enclave and calls after the end are errors."""
    record = MeasurementHash(ssa_pages=4, size=8192)
    record.add(0, 8192, 0x207)
    with pytest.raises(Error):
        record.add(4096, 8192, 0x207)
    with pytest.raises(Error):
        record.extend(0, 0x201, b"x")
    assert 32 == len(record.final())
    with pytest.raises(Error):
        record.final()
