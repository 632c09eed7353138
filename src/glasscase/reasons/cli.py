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
    Reason("cli.step.failed", "storage", "a command of the demo or of the test flow did not end as it had to", "README.md, two commands",
           "the lines above the error say why"),
    Reason("cli.signal.received", "interrupted", "a signal or Ctrl-C ended the command", _RULE,
           "run it again; nothing half-written is left"),
    Reason("cli.id.unknown", "usage", "the id is not in the table", "docs/checks.md", "docs/checks.md lists all ids"),
    Reason("cli.time.malformed", "usage", "the time is neither RFC 3339 nor unix seconds", _RULE,
           "write 2026-11-24T20:00:00Z or seconds since 1970"),
    Reason("cli.clock.behind", "undetermined", "this machine's clock is before the date at which the collateral was signed",
           "docs/policy.md, freshness", "correct the clock; to judge as of another time say it with --at"),
    Reason("cli.nonce.malformed", "usage", "the nonce is not 64 hex digits", _RULE, "openssl rand -hex 32 makes one"),
    Reason("inspect.kind.unknown", "format", "the file is of no kind that is known", "README.md, files",
           "check that the right file was given; glasscase inspect FILE names the kinds"),
    Reason("inspect.certificate.malformed", "format", "the certificate, CRL or key cannot be read", "RFC 5280",
           "check that the right file was given"),
)  # fmt: skip
