"""docs/commands.md from the parsers of the verbs: `./dev docs` writes it, a test compares it.

The text is made from the parameters themselves, because how click lays out --help differs between its versions.
"""

import re
import sys
from collections.abc import Iterator

import click

from glasscase.cli.main import VERBS, cli

COMMON = ("--json", "--quiet", "--color")  # of every verb
HEAD = """# Commands and options

Every verb with everything it takes, by who uses it. This file is made from the parsers (`./dev docs`); a test fails when the two
differ. `glasscase VERB --help` prints the same.

Every verb also takes `--json` (one JSON object on stdout, nothing else there), `-q`, `--quiet` (no talk on stderr),
`--color auto|always|never` (color on a terminal; `auto` without it) and `-h`, `--help`. `glasscase --version` prints the version.

An option without a default does nothing unless it is given. TIME is RFC 3339 or unix seconds. Where a file is read, `-` is standard
input. Exit codes: [README](../README.md#exit-codes).
"""
_DEFAULT = re.compile(r"\s*\[default: ([^\]]*)\]")


def every_command() -> Iterator[tuple[str, click.Command]]:
    """Yield name and parser of every verb, and of the parts of a verb that has parts, in the order of --help."""
    context = click.Context(cli)
    for name in VERBS:
        command = cli.get_command(context, name)
        if isinstance(command, click.Group):
            yield from ((f"{name} {part}", below) for part, below in command.commands.items())
        elif command is not None:
            yield name, command


def effect_of(option: click.Option) -> str:
    """Return the help of an option without its default."""
    return _DEFAULT.sub("", option.help or "").strip()


def document() -> str:
    """Return the text of docs/commands.md."""
    parts = [HEAD]
    role = ""
    for name, command in every_command():
        if role != (role := VERBS[name.split()[0]][0]):
            parts.append(f"## {role[:1].upper()}{role[1:]}\n")
        parts.append(_section(name, command))
    return "\n".join(parts)


def _section(name: str, command: click.Command) -> str:
    usage = " ".join(
        [
            "glasscase",
            name,
            *(_argument(part) for part in command.params if isinstance(part, click.Argument)),
            "[OPTIONS]",
        ]
    )
    lines = [f"### {name}", "", f"`{usage}`", "", command.help or "", ""]
    options = [part for part in command.params if isinstance(part, click.Option) and part.opts[-1] not in COMMON]
    if options:
        lines += ["| option | default | what it does |", "| --- | --- | --- |", *map(_row, options), ""]
    return "\n".join(lines)


def _argument(part: click.Parameter) -> str:
    word = (
        "|".join(part.type.choices)
        if isinstance(part.type, click.Choice)
        else (part.metavar or part.name or "").upper()
    )
    word = word.strip("[]")
    return word if part.required else f"[{word}]"


def _row(option: click.Option) -> str:
    names = ", ".join(sorted(option.opts, key=len))
    value = "" if option.is_flag else f" {_value(option)}"
    cells = (f"`{names}{value}`", _default(option), effect_of(option))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _value(option: click.Option) -> str:
    if isinstance(option.type, click.Choice):
        return "|".join(option.type.choices)
    return option.metavar or ("N" if isinstance(option.type, click.IntRange) else "TEXT")


def _default(option: click.Option) -> str:
    if option.required:
        return "required"
    if option.show_default:
        return f"`{option.default}`"
    found = _DEFAULT.search(option.help or "")
    return found[1] if found else ""


if __name__ == "__main__":
    sys.stdout.write(document())
