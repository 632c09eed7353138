"""Every verb and option is documented: docs/commands.md is what the parsers say, and each option says what it does."""

import re
from pathlib import Path

import click
import pytest

from glasscase.cli import commands

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = dict(commands.every_command())
OPTIONS = [
    pytest.param(option, id=f"{name} {option.opts[-1]}")
    for name, command in COMMANDS.items()
    for option in command.params
    if isinstance(option, click.Option)
]
UNITS = ("seconds", "threads", "port")
FORMS = {"TIME": "RFC 3339 or unix seconds", "HEX": "64 hex digits"}  # what a value of that name looks like


def fault_of(option):
    """Return what is lacking in the help of an option, or None."""
    help_text = option.help or ""
    if not commands.effect_of(option):
        return "no effect"
    if not help_text.rstrip().endswith("."):
        return "no sentence"
    if isinstance(option.type, click.IntRange) and not any(unit in help_text.lower() for unit in UNITS):
        return "no unit"
    if FORMS.get(option.metavar or "", "") not in help_text:
        return "no form"
    has_default = not option.is_flag and not option.multiple and isinstance(option.default, (str, int))
    if has_default and not option.show_default and "[default:" not in help_text:
        return "default not shown"
    if option.multiple and "repeatable" not in help_text.lower():
        return "not said to be repeatable"
    if "default" in commands.effect_of(option).lower():
        return "a default that is not written as [default: ...]"
    return None


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_says_effect_unit_and_default(option):
    """The help of an option is a sentence; numbers have a unit, and what holds without it is written as [default: ...]."""
    assert fault_of(option) is None


@pytest.mark.parametrize(
    ("option", "fault"),
    [
        (click.Option(["--a"]), "no effect"),
        (click.Option(["--a"], help="[default: 3]"), "no effect"),
        (click.Option(["--a"], help="Wait"), "no sentence"),
        (click.Option(["--a"], help="Wait.", type=click.IntRange(1)), "no unit"),
        (click.Option(["--a"], help="Wait.", default="b"), "default not shown"),
        (click.Option(["--a"], help="Wait; default b."), "a default that is not written as [default: ...]"),
        (click.Option(["--a"], help="Wait.", metavar="TIME"), "no form"),
        (click.Option(["--a"], help="Wait.", multiple=True), "not said to be repeatable"),
        (click.Option(["--a"], help="Wait [default: b]."), None),
    ],
)
def test_a_poor_help_is_found(option, fault):
    """The test sees what it looks for."""
    assert fault == fault_of(option)


def test_every_verb_has_the_common_options():
    """docs/commands.md names --json, -q and --color once, for all."""
    common = {"--json", "--quiet", "--color"}

    assert {} == {
        name: common - found
        for name, command in COMMANDS.items()
        if (found := {part for option in command.params for part in option.opts}) and common - found
    }


def test_lists_of_commands_are_not_cut():
    """Where a verb has parts, its --help says of each what it does, in whole words."""
    lines = [part.get_short_help_str() for name, part in COMMANDS.items() if " " in name]

    assert lines
    assert [] == [line for line in lines if line.endswith("...")]


def test_commands_document_equals_the_parsers():
    """docs/commands.md is what the parsers say."""
    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == commands.document()


def test_commands_document_names_every_option():
    """Each verb has its section, and each of its own options a row there."""
    sections = dict(re.findall(r"^### ([a-z ]+)\n(.*?)(?=^##|\Z)", commands.document(), re.MULTILINE | re.DOTALL))
    for name, command in COMMANDS.items():
        rows = [line for line in sections[name].splitlines() if line.startswith("| `-")]
        for option in command.params:
            if isinstance(option, click.Option) and option.opts[-1] not in commands.COMMON:
                assert any(re.match(rf"\| `[^`]*{option.opts[0]}[ `,]", row) for row in rows), (name, option.opts)
