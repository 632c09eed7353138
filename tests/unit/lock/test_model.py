"""glasscase.lock has one spelling, and every rule of it is enforced."""

from dataclasses import replace

import pytest

from glasscase.errors import FormatError
from glasscase.lock.model import Lock, LockedDebian, LockedFile, LockedPackage, LockedRuntime, LockedWheel

D = bytes(range(32))
RUNTIME = LockedRuntime(
    "gramine-1.9", "1.9", "0d1a4b76", "v1.8", (LockedFile("libpal.so", 5, D), LockedFile("loader", 6, D))
)
PACKAGES = (
    LockedPackage(
        "libssl3", "3.0.22-1~deb12u2", "amd64", "pool/main/o/openssl/libssl3_3.0.22-1~deb12u2_amd64.deb", 7, D
    ),
    LockedPackage("zlib1g", "1:1.2.13.dfsg-1", "amd64", "pool/main/z/zlib/zlib1g_1.2.13.dfsg-1_amd64.deb", 8, D),
)
DEBIAN = LockedDebian("bookworm", D, bytes(20), D, PACKAGES)
WHEELS = (
    LockedWheel("a2wsgi", "1.10.10", "a2wsgi-1.10.10-py3-none-any.whl", 9, D),
    LockedWheel("glasscase", "0.1.0", "glasscase-0.1.0-py3-none-any.whl", 9, D),
)
FULL = Lock("0.1.0", 1_700_000_000, D, RUNTIME, DEBIAN, WHEELS)
SMALL = replace(FULL, debian=None, runtime=replace(RUNTIME, commit=None))


@pytest.mark.parametrize("lock", [FULL, SMALL], ids=["full", "small"])
def test_round_trip(lock):
    """Reading what was written gives the same lock and the same bytes."""
    assert lock == Lock.from_bytes(lock.to_bytes())
    assert lock.to_bytes() == Lock.from_bytes(lock.to_bytes()).to_bytes()


def test_order_and_absence():
    """The keys stand in the order of the format; what is absent is not there."""
    text = SMALL.to_bytes().decode()
    assert text.startswith('version = 1\ntool = "0.1.0"\nepoch = 1700000000\nrequirements = "00')
    assert "commit" not in text and "[debian]" not in text
    full = FULL.to_bytes().decode()

    assert full.index("[runtime]") < full.index("[[runtime.file]]") < full.index("[debian]") < full.index("[[wheel]]")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("version = 1", "version = 2", "format.newer"), ("version = 1", "version = true", "codec.version.malformed"),
        ("version = 1\n", "", "codec.version.malformed"), ("tool = ", "tool= ", "lock.file.noncanonical"),
        ("epoch", "# comment\nepoch", "lock.file.noncanonical"), ("epoch = 1700000000", "epoch = -1", "lock.file.malformed"),
        ("epoch = 1700000000", "epoch = 1.0", "lock.file.malformed"), ("epoch = 1700000000", "", "lock.file.malformed"),
        ("[debian]", "[other]\n[debian]", "lock.file.malformed"), ('suite = "bookworm"', 'suite = "book worm"', "lock.file.malformed"),
        ('name = "a2wsgi"', 'name = "A2wsgi"', "lock.file.malformed"), ('name = "a2wsgi"', 'name = "zzz"', "lock.file.malformed"),
        ("a2wsgi-1.10.10-py3-none-any.whl", "a2wsgi-1.10.10.tar.gz", "lock.file.malformed"),
        ("a2wsgi-1.10.10-py3-none-any.whl", "../a2wsgi.whl", "lock.file.malformed"),
        ("pool/main/z/zlib/", "../../", "fs.path.refused"), ('path = "libpal.so"', 'path = "/libpal.so"', "fs.path.refused"),
        ("size = 9", "size = 4294967297", "lock.file.malformed"), ("000102", "00010G", "codec.hex.malformed"),
    ],
)  # fmt: skip
def test_wrong_locks_are_refused(old, new, reason):
    """One change each, refused with its reason."""
    text = FULL.to_bytes().decode()
    assert old in text
    with pytest.raises(FormatError) as caught:
        Lock.from_bytes(text.replace(old, new, 1).encode())

    assert reason == caught.value.reason


@pytest.mark.parametrize("data", [b"", b"\xff", b"version = 1", b"[" * 5000, b"version = [[[["], ids=range(5))
def test_garbage_is_refused(data):
    """What is no lock at all is refused with a reason of the area."""
    with pytest.raises(FormatError):
        Lock.from_bytes(data)


def test_order_is_checked():
    """Unsorted or repeated tables cannot make a lock."""
    for change in ({"wheels": WHEELS[::-1]}, {"wheels": WHEELS * 2}, {"debian": replace(DEBIAN, packages=PACKAGES[::-1])},
                   {"runtime": replace(RUNTIME, files=RUNTIME.files[::-1])}):  # fmt: skip
        with pytest.raises(FormatError):
            replace(FULL, **change)
