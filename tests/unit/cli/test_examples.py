"""The examples of the repository are what `init` writes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from glasscase.cli import main
from glasscase.cli.project import project_files
from glasscase.seal.package import build_package, source_of

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


@pytest.mark.parametrize(("kind", "name"), [("fastapi", "fastapi-fraud"), ("flask", "flask-hello")])
def test_an_example_is_what_init_writes(kind, name):
    """Every file of the example, byte for byte; what trying it out leaves behind does not count."""
    files = project_files(kind, name)

    assert files == {path: (EXAMPLES / name / path).read_bytes() for path in files}


MODEL = """
import json, sys
from glasscase import runtime
from glasscase.seal.files import open_package
sys.path.insert(0, sys.argv[1])
package = open_package(sys.argv[2], key=bytes(32))
runtime.open_encrypted = package.open
from app import main
main.MODEL = "models/tiny.safetensors"
print(json.dumps(main.memory()))
print(main.health()["parameters"])
print("".join(main.loaded()[0].continue_text("the work", 20, 0.5, 1)))
"""


def test_the_llm_example_holds_its_tensors_once(tmp_path):
    """The example reads a model of 96 MiB out of a package, each chunk against its leaf, in the memory of its tensors and 16 MiB."""
    random = np.random.default_rng(1)
    alphabet = "\n abcdefghijklmnopqrstuvwxyz"
    wide = 24 << 20 >> 8  # of 4 bytes, 256 inputs
    shapes = {
        "embed": (len(alphabet), 32), "hidden.weight": (256, wide), "hidden.bias": (wide,),
        "out.weight": (wide, len(alphabet)), "out.bias": (len(alphabet),),
    }  # fmt: skip
    tensors = {name: random.random(shape, np.float32) for name, shape in shapes.items()}
    save_file(tensors, tmp_path / "model", metadata={"alphabet": alphabet, "context": "8"})
    (tmp_path / "package").mkdir()
    build_package(
        [source_of(tmp_path / "model", "models/tiny.safetensors", lazy=True)],
        key=bytes(32),
        out_dir=tmp_path / "package",
    )
    done = subprocess.run(
        [sys.executable, "-c", MODEL, EXAMPLES / "llm-safetensors" / "src", tmp_path / "package"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr
    log, memory, parameters, text = done.stdout.split("\n", 3)
    memory = json.loads(memory)
    size = sum(array.nbytes for array in tensors.values())

    assert f"model: {size} bytes of tensors, memory grew by {memory['growth']} at most" == log
    assert size == memory["tensors"] > 96 << 20
    assert size - (1 << 20) < memory["growth"] < size + (16 << 20)
    assert str(sum(array.size for array in tensors.values())) == parameters
    assert 21 == len(text)


def test_the_llm_example_says_no_growth_that_it_does_not_know(tmp_path):
    """Gramine's /proc/self/status has neither VmRSS nor VmHWM."""
    source = EXAMPLES / "llm-safetensors" / "src"
    tensors = {"embed": np.zeros((3, 2), np.float32), "hidden.weight": np.zeros((4, 2), np.float32)}
    save_file(tensors, tmp_path / "model", metadata={"alphabet": "abc"})
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\nfrom app import main, model\nfrom glasscase import runtime\n"
        "runtime.open_encrypted = lambda _: open(sys.argv[2], 'rb')\n"
        "model.resident = lambda: (0, 0)\nmain.loaded()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, source, tmp_path / "model"], capture_output=True, text=True, check=False
    )

    assert "model: 56 bytes of tensors, the runtime does not say how memory grew\n" == done.stdout, done.stderr


def test_the_systemd_unit_is_one(tmp_path):
    """systemd takes the unit, where it is installed, and its command is one that we take, up to the bundle."""
    unit = EXAMPLES / "systemd" / "glasscase@.service"
    (line,) = [line for line in unit.read_text().splitlines() if line.startswith("ExecStart=")]
    words = line.partition("=")[2].replace("%i", "one").split()

    assert 4 == main.run([*words[1:], "--backend", "simulator"])  # the bundle does not exist
    if shutil.which("systemd-analyze"):
        copy = tmp_path / unit.name
        copy.write_text(unit.read_text().replace(words[0], "/bin/true"))
        found = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False)
        assert (0, "") == (found.returncode, found.stderr)
