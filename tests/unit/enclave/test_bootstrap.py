"""The import table decides: what it lists must be there, what it lacks is not there, and nothing is asked of listings."""

import os
import subprocess
import sys

import pytest

from glasscase.enclave import bootstrap
from glasscase.enclave.unpack import modules_of

HEAD = "glasscase-imports 1\n"
PROBE = """
import sys
runpy = sys.argv.pop()
{load}
finder = bootstrap.install(sys.argv[1:], list(sys.path))
{body}
"""


class Root:
    """A root directory with a few modules and their table."""

    def __init__(self, folder):
        self.folder = folder
        self.files = {}
        self.rows = []
        (folder / "opt/glasscase").mkdir(parents=True)
        (folder / "opt/site").mkdir()

    def add(self, kind, name, path, text=""):
        place = self.folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if kind != "n":
            place.write_text(text)
        else:
            place.mkdir(parents=True, exist_ok=True)
        self.rows.append(f"{kind} {name} /{path}")
        return place

    def write(self, text=None):
        table = HEAD + "".join(row + "\n" for row in sorted(self.rows)) if text is None else text
        (self.folder / "opt/glasscase/imports.txt").write_bytes(table.encode())

    def run(self, body, *, simulated=True):
        """Run `body` after the finder was installed; return exit code, output and error text."""
        script = self.folder.parent / "probe.py"
        load = (
            "import _frozen_importlib_external as e\n"
            f"loader = e.SourceFileLoader('bootstrap', {bootstrap.__file__!r})\n"
            "import _frozen_importlib as f\n"
            "bootstrap = f.module_from_spec(f.ModuleSpec('bootstrap', loader))\n"
            "loader.exec_module(bootstrap)\n"
        )
        script.write_text(PROBE.format(load=load, body=body))
        words = ["--simulated-root", str(self.folder)] if simulated else []
        argv = [sys.executable, "-I", "-S", "-B", "-u", "-X", "utf8", str(script), *words, "end"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, cwd="/", env={}, check=False)
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def root(tmp_path):
    """Return a root with a module, a package, a namespace package and a data file."""
    folder = Root(tmp_path / "root")
    folder.add("m", "alone", "opt/site/alone.py", "value = 1")
    folder.add("p", "pack", "opt/site/pack/__init__.py", "")
    folder.add("m", "pack.inner", "opt/site/pack/inner.py", "value = 2")
    folder.add("n", "space", "opt/site/space", "")
    folder.add("m", "space.thing", "opt/site/space/thing.py", "value = 3")
    folder.add("f", "-", "opt/site/pack/data.json", "{}")
    folder.write()
    return folder


def test_listed_modules_are_found(root):
    """Modules, packages and namespace packages of the table are imported; the standard library is there."""
    body = (
        "import alone, pack.inner, space.thing, json, email.message\n"
        "print(alone.value + pack.inner.value + space.thing.value, alone.__file__ is not None, pack.__path__)"
    )
    code, out, err = root.run(body)

    assert (0, "") == (code, err)
    assert f"6 True ['{root.folder}/opt/site/pack']\n" == out


def test_unlisted_modules_do_not_exist(root):
    """A file that the host has added is not importable, neither at the top nor inside a listed package."""
    (root.folder / "opt/site/extra.py").write_text("print('extra ran')")
    (root.folder / "opt/site/pack/extra.py").write_text("print('extra ran')")
    body = (
        "for name in ('extra', 'pack.extra', 'space.extra'):\n"
        "    try:\n        __import__(name)\n    except ModuleNotFoundError:\n        print('absent')"
    )

    assert (0, "absent\n" * 3, "") == root.run(body)


@pytest.mark.parametrize("path", ["opt/site/alone.py", "opt/site/pack/__init__.py", "opt/site/pack/inner.py"])
def test_a_hidden_module_ends_the_process(root, path):
    """A listed module that the host has removed ends the process; an ImportError would be caught by a fall-back."""
    (root.folder / path).unlink()
    body = "try:\n    import alone, pack.inner\nexcept ImportError:\n    pass\nprint('went on')"
    code, out, err = root.run(body)

    assert (70, "") == (code, out)
    assert "[enclave.import.absent]" in err


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_module_ends_the_process(root):
    """A listed module that cannot be read is the same as a hidden one."""
    (root.folder / "opt/site/alone.py").chmod(0)

    assert 70 == root.run("import alone")[0]


def test_a_hidden_other_file_ends_the_process_before_anything(root):
    """A listed data file that is absent ends the process before the first import."""
    (root.folder / "opt/site/pack/data.json").unlink()
    code, out, _ = root.run("print('went on')")

    assert (70, "") == (code, out)


def test_a_hidden_extension_module_ends_the_process_at_start(root):
    """A listed extension module is opened once at start."""
    root.add("x", "native", "opt/site/native.so", "not an ELF").unlink()
    root.write()

    assert (70, "") == root.run("print('went on')")[:2]


def test_a_broken_extension_module_ends_the_process(root):
    """An extension module that cannot be loaded ends the process instead of raising ImportError."""
    root.add("x", "native", "opt/site/native.so", "not an ELF")
    root.write()
    code, out, err = root.run("print('before')\ntry:\n    import native\nexcept ImportError:\n    pass\nprint('after')")

    assert (70, "before\n") == (code, out)
    assert "cannot be loaded" in err


def test_an_absent_pyc_is_no_fault(root):
    """A .pyc may be missing: the source says the same."""
    body = "sys.dont_write_bytecode = False\nimport alone\nprint(alone.value)"

    assert (0, "1\n") == root.run(body)[:2]


@pytest.mark.parametrize(
    "text",
    [
        "", "glasscase-imports 2\n", HEAD.strip(), HEAD + "m alone /opt/site/alone.py", HEAD + "m alone opt/site/alone.py\n",
        HEAD + "q alone /opt/site/alone.py\n", HEAD + "m - /opt/site/alone.py\n", HEAD + "f alone /opt/site/alone.py\n",
        HEAD + "m b /x\nm a /x\n", HEAD + "m alone /opt/site/alone.py\nm alone /opt/site/x.py\n", HEAD + "m alone\n",
        HEAD + "m  /x\n", HEAD + "\n", HEAD + "mp alone /x\n",
    ],
)  # fmt: skip
def test_a_malformed_table_ends_the_process(root, text):
    """A table of another form is not interpreted."""
    root.write(text)

    assert (70, "") == root.run("print('went on')")[:2]


def test_an_absent_table_ends_the_process(root):
    """Without a table there is no enclave."""
    (root.folder / "opt/glasscase/imports.txt").unlink()

    assert (70, "") == root.run("print('went on')")[:2]


def test_without_argv_there_is_no_library(root):
    """Only the words of the simulator give a root and the interpreter's own library; else the table's paths are absolute."""
    assert (70, "") == root.run("print('went on')", simulated=False)[:2]


def test_an_application_may_not_shadow(root):
    """Names of the table, of the standard library and of built-in modules are taken."""
    body = (
        "for name in ('alone', 'pack.more', 'space.more', 'json', 'sys', 'email.own'):\n"
        "    try:\n        finder.add_application({name: ('m', '/x')}, listed=True)\n"
        "    except ImportError as error:\n        print(error.name)\n"
        "finder.add_application({'mine': ('m', sys.argv[2] + '/opt/site/alone.py')}, listed=True)\nimport mine\nprint(mine.value)"
    )

    assert (0, "alone\npack.more\nspace.more\njson\nsys\nemail.own\n1\n") == root.run(body)[:2]


def test_metadata_is_found(root):
    """importlib.metadata works, which frameworks ask for their own version."""
    root.add("f", "-", "opt/site/pack-1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: pack\nVersion: 1.2\n")
    root.write()

    assert (0, "1.2\n") == root.run("import importlib.metadata as m\nprint(m.version('pack'))")[:2]


def test_python_without_isolation_ends(tmp_path):
    """The bootstrap refuses to run without -I, where the environment could name directories."""
    done = subprocess.run(
        [sys.executable, bootstrap.__file__], capture_output=True, text=True, check=False, cwd=tmp_path
    )

    assert 70 == done.returncode


def test_what_is_loaded_before_the_table(tmp_path):
    """Before the finder is in place Python has loaded built-in and frozen modules and encodings, nothing else of files."""
    script = tmp_path / "main.py"  # a file, as in the enclave: with -c Python 3.13 loads linecache too
    script.write_text("import sys; print(*(n for n, m in sys.modules.items() if getattr(m, '__file__', None)))")
    argv = [sys.executable, "-I", "-S", "-B", "-X", "utf8", script]
    loaded = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    frozen = {"_frozen_importlib_external", "zipimport", "codecs", "abc", "io"}

    assert {"encodings", "encodings.aliases", "encodings.utf_8"} == set(loaded) - frozen - {"__main__"}


def test_modules_of_an_application():
    """Modules, packages, namespace packages and extension modules are told apart by their paths alone."""
    files = [
        "main.py",
        "pkg/__init__.py",
        "pkg/a.py",
        "deep/er/b.py",
        "pkg/data.json",
        "x-y.py",
        "fast.abi3.so",
        "libc.so",
    ]

    assert {
        "main": ("m", "/app/main.py"),
        "pkg": ("p", "/app/pkg/__init__.py"),
        "pkg.a": ("m", "/app/pkg/a.py"),
        "deep.er.b": ("m", "/app/deep/er/b.py"),
        "deep.er": ("n", "/app/deep/er"),
        "deep": ("n", "/app/deep"),
        "fast": ("x", "/app/fast.abi3.so"),
    } == modules_of(files, "/app")


def test_the_enclave_with_a_hidden_file(enclave):
    """The whole program ends with exit code 70 when a file of its own wheel is hidden."""
    one = enclave()
    hidden = "f - /opt/glasscase/gone.txt\n"
    table = one.table.read_text().splitlines(keepends=True)
    one.table.write_text("".join([table[0], *sorted([*table[1:], hidden])]))
    one.start(wait=None)

    assert 70 == one.process.wait(15)
    assert "enclave.import.absent" in one.text()
