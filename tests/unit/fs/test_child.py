"""A process of ours runs what this one would, wherever that was installed."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from glasscase.fs.child import module_command

BASE = getattr(sys, "_base_executable", sys.executable)
PLACE = sysconfig.get_path("purelib")
ASK = "import subprocess, sys; from glasscase.fs.child import module_command as command; "
ASK += "sys.exit(subprocess.run(command('glasscase', '--version')).returncode)"


def bare(*arguments, **options):
    """Run an interpreter that knows this installation by PYTHONPATH only."""
    environment = {**os.environ, "PYTHONPATH": PLACE}
    return subprocess.run([BASE, *arguments], env=environment, capture_output=True, text=True, check=False, **options)


@pytest.fixture
def elsewhere():
    """Skip where the interpreter has the package without PYTHONPATH."""
    if not subprocess.run([BASE, "-I", "-c", "import glasscase"], capture_output=True, check=False).returncode:
        pytest.skip("no interpreter without glasscase here")


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("words", [["-c", ASK], ["-m", "glasscase", "doctor"]], ids=["child", "doctor"])
def test_what_lies_beside_the_interpreter_s_own_packages_is_found(words):
    """Installed with --user or --target, a verb that starts a process of ours works: it is found there too."""
    done = bare(*words)

    assert (0, "") == (done.returncode, done.stderr)
    assert done.stdout


def test_the_current_directory_brings_nothing(tmp_path):
    """A module of the directory in which one stands is not imported, not even after `python -m`."""
    (tmp_path / "click.py").write_text("raise SystemExit(9)")
    program = f"import sys; sys.path.insert(0, {os.fspath(tmp_path)!r}); {ASK}"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, check=False)

    assert (0, b"") == (done.returncode, done.stderr)


@pytest.mark.parametrize("place", ["stdlib", "purelib"])
def test_the_interpreter_s_own_directories_are_never_left_out(place):
    """Standing in the standard library takes nothing from it."""
    directory = sysconfig.get_path(place)
    done = subprocess.run([sys.executable, "-I", "-c", ASK], cwd=directory, capture_output=True, text=True, check=False)

    assert (0, "") == (done.returncode, done.stderr)


@pytest.mark.parametrize("place", ["pathlib.Path('/x')", "b'/x'", "None", "'/\\udcff'"])
def test_what_python_itself_passes_over_in_the_path_is_no_hindrance(place):
    """A path object stands in the import path of many programs, and means nothing there."""
    program = f"import pathlib, sys; sys.path.append({place}); {ASK}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (0, "") == (done.returncode, done.stderr)


def test_it_is_the_module_with_its_arguments(tmp_path):
    """What it runs sees the arguments as `python -m` gives them, whatever is in them."""
    words = ["a b", "'\"\\", "-c", "\udcff"]
    program = tmp_path / "named.py"
    program.write_text("import sys; print([__name__, *sys.argv])")
    sys.path.append(os.fspath(tmp_path))
    try:
        done = subprocess.run(module_command("named", *words), capture_output=True, text=True, check=True)
    finally:
        sys.path.remove(os.fspath(tmp_path))

    assert f"{['__main__', os.fspath(Path(program)), *words]}\n" == done.stdout
