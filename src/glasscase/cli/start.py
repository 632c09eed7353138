"""Where the process of the command line begins: no garbage is looked for where none can be.

Collecting while the first modules are loaded, and once more over all of them at the end, is a seventh of `glasscase measure`.
"""

import gc


def main() -> None:
    """Run the command line of this process and exit."""
    gc.disable()
    from glasscase.cli.main import main as run

    gc.freeze()
    gc.enable()
    try:
        run()
    finally:
        gc.freeze()
