"""The same small project as in the tests of bundles."""

import importlib.util
from pathlib import Path

import pytest

_PATH = Path(__file__).resolve().parents[1] / "bundle" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("bundle_workshop", _PATH)
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)


@pytest.fixture
def workshop(tmp_path):
    """Give a project whose application is encrypted."""
    made = _MODULE.Workshop(tmp_path)
    made.edit("encrypt = false", "encrypt = true")
    return made
