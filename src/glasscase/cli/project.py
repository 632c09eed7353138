"""The verbs `init` and `test`: a new project, and its own tests against its enclave."""

import os
import re
from importlib import resources
from importlib.resources.abc import Traversable

import click

from glasscase.cli import exitcodes
from glasscase.cli.output import Output, verb
from glasscase.errors import UsageError

KINDS = {"fastapi": "asgi", "flask": "wsgi", "django": "wsgi"}
ENTRY = "app.main:app"
NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
SUFFIX = ".tmpl"


@verb(
    "init",
    help="Make a new project: application, tests, glasscase.toml, policy.toml and a .gitignore that keeps keys out.",
)
@click.argument("directory", metavar="DIR", type=click.Path())
@click.option("--kind", type=click.Choice(list(KINDS)), default="fastapi", show_default=True, help="The framework.")
@click.option("--name", metavar="NAME", help="Name of the enclave [default: the last part of DIR].")
def init(out: Output, directory: str, *, kind: str, name: str | None) -> int:
    """Write the files of a project into a new or empty directory."""
    from glasscase.fs import atomic

    path = os.path.abspath(directory)
    chosen = name if name is not None else _name_from(os.path.basename(path))
    if not NAME.fullmatch(chosen):
        raise UsageError(
            "cli.project.name",
            f"{chosen!r} is not a name",
            hint="--name: a lower-case letter, then up to 62 of a-z, 0-9 and -",
        )
    files = project_files(kind, chosen)
    if os.path.isdir(path) and not os.listdir(path):
        _write_into(path, files)
    else:
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
        except OSError as error:
            raise atomic.storage_error(error, path) from None
        with atomic.atomic_directory(path) as part:
            _write_into(part, files)
    out.say(
        "notice    glasscase's own wheel is not a published one, so insecure_dev_enclave is true; the verdict says so"
    )
    text = f"wrote     {directory} ({kind}, {len(files)} files)\nnext      cd {directory}; see README.md"
    out.result({"project": path, "name": chosen, "kind": kind, "files": sorted(files)}, text)
    return exitcodes.OK


def project_files(kind: str, name: str) -> dict[str, bytes]:
    """Return path -> content of a new project."""
    words = {
        "@NAME@": name,
        "@KIND@": kind.capitalize(),
        "@ENTRY@": ENTRY,
        "@INTERFACE@": KINDS[kind],
        "@DEV_ENCLAVE@": "true",
    }
    root = resources.files("glasscase") / "templates"
    found: dict[str, bytes] = {}
    for part in ("common", kind):
        for path, template in _walk(root / part, ""):
            text = template.read_text(encoding="utf-8")
            for word, value in words.items():
                text = text.replace(word, value)
            found[path.removesuffix(SUFFIX).replace("gitignore", ".gitignore")] = text.encode("utf-8")
    return found


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, Traversable]]:
    found: list[tuple[str, Traversable]] = []
    for entry in folder.iterdir():
        path = prefix + entry.name
        found += _walk(entry, path + "/") if entry.is_dir() else [(path, entry)]
    return found


def _write_into(directory: str, files: dict[str, bytes]) -> None:
    """Write all files, or none if one of them fails."""
    from glasscase.fs import atomic

    done: list[str] = []
    try:
        for path, content in sorted(files.items()):
            target = os.path.join(directory, path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            atomic.write_file(target, content, overwrite=False)
            done.append(target)
        os.mkdir(os.path.join(directory, "keys"), 0o700)
    except BaseException:
        for target in done:
            os.unlink(target)
        raise


def _name_from(text: str) -> str:
    """Return a directory's name in the form of a NAME as far as that is only spelling: case, dots, blanks, underscores."""
    return re.sub(r"[ _.]+", "-", text.lower()).strip("-")
