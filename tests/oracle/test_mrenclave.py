"""The measurement against an independent one: on the vectors, and on random PALs, sizes, threads and texts."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from glasscase.errors import FormatError
from glasscase.gramine.manifest import bundle_manifest
from glasscase.measure.mrenclave import measure
from tests.oracle.mrenclave_oracle import mrenclave
from tests.unit.gramine.pal import manifest, pal
from tests.unit.gramine.test_manifest import TRUSTED, config


def test_the_oracle_gives_the_vectors(shared):
    """The second opinion is right where Gramine's answer is known."""
    for path in sorted((shared / "vectors/mrenclave").glob("*/vector.json")):
        facts = json.loads(path.read_text())
        if facts["name"] in ("02-edmm-default-size", "11-size-spellings", "13-too-small", "14-fixed-base"):
            continue
        libpal = (path.parent.parent / facts["pal"]).read_bytes()

        assert facts["mrenclave"] == mrenclave((path.parent / "manifest.sgx").read_bytes(), libpal).hex(), facts["name"]


@st.composite
def pals(draw):
    """Make an ELF file with one to five ascending segments, holes and bss."""
    segments, at = [], 0
    for _ in range(draw(st.integers(1, 5))):
        vaddr = at + (draw(st.integers(0, 4095)) if segments else 0)
        content = draw(st.binary(max_size=64)) * draw(st.integers(0, 200))
        memory = len(content) + draw(st.sampled_from([0, 0, 1, 4096, 5000]))
        segments.append((vaddr, content, memory, draw(st.integers(0, 7))))
        at = (vaddr + memory + 4095) // 4096 * 4096 + 4096 * draw(st.integers(0, 2))
    return segments


@settings(max_examples=30, deadline=None)
@example(segments=[(0, b"", 0, 4), (4096, b"x", 1, 5)], threads=1, edmm=False, size="4M", filler=0, entry=0)
@given(
    segments=pals(), threads=st.integers(1, 3), edmm=st.booleans(), size=st.sampled_from(["4M", "8192K"]),
    filler=st.integers(0, 9000), entry=st.integers(0, 100),
)  # fmt: skip
def test_random_enclaves_agree(segments, threads, edmm, size, filler, entry):  # noqa: PLR0917
    """Both give the same MRENCLAVE, or ours refuses the PAL (an entry outside of it)."""
    text = manifest(max_threads=threads, edmm_enable=edmm, enclave_size=size, note="x" * filler)
    libpal = pal(segments, entry=entry)
    try:
        measured = measure(text, libpal)
    except FormatError as error:
        assert error.reason in ("gramine.pal.unloadable", "gramine.enclave.too_small")
        return
    assert mrenclave(text, libpal) == measured.mrenclave


@pytest.mark.parametrize("series", ["v1.6", "v1.8"])
@pytest.mark.parametrize(
    "changes", [
        {}, {"edmm": True}, {"persist": "mrenclave", "dns": True}, {"max_threads": 96},
        {"env": {"A": "ü" * 1000, "B": "z" * 1000}},
    ],
    ids=lambda changes: "-".join(changes) or "plain",
)  # fmt: skip
def test_the_text_of_a_bundle_agrees(series, changes):
    """The manifests that bundles have, with every option that changes the layout or the length of the text."""
    text = bundle_manifest(config(profile=series, size="64M", **changes), TRUSTED, libsysdb_sha256=bytes(32))
    libpal = pal([(0, b"x" * 9000, 20_000, 5), (0x6000, b"data", 5000, 6)])

    assert mrenclave(text, libpal) == measure(text, libpal).mrenclave


@pytest.mark.long
def test_a_large_enclave_agrees():
    """512 MiB with 64 threads, page by page."""
    text, libpal = manifest(max_threads=64, enclave_size="512M"), pal([(0, b"x" * 9000, 20_000, 5)])

    assert mrenclave(text, libpal) == measure(text, libpal).mrenclave
