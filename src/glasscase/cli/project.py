"""The verbs `init` and `test`: a new project, and its own tests against its enclave."""

import os
import re
import subprocess
import sys
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from glasscase.cli import exitcodes
from glasscase.cli.output import Output, verb
from glasscase.errors import StorageError, UsageError

if TYPE_CHECKING:
    from glasscase.cli.flow import Flow

KINDS = {"fastapi": "asgi", "flask": "wsgi", "django": "wsgi"}
ENTRY = "app.main:app"
NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
SUFFIX = ".tmpl"
TEST_NAME = "test"
LOCK = "glasscase.lock"
# the bundle that was just built, on the simulated platform: what the project's own policy says is for real ones
TEST_POLICY = 'version = 1\n[measurement]\nbundle = true\nbundle_id = "{}"\n[platform]\nplatforms = ["any-intel"]\n'


@verb(
    "init",
    help="Make a new project: application, tests, glasscase.toml, policy.toml and a .gitignore that keeps keys out.",
)
@click.argument("directory", metavar="DIR", type=click.Path())
@click.option(
    "--kind",
    type=click.Choice(list(KINDS)),
    default="fastapi",
    show_default=True,
    help="The framework of the application.",
)
@click.option(
    "--name",
    metavar="NAME",
    help="Name of the enclave: a lower-case letter, then up to 62 of a-z, 0-9 and - [default: the last part of DIR].",
)
def init(out: Output, directory: str, *, kind: str, name: str | None) -> int:
    """Write the files of a project into a new or empty directory."""
    from glasscase.fs import atomic
    from glasscase.fs.directory import atomic_directory

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
        with atomic_directory(path) as part:
            _write_into(part, files)
    out.say(
        "notice    glasscase's own wheel is not a published one, so insecure_dev_enclave is true; the verdict says so"
    )
    text = f"wrote     {directory} ({kind}, {len(files)} files)\nnext      cd {atomic.shell_word(directory)}; see README.md"
    out.result({"project": path, "name": chosen, "kind": kind, "files": sorted(files)}, text)
    return exitcodes.OK


@verb(
    "test",
    help="Build, run, verify and provision the project on the simulator, then run its tests against it. "
    "A lock that is missing is written first.",
)
@click.argument("directory", metavar="[DIR]", default=".", type=click.Path())
@click.option(
    "--tests", metavar="DIR", default="tests", show_default=True, help="Where the tests are, inside the project."
)
@click.option("--secrets", metavar="FILE", type=click.Path(), help="Secrets to seal, JSON as for seal [default: none].")
def test(out: Output, directory: str, *, tests: str, secrets: str | None) -> int:
    """Run the flow and then the tests; the exit code is that of the tests."""
    from glasscase.bundle.project import load_project
    from glasscase.cli.flow import StepFailed, temporary_flow
    from glasscase.fs.atomic import read_file, write_file

    load_project(directory)
    project = Path(os.path.abspath(directory))
    if not (project / tests).is_dir():
        raise StorageError(
            "fs.file.missing",
            f"there is no directory {os.path.join(directory, tests)!r}",
            hint="--tests DIR, inside the project",
        )
    wanted = b"{}" if secrets is None else read_file(secrets, max_bytes=1 << 20, what="secrets", streams=True)
    with temporary_flow(out) as flow:
        write_file(flow.directory / "secrets.json", wanted, mode=0o600)
        try:
            url, mrenclave = _serve(flow, project)
        except StepFailed:
            flow.show_logs()
            raise
        with flow.started("proxy", "proxy", url, *_TRUST, "--listen", "127.0.0.1:0") as proxy:
            code, runner = _run_tests(out, project, tests, proxy["listen"])
        steps = [step.to_json() for step in flow.steps]
    value = {
        "exit": code,
        "runner": runner,
        "mrenclave": mrenclave,
        "steps": steps,
        "simulated": True,
        "notice": "SIMULATED",
    }
    out.result(value, f"tests     {'passed' if code == 0 else f'ended with {code}'}, SIMULATED")
    return code


_TRUST = ("--policy", "policy.toml", "--bundle", "app.bundle", "--insecure-anchor", "root.pem")


def _serve(flow: "Flow", project: Path) -> tuple[str, str]:
    """Bring the project's application up on the simulator with keys made for this run; return URL and MRENCLAVE.

    A missing lock is written into the project: it belongs there, and the same one serves the next run.
    """
    flow.run(
        "keygen",
        ("keygen", "--kind", "package", "-o", "package.key"),
        ("keygen", "--kind", "owner", "-o", "owner"),
        ("keygen", "--kind", "enclave", "-o", "enclave.pem"),
    )
    if not (project / LOCK).exists():
        flow.run("lock", ("lock", str(project)))
    built = flow.run(
        "build",
        (
            "build",
            str(project),
            "-o",
            "app.bundle",
            "--package-key",
            "package.key",
            "--owner",
            "owner.pub",
            "--no-record",
        ),
    )
    (flow.directory / "policy.toml").write_text(TEST_POLICY.format(built["bundle_id"]), encoding="ascii")
    flow.run("sign", ("sign", "app.bundle", "--key", "enclave.pem"))
    started = flow.run("run", ("run", "app.bundle", "--backend", "simulator", "--name", TEST_NAME))
    (flow.directory / "root.pem").write_text(started["insecure_anchor"], encoding="ascii")
    flow.run("evidence", ("evidence", TEST_NAME, "-o", "evidence.json"))
    flow.run("seal", ("seal", "secrets.json", "--evidence", "evidence.json", *_TRUST, "--owner-key", "owner",
                      "--package-key", "package.key", "-o", "secrets.sealed"))  # fmt: skip
    flow.run("provision", ("provision", TEST_NAME, "secrets.sealed"))
    return started["url"], built["mrenclave"]


def _run_tests(out: Output, project: Path, tests: str, url: str) -> tuple[int, str]:
    """Return the exit code of the project's tests and who ran them: pytest if it is installed, else unittest."""
    from importlib.util import find_spec

    from glasscase.cli.ending import with_parent

    runner = "pytest" if find_spec("pytest") is not None else "unittest"
    argv = ["pytest", "-p", "no:cacheprovider", tests] if runner == "pytest" else ["unittest", "discover", "-s", tests]
    environment = {**os.environ, "GLASSCASE_TEST_URL": url}
    # what the tests say is talk; our own result is the only thing on stdout with --json
    done = subprocess.run(
        [sys.executable, "-B", "-m", *argv], cwd=project, env=environment, stdin=subprocess.DEVNULL,
        stdout=sys.stderr if out.json else None, check=False, preexec_fn=with_parent(),
    )  # fmt: skip
    code = done.returncode
    return (code if code >= 0 else 128 - code), runner  # by a signal: as shells say it


def project_files(kind: str, name: str) -> dict[str, bytes]:
    """Return path -> content of a new project."""
    words = {
        "@NAME@": name,
        "@KIND@": {"fastapi": "FastAPI"}.get(kind, kind.capitalize()),
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
