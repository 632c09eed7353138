"""The import table is what Python's own search would find, written once, from the paths alone."""

import importlib.machinery

import pytest

from glasscase.bundle.imports import import_table, module_names
from glasscase.errors import FormatError


def table(*paths):
    return import_table(f"rootfs/{path}" for path in paths).decode().splitlines()


def test_kinds():
    """Modules, packages, namespace packages, extensions and other files each have their line, sorted by bytes."""
    found = table(
        "opt/site/a.py", "opt/site/p/__init__.py", "opt/site/p/m.py", "opt/site/n/m.py", "opt/site/x.abi3.so",
        "opt/site/y.cpython-311-x86_64-linux-gnu.so", "opt/site/p/data.txt", "opt/glasscase/enclave.cbor", "opt/glasscase/imports.txt",
    )  # fmt: skip

    assert [
        "glasscase-imports 1", "f - /opt/glasscase/enclave.cbor", "f - /opt/site/p/data.txt", "m a /opt/site/a.py",
        "m n.m /opt/site/n/m.py", "m p.m /opt/site/p/m.py", "n n /opt/site/n", "p p /opt/site/p/__init__.py", "x x /opt/site/x.abi3.so",
        "x y /opt/site/y.cpython-311-x86_64-linux-gnu.so",
    ] == found  # fmt: skip


def test_standard_library_comes_first():
    """A wheel cannot replace a module of the standard library; lib-dynload has no prefix; odd names of it are kept."""
    found = table(
        "usr/lib/python3.11/json/__init__.py", "usr/lib/python3.11/lib-dynload/_ssl.cpython-311-x86_64-linux-gnu.so",
        "usr/lib/python3.11/_sysconfigdata__x86_64-linux-gnu.py", "opt/site/json.py", "opt/site/json/evil.py", "usr/bin/python3.11",
    )  # fmt: skip

    assert "p json /usr/lib/python3.11/json/__init__.py" in found
    assert "x _ssl /usr/lib/python3.11/lib-dynload/_ssl.cpython-311-x86_64-linux-gnu.so" in found
    assert "m _sysconfigdata__x86_64-linux-gnu /usr/lib/python3.11/_sysconfigdata__x86_64-linux-gnu.py" in found
    assert {"f - /opt/site/json.py", "f - /opt/site/json/evil.py", "f - /usr/bin/python3.11"} <= set(found)


def test_ambiguous_modules_are_refused():
    """Two extension files of one name, and two standard libraries, are refused."""
    for paths in (("opt/site/x.abi3.so", "opt/site/x.so"), ("usr/lib/python3.11/a.py", "usr/lib/python3.12/a.py")):
        with pytest.raises(FormatError) as caught:
            table(*paths)
        assert "bundle.imports.ambiguous" == caught.value.reason


def test_table_agrees_with_pythons_own_search(tmp_path):
    """For a tree with every kind of clash, each name of the table is where PathFinder finds it, and no other is found."""
    site = tmp_path / "rootfs" / "opt" / "site"
    files = ["both/__init__.py", "both.py", "ext.abi3.so", "ext.py", "ns/deep/er/m.py", "plain.py", "pkg/__init__.py", "pkg/sub/m.py",
             "pkg/sub/__init__.py", "data/x.txt", "dotted.name.py", "pkg/data.json"]  # fmt: skip
    for name in files:
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_bytes(b"")
    rows = [line.split(" ", 2) for line in table(*[f"opt/site/{name}" for name in files])[1:]]
    found = {name: (kind, path) for kind, name, path in rows if kind != "f"}
    for name, (kind, path) in found.items():
        parent, _, last = name.rpartition(".")
        where = [str(site)] if not parent else [str(site / parent.replace(".", "/"))]
        spec = importlib.machinery.PathFinder.find_spec(last, where)
        if kind == "n":
            assert spec.origin is None and [str(tmp_path / "rootfs") + path] == list(
                spec.submodule_search_locations._path
            )
        else:
            assert str(tmp_path / "rootfs") + path == spec.origin
    assert {
        "both",
        "ext",
        "ns",
        "ns.deep",
        "ns.deep.er",
        "ns.deep.er.m",
        "plain",
        "pkg",
        "pkg.sub",
        "pkg.sub.m",
    } == set(found)
    assert set(found) == module_names(import_table(f"rootfs/opt/site/{name}" for name in files))
