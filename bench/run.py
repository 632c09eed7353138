"""Run one benchmark, or all: bench/run.py [NAME] [options of that benchmark]."""

import runpy
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main(arguments: list[str]) -> int:
    """Run what is named; exit 1 if a benchmark is above its limit."""
    names = sorted(path.stem for path in HERE.glob("*.py") if path.stem != "run" and path.stem[0] != "_")
    if arguments and not arguments[0].startswith("-"):
        if arguments[0] not in names:
            print(f"no benchmark {arguments[0]!r}, these are: {', '.join(names)}", file=sys.stderr)
            return 2
        names, arguments = [arguments[0]], arguments[1:]
    worst = 0
    for name in names:
        print(f"== {name}", file=sys.stderr)
        worst = max(worst, runpy.run_path(str(HERE / f"{name}.py"))["main"](arguments))
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
