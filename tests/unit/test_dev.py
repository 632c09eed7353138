"""./dev sets a clone up once, whatever is going on around it, and refuses what it would not do."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = """#!/bin/bash
# answers every question and makes a virtual environment that says where it was made
if [ "$1 $2" = "-m venv" ]; then
  echo made >> "$MADE"; sleep 0.5; mkdir "$3" || exit 1; mkdir "$3/bin"; cp "$0" "$3/bin/python"
  printf '#!/bin/sh\\necho "%s"\\n' "$PWD" > "$3/bin/glasscase"; chmod +x "$3/bin/glasscase"
fi
"""


@pytest.fixture
def clone(tmp_path):
    """Return a directory with ./dev, its lock file and the environment in which python3 is the one above."""
    place, tools = tmp_path / "a clone", tmp_path / "tools"
    (place / "reproducible" / "wheel").mkdir(parents=True)
    tools.mkdir()
    shutil.copy(ROOT / "dev", place / "dev")
    shutil.copy(ROOT / "reproducible" / "wheel" / "dev.lock", place / "reproducible" / "wheel")
    (tools / "python3").write_text(PYTHON)
    (tools / "python3").chmod(0o755)
    made = tmp_path / "made"
    made.touch()
    return place, {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "MADE": str(made)}


def dev(clone, *arguments):
    place, environment = clone
    return subprocess.Popen(
        [place / "dev", *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def made(clone):
    return Path(clone[1]["MADE"]).read_text().count("made")


def test_a_moved_clone_is_set_up_again(clone):
    """The scripts of a virtual environment name its place, so that after a move they would run what is at the old one."""
    place, environment = clone
    for times, name in enumerate(["a clone", "a clone", "moved"]):
        place = place.rename(place.parent / name)
        out, err = dev((place, environment), "glasscase").communicate(timeout=60)

        assert f"{place}\n" == out, err
        assert max(1, times) == made(clone)


def test_two_at_once_set_up_once(clone):
    """The second waits for the first and finds everything there."""
    both = [dev(clone, "glasscase") for _ in range(2)]
    said = [process.communicate(timeout=60) for process in both]

    assert [0, 0] == [process.returncode for process in both], said
    assert [f"{clone[0]}\n"] * 2 == [out for out, _ in said]
    assert 1 == made(clone)


def test_what_is_set_up_does_not_keep_others_waiting(clone):
    """The lock ends before the command begins: a demo runs for long."""
    glasscase = clone[0] / ".venv" / "bin" / "glasscase"
    dev(clone, "setup").communicate(timeout=60)
    glasscase.write_text("#!/bin/sh\necho begun\nexec sleep 60\n")
    first = dev(clone, "glasscase")
    try:
        assert "begun\n" == first.stdout.readline()
        _, err = dev(clone, "setup").communicate(timeout=30)
        assert "" == err
    finally:
        first.kill()
        first.communicate()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nosuch"], "there is no command 'nosuch'"),
        (["lint", "src"], "lint takes no arguments, not 'src'"),
        (["fuzz", "long"], "fuzz takes a number of seconds, not 'long'"),
        (["fuzz", "1", "2"], "fuzz takes a number of seconds, not '1 2'"),
    ],
)
def test_what_it_would_not_do_is_refused(clone, arguments, named):
    """Before anything is set up, and with what was found."""
    process = dev(clone, *arguments)
    out, err = process.communicate(timeout=60)

    assert (1, "") == (process.returncode, out)
    assert f"dev: error: {named}" == err.splitlines()[-1]
    assert 0 == made(clone)
