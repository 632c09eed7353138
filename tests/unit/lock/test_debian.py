"""Debian packages: real apt on a small signed archive made here, and the .deb files that go into rootfs."""

import base64
import contextlib
import functools
import hashlib
import http.server
import io
import os
import shutil
import subprocess
import tarfile
import threading
from dataclasses import replace

import pytest

from glasscase.bundle.debfiles import CERTIFICATE_BUNDLE, check_libraries, debian_files
from glasscase.errors import CannotVerify, FormatError, UsageError
from glasscase.gramine.dynamic import read_dynamic
from glasscase.lock.aptsources import AptSource, host_sources, parse_lines, parse_stanzas
from glasscase.lock.cache import InputCache
from glasscase.lock.debian import PACKAGES, fetch_packages, python_of, resolve_packages
from glasscase.lock.model import LockedDebian, LockedPackage
from glasscase.lock.openpgp import keyring_fingerprints, signer

TOOLS = all(shutil.which(tool) for tool in ("gpg", "apt-get", "apt-cache"))
needs_apt = pytest.mark.skipif(not TOOLS, reason="no apt and gpg here")
DATE = "Sat, 01 Nov 2025 12:00:00 UTC"
EPOCH = 1_761_998_400


def member(name, data):
    """Return one member of an ar archive."""
    return b"%-16s%-12d%-6d%-6d%-8s%-10d`\n" % (name, 0, 0, 0, b"100644", len(data)) + data + b"\n" * (len(data) % 2)


def make_deb(control, files, links=()):
    """Return a .deb with a data.tar.xz. files: path -> bytes; links: (path, target)."""
    parts = []
    for kind, content in (("control", {"./control": control.encode()}), ("data", files)):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:xz") as archive:
            for path, data in content.items():
                info = tarfile.TarInfo(path)
                info.size = len(data)
                info.mode = 0o755 if "/bin/" in path else 0o644
                archive.addfile(info, io.BytesIO(data))
            for path, target in links if kind == "data" else ():
                info = tarfile.TarInfo(path)
                info.type, info.linkname = tarfile.SYMTYPE, target
                archive.addfile(info)
        parts.append((f"{kind}.tar.xz".encode(), out.getvalue()))
    return b"!<arch>\n" + member(b"debian-binary", b"2.0\n") + b"".join(member(name, data) for name, data in parts)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Give a shared library libdemo.so.1 and a program that needs it, as bytes, made by the compiler."""
    work = tmp_path_factory.mktemp("elf")
    (work / "demo.c").write_text("int demo(void) { return 1; }\n")
    (work / "main.c").write_text("int demo(void); int main(void) { return demo(); }\n")
    cc = ["cc", "-O1"]
    subprocess.run(
        [*cc, "-shared", "-fPIC", "-nostdlib", "-Wl,-soname,libdemo.so.1", "-o", "libdemo.so.1.2.3", "demo.c"],
        cwd=work,
        check=True,
    )
    subprocess.run([*cc, "-o", "main", "main.c", "./libdemo.so.1.2.3"], cwd=work, check=True)
    return (work / "libdemo.so.1.2.3").read_bytes(), (work / "main").read_bytes()


def stored(cache, name, deb, **fields):
    """Put a package into the cache and return its line of a lock."""
    digest = hashlib.sha256(deb).digest()
    cache.add((deb,), sha256=digest, size=len(deb), limit=1 << 30, what=name)
    return LockedPackage(name, "1.0", "amd64", f"pool/{name}_1.0_amd64.deb", len(deb), digest)


def locked(*packages):
    return LockedDebian(
        "test", bytes(32), bytes(20), bytes(32), tuple(sorted(packages, key=lambda package: package.name))
    )


def test_closed_list_of_files(tmp_path, library):
    """Interpreter, stdlib and libraries are taken, one file for each SONAME; links, docs, tests and tools are left out."""
    cache = InputCache(tmp_path)
    lib, program = library
    files = {
        "./usr/bin/python3.11": program, "./usr/bin/pydoc3.11": b"x", "./usr/lib/python3.11/os.py": b"1",
        "./usr/lib/python3.11/test/x.py": b"2", "./usr/lib/python3.11/idlelib/x.py": b"3", "./usr/lib/python3.11/sitecustomize.py": b"4",
        "./usr/lib/python3.11/config-3.11-x86_64-linux-gnu/Makefile": b"5",
        "./usr/lib/python3.11/lib-dynload/_ssl.cpython-311-x86_64-linux-gnu.so": lib,
        "./usr/lib/python3.11/lib-dynload/readline.cpython-311-x86_64-linux-gnu.so": lib, "./usr/lib/python3.11/__pycache__/os.pyc": b"6",
        "./usr/share/doc/x/copyright": b"7", "./lib/x86_64-linux-gnu/libdemo.so.1.2.3": lib, "./etc/services": b"http 80/tcp\n",
        "./etc/python3.11/sitecustomize.py": b"8", "./usr/lib/x86_64-linux-gnu/engines-3/afalg.so": lib,
        "./usr/lib/x86_64-linux-gnu/libnotelf.so.1": b"text", "./usr/share/ca-certificates/mozilla/B.crt": b"B\n",
        "./usr/share/ca-certificates/mozilla/A.crt": b"A",
    }  # fmt: skip
    links = [
        ("./usr/lib/x86_64-linux-gnu/libdemo.so.1", "libdemo.so.1.2.3"),
        ("./usr/bin/python3", "python3.11"),
        ("./evil", "/etc/passwd"),
    ]
    found = debian_files(locked(stored(cache, "demo", make_deb("Package: demo\n", files, links))), cache)

    generated = {"etc/group", "etc/hosts", "etc/nsswitch.conf", "etc/passwd"}
    assert {
        "usr/bin/python3.11", "usr/lib/python3.11/os.py", "usr/lib/python3.11/lib-dynload/_ssl.cpython-311-x86_64-linux-gnu.so",
        "usr/lib/x86_64-linux-gnu/libdemo.so.1", "etc/services", CERTIFICATE_BUNDLE, *generated,
    } == set(found)  # fmt: skip
    assert b"A\nB\n" == found[CERTIFICATE_BUNDLE].content
    assert [True, False] == [
        found[path].executable for path in ("usr/bin/python3.11", "usr/lib/x86_64-linux-gnu/libdemo.so.1")
    ]


def test_packages_that_differ_on_a_path(tmp_path):
    """Two packages with other bytes for one path are refused; equal bytes are not."""
    cache = InputCache(tmp_path)
    one, same, other = (
        make_deb(f"Package: {n}\n", {"./etc/services": data}) for n, data in (("a", b"1"), ("b", b"1"), ("c", b"2"))
    )
    debian_files(locked(stored(cache, "a", one), stored(cache, "b", same)), cache)
    with pytest.raises(FormatError) as caught:
        debian_files(locked(stored(cache, "a", one), stored(cache, "c", other)), cache)

    assert "bundle.file.twice" == caught.value.reason


@pytest.mark.parametrize(
    "broken", [b"", b"!<arch>\n", b"!<arch>\nx", b"PK", make_deb("Package: a\n", {})[:-200]], ids=range(5)
)
def test_broken_packages(tmp_path, broken):
    """What is not a .deb is refused."""
    cache = InputCache(tmp_path)
    with pytest.raises(FormatError):
        debian_files(locked(stored(cache, "a", broken)), cache)


def test_every_needed_library_must_be_there(library):
    """A NEEDED that no file of rootfs has is refused, and so is an interpreter that is not there."""
    lib, program = library
    info = read_dynamic(program, "main")
    assert {"libdemo.so.1", "libc.so.6"} <= set(info.needed)
    assert "/lib64/ld-linux-x86-64.so.2" == info.interpreter
    provided = frozenset(("libc.so.6", "ld-linux-x86-64.so.2"))
    check_libraries({"usr/bin/main": program, "usr/lib/libdemo.so.1": lib}, provided=provided)
    for files, names in (
        ({"usr/bin/main": program}, provided),
        ({"usr/bin/main": program, "libdemo.so.1": lib}, frozenset(("libc.so.6",))),
    ):
        with pytest.raises(FormatError) as caught:
            check_libraries(files, provided=names)
        assert "bundle.library.missing" == caught.value.reason
    for broken in (b"\x7fELF" + bytes(100), program[:600], program[:0x300] + b"x" + program[0x300:]):
        with pytest.raises(FormatError):
            read_dynamic(broken, "x")


def test_libraries_with_any_byte_changed_are_read_or_refused(library):
    """Whatever a .deb or wheel holds under the name of a library, it has a reason and no traceback."""
    lib, _program = library
    for at in range(16, len(lib), 5):
        for value in (0, 0x80, 0xFF):
            with contextlib.suppress(FormatError):
                read_dynamic(lib[:at] + bytes([value]) + lib[at + 1 :], "x")


class Archive:
    """A small signed apt archive with every package that the Python runtime wants."""

    def __init__(self, root):
        self.root = root
        self.home = root / "gnupg"
        self.home.mkdir(mode=0o700)
        self.keyring = root / "keyring.gpg"
        self.gpg("--quick-gen-key", "Test Archive <test@example.org>", "ed25519", "sign", "never")
        self.keyring.write_bytes(self.gpg("--export"))
        rows = [tuple(name.format(v="3.11") for name in row) for row in PACKAGES]
        names = {row[0] for row in rows} | {"python3-minimal"}
        self.debs = {
            name: make_deb(f"Package: {name}\nVersion: 1.0\nArchitecture: amd64\n", {"./etc/services": b"x"})
            for name in names
        }
        self.publish(DATE)

    def gpg(self, *arguments, data=None):
        base = [
            "gpg",
            "--homedir",
            str(self.home),
            "--batch",
            "--quiet",
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            "",
        ]
        done = subprocess.run([*base, *arguments], input=data, capture_output=True, check=True)
        return done.stdout

    def publish(self, date, *, sign=True):
        """Write pool, Packages, Release and InRelease."""
        stanzas = []
        for name, deb in sorted(self.debs.items()):
            path = f"pool/main/{name}_1.0_amd64.deb"
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_bytes(deb)
            depends = "Depends: python3.11-minimal (>= 3)\n" if name == "python3-minimal" else ""
            stanzas.append(
                f"Package: {name}\nVersion: 1.0\nArchitecture: amd64\nMaintainer: x\n{depends}Filename: {path}\n"
                f"Size: {len(deb)}\nSHA256: {hashlib.sha256(deb).hexdigest()}\nDescription: x\n"
            )
        packages = "\n".join(stanzas).encode()
        folder = self.root / "dists" / "test" / "main" / "binary-amd64"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "Packages").write_bytes(packages)
        release = (
            f"Origin: Test\nSuite: test\nCodename: test\nDate: {date}\nArchitectures: amd64\nComponents: main\nSHA256:\n"
            f" {hashlib.sha256(packages).hexdigest()} {len(packages)} main/binary-amd64/Packages\n"
        ).encode()
        signed = self.gpg("--clearsign", "--digest-algo", "SHA512", data=release) if sign else release
        (self.root / "dists" / "test" / "InRelease").write_bytes(signed)

    @property
    def source(self):
        return AptSource(f"file://{self.root}", "test", ("main",))


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Give a signed archive."""
    made = Archive(tmp_path_factory.mktemp("archive"))
    yield made
    subprocess.run(["gpgconf", "--homedir", str(made.home), "--kill", "all"], check=False, capture_output=True)


def resolve(archive, cache, **changes):
    fields = {"cache": cache, "environment": dict(os.environ), "say": print} | changes
    return resolve_packages([archive.source], str(fields.pop("keyring", archive.keyring)), **fields)


@needs_apt
def test_real_apt_on_a_signed_archive(archive, tmp_path, monkeypatch):
    """apt resolves in isolation, whatever the host's and the caller's configuration say; all is pinned and cached."""
    evil = tmp_path / "apt.conf"
    evil.write_text('Acquire::AllowInsecureRepositories "true";\nDir::Etc::sourcelist "/nonexistent";\n')
    monkeypatch.setenv("APT_CONFIG", str(evil))
    cache = InputCache(tmp_path / "inputs")
    found = resolve(archive, cache)
    document = (archive.root / "dists" / "test" / "InRelease").read_bytes()

    assert ("3.11", EPOCH, (3, 11)) == (found.python, found.epoch, python_of(found.debian))
    assert [row[0].format(v="3.11") for row in sorted(PACKAGES, key=lambda row: row[0].format(v="3.11"))] == [
        package.name for package in found.debian.packages
    ]
    assert all(cache.holds(package.sha256, package.size) for package in found.debian.packages)
    assert hashlib.sha256(document).digest() == found.debian.inrelease
    assert hashlib.sha256(archive.keyring.read_bytes()).digest() == found.debian.keyring
    assert keyring_fingerprints(archive.keyring.read_bytes())[found.debian.signer] == found.debian.signer
    assert "test" == found.debian.suite


class Guarded(http.server.SimpleHTTPRequestHandler):
    """Files of a directory, for who has the password."""

    def do_GET(self):
        known = self.headers.get("Authorization") == "Basic " + base64.b64encode(b"me:s%cret").decode()
        if known:
            super().do_GET()
            return
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="x"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@needs_apt
@pytest.mark.parametrize(("password", "opens"), [("s%25cret", True), ("wrong%25cret", False)])
def test_an_archive_with_a_password(archive, tmp_path, *, password, opens):
    """The user name and password of a source open it for apt and for the packages, and are in no error."""
    handler = functools.partial(Guarded, directory=str(archive.root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source = AptSource(f"http://me:{password}@127.0.0.1:{server.server_port}", "test", ("main",))
        cache = InputCache(tmp_path / "inputs")
        fields = {"cache": cache, "environment": {}, "say": print}
        with contextlib.nullcontext() if opens else pytest.raises(CannotVerify) as caught:
            found = resolve_packages([source], str(archive.keyring), **fields)
        server.shutdown()

    if opens:
        assert all(cache.holds(package.sha256, package.size) for package in found.debian.packages)
    else:
        assert "lock.apt.failed" == caught.value.reason and "cret" not in f"{caught.value} {caught.value.hint}"


@needs_apt
def test_unsigned_or_foreign_archives_are_refused(archive, tmp_path):
    """An archive that is not signed, was changed after it was signed, or is signed by another key gives no lock."""
    cache = InputCache(tmp_path / "inputs")
    other = tmp_path / "other"
    other.mkdir()
    stranger = Archive(other)
    inrelease = archive.root / "dists" / "test" / "InRelease"
    sound = inrelease.read_bytes()
    try:
        with pytest.raises(CannotVerify):
            resolve(archive, cache, keyring=stranger.keyring)
        inrelease.write_bytes(sound.replace(b"Origin: Test", b"Origin: Evil"))
        with pytest.raises(CannotVerify):
            resolve(archive, cache)
        archive.publish(DATE, sign=False)
        with pytest.raises(CannotVerify) as caught:
            resolve(archive, cache)
        assert "lock.apt.failed" == caught.value.reason
    finally:
        inrelease.write_bytes(sound)
        subprocess.run(["gpgconf", "--homedir", str(stranger.home), "--kill", "all"], check=False, capture_output=True)
    with pytest.raises(FormatError):
        signer(sound, stranger.keyring.read_bytes())
    with pytest.raises(FormatError):
        signer(b"Origin: x\n", archive.keyring.read_bytes())


@needs_apt
def test_changed_package_is_refused(archive, tmp_path):
    """A pool file that is not the one of the signed index does not enter the cache, and its absence is an error."""
    cache = InputCache(tmp_path / "inputs")
    path = next((archive.root / "pool" / "main").glob("zlib1g_*"))
    sound = path.read_bytes()
    try:
        path.write_bytes(sound + b"x")
        with pytest.raises(CannotVerify) as caught:
            resolve(archive, cache)
    finally:
        path.write_bytes(sound)

    assert "lock.input.gone" == caught.value.reason


@needs_apt
def test_missing_package_is_named(archive, tmp_path):
    """A suite without a package that the runtime needs is refused, with its name."""
    held = archive.debs.pop("libffi8")
    try:
        archive.publish(DATE)
        with pytest.raises(UsageError) as caught:
            resolve(archive, InputCache(tmp_path / "inputs"))
    finally:
        archive.debs["libffi8"] = held
        archive.publish(DATE)

    assert "lock.debian.missing" == caught.value.reason
    assert "libffi8" in caught.value.message


def test_fetching_tries_each_archive(tmp_path):
    """Locked packages are fetched from the first archive that has the pinned bytes."""
    good, bad = tmp_path / "good", tmp_path / "bad"
    for folder, content in ((good, b"deb"), (bad, b"DEB")):
        (folder / "pool").mkdir(parents=True)
        (folder / "pool" / "x_1.0_amd64.deb").write_bytes(content)
    package = LockedPackage("x", "1.0", "amd64", "pool/x_1.0_amd64.deb", 3, hashlib.sha256(b"deb").digest())
    cache = InputCache(tmp_path / "inputs")
    fetch_packages([package], [f"file://{bad}", "file:///nonexistent", f"file://{good}"], cache=cache, environment={})
    assert cache.holds(package.sha256, 3)
    gone = replace(package, sha256=bytes(32))
    with pytest.raises(CannotVerify):
        fetch_packages([gone], [f"file://{good}"], cache=cache, environment={})


def test_apt_lines_of_a_project():
    """Lines of packages are taken; options, sources of sources and anything odd are refused."""
    (found,) = parse_lines(["deb https://example.org/debian bookworm main contrib"])
    assert AptSource("https://example.org/debian", "bookworm", ("main", "contrib")) == found
    for line in ("deb-src https://example.org/debian bookworm main", "deb [trusted=yes] https://example.org/debian bookworm main",
                 "deb https://example.org/debian bookworm",
                 "deb cdrom:x bookworm main", "deb https://example.org/debian bookworm main;x", ""):  # fmt: skip
        with pytest.raises(UsageError) as caught:
            parse_lines([line])
        assert "lock.debian.sources" == caught.value.reason


@pytest.mark.parametrize("line", ["deb-src {} a main", "deb {} a", "deb {} a@b main", "deb tor+{} a main"])
def test_a_refused_apt_line_shows_no_password(line):
    """The line is shown without the user name and password of its URL."""
    with pytest.raises(UsageError) as caught:
        parse_lines([line.format("https://me:secret@h/debian")])
    assert "://h/debian" in caught.value.message and "secret" not in caught.value.message


def test_apt_sources_of_the_host(tmp_path, monkeypatch):
    """Only enabled sources that the distribution's own keyring signs are taken from the host."""
    keyring = tmp_path / "archive.gpg"
    keyring.write_bytes(b"")
    monkeypatch.setattr("glasscase.lock.aptsources.ARCHIVE_KEYRINGS", (str(keyring),))
    parts = tmp_path / "etc" / "sources.list.d"
    parts.mkdir(parents=True)
    (parts / "debian.sources").write_text(
        "Types: deb deb-src\nURIs: http://example.org/debian\nSuites: bookworm bookworm-updates\nComponents: main\n"
        f"Signed-By: {keyring}\n\n"
        "Types: deb\nURIs: http://example.org/third\nSuites: x\nComponents: main\nSigned-By: /usr/share/keyrings/other.gpg\n\n"
        "Types: deb\nURIs: http://example.org/off\nSuites: x\nComponents: main\nEnabled: no\n"
    )
    (parts / "old.list").write_text(
        "# deb http://example.org/no x main\ndeb [trusted=yes] http://example.org/bad x main\ndeb http://example.org/old y main\n"
    )
    (parts / "x.list.disabled").write_text("deb http://example.org/disabled x main\n")
    found, path = host_sources(str(tmp_path / "etc"))

    assert str(keyring) == path
    assert [
        ("http://example.org/debian", "bookworm"),
        ("http://example.org/debian", "bookworm-updates"),
        ("http://example.org/old", "y"),
    ] == [(source.uri, source.suite) for source in found]
    shutil.rmtree(parts)
    with pytest.raises(UsageError):
        host_sources(str(tmp_path / "etc"))


def test_stanzas():
    """Continuation lines belong to the field above, comments to nobody."""
    assert [{"a": "1\n2", "b": ""}, {"c": "3"}] == parse_stanzas("A: 1\n 2\n# x\nB:\n\n\nC: 3\n")
