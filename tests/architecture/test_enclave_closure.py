"""What runs inside an enclave is measured code, so the list of its modules is written down."""

import ast
from pathlib import Path

from glasscase.bundle.wheelfiles import HOST_ONLY

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

# Every module that the bootstrap or an application inside can reach, lazily imported ones too. A new line here is new
# measured code: give the reason in the commit.
GOLDEN = """
__init__
codec.cbor
codec.hexid
codec.labels
codec.record
codec.strictjson
codec.version
config.enclave
core.chunks
core.faults
core.handles
core.reader
enclave.attest
enclave.bootstrap
enclave.connections
enclave.gateway
enclave.handover
enclave.health
enclave.http2
enclave.instancefile
enclave.keys
enclave.main
enclave.persist
enclave.places
enclave.program
enclave.provision
enclave.quoting
enclave.redact
enclave.serve
enclave.state
enclave.unpack
errors
evidence.attestation
fs.atomic
fs.part
fs.walk
ratls.cert
runtime
seal.cose
seal.envelope
seal.files
seal.gguf
seal.hpke
seal.manifest
seal.modelfile
seal.receipt
seal.safetensors
seal.tensors
sgx.attributes
sgx.report
sgx.reportdata
"""


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


def test_the_closure_is_the_golden_list():
    """Exactly the modules of the list can be reached inside an enclave."""
    assert GOLDEN.split() == sorted(closure())


def test_the_closure_holds_nothing_of_the_other_roles():
    """No module that builds, hosts, judges or simulates is measured code."""
    assert not {name for name in closure() if name.split(".")[0] in FORBIDDEN}


def test_nothing_else_is_in_a_bundle():
    """What a bundle takes of glasscase's own wheel is the closure; the rest would be measured, and read by auditors, for nothing."""
    paths = {path.relative_to(SRC).as_posix() for path in SRC.rglob("*.py") if path.read_bytes().strip()}
    left = {path for path in paths if any(path == part or path.startswith(f"{part}/") for part in HOST_ONLY)}

    assert {f"{name.replace('.', '/')}.py" for name in closure()} == {
        path for path in paths - left if not path.endswith("/__init__.py")
    }


def test_no_package_init_runs_code():
    """What importing a submodule runs besides itself is empty."""
    for name in closure():
        parts = name.split(".")
        for depth in range(1, len(parts)):
            assert not (SRC / Path(*parts[:depth]) / "__init__.py").read_text(encoding="utf-8").strip()
