"""The same inputs give the same bytes under every variation of reproducible/variations.toml."""

import importlib.util
from pathlib import Path

import pytest

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
@pytest.mark.parametrize("what", ["fastapi-fraud", "flask-hello", "wheel", "sdist"])
def test_everything_under_every_variation(what):
    """The example bundles, our own wheel and our own sdist are the same bytes under every variation."""
    assert [] == differing(what)[0]


@pytest.mark.timeout(900)
def test_wheel_and_sdist_in_two_directories():
    """The wheel and the sdist of glasscase are the same bytes from another directory, umask, zone and date."""
    for what in ("wheel", "sdist"):
        assert ([], 2) == differing(what, ["everything"])
