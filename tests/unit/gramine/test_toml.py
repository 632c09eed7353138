"""Our TOML writer against the one that Gramine's tools use, on random documents."""

import datetime
import tomllib

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from glasscase.errors import FormatError
from glasscase.gramine.toml import write_toml

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.sampled_from(
    ["", "a", "a.b", "a-b_c", "ü", "\t\n\r\b\f\x00\x1f\x7f\\\"'", "x" * 96, "日本語 " * 12]
)
KEYS = TEXT | st.sampled_from(["a", "b", "sgx", "uri", "sha256"])
SCALARS = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), TEXT, st.dates(), st.times(), st.datetimes(),
    st.datetimes(timezones=st.just(datetime.UTC)),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.lists(st.dictionaries(KEYS, inner, max_size=3), max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_same_bytes_as_the_reference_writer(document):
    """Every document comes out as Gramine's tools write it."""
    assert tomli_w.dumps(document).encode() == write_toml(document)


@pytest.mark.parametrize("length", range(80, 104))
def test_inline_limit_counts_characters(length):
    """An array of tables is inline up to the hundredth character, whatever its bytes are."""
    for letter in ("x", "ü", "日"):
        document = {"t": [{"k": letter * length}]}

        assert tomli_w.dumps(document).encode() == write_toml(document)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_parsing_gives_the_document_back(document):
    """What is written is TOML and means the same."""
    text = write_toml(document)

    assert text == write_toml(tomllib.loads(text.decode()))


@pytest.mark.parametrize("value", [None, b"x", {1}, object(), datetime.time(tzinfo=datetime.UTC), "\ud800"])
def test_other_values_are_refused(value):
    """What TOML cannot hold is an error, not some text."""
    with pytest.raises(FormatError) as caught:
        write_toml({"k": value})
    assert "gramine.toml.unwritable" == caught.value.reason
