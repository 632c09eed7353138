"""A .deb is read whole or refused."""

import bz2
import gzip
import io
import lzma
import shutil
import subprocess
import sys
import tarfile

import pytest

from glasscase.errors import FormatError
from glasscase.fs.deb import read_deb

PACKERS = {"": bytes, ".gz": lambda data: gzip.compress(data, mtime=0), ".bz2": bz2.compress, ".xz": lzma.compress}


def archive(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def deb(suffix, data, *, control=None):
    members = {
        "debian-binary": b"2.0\n",
        f"control.tar{suffix}": control or PACKERS[suffix](archive({"./control": b"Package: gramine\nVersion: 1.9\n"})),
        f"data.tar{suffix}": data,
    }
    out = b"!<arch>\n"
    for name, body in members.items():
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(body):<10}`\n".encode() + body + b"\n" * (len(body) % 2)
    return out


def read(data):
    return read_deb(data, choose=lambda path: path == "/usr/a", file_max=1 << 20)


FILES = archive({"./usr/a": b"content", "./usr/b": b"other"})


@pytest.mark.parametrize("suffix", PACKERS)
def test_each_compression_is_read(suffix):
    """Control fields, the chosen file and all names come out of a package of each form."""
    found = read(deb(suffix, PACKERS[suffix](FILES)))

    assert ("1.9", [b"content"], ("/usr/a", "/usr/b")) == (
        found.control["Version"], [file.content for file in found.files], found.names,
    )  # fmt: skip


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
@pytest.mark.parametrize("fault", ["cut", "twice", "tail", "flipped"])
def test_a_stream_that_is_cut_or_goes_on_is_refused(suffix, fault):
    """What dpkg would read on, or miss, must not be taken for the whole package."""
    whole = PACKERS[suffix](FILES)
    other = PACKERS[suffix](archive({"./usr/a": b"evil"}))
    middle = len(whole) // 2
    faulty = {
        "cut": whole[:-9],
        "twice": whole + other,
        "tail": whole + b"x",
        "flipped": whole[:middle] + bytes([whole[middle] ^ 0x55]) + whole[middle + 1 :],
    }[fault]
    with pytest.raises(FormatError) as caught:
        read(deb(suffix, faulty))

    assert "fs.deb.malformed" == caught.value.reason


DPKG = shutil.which("dpkg-deb")


@pytest.mark.skipif(not DPKG, reason="no dpkg-deb here")
@pytest.mark.parametrize(("size", "answer"), [(1 << 20, b"read"), (400 << 20, b"fs.deb.malformed")])
def test_what_dpkg_unpacks_is_limited_as_it_comes(tmp_path, size, answer):
    """A package of a few kilobytes in zstd may be gigabytes: no more than the limit is ever held."""
    (tmp_path / "tree" / "DEBIAN").mkdir(parents=True)
    (tmp_path / "tree" / "DEBIAN" / "control").write_text(
        "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n"
    )
    with open(tmp_path / "tree" / "zeros", "wb") as file:
        file.truncate(size)
    made = subprocess.run(
        [DPKG, "-Zzstd", "-b", tmp_path / "tree", tmp_path / "x.deb"], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("this dpkg-deb writes no zstd")
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (300 << 20, 300 << 20))\n"
        "from glasscase.errors import FormatError\n"
        "from glasscase.fs import deb\n"
        "deb.UNPACKED_MAX = 8 << 20\n"
        "try:\n"
        "    deb.read_deb(sys.stdin.buffer.read(), choose=lambda path: False, file_max=1)\n"
        "    sys.stdout.write('read')\n"
        "except FormatError as error:\n"
        "    sys.stdout.write(error.reason)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=(tmp_path / "x.deb").read_bytes(), capture_output=True, check=False
    )

    assert (0, answer) == (done.returncode, done.stdout), done.stderr


def test_a_small_package_needs_little_memory():
    """The limit on what a package unpacks to is no amount to be allocated."""
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "from glasscase.fs.deb import read_deb\n"
        "print(len(read_deb(sys.stdin.buffer.read(), choose=lambda path: True, file_max=1 << 20).files))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=deb(".gz", PACKERS[".gz"](FILES)), capture_output=True, check=False
    )

    assert (0, b"2\n") == (done.returncode, done.stdout), done.stderr
