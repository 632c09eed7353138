"""`runtime import` and `runtime list`, and what an import changes for the check of a bundle."""

import dataclasses
import gzip
import hashlib
import io
import json
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from glasscase.bundle.check import check_bundle
from glasscase.bundle.runtime import RuntimeFiles
from glasscase.cli.flow import temporary_flow
from glasscase.errors import Error, FormatError
from glasscase.fs.deb import read_deb
from glasscase.gramine.importing import import_runtime, pin_text
from glasscase.gramine.pins import RuntimeFile, known_pins, parse_pin
from tests.unit.bundle.conftest import Workshop
from tests.unit.gramine.pal import PLAIN, pal

GLIBC = b"\x7fELF\x02" + bytes(100) + b"GNU C Library (Gramine) stable release version 2.40.\n\0"
OPTIONS = {"name": None, "version": None, "commit": None, "series": None}


def glasscase(*arguments, home, code=0):
    environment = dict(os.environ, GLASSCASE_DATA=str(home / "data"), GLASSCASE_CACHE=str(home / "cache"))
    command = [sys.executable, "-m", "glasscase", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert code == result.returncode, result.stderr
    return result


def gramine_files():
    """Return the files of an installed Gramine, by path below /usr."""
    base = "lib/x86_64-linux-gnu/gramine"
    libc = f"{base}/runtime/glibc"
    return {
        f"{base}/sgx/libpal.so": PLAIN,
        f"{base}/sgx/loader": pal([(0, b"loader", 6, 5)]),
        f"{base}/libsysdb.so": pal([(0, b"sysdb", 5, 5)]),
        f"{base}/direct/libpal.so": b"\x7fELF\x02 direct",
        f"{base}/direct/loader": b"\x7fELF\x02 direct loader",
        f"{libc}/ld-linux-x86-64.so.2": b"\x7fELF\x02 ld",
        f"{libc}/libc.so.6": GLIBC,
        f"{libc}/libm.so.6": b"\x7fELF\x02 m",
        f"{libc}/libfoo.so.1": b"\x7fELF\x02 not one of the set",
    }


@pytest.fixture
def workshop(tmp_path):
    """Give a project that builds in a moment."""
    (tmp_path / "w").mkdir()
    return Workshop(tmp_path / "w")


@pytest.fixture
def installed(tmp_path):
    for path, content in gramine_files().items():
        target = tmp_path / "root" / "usr" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return tmp_path / "root"


def make_deb(files, *, compress=lzma.compress, suffix="xz", version="1:1.9-2"):
    """Return a .deb with these files below /usr and one library as a link."""

    def tar(entries, links=()):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for path, content in entries.items():
                info = tarfile.TarInfo(path)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            for path, target in links:
                info = tarfile.TarInfo(path)
                info.type, info.linkname = tarfile.SYMTYPE, target
                archive.addfile(info)
        return out.getvalue()

    def member(name, content):
        return (
            f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
            + content
            + b"\n" * (len(content) % 2)
        )

    libc = "./usr/lib/x86_64-linux-gnu/gramine/runtime/glibc"
    body = {f"./usr/{path}": content for path, content in files.items() if not path.endswith("libm.so.6")}
    body[f"{libc}/libm-2.40.so"] = b"\x7fELF\x02 m"
    control = tar({"./control": f"Package: gramine\nVersion: {version}\nDescription: x\n y\n".encode()})
    data = tar(body, [(f"{libc}/libm.so.6", "libm-2.40.so"), (f"{libc}/libanl.so.1", "libanl.so.1")])
    return (
        b"!<arch>\n" + member("debian-binary", b"2.0\n") + member("control.tar.gz", gzip.compress(control))
        + member(f"data.tar.{suffix}" if suffix else "data.tar", compress(data))
    )  # fmt: skip


@pytest.mark.parametrize("below", ["", "usr", "usr/lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/gramine"])
def test_installations_are_found_from_every_level(installed, below):
    """The root, /usr, the library directory or gramine/ itself: the same files under the names of a bundle."""
    imported = import_runtime(str(installed / below), **(OPTIONS | {"version": "1.9"}))

    assert ["libc/ld-linux-x86-64.so.2", "libc/libc.so.6", "libc/libm.so.6", "libpal.so", "libsysdb.so", "loader"] == [
        file.path for file in imported.pin.files
    ]
    assert ("gramine-1.9", "1.9", None, "v1.8") == dataclasses.astuple(imported.pin)[:4]
    assert PLAIN == imported.files["libpal.so"]
    assert imported.pin == parse_pin(pin_text(imported.pin))


def test_the_direct_loader_comes_along(installed, tmp_path):
    """gramine-direct is started with loader and PAL of the same Gramine; they are no part of the pin, and both or none."""
    imported = import_runtime(str(installed), **(OPTIONS | {"version": "1.9"}))
    assert {"loader": b"\x7fELF\x02 direct loader", "libpal.so": b"\x7fELF\x02 direct"} == imported.direct
    assert not [file.path for file in imported.pin.files if "direct" in file.path]

    (tmp_path / "gramine.deb").write_bytes(make_deb(gramine_files(), version="1.9"))
    assert imported.direct == import_runtime(str(tmp_path / "gramine.deb"), **OPTIONS).direct

    loader = installed / "usr/lib/x86_64-linux-gnu/gramine/direct/loader"
    loader.write_bytes(b"#!/bin/sh\n")
    with pytest.raises(Error) as caught:
        import_runtime(str(installed), **(OPTIONS | {"version": "1.9"}))
    assert "gramine.runtime.malformed" == caught.value.reason
    loader.unlink()
    assert {} == import_runtime(str(installed), **(OPTIONS | {"version": "1.9"})).direct


@pytest.mark.parametrize(
    ("version", "series"),
    [
        ("1.6", "v1.6"),
        ("1.7.1", "v1.6"),
        ("1.8", "v1.8"),
        ("1.5", "v1.5"),
        ("1.8.1~bookworm", "v1.8"),
        ("1.9-2", "v1.8"),
    ],
)
def test_the_profile_follows_from_the_version(installed, version, series):
    """Each series writes its own manifests."""
    assert series == import_runtime(str(installed), **(OPTIONS | {"version": version})).pin.profile


@pytest.mark.parametrize(("compress", "suffix"), [(lzma.compress, "xz"), (gzip.compress, "gz"), (bytes, "")])
def test_debs_name_their_version(tmp_path, compress, suffix):
    """A .deb gives the same files as the installation, links followed, and its version."""
    (tmp_path / "gramine.deb").write_bytes(make_deb(gramine_files(), compress=compress, suffix=suffix, version="1.9"))
    imported = import_runtime(str(tmp_path / "gramine.deb"), **OPTIONS)

    assert "1.9" == imported.pin.version
    assert b"\x7fELF\x02 m" == imported.files["libc/libm.so.6"]
    assert "libc/libanl.so.1" not in imported.files


def test_debs_of_no_release_need_a_profile(tmp_path):
    """1.9post is not a release that is known, as nobody knows what it will write; 1.9-2 is 1.9, packaged."""
    (tmp_path / "gramine.deb").write_bytes(make_deb(gramine_files()))
    assert "v1.8" == import_runtime(str(tmp_path / "gramine.deb"), **OPTIONS).pin.profile
    (tmp_path / "gramine.deb").write_bytes(make_deb(gramine_files(), version="1.9post-2"))
    with pytest.raises(Error) as caught:
        import_runtime(str(tmp_path / "gramine.deb"), **OPTIONS)
    assert "gramine.profile.unknown" == caught.value.reason

    assert "1.9post-2" == import_runtime(str(tmp_path / "gramine.deb"), **(OPTIONS | {"series": "v1.8"})).pin.version


@pytest.mark.parametrize("compression", ["xz", "gzip", "zstd", "none"])
def test_real_packages_are_read(tmp_path, compression):
    """A package made by dpkg-deb itself is read."""
    if not shutil.which("dpkg-deb"):
        pytest.skip("no dpkg-deb here")
    (tmp_path / "p/DEBIAN").mkdir(parents=True)
    (tmp_path / "p/DEBIAN/control").write_text(
        "Package: p\nVersion: 1\nArchitecture: all\nMaintainer: nobody <n@example.org>\nDescription: p\n"
    )
    (tmp_path / "p/usr/share/p").mkdir(parents=True)
    (tmp_path / "p/usr/share/p/a").write_bytes(b"a")
    command = ["dpkg-deb", f"-Z{compression}", "--root-owner-group", "-b", "p", "p.deb"]
    if subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode:
        pytest.skip(f"this dpkg-deb does not write {compression}")
    deb = read_deb((tmp_path / "p.deb").read_bytes(), choose=lambda path: path.endswith("/a"), file_max=10)

    assert ("1", ("/usr/share/p/a",)) == (deb.control["Version"], deb.names)
    assert [b"a"] == [file.content for file in deb.files]


def test_zstd_without_dpkg_is_refused_by_name(tmp_path, monkeypatch):
    """Where Python cannot read a compression and dpkg-deb is absent, the error names the member and what to install."""

    def absent(*_arguments, **_keywords):
        raise FileNotFoundError

    monkeypatch.setattr("glasscase.fs.deb.subprocess.Popen", absent)
    deb = make_deb(gramine_files(), suffix="zst")
    with pytest.raises(FormatError) as caught:
        read_deb(deb, choose=lambda _path: True, file_max=1 << 20)

    assert "fs.deb.compression" == caught.value.reason
    assert ".tar.zst" in caught.value.message and "zstd" in caught.value.hint


@pytest.mark.parametrize("cut", [0, 7, 8, 60, 100, 200, 600, -1])
def test_broken_debs_are_refused(tmp_path, cut):
    """A shortened package has a reason, never a traceback."""
    whole = make_deb(gramine_files())
    (tmp_path / "g.deb").write_bytes(whole[:cut])
    with pytest.raises(Error) as caught:
        import_runtime(str(tmp_path / "g.deb"), **(OPTIONS | {"version": "1.9"}))
    assert caught.value.reason in ("fs.deb.malformed", "gramine.runtime.absent")


@pytest.mark.parametrize(
    ("remove", "options", "reason"),
    [
        ("sgx/loader", {"version": "1.9"}, "gramine.runtime.absent"),
        ("libsysdb.so", {"version": "1.9"}, "gramine.runtime.absent"),
        ("runtime/glibc/libc.so.6", {"version": "1.9"}, "gramine.runtime.libc"),
        (None, {}, "gramine.runtime.unnamed"),
        (None, {"version": "2.5"}, "gramine.profile.unknown"),
        (None, {"version": "1.9", "series": "v9"}, "gramine.profile.unknown"),
        (None, {"version": "1.9", "name": "../x"}, "gramine.runtime.unnamed"),
        (None, {"version": "1.9", "commit": "main"}, "gramine.runtime.unnamed"),
    ],
)
def test_imports_that_are_refused(installed, remove, options, reason):
    """What is missing or wrong is named."""
    if remove:
        (installed / "usr/lib/x86_64-linux-gnu/gramine" / remove).unlink()
    with pytest.raises(Error) as caught:
        import_runtime(str(installed), **(OPTIONS | options))
    assert reason == caught.value.reason


def test_a_broken_pal_is_not_imported(installed):
    """A libpal.so that could not be measured is refused at once."""
    (installed / "usr/lib/x86_64-linux-gnu/gramine/sgx/libpal.so").write_bytes(
        pal([(0x1000, b"x", 1, 5)], entry=0x1000)
    )
    with pytest.raises(Error) as caught:
        import_runtime(str(installed), **(OPTIONS | {"version": "1.9"}))
    assert "gramine.pal.unloadable" == caught.value.reason


def test_an_unknown_pal_fails_until_it_is_pinned(workshop):
    """A bundle with a libpal.so that nobody pinned fails with a reason that names it; with the pin it is sound."""
    files = dict(workshop.runtime.files)
    files["libpal.so"] = files["libpal.so"][:-1] + b"\1"
    rows = tuple(RuntimeFile(path, len(data), hashlib.sha256(data).digest()) for path, data in sorted(files.items()))
    workshop.runtime = RuntimeFiles(dataclasses.replace(workshop.runtime.pin, files=rows), files)
    workshop.lock()
    workshop.build("g.bundle")
    libpal = hashlib.sha256(files["libpal.so"]).hexdigest()

    problem = next(p for p in check_bundle(workshop.root / "g.bundle").problems if p.id == "bundle.runtime.unpinned")
    assert libpal[:16] in problem.text
    pins = (*known_pins(), workshop.runtime.pin)
    assert () == check_bundle(workshop.root / "g.bundle", runtimes=pins).problems


def test_a_flow_of_its_own_sees_imported_runtimes(installed, tmp_path, monkeypatch):
    """`glasscase test` works in a directory of its own, where a project with an imported Gramine must build too."""
    for name in ("DATA", "CACHE"):
        monkeypatch.setenv(f"GLASSCASE_{name}", str(tmp_path / name.lower()))
    with temporary_flow(None) as flow:
        assert [] == os.listdir(flow.environment["GLASSCASE_DATA"])
    glasscase("runtime", "import", installed, "--version", "1.9", home=tmp_path)
    with temporary_flow(None) as flow:
        own = Path(flow.environment["GLASSCASE_DATA"])
        assert ["runtimes"] == os.listdir(own)
        assert (own / "runtimes/gramine-1.9/pin.toml").is_file()
        assert own.parent != tmp_path

    assert not own.exists()
    assert (tmp_path / "data/runtimes/gramine-1.9/pin.toml").is_file()


def test_import_and_list_on_the_command_line(installed, tmp_path):
    """The import is recorded once, listed, and readable as the runtime of a build; a second one of the name is refused."""
    value = json.loads(glasscase("runtime", "import", installed, "--version", "1.9", "--json", home=tmp_path).stdout)
    assert ("gramine-1.9", "v1.8", 6) == (value["name"], value["profile"], value["files"])
    direct = tmp_path / "data/runtimes/gramine-1.9/direct"
    assert {"loader", "libpal.so"} == {path.name for path in direct.iterdir()}
    assert os.access(direct / "loader", os.X_OK) and value["direct"]
    listed = json.loads(glasscase("runtime", "list", "--json", home=tmp_path).stdout)["runtimes"]
    assert ["simulator", "gramine-1.9"] == [row["name"] for row in listed]
    assert [False, True] == [row["imported"] for row in listed]

    result = glasscase("runtime", "import", installed, "--version", "1.9", home=tmp_path, code=1)
    assert "gramine.runtime.taken" in result.stderr
    glasscase("runtime", "import", installed, "--version", "1.9", "--name", "simulator", home=tmp_path, code=1)
    folder = tmp_path / "data/runtimes/gramine-1.9"
    assert PLAIN == (folder / "files/libpal.so").read_bytes()
    assert ["gramine-1.9"] == os.listdir(tmp_path / "data/runtimes")


def test_a_changed_copy_of_an_import_is_refused(installed, tmp_path, monkeypatch):
    """A build that finds other bytes than were imported stops."""
    from glasscase.cli.pinned import runtime_named

    glasscase("runtime", "import", installed, "--version", "1.9", home=tmp_path)
    monkeypatch.setenv("GLASSCASE_DATA", str(tmp_path / "data"))
    assert "gramine-1.9" == runtime_named("gramine-1.9").pin.name
    with (tmp_path / "data/runtimes/gramine-1.9/files/libpal.so").open("ab") as file:
        file.write(b"x")
    with pytest.raises(Error) as caught:
        runtime_named("gramine-1.9")
    assert "bundle.runtime.mismatch" == caught.value.reason
