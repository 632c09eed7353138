"""What the documents name is there: files, links, verbs and their options."""

import re
import tomllib
from pathlib import Path

import pytest

from glasscase.cli.commands import every_command
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
_OPTION = re.compile(r"(?<![\w-])--[a-z]+(?:-[a-z]+)*(?![\w-])")


OURS = {name for _, command in every_command() for part in command.params for name in part.opts} | {
    "--help",
    "--version",
}
# of ./dev, the benches and reproducible/rebuild.py; then of the tools of others
OTHERS = {"--long", "--busy", "--huge", "--rounds", "--what", "--write"} | {
    "--format", "--hash", "--no-deps", "--no-emit-project"
}  # fmt: skip


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


def unknown_options(text):
    """Return the options in a text that nothing takes."""
    return set(_OPTION.findall(text)) - OURS - OTHERS


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


@pytest.mark.parametrize("path", DOCUMENTS, ids=[str(path.relative_to(ROOT)) for path in DOCUMENTS])
def test_options_that_a_document_names_exist(path):
    """Each `--option`, also one that stands alone, is of some verb or of a program that is named here."""
    assert set() == unknown_options(text_of(path))


def headings(path):
    """Return what the headings of a document are called in links."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {anchor(line) for line in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


def anchor(heading):
    """Return what a heading is called in links."""
    return re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("path", DOCUMENTS, ids=[str(path.relative_to(ROOT)) for path in DOCUMENTS])
def test_headings_that_a_document_links_exist(path):
    """The part of a link behind # is a heading of the document that it names, or of its own."""
    links = [link.partition("#") for link in _LINK.findall(text_of(path)) if "://" not in link and "#" in link]
    missing = [
        f"{file}#{part}" for file, _, part in links if part not in headings(path.parent / file if file else path)
    ]

    assert [] == missing


def wrong_sources(text):
    """Return each `NAME.md, "Heading"` of a text where the document has no such heading."""
    joined = " ".join(text.split())
    named = re.findall(r"((?:docs/)?[\w-]+\.md)(?:\]\([^)]*\))?, \"([^\"]+)\"", joined)
    paths = [(next((p for p in (ROOT / n, ROOT / "docs" / n) if p.exists()), None), heading) for n, heading in named]
    return [heading for path, heading in paths if path and anchor(heading) not in headings(path)]


def test_sections_that_the_code_names_exist():
    """A docstring or page that says `docs/NAME.md, "Heading"` names a heading of it."""
    paths = [*DOCUMENTS, *(ROOT / "src" / "glasscase").rglob("*.py")]
    found = {str(path.relative_to(ROOT)): wrong_sources(path.read_text(encoding="utf-8")) for path in paths}

    assert {} == {name: wrong for name, wrong in found.items() if wrong}
    assert ["Nothing"] == wrong_sources('docs/policy.md, "Nothing"; docs/policy.md, "The file"')


def test_sections_that_reasons_name_exist():
    """The source of a reason is a page, or a page and a heading of it."""
    for reason in reasons().values():
        name, _, heading = reason.source.partition(", ")
        if (ROOT / name).is_file() and heading:
            assert anchor(heading) in headings(ROOT / name), reason.id


@pytest.mark.parametrize("path", DOCUMENTS, ids=[str(path.relative_to(ROOT)) for path in DOCUMENTS])
def test_what_dev_does_in_a_document_exists(path):
    """Each `./dev NAME` is one that ./dev lists, each `./dev bench NAME` a program in bench/."""
    listed = set(re.findall(r"^\./dev ([a-z]+)", (ROOT / "dev").read_text(encoding="utf-8"), re.MULTILINE))
    named = re.findall(r"\./dev ([a-z]+)(?: ([a-z]+))?", text_of(path))

    assert set() == {name for name, _ in named} - listed
    assert [] == [part for name, part in named if name == "bench" and part and not (ROOT / f"bench/{part}.py").exists()]


def test_every_page_is_linked_from_the_readme():
    """Nobody has to list docs/ to find a page."""
    linked = {link.partition("#")[0] for link in _LINK.findall(text_of(ROOT / "README.md"))}

    assert set() == {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} - linked


def test_an_unknown_option_is_found():
    """The test sees what it looks for."""
    assert {"--polici"} == unknown_options("with `--polici P`, `--policy P` or `--long`; a--b, ---")


def test_commands_in_hints_exist():
    """What a remedy of the table tells people to run can be run."""
    assert [] == [wrong for reason in reasons().values() for wrong in wrong_commands(reason.remedy, hint=True)]


def test_commands_in_hints_of_the_code_exist():
    """The same for the texts in the source."""
    found = {path.name: wrong_commands(text_of(path), hint=True) for path in (ROOT / "src" / "glasscase").rglob("*.py")}

    assert {} == {name: wrong for name, wrong in found.items() if wrong}


def test_extras_that_a_text_names_exist():
    """An extra is named as pyproject.toml has it, and with the only Python that it exists for."""
    extras = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]["optional-dependencies"]
    old = {name for name, needed in extras.items() if any("python_version < '3.12'" in one for one in needed)}
    places = [*DOCUMENTS, *(ROOT / "src" / "glasscase").rglob("*.py")]
    lines = [line for path in places for line in text_of(path).splitlines()]
    said = [(line, name) for line in lines for name in re.findall(r"glasscase\[(\w+)\]", line)]

    assert {"intel"} == old == {name for _, name in said}
    assert [] == [line for line, name in said if name in old and "Python 3.11" not in line]


def test_a_wrong_command_is_found():
    """The test sees what it looks for."""
    assert ["verifi", "verify --polici"] == wrong_commands("`glasscase verifi x`, `glasscase verify --polici p --at 1`")
    assert ["seal --polici"] == wrong_commands(
        "try glasscase seal S --polici P, or --this; glasscase is good", hint=True
    )
