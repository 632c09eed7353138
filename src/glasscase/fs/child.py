"""The command that runs a module of this installation in a process of its own.

Invariants: it imports from the places that this process imports from, also where that is a user's directory or PYTHONPATH, which
isolated mode alone leaves out; beyond them nothing of the environment and no current directory changes what it runs.
"""

import os
import sys
from pathlib import Path

_PACKAGE = str(Path(__file__).resolve().parents[1])


def module_command(module: str, *arguments: str | os.PathLike[str]) -> list[str]:
    """Return the argv of this interpreter running a module as `python -m` would.

    The current directory is left out, unless this package lies in it or it is one of the interpreter's own.
    """
    places = [place for place in sys.path if isinstance(place, str) and os.path.isabs(place)]
    here = [place for place in places if _is_current(place) and not _holds_us(place)]
    kept = f"[place for place in {places!a} if place not in {here!a} or place in sys.path]"
    program = f"import sys; sys.path[:] = {kept}; import runpy; "
    program += f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    return [sys.executable, "-I", "-c", program, *(os.fspath(argument) for argument in arguments)]


def _is_current(place: str) -> bool:
    try:
        return os.path.samefile(place, os.curdir)
    except OSError:
        return False


def _holds_us(place: str) -> bool:
    return os.path.realpath(os.path.join(place, "glasscase")) == _PACKAGE
