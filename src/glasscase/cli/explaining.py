"""The verb `explain`."""

import click

from glasscase.cli.output import Output, verb
from glasscase.errors import UsageError


@verb("explain", help="Explain a check or reason id: what it means, where it comes from, what to do.")
@click.argument("name", metavar="ID")
def explain(out: Output, name: str) -> int:
    """Print what the table says of one id."""
    from glasscase.reasons.table import reasons

    table = reasons()
    reason = table.get(name)
    if reason is None:
        near = [known for known in table if known.startswith(name) or name in known][:5]
        raise UsageError(
            "cli.id.unknown",
            f"{name[:80]!r} is not an id",
            hint=f"did you mean: {', '.join(near)}" if near else "docs/checks.md lists all of them",
        )
    value = {
        "id": reason.id,
        "kind": reason.kind,
        "message": reason.message,
        "source": reason.source,
        "remedy": reason.remedy,
    }
    out.result(value, "\n".join(f"{key:<8} {text}" for key, text in value.items()))
    return 0
