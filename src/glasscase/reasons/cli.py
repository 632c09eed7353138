"""Ids of the area `cli`: the command line itself."""

from glasscase.reasons.model import Reason

_RULE = "README.md, exit codes"

REASONS: tuple[Reason, ...] = (
    Reason("cli.usage.wrong", "usage", "the command line is not one that the verb takes", _RULE,
           "glasscase VERB --help shows the arguments"),
    Reason("cli.verb.unavailable", "usage", "the verb is named but not built yet", "CHANGELOG.md", "use a newer version"),
    Reason("cli.option.unavailable", "usage", "the option is named but not built yet", "CHANGELOG.md",
           "leave the option away or use a newer version"),
    Reason("cli.project.name", "usage", "the project's name is not one that an enclave can have", "docs/bundle-format.md, project",
           "init --name NAME"),
    Reason("cli.signal.received", "interrupted", "a signal or Ctrl-C ended the command", _RULE,
           "run it again; nothing half-written is left"),
)  # fmt: skip
