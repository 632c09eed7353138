"""The import rules, the bans and the table of ids hold for the code as it is."""

import ast
import re
from pathlib import Path

import pytest

from glasscase.cli.main import VERBS
from glasscase.reasons import document
from glasscase.reasons.model import KINDS
from glasscase.reasons.table import AREAS, reasons

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "glasscase"
MODULES = sorted(path for path in SRC.rglob("*.py"))

# package or top module -> layer
LAYERS = {
    "__init__": 0, "errors": 0, "reasons": 0,
    "codec": 1, "config": 1, "fs": 1, "sgx": 1,
    "core": 2, "gramine": 2,
    "measure": 3, "lock": 3, "collateral": 3, "evidence": 3, "seal": 3, "statements": 3, "ratls": 3,
    "bundle": 4, "verify": 4,
    "enclave": 5, "hosting": 5, "audit": 5, "sim": 5, "importers": 5,
    "provider": 6, "client": 6, "auditor": 6, "runtime": 6,
    "cli": 7, "__main__": 8,
}  # fmt: skip
# single modules that sit higher than their package
RAISED = {"seal.sealing": 5, "ratls.client": 5, "ratls.judging": 5, "ratls.sources": 5}
# same-layer imports that are allowed besides the own package
SIDEWAYS = {
    "config": {"codec"}, "sgx": {"codec"}, "gramine": {"core"}, "core": set(), "evidence": {"collateral"}, "seal": {"evidence"},
    "verify": {"bundle"}, "audit": set(), "hosting": {"sim", "ratls", "seal"}, "ratls": {"evidence"},
    "importers": set(), "measure": set(), "statements": set(),
}  # fmt: skip


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(SRC).with_suffix("").parts)


def imports_of(path: Path) -> set[str]:
    """Return the names of glasscase modules that a file imports, at any depth of the code."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "glasscase" or (SRC / Path(*node.module.split(".")[1:])).is_dir():
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
            else:
                found.add(node.module)
    return {name.removeprefix("glasscase.") for name in found if name.split(".")[0] == "glasscase"}


def layer(module: str) -> int:
    return RAISED.get(module, LAYERS[module.split(".")[0]])


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_downwards(path):
    """A module imports lower layers, its own package, or a same-layer package that its row names."""
    module = name_of(path)
    package = module.split(".")[0]
    for target in sorted(imports_of(path)):
        top = target.split(".")[0]
        if target == "_native" or target.startswith("_native."):
            assert package == "core", f"{module} imports the C core past glasscase.core"
            continue
        if top not in LAYERS:
            assert target in ("__version__", "glasscase"), f"{module} imports {target}"
            continue
        allowed = layer(target) < layer(module) or top == package or top in SIDEWAYS.get(package, set())
        assert allowed, f"{module} (layer {layer(module)}) imports {target} (layer {layer(target)})"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_judging_never_imports_the_simulator(path):
    """Nothing that verifies, seals or audits reaches glasscase.sim."""
    if name_of(path).split(".")[0] in ("verify", "seal", "audit", "auditor", "bundle", "collateral"):
        assert not {name for name in imports_of(path) if name.split(".")[0] == "sim"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_hidden_side_effects(path):
    """No assert, print, exit, wall clock or environment outside the programs that own them."""
    module = name_of(path)
    program = module.startswith("cli.") or module in ("enclave.main", "__main__")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        where = f"{module}:{getattr(node, 'lineno', 0)}"
        assert not isinstance(node, ast.Assert), f"{where}: assert (python -O removes it)"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", f"{where}: print"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and not program:
            pair = f"{node.value.id}.{node.attr}"
            assert pair not in ("sys.exit", "os.environ", "os.getenv"), f"{where}: {pair}"
            clock = pair in ("time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "date.today")
            assert not clock or module == "ratls.client", f"{where}: {pair}, time is an argument"


@pytest.mark.parametrize("path", [p for p in MODULES if p.name == "__init__.py" and p.parent != SRC], ids=name_of)
def test_packages_are_empty(path):
    """An `__init__` holds nothing, so importing one module never drags in its siblings."""
    assert not path.read_text(encoding="utf-8").strip()


ID = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+){1,3}")


def ids_in_code() -> set[str]:
    found = set()
    for path in MODULES:
        if name_of(path).startswith("reasons."):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and ID.fullmatch(node.value):
                parts = node.value.split(".")
                if len(parts) == 3 and parts[0] in {i.split(".")[0] for i in reasons()}:
                    found.add(node.value)
    return found


def test_every_id_is_in_the_table():
    """An id that the code can raise stands in the table."""
    assert set() == ids_in_code() - set(reasons())


def test_every_id_of_the_table_is_complete():
    """Each id has the right form, kind, message, source and remedy."""
    for reason in reasons().values():
        assert ID.fullmatch(reason.id)
        assert reason.kind in KINDS
        assert reason.message and reason.source and reason.remedy, reason.id
        assert "|" not in reason.message + reason.source + reason.remedy, reason.id
    assert len(AREAS) == len(set(AREAS))


def test_checks_document_equals_the_code():
    """docs/checks.md is what the table says."""
    assert (ROOT / "docs" / "checks.md").read_text(encoding="utf-8") == document.document()


def test_verbs_have_a_line_and_a_role():
    """Every verb of the table has help."""
    assert all(role and target and line.endswith(".") for role, target, line in VERBS.values())


def test_decisions_are_numbered_once():
    """The files of docs/adr count from 1, and each begins with its number."""
    found = sorted((ROOT / "docs" / "adr").glob("*.md"))
    titles = [path.read_text(encoding="utf-8").split(".", 1)[0] for path in found]

    assert [f"# {number}" for number in range(1, len(found) + 1)] == titles
    assert [f"{number:04d}" for number in range(1, len(found) + 1)] == [path.name[:4] for path in found]


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Return the modules of one circle of imports, or nothing. graph: module -> what it imports."""
    left = {module: set(targets) for module, targets in graph.items()}
    while leaves := {module for module, targets in left.items() if not targets & left.keys()}:
        for module in leaves:
            del left[module]
    used = {target for targets in left.values() for target in targets}
    return sorted(left.keys() & used)


def test_no_module_imports_itself_by_way_of_others():
    """There is no circle, neither of imports inside functions nor of those for types alone: each file can be read first."""
    paths = {".".join(path.relative_to(SRC).with_suffix("").parts): path for path in SRC.rglob("*.py")}
    graph = {}
    for module, path in paths.items():
        named = {target if target in paths else target.rpartition(".")[0] for target in imports_of(path)}
        graph[module] = named & paths.keys() - {module}

    assert [] == circle(graph)
    assert ["a", "b"] == circle({"a": {"b"}, "b": {"a", "c"}, "c": set(), "d": {"a"}})
