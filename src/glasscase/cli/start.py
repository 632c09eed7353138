"""Where the process of the command line begins: no garbage is looked for where none can be, and Ctrl-C is heard at once.

Collecting while the first modules are loaded, and once more over all of them at the end, is a seventh of `glasscase measure`.
"""

import gc
import sys


def main() -> None:
    """Run the command line of this process and exit."""
    gc.disable()
    try:
        from glasscase.cli.main import main as run

        gc.freeze()
        gc.enable()
        run()
    except KeyboardInterrupt:  # while modules are loaded, or when everything is done
        sys.stderr.write("glasscase: error: interrupted [cli.signal.received]\n")
        sys.exit(5)  # exitcodes.INTERRUPTED, which may not be there yet
    finally:
        gc.freeze()
