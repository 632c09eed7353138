"""The same inputs give the same bytes under every variation of reproducible/variations.toml."""

import hashlib
import importlib.util
import tomllib
from pathlib import Path

import pytest

from glasscase.lock.model import Lock

_PATH = Path(__file__).resolve().parents[2] / "reproducible" / "rebuild.py"
_SPEC = importlib.util.spec_from_file_location("rebuild", _PATH)
rebuild = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(rebuild)


def differing(what, names=None):
    """Build under the variations; return the lines that do not say SAME or SKIP, and how many builds ran."""
    lines = []
    chosen = [v for v in rebuild.variations() if names is None or v["name"] in ("baseline", *names)]
    ran, _ = rebuild.compare(what, chosen, say=lines.append)
    return [line for line in lines if not line.startswith(("SAME", "SKIP"))], ran


def test_there_are_enough_variations():
    """At least twelve permutations besides the baseline, each with its own name."""
    names = [variation["name"] for variation in rebuild.variations()]

    assert "baseline" == names[0]
    assert len(names) == len(set(names)) >= 13


@pytest.mark.timeout(600)
def test_small_bundle_under_every_variation():
    """The small bundle is the same in another directory, umask, zone, locale, order, date and as another user."""
    lines, ran = differing("small")

    assert [] == lines
    assert ran >= 13


def test_small_bundle_is_the_expected_one():
    """MRENCLAVE and bundle id of the small project are those of reproducible/expected: a format has not changed unnoticed."""
    lines = []

    assert 0 == rebuild.check_expected(write=False, say=lines.append), lines


@pytest.mark.timeout(600)
def test_example_bundles_are_the_expected_ones():
    """MRENCLAVE, bundle id and lock of the three examples are those of expected/, where wheel and toolchain are the recorded."""
    why = rebuild.not_comparable()
    if why:
        pytest.skip("; ".join(why))
    lines = []

    assert 0 == rebuild.check_examples(write=False, say=lines.append), lines
    assert 3 == len(lines)


def test_every_example_has_its_lock_and_its_digests():
    """expected/examples.toml and image/ hold each example of the repository, in the forms that a build reads."""
    recorded = tomllib.loads(rebuild.EXPECTED_EXAMPLES.read_text(encoding="utf-8"))
    folders = {path.parent.name for path in (rebuild.ROOT / "examples").glob("*/glasscase.toml")}

    assert folders == set(rebuild.EXAMPLES) == {name for name, value in recorded.items() if isinstance(value, dict)}
    for name in rebuild.EXAMPLES:
        content = (rebuild.IMAGE / f"{name}.lock").read_bytes()
        lock = Lock.from_bytes(content)
        requirements = (rebuild.ROOT / "examples" / name / "requirements.txt").read_bytes()
        assert hashlib.sha256(content).hexdigest() == recorded[name]["lock"]
        assert hashlib.sha256(requirements).digest() == lock.requirements
        assert recorded["wheel"] == next(w.sha256.hex() for w in lock.wheels if w.name == "glasscase")


@pytest.mark.parametrize("comparable", [True, False])
def test_what_differs_is_said(monkeypatch, tmp_path, comparable):
    """Another digest is an error where it must be the same, and a line that names it where wheel or toolchain are others."""
    recorded = rebuild.EXPECTED_EXAMPLES.read_text(encoding="utf-8")
    facts = {key: value for key, value in tomllib.loads(recorded).items() if isinstance(value, str)}
    monkeypatch.setattr(rebuild, "facts", lambda: facts if comparable else facts | {"compiler": "another"})
    found = {"lock": "00", "bundle_id": "00", "mrenclave": "00"}
    monkeypatch.setattr(rebuild, "example_bundle", lambda _name, _work, *, update: (found, b""))
    lines = []
    differing = rebuild.check_examples(write=False, say=lines.append)

    assert (3 if comparable else 0) == differing
    assert ("DIFFERS" if comparable else "SKIP") == lines[-1].split()[0]
    assert all(key in lines[-1] for key in found)
    assert comparable or f"compiler: recorded {facts['compiler']}, here another" in lines[0]


def test_another_model_is_an_error_everywhere(monkeypatch):
    """The model holds nothing of the wheel or the toolchain: another one differs though the bundles are not comparable."""
    recorded = tomllib.loads(rebuild.EXPECTED_EXAMPLES.read_text(encoding="utf-8"))
    monkeypatch.setattr(rebuild, "facts", lambda: {"compiler": "another"})
    found = recorded["llm-safetensors"] | {"model_tiny": "00"}
    monkeypatch.setattr(
        rebuild,
        "example_bundle",
        lambda name, _work, *, update: (found if name == "llm-safetensors" else recorded[name], b""),
    )
    lines = []

    assert 1 == rebuild.check_examples(write=False, say=lines.append)
    assert "DIFFERS  examples llm-safetensors: model_tiny 00" == lines[-1]


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_example_bundles_are_recomputed():
    """All three examples are built from their frozen locks, whatever the toolchain; only the recorded one must agree."""
    lines = []
    differing = rebuild.check_examples(write=False, say=lines.append)

    assert 0 == differing, lines
    assert {line.split()[-1] if line.startswith("SAME") else line.split()[2].rstrip(":") for line in lines[-3:]} == set(
        rebuild.EXAMPLES
    )


def test_a_difference_is_seen(monkeypatch):
    """The comparison itself notices one changed byte, so that SAME means something."""
    real = rebuild.copy_tree

    def meddle(source, target, variation):
        real(source, target, variation)
        if variation["name"] == "home":
            (target / "src" / "app" / "main.py").write_bytes(b"changed = 1\n")

    monkeypatch.setattr(rebuild, "copy_tree", meddle)
    lines, _ = differing("small", ["home"])

    assert lines and lines[0].startswith("DIFFERS")


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("what", ["fastapi-fraud", "flask-hello", "llm-safetensors", "wheel", "sdist"])
def test_everything_under_every_variation(what):
    """The example bundles, our own wheel and our own sdist are the same bytes under every variation."""
    assert [] == differing(what)[0]


@pytest.mark.timeout(900)
def test_wheel_and_sdist_in_two_directories():
    """The wheel and the sdist of glasscase are the same bytes from another directory, umask, zone and date."""
    for what in ("wheel", "sdist"):
        assert ([], 2) == differing(what, ["everything"])
