"""The examples of the repository are what `init` writes."""

from pathlib import Path

import pytest

from glasscase.cli.project import project_files

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


@pytest.mark.parametrize(("kind", "name"), [("fastapi", "fastapi-fraud"), ("flask", "flask-hello")])
def test_an_example_is_what_init_writes(kind, name):
    """Every file of the example, byte for byte; what trying it out leaves behind does not count."""
    files = project_files(kind, name)

    assert files == {path: (EXAMPLES / name / path).read_bytes() for path in files}
