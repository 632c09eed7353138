"""What all tests share: where the real data is, and what runs only with --long."""

import os
from pathlib import Path

import pytest

pytest_plugins = ["glasscase.sim.fixtures"]
ROOT = Path(__file__).resolve().parent.parent


def shared_directory() -> Path | None:
    """Return the directory with vectors/ and corpus/, or None where it is absent."""
    path = Path(os.environ.get("GLASSCASE_SHARED", ROOT.parent / "shared"))
    return path if (path / "vectors").is_dir() and (path / "corpus").is_dir() else None


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --long."""
    parser.addoption("--long", action="store_true", help="run also what takes long")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip long and hardware tests unless they were asked for."""
    for item in items:
        if item.get_closest_marker("long") and not config.getoption("--long"):
            item.add_marker(pytest.mark.skip(reason="long: ./dev test --long"))
        if item.get_closest_marker("sgx") and not Path("/dev/sgx_enclave").exists():
            item.add_marker(pytest.mark.skip(reason="no SGX hardware here"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the directory with the real data; skip, saying so, where it is absent."""
    path = shared_directory()
    if path is None:
        pytest.skip("no shared data here: vectors and corpus are not checked (set GLASSCASE_SHARED)")
    return path
