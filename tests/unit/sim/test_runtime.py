"""The simulator's runtime: pinned bytes of our own, measured like Gramine's, and it starts nothing."""

import hashlib
import os
import struct
import subprocess
import tomllib
from pathlib import Path

import pytest

from glasscase.gramine.elf import read_pal
from glasscase.gramine.pins import known_pins
from glasscase.gramine.profiles import known_profiles
from glasscase.sim import runtime

PIN_FILE = Path(__file__).resolve().parents[3] / "reproducible" / "runtime" / "simulator.toml"


def loads(image):
    """Return (flags, offset, address, file size, memory size) of each PT_LOAD, read by hand."""
    offset, count = struct.unpack_from("<Q", image, 32)[0], struct.unpack_from("<H", image, 56)[0]
    rows = [struct.unpack_from("<IIQQQQQQ", image, offset + 56 * index) for index in range(count)]
    return [(row[1], row[2], row[3], row[5], row[6]) for row in rows if row[0] == 1]


def test_bytes_are_pinned():
    """The files that the code makes are those whose digests stand in reproducible/runtime/simulator.toml."""
    document = tomllib.loads(PIN_FILE.read_text(encoding="utf-8"))
    made = [
        {"path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for path, content in sorted(runtime.runtime_files().items())
    ]

    assert made == document["file"]
    assert (runtime.NAME, runtime.VERSION, runtime.PROFILE) == (
        document["name"], document["version"], document["profile"],
    )  # fmt: skip
    assert "commit" not in document


@pytest.mark.parametrize("name", ["libpal.so", "libsysdb.so"])
def test_layout_is_one_that_gramine_measures_and_loads(name):
    """Two segments, R-X then RW- with bss, from address 0, page-congruent, no shared page, all bytes in the file."""
    image = runtime.runtime_files()[name]
    segments = loads(image)
    entry = struct.unpack_from("<Q", image, 24)[0]
    end = -1
    for _, offset, address, filed, mapped in segments:
        assert offset % 4096 == address % 4096
        assert filed <= mapped
        assert offset + filed <= len(image)
        assert address // 4096 > end
        end = (address + mapped - 1) // 4096

    assert [5, 6] == [flags for flags, *_ in segments]
    assert 0 == segments[0][2]
    assert segments[1][4] - segments[1][3] >= 4096, "there is a page of bss"
    assert 0 < entry < segments[0][3]


def test_loader_says_so_and_starts_nothing(tmp_path):
    """Run by mistake, the loader says that it is simulated and ends with 127."""
    loader = tmp_path / "loader"
    loader.write_bytes(runtime.runtime_files()["loader"])
    os.chmod(loader, 0o755)
    done = subprocess.run([loader, "libpal.so", "init", "app"], capture_output=True, check=False)

    assert 127 == done.returncode
    assert b"SIMULATED" in done.stderr
    assert b"" == done.stdout


@pytest.mark.parametrize("name", ["libpal.so", "libsysdb.so"])
def test_measuring_side_accepts_it(name):
    """The reader of real PALs takes the stand-in, with the segments that the writer made."""
    image = runtime.runtime_files()[name]
    pal = read_pal(image)

    assert [(5, loads(image)[0][3]), (6, loads(image)[1][3])] == [(s.flags, len(s.content)) for s in pal.segments]
    assert loads(image)[1][2] + loads(image)[1][4] <= pal.size


def test_installed_pin_is_of_these_files():
    """The pin that comes with the installed package names exactly these files, with a profile that is known."""
    (pin,) = [pin for pin in known_pins() if pin.name == runtime.NAME]
    made = {path: hashlib.sha256(content).digest() for path, content in runtime.runtime_files().items()}

    assert made == {file.path: file.sha256 for file in pin.files}
    assert pin.commit is None
    assert pin.profile in {profile.name for profile in known_profiles()}
