"""The frame of the command line: exit codes, error lines, --json, --help."""

import json
import subprocess
import sys

import pytest

from glasscase.cli.main import VERBS
from glasscase.cli.output import escape


def glasscase(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "glasscase", *arguments], capture_output=True, text=True, check=False, **options
    )


def test_usage_errors_exit_1_with_a_hint():
    """A wrong verb or option is a usage error, never 2."""
    for arguments in (["no-such-verb"], ["version", "--no-such-option"], ["version", "extra"]):
        result = glasscase(*arguments)

        assert result.returncode == 1, arguments
        assert "[cli.usage.wrong]" in result.stderr
        assert result.stdout == ""
        assert "Traceback" not in result.stderr


def test_version_as_json_is_one_object():
    """`version --json` has the keys of the contract."""
    result = glasscase("version", "--json")

    assert result.returncode == 0
    assert {"version", "libcrypto", "vaes", "engines"} <= set(json.loads(result.stdout))


def test_errors_with_json_are_one_object():
    """With --json an error is one object on stdout too."""
    result = glasscase("version", "--json", "extra")

    assert result.returncode == 1
    assert json.loads(result.stdout)["error"]["id"] == "cli.usage.wrong"


@pytest.mark.parametrize("name", sorted(VERBS))
def test_help_of_every_verb(name):
    """Every verb's --help exits 0 and names --json, --color and -q."""
    from click.testing import CliRunner

    from glasscase.cli.main import cli

    result = CliRunner().invoke(cli, [name, "--help"])

    assert result.exit_code == 0, result.output
    commands = getattr(cli.get_command(None, name), "commands", None)
    if commands is None:
        assert all(option in result.output for option in ("--json", "--color", "-q"))


def test_untrusted_text_is_escaped():
    """Escape codes, bidirectional marks and line breaks cannot reach a terminal."""
    assert escape("a\x1b[31m\n\u202e b\U000e0001") == "a\\x1b[31m\\x0a\\u202e b\\U000e0001"


def test_closed_stdout_is_an_interruption():
    """A reader that goes away ends the command with 5, without a traceback."""
    command = f"{sys.executable} -m glasscase version --json; echo $? >&2"
    result = subprocess.run(["bash", "-c", f"({command}) | true"], capture_output=True, text=True, check=False)

    assert "Traceback" not in result.stderr
