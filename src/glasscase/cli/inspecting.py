"""The verb `inspect`."""

import os
from typing import Any

import click

from glasscase.cli.output import Output, escape, verb
from glasscase.cli.reading import read_argument
from glasscase.errors import StorageError


@verb("inspect", help="Show what a file is and what it says. Nothing is trusted or verified; no collateral is needed.")
@click.argument("file")
def inspect(out: Output, file: str) -> int:
    """Print the kind of the file, then its fields."""
    from glasscase.audit.inspection import INSPECT_MAX, inspect_bytes

    # a bundle and a package are directories: the one file in them that says what they are
    inner = [os.path.join(file, name) for name in ("bundle.json", "manifest")]
    found = next((path for path in inner if os.path.isfile(path)), file)
    if found == file and os.path.isdir(file):
        raise StorageError(
            "fs.file.failed", f"{file!r}: is a directory, with neither bundle.json nor manifest in it", path=file,
            hint="name a file, or the directory of a bundle or of an encrypted package",
        )  # fmt: skip
    file = found
    value = inspect_bytes(read_argument(file, max_bytes=INSPECT_MAX, what="file"))
    out.result(value, "\n".join(_lines(value)))
    return 0


def _lines(value: dict[str, Any], indent: str = "") -> list[str]:
    lines: list[str] = []
    for key, item in value.items():
        if isinstance(item, dict):
            lines += [f"{indent}{escape(key)}", *_lines(item, indent + "  ")]
        elif isinstance(item, list) and item and isinstance(item[0], dict):
            for number, part in enumerate(item):
                lines += [f"{indent}{escape(key)} {number}", *_lines(part, indent + "  ")]
        else:
            text = ", ".join(map(str, item)) if isinstance(item, list) else "-" if item is None else str(item)
            lines.append(f"{indent}{escape(key):<24} {escape(text)}")
    return lines
