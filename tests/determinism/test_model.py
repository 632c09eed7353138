"""The example's language model is trained to the same bytes whatever the processor does with its sums."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SIMD = " ".join(np.show_config(mode="dicts")["SIMD Extensions"]["found"])


def trained(place, **environment):
    """Return the bytes of the model that the example's program trains in 20 steps."""
    shutil.copyfile(ROOT / "LICENSE", place / "LICENSE")
    shutil.copyfile(ROOT / "examples" / "llm-safetensors" / "make_model.py", place / "make_model.py")
    subprocess.run(
        [sys.executable, place / "make_model.py", "--steps", "20"],
        check=True,
        capture_output=True,
        env=os.environ | environment,
    )
    return (place / "models" / "tiny.safetensors").read_bytes()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The model of one thread."""
    return trained(tmp_path_factory.mktemp("model"), OPENBLAS_NUM_THREADS="1")


@pytest.mark.parametrize(
    "environment",
    [
        {"OPENBLAS_NUM_THREADS": "2"},
        {"OPENBLAS_CORETYPE": "Prescott"},
        {"OPENBLAS_CORETYPE": "Haswell"},
        {"NPY_DISABLE_CPU_FEATURES": SIMD},
    ],
    ids=["threads", "sse3", "avx2", "no-simd"],
)
def test_the_model_is_the_same_bytes(tmp_path, model, environment):
    """Other threads, other kernels of the BLAS and other instructions of numpy give the same file."""
    assert model == trained(tmp_path, **environment)
