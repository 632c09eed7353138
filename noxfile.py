"""Sessions for those who use nox; ./dev test runs the same steps without it."""

import shutil
from pathlib import Path

import nox

nox.options.sessions = ["lint", "native", "tests"]
LOCK = "reproducible/wheel/dev.lock"


def _install(session: nox.Session) -> None:
    session.install("--require-hashes", "--only-binary", ":all:", "-r", LOCK)
    wheels = Path(session.virtualenv.location) / "wheels"  # lock pins the file that was installed
    shutil.rmtree(wheels, ignore_errors=True)
    session.run("python", "-m", "build", "--wheel", "--no-isolation", "-o", str(wheels), ".")
    session.install("--no-deps", "--no-index", "--force-reinstall", *map(str, wheels.glob("*.whl")))


@nox.session
def lint(session: nox.Session) -> None:
    """Style and types."""
    _install(session)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def native(session: nox.Session) -> None:
    """The C core alone, plain and under sanitizers."""
    session.run("make", "-C", "native", "check", "asan", external=True)


@nox.session
def tests(session: nox.Session) -> None:
    """Every Python test against the installed wheel."""
    _install(session)
    session.run("pytest", "-n", "2", "--dist", "loadfile", *session.posargs)


@nox.session
def reproducible(session: nox.Session) -> None:
    """Build the examples, the wheel and the sdist under the variations of reproducible/variations.toml."""
    _install(session)
    session.run("python", "reproducible/rebuild.py", *session.posargs)
