"""A bundle for a runtime with Gramine's C library and a Python of Debian packages: placed, closed and pinned."""

import dataclasses
import hashlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from glasscase.audit.reproduce import ReproduceRequest, reproduce
from glasscase.bundle.check import check_bundle
from glasscase.bundle.index import BundleIndex, FileEntry
from glasscase.bundle.locking import wants_debian
from glasscase.bundle.project import load_project
from glasscase.bundle.runtime import RuntimeFiles
from glasscase.errors import FormatError, UsageError
from glasscase.gramine.pins import RuntimeFile, RuntimePin

_PATH = Path(__file__).resolve().parents[1] / "lock" / "test_debian.py"
_SPEC = importlib.util.spec_from_file_location("debs", _PATH)
debs = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(debs)


def runtime_of(files):
    """Return a runtime of these files with its own pin."""
    rows = tuple(RuntimeFile(path, len(data), hashlib.sha256(data).digest()) for path, data in sorted(files.items()))
    return RuntimeFiles(RuntimePin("gramine-test", "1.9", "0d1a4b76", "v1.8", rows), files)


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """Give a stand-in libc.so.6 and loader, and a program that wants both, made by the compiler."""
    work = tmp_path_factory.mktemp("libc")
    text = 'const char banner[] = "GNU C Library (Gramine) stable release version 2.40.";\n'
    (work / "libc.c").write_text(text + "int start(void) { return 0; }\n")
    (work / "main.c").write_text("int main(void) { return 0; }\n")
    for soname in ("libc.so.6", "ld-linux-x86-64.so.2"):
        command = ["cc", "-shared", "-fPIC", "-nostdlib", f"-Wl,-soname,{soname}", "-o", soname, "libc.c"]
        subprocess.run(command, cwd=work, check=True)
    subprocess.run(["cc", "-o", "main", "main.c"], cwd=work, check=True)
    return {path.name: path.read_bytes() for path in work.iterdir()}


@pytest.fixture
def gramine(workshop, objects):
    """Give the workshop with that runtime and a locked Python."""
    files = dict(workshop.runtime.files)
    files |= {f"libc/{name}": objects[name] for name in ("libc.so.6", "ld-linux-x86-64.so.2")}
    workshop.runtime = runtime_of(files)
    workshop.edit("[enclave]", '[enclave]\nruntime = "gramine-test"')
    workshop.edit('size = "64M"', 'size = "256M"')
    workshop.edit("max_threads = 4", "max_threads = 32")
    stdlib = {"./usr/bin/python3.11": objects["main"], "./usr/lib/python3.11/os.py": b"sep = '/'\n"}
    package = debs.stored(workshop.cache, "python3.11-minimal", debs.make_deb("Package: python3.11-minimal\n", stdlib))
    workshop.debian = debs.locked(package)
    workshop.lock(debian=workshop.debian)
    return workshop


def test_gramine_bundle(gramine):
    """The C library lies under its SONAMEs in lib, the loader in lib64 too; nothing is host-python or simulated."""
    result = gramine.build()
    checked = check_bundle(result.path, full=True, runtimes=[gramine.runtime.pin]).require_sound()
    paths = {file.path for file in result.index.files}

    assert {"rootfs/lib/libc.so.6", "rootfs/lib/ld-linux-x86-64.so.2", "rootfs/lib64/ld-linux-x86-64.so.2"} <= paths
    assert ("dev-enclave",) == checked.insecure
    assert (2, 40) == gramine.runtime.glibc
    manifest = Path(result.path, "app.manifest.sgx").read_text()
    assert 'entrypoint = "/usr/bin/python3.11"' in manifest
    assert "m os /usr/lib/python3.11/os.py" in Path(result.path, "rootfs/opt/glasscase/imports.txt").read_text()


@pytest.mark.parametrize("size", ["64M", "128M"])
def test_an_enclave_that_could_not_start_is_not_built(gramine, size):
    """Python, TLS and the server need their room before the application does; the answer names the sizes, nothing is left."""
    gramine.edit('size = "256M"', f'size = "{size}"')
    gramine.lock(debian=gramine.debian)
    with pytest.raises(UsageError) as caught:
        gramine.build()

    assert "bundle.size.small" == caught.value.reason
    assert "128M to start" in caught.value.message
    assert "out.bundle" not in os.listdir(gramine.root)


def test_threads_that_could_not_be_had_are_refused(gramine):
    """What the application may start, Gramine and ours must fit max_threads, or threads fail under load; EDMM makes more."""
    gramine.edit("max_threads = 32", "max_threads = 22")
    gramine.lock(debian=gramine.debian)
    with pytest.raises(UsageError) as caught:
        gramine.build()
    assert "bundle.threads.few" == caught.value.reason
    assert "need 23" in caught.value.message
    assert "out.bundle" not in os.listdir(gramine.root)

    gramine.edit("max_threads = 22", "max_threads = 22\nedmm = true")
    gramine.build("edmm.bundle")
    gramine.edit("max_threads = 22\nedmm = true", "max_threads = 23")
    gramine.build("enough.bundle")


def test_pin_is_required(gramine):
    """Without the pin the same bundle fails, and so it does with a pin that has another libpal.so."""
    result = gramine.build()
    files = dict(gramine.runtime.files)
    other = runtime_of(files | {"libpal.so": files["libpal.so"] + b"\0"}).pin
    for pins in (None, [], [other]):
        problems = [problem.id for problem in check_bundle(result.path, runtimes=pins).problems]
        assert ["bundle.runtime.unpinned"] == problems


def test_changed_libc_shows(gramine):
    """Another C library in rootfs than that of the pinned runtime is refused, also if index and manifest are made to fit."""
    result = gramine.build()
    for path, content in (
        ("rootfs/lib/libc.so.6", b"\x7fELF evil"),
        ("rootfs/lib/libm.so.6", b"\x7fELF more"),
        ("rootfs/lib/glibc-hwcaps/x86-64-v2/libc.so.6", b"\x7fELF rest"),  # the loader would take it first
        ("rootfs/lib64/libc.so.6", b"\x7fELF else"),
    ):
        target = Path(result.path, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        before = target.read_bytes() if target.exists() else None
        index = (Path(result.path) / "bundle.json").read_bytes()
        target.write_bytes(content)
        value = BundleIndex.from_bytes(index)
        entry = FileEntry(path, len(content), "0644", hashlib.sha256(content).digest())
        files = sorted([f for f in value.files if f.path != path] + [entry], key=lambda f: f.path.encode())
        fields = {name: getattr(value, name) for name in value.__dataclass_fields__} | {"files": tuple(files)}
        Path(result.path, "bundle.json").write_bytes(BundleIndex(**fields).to_bytes())
        problems = [problem.id for problem in check_bundle(result.path, runtimes=[gramine.runtime.pin]).problems]
        assert "bundle.runtime.libc" in problems
        Path(result.path, "bundle.json").write_bytes(index)
        target.unlink() if before is None else target.write_bytes(before)


def test_missing_library_stops_the_build(gramine, objects):
    """A wheel whose extension needs a library that nobody brings is refused, and nothing is left."""
    conftest = importlib.util.module_from_spec(
        spec := importlib.util.spec_from_file_location("w", Path(__file__).with_name("conftest.py"))
    )
    spec.loader.exec_module(conftest)
    work = gramine.root / "cc"
    work.mkdir()
    (work / "a.c").write_text("int a(void) { return 1; }\n")
    (work / "b.c").write_text("int a(void); int b(void) { return a(); }\n")
    cc = ["cc", "-shared", "-fPIC", "-nostdlib"]
    subprocess.run([*cc, "-Wl,-soname,libabsent.so.1", "-o", "liba.so", "a.c"], cwd=work, check=True)
    subprocess.run([*cc, "-o", "b.so", "b.c", "./liba.so"], cwd=work, check=True)
    wheel = conftest.add_wheel(gramine.cache, "native", "1.0", {"native/b.abi3.so": (work / "b.so").read_bytes()})
    gramine.wheels.append(wheel)
    (package,) = [
        path for path in (gramine.root / "cache" / "inputs").iterdir() if b"debian-binary" in path.read_bytes()[:40]
    ]
    data = package.read_bytes()
    gramine.lock(debian=debs.locked(debs.stored(gramine.cache, "python3.11-minimal", data)))
    with pytest.raises(FormatError) as caught:
        gramine.build()

    assert "bundle.library.missing" == caught.value.reason
    assert "libabsent.so.1" in caught.value.message
    assert "out.bundle" not in os.listdir(gramine.root)


def test_gramine_needs_debian(gramine):
    """A Gramine project without a locked Python is stale; the host's Python cannot be chosen for it."""
    gramine.lock(debian=None)
    with pytest.raises(UsageError) as caught:
        gramine.build()
    assert "lock.file.stale" == caught.value.reason
    project = load_project(gramine.project)
    assert wants_debian(None, project, gramine.runtime, None)
    with pytest.raises(UsageError) as caught:
        wants_debian("host", project, gramine.runtime, None)

    assert "bundle.python.missing" == caught.value.reason


def test_runtime_files_must_be_those_of_the_pin(workshop):
    """A runtime whose file has one other byte, one file more or one less is refused before anything is built."""
    pin, files = workshop.runtime.pin, dict(workshop.runtime.files)
    for wrong in (
        files | {"loader": files["loader"] + b"x"},
        files | {"more": b""},
        {k: v for k, v in files.items() if k != "loader"},
    ):
        with pytest.raises(FormatError) as caught:
            RuntimeFiles(pin, wrong)
        assert "bundle.runtime.mismatch" == caught.value.reason


INTERPRETER = """#!/bin/sh
: > "{mark}"
exec "{python}" "$@"
"""


@pytest.fixture
def compiled(gramine, tmp_path):
    """Give a bundle with compiled Python, whose interpreter leaves a mark when it runs, and the mark."""
    mark = tmp_path / "it has run"
    program = INTERPRETER.format(mark=mark, python=sys.executable).encode()
    files = {"./usr/bin/python3.11": program, "./usr/lib/python3.11/os.py": b"sep = '/'\n"}
    package = debs.stored(gramine.cache, "python3.11-minimal", debs.make_deb("Package: python3.11-minimal\n", files))
    gramine.lock(debian=debs.locked(package))
    gramine.edit("encrypt = false", "encrypt = false\npyc = true")
    bundle = gramine.build().path
    mark.unlink()
    return bundle, mark


@pytest.mark.parametrize("again", [False, True])
def test_a_rebuild_runs_no_program_of_the_bundle_unasked(gramine, compiled, again):
    """An auditor who rebuilds a stranger's bundle does not run the stranger's Python; what it made is named as not checked."""
    bundle, mark = compiled
    checked = check_bundle(bundle, full=True, runtimes=[gramine.runtime.pin])
    result = reproduce(
        ReproduceRequest(
            checked, gramine.runtime, gramine.cache, str(gramine.project), None, None, lambda _: None, again
        )
    )

    assert again == mark.exists()
    assert (True, checked.measurement.mrenclave) == (result.same, result.mrenclave)
    assert again == (() == result.not_checked)
    assert again or "compiled Python" in result.not_checked[0]


def test_compiled_python_that_is_another_is_seen_when_it_is_made_again(gramine, compiled):
    """A .pyc that its source does not give runs inside instead of it: named as not checked, and as different with --compile."""
    bundle, _ = compiled
    path = next(Path(bundle).rglob("*.pyc"))
    name = path.relative_to(bundle).as_posix()
    checked = check_bundle(bundle, full=True, runtimes=[gramine.runtime.pin])
    entries = tuple(
        dataclasses.replace(entry, sha256=bytes(32)) if entry.path == name else entry
        for entry in checked.bundle.index.files
    )
    index = dataclasses.replace(checked.bundle.index, files=entries)
    changed = dataclasses.replace(checked, bundle=dataclasses.replace(checked.bundle, index=index))
    request = ReproduceRequest(
        changed, gramine.runtime, gramine.cache, str(gramine.project), None, None, lambda _: None
    )

    assert "compiled Python" in reproduce(request).not_checked[0]
    again = reproduce(dataclasses.replace(request, compile_again=True))
    assert name in [difference.what for difference in again.differences]
