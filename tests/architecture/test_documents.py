"""What the documents name is there: files, links, verbs and their options."""

import re
from pathlib import Path

import pytest

from glasscase.cli.main import VERBS, cli
from glasscase.reasons.table import reasons

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md", "reproducible/**/*.md", "bench/**/*.md")
    for path in ROOT.glob(pattern)
    if not {"build", ".venv"} & set(path.parts)
)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PATH = re.compile(r"(?<![\w/.~-])(?:docs|examples|src|tests|native|reproducible|bench|\.ci)/[\w./@-]*\w")
_COMMAND = re.compile(
    r"(?:^\$? *|`)glasscase ([a-z]+)\b([^`\n|;#)]*)", re.MULTILINE
)  # a code span or the line of a block
_HINT = re.compile(r"\bglasscase ([a-z]+)\b((?:(?!,| or | and |[\"'`;:()\n]).)*)")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def text_of(path):
    return path.read_text(encoding="utf-8").replace("\\\n", " ")


def wrong_commands(text, *, hint=False):
    """Return every `glasscase VERB --option` in a text that the command line does not know.

    hint: the text is prose without marks, where a word that is no verb is a word.
    """
    found = []
    for verb, rest in (_HINT if hint else _COMMAND).findall(text):
        if verb not in VERBS:
            found += [] if hint else [verb]
            continue
        command = cli.get_command(None, verb)
        parts = [command, *getattr(command, "commands", {}).values()]
        known = {name for part in parts for parameter in part.params for name in parameter.opts}
        found += [f"{verb} {option}" for option in _OPTION.findall(rest) if option not in known | {"--help"}]
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=[str(path.relative_to(ROOT)) for path in DOCUMENTS])
def test_files_that_a_document_names_exist(path):
    """Relative links resolve from the document, paths in the text from the root of the repository (or beside it)."""
    text = text_of(path)
    links = [link.partition("#")[0] for link in _LINK.findall(text) if "://" not in link]
    missing = [link for link in links if link and not (path.parent / link).exists()]
    named = {name for name in _PATH.findall(text) if "NAME" not in name}
    missing += [name for name in named if not (ROOT / name).exists() and not (path.parent / name).exists()]

    assert [] == missing


@pytest.mark.parametrize("path", DOCUMENTS, ids=[str(path.relative_to(ROOT)) for path in DOCUMENTS])
def test_commands_that_a_document_shows_exist(path):
    """Each `glasscase VERB --option` is one that the program takes."""
    assert [] == wrong_commands(text_of(path))


def test_commands_in_hints_exist():
    """What a remedy of the table tells people to run can be run."""
    assert [] == [wrong for reason in reasons().values() for wrong in wrong_commands(reason.remedy, hint=True)]


def test_commands_in_hints_of_the_code_exist():
    """The same for the texts in the source."""
    found = {path.name: wrong_commands(text_of(path), hint=True) for path in (ROOT / "src" / "glasscase").rglob("*.py")}

    assert {} == {name: wrong for name, wrong in found.items() if wrong}


def test_a_wrong_command_is_found():
    """The test sees what it looks for."""
    assert ["verifi", "verify --polici"] == wrong_commands("`glasscase verifi x`, `glasscase verify --polici p --at 1`")
    assert ["seal --polici"] == wrong_commands(
        "try glasscase seal S --polici P, or --this; glasscase is good", hint=True
    )
