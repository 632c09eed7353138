"""What every verb shares: --json, -q, --color, and where words go.

Invariants: results on stdout, talk on stderr; with --json exactly one JSON object on stdout; nothing that is shown moves the
cursor or reorders what stands beside it, wherever the text came from.
"""

import functools
import os
import re
import sys
from collections.abc import Callable
from typing import Any

import click

from glasscase.codec import printable
from glasscase.errors import UsageError

# words of --help that stand for a path
_PATHS = frozenset({
    "FILE", "[FILE]", "FILE.pub", "PATH", "DIR", "BUNDLE", "EVIDENCE|BUNDLE", "PEM", "PAL", "POLICY", "M", "M.sgx", "SIG",
    "A", "B", "[B]", "E", "O", "file", "bundle", "secrets", "path",
})  # fmt: skip
SAID = "glasscase.said"  # in the meta of click's context: the one object of --json has been written
_COLORS = {"green": "32", "red": "31", "yellow": "33", "bold": "1", "dim": "2"}
# our own color codes, or one character that may not be plain; names of files come from outside too
_ODD = re.compile(r"(\x1b\[(?:3[123]|[012])m)|[^\n\t\x20-\x7e]")


def escape(text: str) -> str:
    """Return `text` as a terminal may show it; see glasscase.codec.printable."""
    return printable.escape(text)


class Output:
    """The two channels of one run of a verb.

    json: one object goes to stdout and nothing else. quiet: no talk. color: whether escape codes may be written.
    """

    def __init__(self, *, json: bool, quiet: bool, color: str) -> None:
        self.json = json
        self.quiet = quiet
        self.color = color == "always" or (color == "auto" and _terminal_wants_color())
        self.progress = not quiet and sys.stderr.isatty()

    def say(self, text: str) -> None:
        """Write one line of talk to stderr, unless quiet."""
        if not self.quiet:
            sys.stderr.write(self._shown(text) + "\n")
            sys.stderr.flush()

    def warn(self, text: str) -> None:
        """Write one line to stderr, also when quiet."""
        sys.stderr.write(f"glasscase: warning: {self._shown(text)}\n")
        sys.stderr.flush()

    def result(self, value: dict[str, Any], text: str) -> None:
        """Write the result to stdout: `value` as one JSON object with --json, else `text` (if any) for people."""
        if self.json:
            import json

            context = click.get_current_context(silent=True)
            if context is not None:
                context.meta[SAID] = True
            sys.stdout.write(json.dumps(value, ensure_ascii=True, indent=2, allow_nan=False) + "\n")
        elif text:
            sys.stdout.write(self._shown(text.rstrip("\n")) + "\n")
        sys.stdout.flush()

    def _shown(self, text: str) -> str:
        """Return `text` as a terminal may show it: lines, tabs and our own colors stay, odd characters are spelt."""
        return _ODD.sub(lambda found: found[1] if found[1] and self.color else escape(found[0]), text)

    def paint(self, text: str, color: str) -> str:
        """Return `text` in a color (green, red, yellow, bold, dim) if color is on."""
        return f"\x1b[{_COLORS[color]}m{text}\x1b[0m" if self.color else text


def _terminal_wants_color() -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class _Place(click.Path):
    """A path as it was given. The empty one would be the current directory to some and no file to others."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "" and getattr(param, "flag_value", None) != "":  # of an option that needs no path
            self.fail("the path is empty, as that of a variable which is not set", param, ctx)
        return super().convert(value, param, ctx)


def verb(name: str, **attributes: Any) -> Callable[[Callable[..., int | None]], click.Command]:
    """Turn a function(out: Output, **options) -> exit code or None into a command that has --json, -q and --color."""

    def wrap(function: Callable[..., int | None]) -> click.Command:
        @functools.wraps(function)
        def run(*args: Any, as_json: bool, quiet: bool, color: str, **kwargs: Any) -> None:
            out = Output(json=as_json, quiet=quiet, color=color)
            code = function(out, *args, **kwargs)
            raise SystemExit(code or 0)

        make: Callable[[Callable[..., None]], click.Command] = click.command(name, **attributes)
        command = make(run)
        for parameter in command.params:
            plain = parameter.type is click.STRING and (parameter.metavar or parameter.name) in _PATHS
            if plain or isinstance(parameter.type, click.Path):
                # the same text, which shells complete as a path; what is wrong with it is said by who opens it (exit 4)
                parameter.type = _Place(readable=False)
        command.params += [
            click.Option(["--json", "as_json"], is_flag=True, help="One JSON object on stdout, nothing else there."),
            click.Option(["-q", "--quiet"], is_flag=True, help="No talk on stderr."),
            click.Option(
                ["--color"],
                type=click.Choice(["auto", "always", "never"]),
                default="auto",
                show_default=True,
                help="Color on a terminal.",
            ),
        ]
        return command

    return wrap


def refuse_option(option: str, value: Any) -> None:
    """Raise UsageError("cli.option.unavailable") if an option that is listed but not built yet was used."""
    if value not in (None, False, ()):
        raise UsageError(
            "cli.option.unavailable", f"{option} is not available in this version", hint="see CHANGELOG.md"
        )


def refuse_given(*names: str, because: str) -> None:
    """Raise UsageError("cli.usage.wrong") if one of these parameters was given, its default too, and would not count."""
    context = click.get_current_context()
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "") is click.core.ParameterSource.COMMANDLINE
        if parameter.name in names and given:
            raise UsageError("cli.usage.wrong", f"{parameter.opts[0]} {because}", hint="leave it away")
