"""What runs inside an enclave is measured code, so the list of its modules is written down."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import glasscase
from glasscase.bundle.inside import FILES, MODULES

SRC = Path(__file__).resolve().parents[2] / "src" / "glasscase"
ENTRIES = ("enclave.bootstrap", "runtime")
FORBIDDEN = (
    "bundle",
    "lock",
    "hosting",
    "audit",
    "sim",
    "cli",
    "collateral",
    "verify",
    "gramine",
    "measure",
    "statements",
)


def module_file(name):
    for path in (SRC / Path(*name.split(".")).with_suffix(".py"), SRC / Path(*name.split(".")) / "__init__.py"):
        if path.is_file():
            return path
    return None


def imports_of(path):
    """Return the modules of glasscase that a file imports anywhere, without `if TYPE_CHECKING` blocks."""
    found = set()
    skipped = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped |= {id(inner) for statement in node.body for inner in ast.walk(statement)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name == "glasscase" or name.startswith("glasscase."):
                found.add(name.removeprefix("glasscase").removeprefix(".") or "__init__")
    return {name for name in found if name == "__init__" or module_file(name) is not None}


def closure():
    reached, todo = set(), ["__init__", *ENTRIES]
    while todo:
        name = todo.pop()
        path = SRC / "__init__.py" if name == "__init__" else module_file(name)
        if name in reached or path is None:
            continue
        reached.add(name)
        todo += imports_of(path)
    return {name for name in reached if not (SRC / Path(*name.split("."))).is_dir()}


def test_the_closure_is_the_list_of_what_goes_in():
    """Exactly the modules of the list can be reached inside an enclave."""
    assert tuple(sorted(closure())) == MODULES


def test_what_goes_in_needs_nothing_else(tmp_path):
    """Each module can be imported where there is nothing of glasscase but the files that go in."""
    for file in FILES:
        target = tmp_path / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(glasscase.__file__).parents[1] / file, target)
    names = [f"glasscase.{name}" for name in MODULES if name not in ("__init__", "enclave.bootstrap")]
    program = (
        "import sys, importlib; sys.path[:] = [sys.argv[1]] + [p for p in sys.path if not p.endswith('-packages')]\n"
        "sys.path += sys.argv[2].split(':')\n"
        "import glasscase; assert glasscase.__file__.startswith(sys.argv[1]), glasscase.__file__\n"
        "for name in sys.argv[3:]: importlib.import_module(name)\n"
        "print(len(sys.argv) - 3)\n"
    )
    found = subprocess.run(
        [sys.executable, "-I", "-c", program, str(tmp_path), ":".join(p for p in sys.path if p.endswith("-packages")), *names],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (0, f"{len(names)}\n") == (found.returncode, found.stdout), found.stderr


def test_the_closure_holds_nothing_of_the_other_roles():
    """No module that builds, hosts, judges or simulates is measured code."""
    assert not {name for name in closure() if name.split(".")[0] in FORBIDDEN}


def test_no_package_init_runs_code():
    """What importing a submodule runs besides itself is empty."""
    for name in closure():
        parts = name.split(".")
        for depth in range(1, len(parts)):
            assert not (SRC / Path(*parts[:depth]) / "__init__.py").read_text(encoding="utf-8").strip()
