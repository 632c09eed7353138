"""The verb `completion`."""

import click

from glasscase.cli.output import Output, verb


@verb(
    "completion",
    help='Write the completion script of a shell to stdout. To use it now: eval "$(glasscase completion bash)"; for fish: '
    "glasscase completion fish | source.",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(out: Output, shell: str) -> int:
    """Print the script."""
    from click.shell_completion import get_completion_class

    from glasscase.cli.main import COMPLETE, cli

    found = get_completion_class(shell)
    script = "" if found is None else found(cli, {}, "glasscase", COMPLETE).source()
    out.result({"shell": shell, "script": script}, script)
    return 0
