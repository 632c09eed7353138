"""Wheels that are damaged are refused by name, whichever layer of them it is."""

import hashlib
import io
import random
import zipfile

import pytest

from glasscase.bundle.wheelfiles import wheel_entries
from glasscase.errors import Error, FormatError
from glasscase.lock.cache import InputCache
from glasscase.lock.wheels import take_own_wheel

FILE = "glasscase-1.0-py3-none-any.whl"
INFO = "glasscase-1.0.dist-info"


def wheel(requires="cbor2>=6"):
    """Return a small wheel whose members are compressed."""
    files = {
        "glasscase/__init__.py": b"version = 1\n" * 40,
        f"{INFO}/METADATA": f"Metadata-Version: 2.1\nName: glasscase\nVersion: 1.0\nRequires-Dist: {requires}\n".encode()
        + b"Classifier: none\n" * 40,
        f"{INFO}/WHEEL": b"Wheel-Version: 1.0\nGenerator: none\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [f"{name},sha256={digest(content)},{len(content)}\n" for name, content in files.items()]
    files[f"{INFO}/RECORD"] = "".join([*rows, f"{INFO}/RECORD,,\n"]).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def digest(content):
    import base64

    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def test_a_sound_wheel_is_taken(tmp_path):
    """The wheel that the next tests damage is one."""
    path = tmp_path / FILE
    path.write_bytes(wheel())

    assert "1.0" == take_own_wheel(path, InputCache(tmp_path / "cache")).locked.version
    assert f"{INFO}/RECORD" == [entry.path for entry in wheel_entries(wheel(), FILE)][-1]


def test_compressed_data_that_is_none_is_refused(tmp_path):
    """A member whose data do not inflate is the wheel's fault, not this program's."""
    sound = wheel()
    with zipfile.ZipFile(io.BytesIO(sound)) as archive:
        places = [info.header_offset + 30 + len(info.filename) for info in archive.infolist()]
    damaged = bytearray(sound)
    for place in places:
        damaged[place : place + 8] = b"\xff" * 8
    path = tmp_path / FILE
    path.write_bytes(damaged)
    with pytest.raises(FormatError) as caught:
        list(wheel_entries(bytes(damaged), FILE))

    assert "bundle.wheel.malformed" == caught.value.reason
    with pytest.raises(FormatError) as caught:
        take_own_wheel(path, InputCache(tmp_path / "cache"))

    assert "lock.wheel.malformed" == caught.value.reason


@pytest.mark.parametrize("requires", ["???", "a b", "-e git+https://x", ""])
def test_requirements_that_are_none_are_refused(tmp_path, requires):
    """What the wheel says it needs goes to a resolver, so each line must be a requirement."""
    path = tmp_path / FILE
    path.write_bytes(wheel(requires))
    with pytest.raises(FormatError) as caught:
        take_own_wheel(path, InputCache(tmp_path / "cache"))

    assert "lock.wheel.malformed" == caught.value.reason


def test_changed_bytes_anywhere_are_survived(tmp_path):
    """Five hundred changed bytes give the wheel's files or an error of ours."""
    source, sound, cache = random.Random(11), wheel(), InputCache(tmp_path / "cache")
    path = tmp_path / FILE
    for _ in range(500):
        damaged = bytearray(sound)
        for _ in range(source.choice((1, 1, 4))):
            damaged[source.randrange(len(damaged))] = source.choice((0x00, 0x80, 0xFF, source.randrange(256)))
        path.write_bytes(damaged)
        for read in (lambda: list(wheel_entries(path.read_bytes(), FILE)), lambda: take_own_wheel(path, cache)):
            try:
                read()
            except Error as error:
                assert error.reason in ("bundle.wheel.malformed", "bundle.wheel.unsupported", "lock.wheel.malformed",
                                        "fs.path.refused"), error.reason  # fmt: skip
