"""Wheels are chosen for the target, from one index, binary only, by SHA-256; the enclave's own wheel is a file."""

import base64
import hashlib
import http.server
import importlib.metadata
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.pylock import Pylock

from glasscase.bundle.locking import LockRequest, check_lock, make_lock
from glasscase.errors import CannotVerify, FormatError, StorageError, UsageError
from glasscase.lock import child
from glasscase.lock import resolve as resolving
from glasscase.lock.cache import InputCache
from glasscase.lock.fetch import fetch
from glasscase.lock.model import LockedDebian, LockedPackage
from glasscase.lock.pylock import select_wheels, write_pylock
from glasscase.lock.requirements import enclave_requirements, parse_requirements
from glasscase.lock.resolve import Resolver
from glasscase.lock.target import Candidate, Target
from glasscase.lock.wheels import take_own_wheel

_PATH = Path(__file__).resolve().parents[1] / "bundle" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("bundle_workshop_for_locks", _PATH)
workshop_module = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(workshop_module)
make_wheel = workshop_module.make_wheel

TARGET = Target((3, 11), (2, 36))
METADATA = b"""Metadata-Version: 2.4
Name: glasscase
Version: 0.1
Requires-Dist: click>=8
Requires-Dist: cbor2>=6
Requires-Dist: cryptography>=50; sys_platform == "linux"
Requires-Dist: h11>=0.16; extra == "enclave"
Requires-Dist: jinja2; extra == "report"
Provides-Extra: enclave
"""


def test_enclave_requirements():
    """Only what runs inside is asked for: the core's libraries and the extra `enclave`."""
    lines = [line.partition(": ")[2] for line in METADATA.decode().splitlines() if line.startswith("Requires-Dist")]

    assert ["cbor2>=6", "cryptography>=50", "h11>=0.16"] == [wanted.text for wanted in enclave_requirements(lines)]


def test_requirements_file():
    """Names with versions, markers, extras, comments and hashes are taken; glasscase itself is left to its own wheel."""
    digest = "ab" * 32
    text = f"fastapi >=0.1 # web\n\n  uvicorn[standard]; python_version<'4'\nx==1 \\\n  --hash=sha256:{digest}\nglasscase>=0\n"
    found = parse_requirements(text.encode())

    assert ["fastapi", "uvicorn", "x"] == [wanted.name for wanted in found]
    assert frozenset((bytes.fromhex(digest),)) == found[2].hashes


@pytest.mark.parametrize(
    "line",
    ["-r other.txt", "--extra-index-url https://example.org", "-e .", "x @ https://example.org/x.whl", "./x.whl", "git+https://x",
     "--find-links /tmp", "x --install-option=y", "x y", "${HOME}", "-i https://example.org", "x --hash=md5:00"],
)  # fmt: skip
def test_requirements_that_cannot_be_pinned(line):
    """Options, URLs, paths, repositories and other hashes are refused."""
    with pytest.raises(UsageError) as caught:
        parse_requirements(line.encode())

    assert "lock.requirements.refused" == caught.value.reason


def pylock(wheels, **package):
    """Return a pylock.toml with one package."""
    rows = ", ".join(
        f'{{ url = "https://example.org/{name}", size = 5, hashes = {{ {kind} = "{digest}" }} }}'
        for name, kind, digest in wheels
    )
    lines = ['lock-version = "1.0"', 'created-by = "test"', "[[packages]]", 'name = "x"', 'version = "1"']
    lines += [f"{key} = {value}" for key, value in package.items()] + ([f"wheels = [{rows}]"] if wheels else [])
    return "\n".join(lines).encode()


def test_best_wheel_for_the_glibc_of_the_target():
    """The newest manylinux tag that the target's glibc has wins, whatever the building host has."""
    digest = "cd" * 32
    names = ["x-1-cp311-cp311-manylinux_2_17_x86_64.whl", "x-1-cp311-cp311-manylinux_2_28_x86_64.whl",
             "x-1-cp311-cp311-manylinux_2_39_x86_64.whl", "x-1-py3-none-any.whl", "x-1-cp312-cp312-manylinux_2_28_x86_64.whl",
             "x-1-cp311-cp311-musllinux_1_2_x86_64.whl", "x-1-cp311-cp311-manylinux_2_28_aarch64.whl"]  # fmt: skip
    text = pylock([(name, "sha256", digest) for name in names])

    def best(glibc):
        return next(iter(select_wheels(text, Target((3, 11), glibc)))).file

    assert ["x-1-cp311-cp311-manylinux_2_28_x86_64.whl", "x-1-cp311-cp311-manylinux_2_39_x86_64.whl",
            "x-1-cp311-cp311-manylinux_2_17_x86_64.whl", "x-1-py3-none-any.whl"] == [
                best((2, 36)), best((2, 40)), best((2, 27)), best((2, 5))]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        pylock([("x-1-py3-none-any.whl", "sha512", "ab" * 64)]), pylock([("x-1.tar.gz", "sha256", "ab" * 32)]),
        pylock([("x-1-cp39-cp39-win_amd64.whl", "sha256", "ab" * 32)]),
        pylock([], sdist='{ url = "https://example.org/x-1.tar.gz", hashes = { sha256 = "ab" } }'),
        pylock([], vcs='{ type = "git", url = "https://example.org/x", commit-id = "abc" }'),
        pylock([("x-1-py3-none-any.whl", "sha256", "z" * 64)]), pylock([("x-1-py3-none-any.whl", "sha256", "ab " * 21 + "a")]),
        pylock([], directory='{ path = "." }'), pylock([], archive='{ url = "https://example.org/x.zip", hashes = { sha256 = "ab" } }'),
        b"", b"\xff", b"lock-version = '9'",
    ],
    ids=range(12),
)  # fmt: skip
def test_pylocks_that_cannot_be_pinned(text):
    """Source distributions, repositories, directories, missing SHA-256 and unfit wheels are refused."""
    with pytest.raises(UsageError) as caught:
        list(select_wheels(text, TARGET))

    assert "lock.pylock.refused" == caught.value.reason


def test_cache_hands_out_only_what_it_hashed(tmp_path):
    """Content with another digest or size does not enter, and what changed on disk does not leave."""
    cache = InputCache(tmp_path / "inputs")
    digest = hashlib.sha256(b"good").digest()
    for chunks, size in (((b"bad!",), None), ((b"good",), 5), ((b"goo",), 4)):
        with pytest.raises(FormatError):
            cache.add(chunks, sha256=digest, size=size, limit=10, what="x")
    with pytest.raises(FormatError) as caught:
        cache.add((b"good", b"good" * 5), sha256=digest, size=None, limit=10, what="x")
    assert "lock.input.oversize" == caught.value.reason
    assert [] == os.listdir(tmp_path / "inputs")
    cache.add((b"go", b"od"), sha256=digest, size=4, limit=10, what="x")
    assert b"good" == cache.read(digest, 4, "x")
    Path(cache.path(digest)).write_bytes(b"evil")
    with pytest.raises(FormatError) as caught:
        cache.read(digest, 4, "x")

    assert "lock.input.mismatch" == caught.value.reason
    assert not cache.holds(digest, 4)


def direct_url(monkeypatch, record):
    class Distribution:
        def read_text(self, _name):
            return record if record is None else json.dumps(record)

    monkeypatch.setattr(importlib.metadata, "distribution", lambda _name: Distribution())


def test_own_wheel_of_the_installation(monkeypatch, tmp_path):
    """The wheel file that pip recorded is taken; editable and source installations and a replaced file are refused."""
    cache = InputCache(tmp_path / "inputs")
    path = tmp_path / "glasscase-0.1-py3-none-any.whl"
    path.write_bytes(make_wheel("glasscase", "0.1", {"glasscase-0.1.dist-info/METADATA": METADATA}))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    record = {"url": path.as_uri(), "archive_info": {"hashes": {"sha256": digest}}}
    direct_url(monkeypatch, record)
    assert digest == take_own_wheel(None, cache).locked.sha256.hex()
    wrong = [
        ({"url": "file:///src", "dir_info": {"editable": True}}, "lock.wheel.editable"),
        ({"url": "file:///src", "dir_info": {}}, "lock.wheel.editable"),
        ({"url": "https://example.org/x", "vcs_info": {}}, "lock.wheel.editable"), (None, "lock.wheel.missing"),
        ({"url": path.as_uri(), "archive_info": {"hashes": {"sha256": "00" * 32}}}, "lock.wheel.missing"),
    ]  # fmt: skip
    for value, reason in wrong:
        direct_url(monkeypatch, value)
        with pytest.raises(UsageError) as caught:
            take_own_wheel(None, cache)
        assert reason == caught.value.reason
        assert "pip wheel" in caught.value.hint or "install that wheel again" in caught.value.hint
    path.rename(tmp_path / "away")
    direct_url(monkeypatch, record)
    with pytest.raises(StorageError) as gone:
        take_own_wheel(None, cache)
    assert ("fs.file.missing", True) == (gone.value.reason, "that glasscase was installed from" in gone.value.message)
    assert "glasscase lock --wheel FILE" in gone.value.hint
    other = tmp_path / "demo-1.0-py3-none-any.whl"
    other.write_bytes(make_wheel("demo", "1.0", {}))
    for file in (other, Path(__file__)):
        with pytest.raises(FormatError):
            take_own_wheel(file, cache)


class Index:
    """A package index on 127.0.0.1. files: file name -> bytes. login: `user:password` to ask for.

    linked, moved: server that it links to for its files, or sends their readers to.
    """

    def __init__(self, files):
        self.files = files
        self.requests = []
        self.logins = set()
        self.login = self.moved = None
        self.linked = ""
        index = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                index.requests.append(self.path)
                index.logins.add(self.headers.get("Authorization"))
                wanted = index.login and "Basic " + base64.b64encode(index.login.encode()).decode()
                if wanted and self.headers.get("Authorization") != wanted:
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="x"')
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                parts = self.path.strip("/").split("/")
                body, kind = None, "text/html"
                if parts[0] == "simple" and len(parts) == 2:
                    rows = [
                        f'<a href="{index.linked}/files/{name}#sha256={hashlib.sha256(data).hexdigest()}">{name}</a>'
                        for name, data in index.files.items()
                        if name.split("-")[0].replace("_", "-") == parts[1]
                    ]
                    body = "".join(["<!DOCTYPE html><html><body>", *rows, "</body></html>"]).encode() if rows else None
                elif parts[0] == "files" and parts[-1] in index.files:
                    body, kind = index.files[parts[-1]], "application/octet-stream"
                if parts[0] == "files" and index.moved:
                    self.send_response(302)
                    self.send_header("Location", index.moved + self.path)
                else:
                    self.send_response(200 if body is not None else 404)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body or b"")

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/simple"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def index():
    """Give an index with the few projects that the fake enclave wheel and the demo project need."""
    files = {}
    for name, version in (
        ("demo", "1.0"),
        ("demo", "1.1"),
        ("cbor2", "6.0"),
        ("cryptography", "50.0"),
        ("h11", "0.16"),
    ):
        files[f"{name}-{version}-py3-none-any.whl"] = make_wheel(
            name, version, {f"{name}/__init__.py": version.encode()}
        )
    made = Index(files)
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def project(workshop, index):
    """Give a project that locks from that index."""
    text = (workshop.project / "glasscase.toml").read_text()
    (workshop.project / "glasscase.toml").write_text(text + f'[sources]\nindex = "{index.url}"\n')
    wheel = workshop.root / "glasscase-0.1-py3-none-any.whl"
    wheel.write_bytes(
        make_wheel("glasscase", "0.1", workshop_module.OWN | {"glasscase-0.1.dist-info/METADATA": METADATA})
    )
    (workshop.project / "glasscase.lock").unlink()
    workshop.wheel = wheel
    return workshop


@pytest.fixture
def workshop(tmp_path):
    """Give the small project of the bundle's tests."""
    return workshop_module.Workshop(tmp_path)


def request_of(project, **changes):
    fields = {
        "directory": str(project.project), "tool": "0.1.0", "cache": project.cache, "environment": dict(os.environ),
        "python": sys.version_info[:3], "wheel": str(project.wheel), "runtime_named": lambda _name: project.runtime,
        "say": lambda _line: None,
    }  # fmt: skip
    return LockRequest(**(fields | changes))


KINDS = ["pip"] + (["uv"] if shutil.which("uv", path=os.path.dirname(sys.executable)) else [])


PIP = (sys.executable, "-I", "-m", "pip")
COMMANDS = {"pip": PIP, "uv": (os.path.join(os.path.dirname(sys.executable), "uv"),)}


@pytest.fixture
def use(monkeypatch):
    """Give what makes `lock` take a command for one of the tools."""

    def take(kind, command):
        def found(environment, *, index, cache, say):
            return Resolver(kind, tuple(map(str, command)), environment, index, cache, say)

        monkeypatch.setattr("glasscase.bundle.locking.find_resolver", found)

    return take


@pytest.fixture(params=KINDS)
def resolver(request, use):
    """Run a test with each resolver that is installed."""
    if request.param == "pip":
        use("pip", PIP)
    return request.param


@pytest.fixture
def stand_in(tmp_path):
    """Give what writes a tool of shell commands and returns its path."""

    def write(*lines):
        path = tmp_path / "stand-in"
        path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
        path.chmod(0o755)
        return path

    return write


def test_lock_from_an_index(project, index, resolver):
    """Everything is pinned and cached; a fresh lock is kept with its epoch; --update takes newer versions and says so."""
    hostile = dict(os.environ) | {"PIP_INDEX_URL": "http://127.0.0.1:9/", "UV_INDEX_URL": "http://127.0.0.1:9/", "PIP_NO_INDEX": "1",
                                  "PIP_FIND_LINKS": "/nowhere", "UV_DEFAULT_INDEX": "http://127.0.0.1:9/"}  # fmt: skip
    held = index.files.pop("demo-1.1-py3-none-any.whl")
    first, _ = make_lock(request_of(project, environment=hostile), now=1000, update=False)
    assert ["cbor2", "cryptography", "demo", "glasscase", "h11"] == [wheel.name for wheel in first.wheels]
    assert all(project.cache.holds(wheel.sha256, wheel.size) for wheel in first.wheels)
    assert 1000 == first.epoch
    index.files["demo-1.1-py3-none-any.whl"] = held
    asked = len(index.requests)
    again, changes = make_lock(request_of(project), now=2000, update=False)
    assert (first, [], asked) == (again, changes, len(index.requests))
    assert [] == check_lock(request_of(project))
    updated, changes = make_lock(request_of(project), now=3000, update=True)

    assert ["changed   demo 1.0 -> 1.1"] == changes
    assert 3000 == updated.epoch
    project.build()


def pylock_of(index, names, *, created_by="test"):
    """Return a pylock.toml of files of the index."""
    rows = ['lock-version = "1.0"', f'created-by = "{created_by}"']
    for name in names:
        project_name, version = name.split("-")[:2]
        digest = hashlib.sha256(index.files[name]).hexdigest()
        url = index.url.replace("/simple", f"/files/{name}")
        rows += ["[[packages]]", f'name = "{project_name}"', f'version = "{version}"']
        rows += [f'wheels = [{{ url = "{url}", hashes = {{ sha256 = "{digest}" }} }}]']
    return "\n".join(rows)


OLD = "demo-1.1-py3-none-any.whl"  # all but this: what a pylock.toml with the older demo names


def test_lock_from_a_pylock(project, index, tmp_path):
    """A pylock.toml is taken as it is, if it holds all that is asked for; the newest version does not matter then."""
    names = [name for name in index.files if name != OLD]
    path = tmp_path / "given.toml"
    path.write_text(pylock_of(index, names))
    lock, _ = make_lock(request_of(project, pylock=str(path)), now=5, update=False)
    assert ["6.0", "50.0", "1.0", "0.1", "0.16"] == [wheel.version for wheel in lock.wheels]
    assert path.read_bytes() == (project.project / "pylock.toml").read_bytes()
    (project.project / "pylock.toml").unlink()
    path.write_text(
        pylock_of(index, [n for n in names if n not in ("demo-1.0-py3-none-any.whl", "h11-0.16-py3-none-any.whl")])
    )
    with pytest.raises(UsageError) as caught:
        make_lock(request_of(project, pylock=str(path)), now=6, update=False)

    assert "lock.pylock.refused" == caught.value.reason
    assert "demo" in caught.value.message and "h11" in caught.value.message


def test_a_pylock_of_another_tool_is_not_replaced(project, index, tmp_path):
    """--pylock refuses to write over a pylock.toml that is not ours; the same bytes and one of our own are fine."""
    names = [name for name in index.files if name != OLD]
    given, path = tmp_path / "given.toml", project.project / "pylock.toml"
    given.write_text(pylock_of(index, names))
    request = request_of(project, pylock=str(given))
    for theirs in (pylock_of(index, names) + "# mine\n", "not toml ["):
        path.write_text(theirs)
        before = sorted((p.name, p.read_bytes()) for p in project.project.iterdir() if p.is_file())
        for update in (False, True):
            with pytest.raises(UsageError) as caught:
                make_lock(request, now=5, update=update)
            assert "lock.pylock.foreign" == caught.value.reason
        assert before == sorted((p.name, p.read_bytes()) for p in project.project.iterdir() if p.is_file())

    path.write_text(pylock_of(index, names, created_by="glasscase") + "# ours\n")
    make_lock(request, now=5, update=False)
    assert given.read_bytes() == path.read_bytes()
    make_lock(request, now=5, update=False)
    assert given.read_bytes() == path.read_bytes()


def test_the_pylock_of_the_project_is_the_front_door(project, index):
    """A pylock.toml beside glasscase.toml that another tool made is pinned exactly and never written, also with --update."""
    given = pylock_of(index, [name for name in index.files if name != OLD]).encode()
    path = project.project / "pylock.toml"
    path.write_bytes(given)
    for update in (False, True):
        lock, _ = make_lock(request_of(project), now=5, update=update)
        named = set(re.findall(rb"[0-9a-f]{64}", given))
        assert named == {wheel.sha256.hex().encode() for wheel in lock.wheels if wheel.name != "glasscase"}
        assert "1.0" == next(wheel.version for wheel in lock.wheels if wheel.name == "demo")
        assert given == path.read_bytes()
    assert [] == check_lock(request_of(project))


def test_a_pylock_is_made_where_there_is_none(project, index, resolver):
    """It is a lock of PEP 751 with exactly the wheels of glasscase.lock but the own one, and --update writes it again."""
    held = index.files.pop(OLD)
    lock, _ = make_lock(request_of(project), now=5, update=False)
    path = project.project / "pylock.toml"
    first = path.read_bytes()
    document = Pylock.from_dict(tomllib.loads(first.decode()))
    found = {(p.name, str(p.version), w.name, w.size, w.hashes["sha256"]) for p in document.packages for w in p.wheels}
    assert found == {(w.name, w.version, w.file, w.size, w.sha256.hex()) for w in lock.wheels if w.name != "glasscase"}
    assert "glasscase" == document.created_by
    make_lock(request_of(project), now=6, update=False)
    assert first == path.read_bytes()
    index.files[OLD] = held
    _, changes = make_lock(request_of(project), now=7, update=True)

    assert ["changed   demo 1.0 -> 1.1"] == changes
    assert b'"1.1"' in path.read_bytes()
    assert [] == check_lock(request_of(project))


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (["demo-1.1", "cbor2-6.0", "cryptography-50.0", "h11-0.16"], "pylock.toml has changed: demo 1.0 -> 1.1"),
        (["demo-1.0", "cbor2-6.0", "cryptography-50.0"], "pylock.toml has changed: it no longer names h11"),
        (["demo-1.0", "cbor2-6.0", "cryptography-50.0", "h11-0.16", "more-1"], "pylock.toml has changed: it names more 1 too"),
    ],
)  # fmt: skip
def test_a_changed_pylock_is_stale(project, index, names, line):
    """--check says in what pylock.toml changed, and build refuses the lock until it is made again."""
    index.files["more-1-py3-none-any.whl"] = make_wheel("more", "1", {"more.py": b""})
    start = ["demo-1.0", "cbor2-6.0", "cryptography-50.0", "h11-0.16"]
    path = project.project / "pylock.toml"
    path.write_text(pylock_of(index, [f"{name}-py3-none-any.whl" for name in start]))
    make_lock(request_of(project), now=5, update=False)
    path.write_text(pylock_of(index, [f"{name}-py3-none-any.whl" for name in names]))

    assert [line] == check_lock(request_of(project))
    with pytest.raises(UsageError) as caught:
        project.build()
    assert "lock.file.stale" == caught.value.reason


def test_another_file_of_the_same_version_is_stale(project, index):
    """A wheel with other bytes under the same name and version is named too."""
    names = [name for name in index.files if name != OLD]
    path = project.project / "pylock.toml"
    path.write_text(pylock_of(index, names))
    make_lock(request_of(project), now=5, update=False)
    index.files["h11-0.16-py3-none-any.whl"] = make_wheel("h11", "0.16", {"h11/__init__.py": b"other"})
    path.write_text(pylock_of(index, names))

    assert ["pylock.toml has changed: another file of h11 0.16"] == check_lock(request_of(project))


def test_passwords_of_an_index_stay_out_of_the_pylock():
    """User, password and query of a URL are not written down."""
    wheel = Candidate(
        "demo", "1", "demo-1-py3-none-any.whl", "https://me:secret@host/a%20b.whl?token=x#y", b"0" * 32, 5
    )
    text = write_pylock([wheel], Target((3, 11), (2, 36)))

    assert b'"https://host/a%20b.whl"' in text
    assert b"secret" not in text and b"token" not in text
    assert "demo" == select_wheels(text, Target((3, 11), (2, 36)))[0].name


@pytest.mark.skipif("uv" not in KINDS, reason="uv is not installed beside this Python")
def test_pylocks_that_uv_makes(project, index, tmp_path):
    """`uv pip compile` and `uv export --no-emit-project` make a front door; with the project itself inside it is refused."""
    uv = [os.path.join(os.path.dirname(sys.executable), "uv"), "--no-config", "--cache-dir", str(tmp_path / "uv")]
    wanted = ["demo", "cbor2", "cryptography", "h11"]
    (tmp_path / "r.in").write_text("\n".join(wanted))
    options = ["--default-index", index.url, "--format", "pylock.toml"]
    pylock = project.project / "pylock.toml"
    subprocess.run(
        [*uv, "pip", "compile", *options, "--quiet", "--generate-hashes", tmp_path / "r.in", "-o", pylock],
        check=True, capture_output=True, cwd=tmp_path,
    )  # fmt: skip
    first, _ = make_lock(request_of(project), now=5, update=False)
    (tmp_path / "pyproject.toml").write_text(
        f'[project]\nname = "mine"\nversion = "1"\nrequires-python = ">=3.11"\ndependencies = {json.dumps(wanted)}\n'
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
    )
    for flags, reason in ((["--no-emit-project"], None), ([], "lock.pylock.refused")):
        made = subprocess.run([*uv, "export", *options, *flags], check=True, capture_output=True, cwd=tmp_path)
        pylock.write_bytes(made.stdout)
        if reason is None:
            assert first == make_lock(request_of(project), now=6, update=False)[0]
        else:
            with pytest.raises(UsageError) as caught:
                make_lock(request_of(project), now=7, update=True)
            assert reason == caught.value.reason


def test_an_old_lock_needs_no_apt(project, index, monkeypatch):
    """Where apt is absent, what is locked already is fetched by its hash; choosing packages is refused, with a reason."""
    version = "{}.{}".format(*sys.version_info)
    python = f"python{version}-minimal"
    deb, name = b"the bytes of a package", f"pool/{python}.deb"
    archive = project.root / "archive"
    (archive / "pool").mkdir(parents=True)
    (archive / name).write_bytes(deb)
    (project.project / "keyring.gpg").write_bytes(b"not looked at")
    toml = project.project / "glasscase.toml"
    toml.write_text(toml.read_text() + f'apt = ["deb file://{archive} test main"]\nkeyring = "keyring.gpg"\n')
    first, _ = make_lock(request_of(project, python_from="host"), now=5, update=False)
    package = LockedPackage(python, f"{version}.2-6", "amd64", name, len(deb), hashlib.sha256(deb).digest())
    debian = LockedDebian("test", bytes(32), bytes(20), bytes(32), (package,))
    (project.project / "glasscase.lock").write_bytes(replace(first, debian=debian).to_bytes())

    def absent(*_arguments, **_keywords):
        raise FileNotFoundError

    monkeypatch.setattr("glasscase.lock.child.subprocess.Popen", absent)
    again, _ = make_lock(request_of(project), now=6, update=False)
    assert debian == again.debian
    assert project.cache.holds(package.sha256, package.size)
    before = (project.project / "glasscase.lock").read_bytes()
    with pytest.raises(StorageError) as caught:
        make_lock(request_of(project), now=7, update=True)

    assert "lock.apt.missing" == caught.value.reason
    assert before == (project.project / "glasscase.lock").read_bytes()


def test_lost_inputs_are_fetched_by_hash(project, index, resolver):
    """An input that the cache lost is fetched again by its hash; one that the index has changed is refused."""
    lock, _ = make_lock(request_of(project), now=1000, update=False)
    demo = next(wheel for wheel in lock.wheels if wheel.name == "demo")
    os.unlink(project.cache.path(demo.sha256))
    assert [f"{demo.file} is not in the cache"] == check_lock(request_of(project))
    make_lock(request_of(project), now=2000, update=False)
    assert project.cache.holds(demo.sha256, demo.size)
    os.unlink(project.cache.path(demo.sha256))
    index.files[demo.file] = make_wheel("demo", demo.version, {"demo/__init__.py": b"evil"})
    with pytest.raises((CannotVerify, FormatError, UsageError)) as caught:
        make_lock(request_of(project), now=3000, update=False)

    assert caught.value.reason in ("lock.input.gone", "lock.resolver.refused", "lock.pylock.refused")
    assert not project.cache.holds(demo.sha256, demo.size)


def test_index_that_lies_about_content(project, index, resolver, monkeypatch):
    """A file whose bytes are not those of the hash that the index gave does not enter the cache."""
    real = resolving.Resolver.resolve

    def swap(self, *arguments, **keywords):
        found = real(self, *arguments, **keywords)
        index.files = {name: data + b"x" for name, data in index.files.items()}
        return found

    monkeypatch.setattr(resolving.Resolver, "resolve", swap)
    with pytest.raises(FormatError) as caught:
        make_lock(request_of(project), now=1000, update=False)

    assert caught.value.reason in ("lock.input.mismatch", "lock.input.oversize")
    assert not (project.project / "glasscase.lock").exists()


def with_login(project, index):
    """Let an index ask for a password, and a project know it."""
    index.login = "me:s%cret/word"
    project.edit(index.url, index.url.replace("://", "://me:s%25cret%2fword@"))


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_with_a_password(project, index, use, stand_in, kind):
    """The password opens index and files, and is in no command line, no line for the user, and no file but the project's own."""
    with_login(project, index)
    argv, lines = project.root / "argv", []
    use(kind, (stand_in(f'printf "%s\\n" "$@" >> {argv}', f'exec {shlex.join(COMMANDS[kind])} "$@"'),))
    lock, _ = make_lock(request_of(project, say=lines.append), now=1000, update=False)

    assert all(project.cache.holds(wheel.sha256, wheel.size) for wheel in lock.wheels)
    files = [path for path in project.root.rglob("*") if path.is_file()]
    holding = [path.name for path in files if re.search(rb"s%(25)?cret", path.read_bytes())]
    assert ["glasscase.toml"] == holding
    assert "demo" not in argv.read_text() and "--only-binary" in argv.read_text()
    assert not any("cret" in line for line in lines)


@pytest.mark.parametrize(("kind", "status"), [(kind, status) for kind in KINDS for status in (1, 2)])
def test_errors_have_no_password(project, index, use, stand_in, *, kind, status):
    """Whatever a tool says of the index's URL, the user sees it without the user name and the password."""
    with_login(project, index)
    index.login = "me:other"
    url = '"$UV_DEFAULT_INDEX$PIP_INDEX_URL"'
    for command in ((stand_in(f"echo error: {url} and {url} >&2", f"exit {status}"),), COMMANDS[kind]):
        use(kind, command)
        with pytest.raises((UsageError, CannotVerify)) as caught:
            make_lock(request_of(project), now=1000, update=False)
        text = f"{caught.value} {caught.value.hint}"
        assert "cret" not in text and "word" not in text and "me:" not in text, text
        assert not (project.project / "glasscase.lock").exists()


@pytest.mark.parametrize("way", ["linked", "moved"])
def test_a_password_stays_with_its_server(project, index, resolver, way):
    """Where an index has its files on another server, or sends their readers there, that one sees no password."""
    other = Index(index.files)
    setattr(index, way, other.url.removesuffix("/simple"))
    with_login(project, index)
    make_lock(request_of(project), now=1000, update=False)
    other.server.shutdown()
    other.server.server_close()

    assert {None} == other.logins


class Proxy(Index):
    """An index that answers for any host, as a proxy does."""

    def __init__(self, files):
        super().__init__(files)
        self.lines = []
        self.server.RequestHandlerClass.do_GET = self.get(self.server.RequestHandlerClass.do_GET)

    def get(self, real):
        def do_get(handler):
            self.logins.add(handler.headers.get("Proxy-Authorization"))
            self.lines.append(handler.requestline)
            handler.path = "/" + handler.path.partition("://")[2].partition("/")[2]
            real(handler)

        return do_get


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_a_proxy_with_a_password(scheme, tmp_path):
    """The proxy gets the user name and password of its URL, with or without a scheme, and no line with those of the server's."""
    name, data = "demo-1.0-py3-none-any.whl", b"any bytes"
    proxy = Proxy({name: data})
    url = proxy.url.replace("http://", f"{scheme}me:s%25cret@").removesuffix("/simple")
    cache = InputCache(tmp_path / "inputs")
    fields = {"sha256": hashlib.sha256(data).digest(), "size": len(data), "what": name}
    fetch(f"http://you:word@absent.invalid/files/{name}", cache, environment={"http_proxy": url}, **fields)
    proxy.server.shutdown()
    proxy.server.server_close()

    assert {"Basic " + base64.b64encode(login).decode() for login in (b"me:s%cret", b"you:word")} == proxy.logins
    assert [f"GET http://absent.invalid/files/{name} HTTP/1.1"] == proxy.lines
    assert data == cache.read(fields["sha256"], fields["size"], name)


@pytest.mark.parametrize(
    ("server", "same"),
    [("http://absent.invalid:80", True), ("http://ABSENT.invalid", True), ("http://absent.invalid:8080", False),
     ("https://absent.invalid:80", False), ("https://absent.invalid", False), ("http://absent.invalid.example", False)],
)  # fmt: skip
def test_the_server_of_an_index_is_known_with_and_without_its_port(tmp_path, *, server, same):
    """uv leaves out the port that the scheme has anyway; another port, scheme or name is another server."""
    name, data = "demo-1.0-py3-none-any.whl", b"any bytes"
    proxy = Proxy({name: data})
    fields = {"sha256": hashlib.sha256(data).digest(), "size": len(data), "what": name}
    fetch(
        f"http://absent.invalid/files/{name}", InputCache(tmp_path / "inputs"), index=server.replace("://", "://me:word@"),
        environment={"http_proxy": proxy.url.removesuffix("/simple")}, **fields,
    )  # fmt: skip
    proxy.server.shutdown()
    proxy.server.server_close()

    # None: that nobody logged in to the proxy
    assert {None, *(["Basic " + base64.b64encode(b"me:word").decode()] if same else [])} == proxy.logins


@pytest.mark.parametrize(
    "proxy", ["socks5://me:secret@127.0.0.1:9", "http://", "http://me:secret@h:x", "http://[me:secret@h"]
)
def test_a_proxy_that_is_none(proxy, tmp_path):
    """Another kind of proxy, or no URL, is an error that names the variable and not what stands in it."""
    cache, fields = InputCache(tmp_path / "inputs"), {"sha256": bytes(32), "size": 1, "what": "x"}
    with pytest.raises(CannotVerify) as caught:
        fetch("https://127.0.0.1:9/x", cache, environment={"all_proxy": proxy}, **fields)

    assert ("lock.fetch.failed", True) == (caught.value.reason, "all_proxy" in caught.value.message)
    assert "secret" not in f"{caught.value} {caught.value.hint}"
    assert [] == os.listdir(tmp_path / "inputs")


def test_pip_reads_no_configuration_file(project, index, use, tmp_path):
    """The files of the host, which pip's own --isolated still reads, have no say in what is pinned."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "v"], check=True)
    (tmp_path / "v/pip.conf").write_text("[global]\nno-index = true\n")
    use("pip", (tmp_path / "v/bin/python", "-I", os.path.dirname(importlib.util.find_spec("pip").origin)))

    assert make_lock(request_of(project), now=1000, update=False)[0].wheels


def gone(path):
    """Return whether the process whose id is in a file has ended."""
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{int(path.read_text())}/cmdline") and time.monotonic() < deadline:
        if b"" == Path(f"/proc/{int(path.read_text())}/cmdline").read_bytes():  # a zombie
            return True
        time.sleep(0.02)
    return time.monotonic() < deadline


def test_a_silent_tool_is_reported_and_given_up(project, use, stand_in, monkeypatch):
    """A tool that waits for ever is spoken of meanwhile and killed in the end, with what it has started; nothing is written."""
    monkeypatch.setattr(child, "SILENCE", 1)
    monkeypatch.setattr(child, "TIMEOUT", 2)
    lines, pid = [], project.root / "pid"
    use("uv", (stand_in(f"sleep 600 & echo $! > {pid}", "wait"),))
    before = sorted(os.listdir(project.project))
    with pytest.raises(CannotVerify) as caught:
        make_lock(request_of(project, say=lines.append), now=1000, update=False)

    assert "lock.resolver.failed" == caught.value.reason
    assert "2 s" in caught.value.message
    assert [
        "lock      still waiting for uv after 1 s, at most 2 s",
        "lock      still waiting for uv after 2 s, at most 2 s",
    ] == lines[1:]
    assert gone(pid)
    assert before == sorted(os.listdir(project.project))


def test_an_interrupt_ends_the_tool(project, use, stand_in):
    """Ctrl-C, which a tool may ignore, ends the tool too and leaves the project as it was."""
    pid = project.root / "pid"
    use("uv", (stand_in("trap '' INT TERM", f"echo $$ > {pid}", "exec sleep 600"),))
    before = {path: path.read_bytes() for path in project.project.rglob("*") if path.is_file()}

    def press():
        while not (pid.exists() and pid.read_text()):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    was = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what runs in its background ignore it
    try:
        threading.Thread(target=press).start()
        with pytest.raises(KeyboardInterrupt):
            make_lock(request_of(project), now=1000, update=False)
    finally:
        signal.signal(signal.SIGINT, was)

    assert gone(pid)
    assert before == {path: path.read_bytes() for path in project.project.rglob("*") if path.is_file()}


def test_no_solution_leaves_no_lock(project, index, resolver):
    """A project that the index does not have is an error that names the resolver's reason, and nothing is written."""
    (project.project / "requirements.txt").write_bytes(b"absent-project\n")
    with pytest.raises(UsageError) as caught:
        make_lock(request_of(project), now=1000, update=False)

    assert "lock.resolver.refused" == caught.value.reason
    assert not (project.project / "glasscase.lock").exists()


@pytest.mark.skipif("uv" not in KINDS, reason="uv is not installed")
def test_an_index_out_of_reach_is_not_a_missing_wheel(project, index):
    """Without its index uv knows nothing of the requirements: that is not their fault, and nothing is written."""
    project.edit(index.url, "http://127.0.0.1:9/simple")
    with pytest.raises(CannotVerify) as caught:
        make_lock(request_of(project), now=1000, update=False)

    assert "lock.resolver.failed" == caught.value.reason
    assert "index" in caught.value.hint
    assert not (project.project / "glasscase.lock").exists()


def test_stale_locks_say_why(project, index):
    """Changed requirements and another tool are named by --check."""
    make_lock(request_of(project), now=1000, update=False)
    (project.project / "requirements.txt").write_bytes(b"demo>=1\n")
    stale = check_lock(request_of(project, tool="0.2.0"))

    assert 2 == len(stale)
    assert "requirements.txt has changed" in stale


def test_pip_does_not_choose_for_another_python(tmp_path):
    """pip evaluates markers with its own Python, so another target is refused instead of pinned wrongly."""
    resolver = Resolver("pip", PIP, {}, None, str(tmp_path), print)
    with pytest.raises(UsageError) as caught:
        resolver.resolve(parse_requirements(b"demo\n"), Target((3, 99), (2, 36)))

    assert "lock.resolver.unfit" == caught.value.reason


def test_missing_project_files(tmp_path):
    """A directory without a project is an I/O error."""
    with pytest.raises(StorageError):
        make_lock(
            LockRequest(str(tmp_path), "0", InputCache(tmp_path), {}, (3, 11), None, lambda _n: None, lambda _l: None),
            now=1,
            update=False,
        )
