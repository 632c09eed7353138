"""Compiled Python is the same bytes each time and holds no trace of where it was made."""

import marshal
import sys

import pytest

from glasscase.bundle.compiled import compile_sources
from glasscase.errors import FormatError, StorageError, UsageError

SOURCES = {
    "rootfs/opt/site/a.py": b"x = {'b', 'a', 'c'}\nY = frozenset(('q', 'r', 's'))\ndef f(v): return v in {'one', 'two', 'three'}\n",
    "rootfs/opt/site/p/__init__.py": b"'''doc'''\n",
    "rootfs/opt/site/p/broken.py": b"def (:\n",
    "rootfs/opt/site/p/latin.py": b"x = '\xff'\n",
}


def compiled(root):
    for path, content in SOURCES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return dict(compile_sources(sys.executable, "", str(root), sorted(SOURCES)))


def test_same_bytes_in_any_directory(tmp_path):
    """Two directories give the same files, unchecked-hash, with the path inside; what does not compile is left out."""
    one, two = tmp_path / "one", tmp_path / "somewhere" / "else"
    first = compiled(one)
    tag = sys.implementation.cache_tag

    assert first == compiled(two)
    assert {f"rootfs/opt/site/__pycache__/a.{tag}.pyc", f"rootfs/opt/site/p/__pycache__/__init__.{tag}.pyc"} == set(
        first
    )
    content = first[f"rootfs/opt/site/__pycache__/a.{tag}.pyc"]
    assert b"\1\0\0\0" == content[4:8]
    assert "/opt/site/a.py" == marshal.loads(content[16:]).co_filename
    assert str(tmp_path).encode() not in b"".join(first.values())


def test_interpreter_that_does_not_run(tmp_path):
    """A bundle's interpreter that cannot run here is an error, not a bundle without compiled files."""
    with pytest.raises(StorageError) as caught:
        list(compile_sources(str(tmp_path / "none"), "", str(tmp_path), []))
    assert "bundle.pyc.interpreter" == caught.value.reason


def test_unstable_compilation_is_refused(tmp_path):
    """An interpreter that gives other bytes the second time is refused."""
    fake = tmp_path / "python"
    script = tmp_path / "script.py"
    script.write_text(
        "import json, os, sys\nfor _, _, target in json.load(sys.stdin):\n"
        "    open(target, 'wb').write(os.urandom(8))\nprint('cpython-311')\n"
    )
    fake.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}"\n')
    fake.chmod(0o755)
    with pytest.raises(FormatError) as caught:
        list(compile_sources(str(fake), "", str(tmp_path), ["rootfs/opt/site/a.py"]))
    assert "bundle.pyc.unstable" == caught.value.reason


def test_pyc_needs_an_interpreter_in_the_bundle(workshop):
    """Without Debian packages there is nothing to compile with."""
    workshop.edit("encrypt = false", "encrypt = false\npyc = true")
    with pytest.raises(UsageError) as caught:
        workshop.build()
    assert "bundle.python.missing" == caught.value.reason
