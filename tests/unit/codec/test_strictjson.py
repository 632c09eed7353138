"""Strict JSON and cJSON."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasscase.codec import strictjson
from glasscase.errors import FormatError

TEXT = st.text(st.characters(blacklist_categories=("Cc", "Cs")), max_size=10)
VALUES = st.recursive(
    st.booleans() | st.integers(-strictjson.INT_MAX, strictjson.INT_MAX) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def parse(data):
    return strictjson.parse(data, max_bytes=100_000, what="test")


@given(VALUES)
def test_canonical_round_trip(value):
    """What is written in cJSON parses to the same value and is accepted as canonical."""
    data = strictjson.write_canonical(value)

    assert value == strictjson.parse_canonical(data, max_bytes=100_000, what="test")
    assert value == parse(strictjson.write(value))


@pytest.mark.parametrize(
    "text",
    [
        b"", b" ", b"{", b"[1,]", b"{'a':1}", b'{"a":1,"a":2}', b'{"a":{"b":1,"b":1}}', b"1.0", b"1e3", b"NaN", b"Infinity",
        b"-Infinity", b"-0", b"9007199254740992", b"-9007199254740992", b"1" * 5000, b"\xef\xbb\xbf{}", b'"\xff"',
        b'"\\ud800"', b'{"\\udc00":1}', b"01", b"+1", b"0x10", b'"a\nb"', b"{}{}", b"[1] x", b"/* */{}", b"1e400",
        b"[" * 100_000, b'{"a":' * 50_000, b"\x00",
    ],
)  # fmt: skip
def test_loose_json_is_refused(text):
    """Duplicate keys, floats, wide integers, marks, surrogates and deep nesting are malformed."""
    with pytest.raises(FormatError) as caught:
        strictjson.parse(text, max_bytes=1_000_000, what="test")

    assert caught.value.reason == "codec.json.malformed"


@pytest.mark.parametrize("data", [b'{"a": 1}\n', b'{"b":1,"a":2}\n', b'{"a":1}', b'{"a":1}\n\n', b'{"\\u0061":1}\n'])
def test_other_spellings_are_not_canonical(data):
    """cJSON has one spelling."""
    with pytest.raises(FormatError) as caught:
        strictjson.parse_canonical(data, max_bytes=100, what="test")

    assert caught.value.reason == "codec.json.noncanonical"


@pytest.mark.parametrize("value", [None, 1.5, {"a": None}, ["\x07"], {"a\n": 1}, 2**53])
def test_canonical_refuses_what_has_no_spelling(value):
    """Null, floats, control characters and wide integers are not written."""
    with pytest.raises(FormatError):
        strictjson.write_canonical(value)


def test_size_limit():
    """A document above its limit has its own reason."""
    with pytest.raises(FormatError) as caught:
        strictjson.parse(b'"aaaaaaaaaaaa"', max_bytes=5, what="test")

    assert caught.value.reason == "codec.json.oversize"


@pytest.mark.parametrize("item", [b"[]", b"{}", b"1", b'""', b"[[[]]]"])
def test_values_are_counted_before_they_are_made(item):
    """A document with more commas and brackets than its kind may have is refused, and one with as many is read."""
    data = b"[" + b",".join([item] * 1000) + b"]"
    items = sum(map(data.count, (b",", b"[", b"{")))

    assert 1000 == len(strictjson.parse(data, max_bytes=1 << 20, what="test", max_items=items))
    with pytest.raises(FormatError) as caught:
        strictjson.parse(data, max_bytes=1 << 20, what="test", max_items=items - 1)

    assert "codec.json.oversize" == caught.value.reason
    with pytest.raises(FormatError) as caught:
        strictjson.parse(b"[" + b"1," * (1 << 20) + b"1]", max_bytes=1 << 24, what="test")

    assert "codec.json.oversize" == caught.value.reason


@pytest.mark.parametrize("write", [strictjson.write, strictjson.write_canonical])
@pytest.mark.parametrize("value", [{"a": "\udcff"}, {"\ud800": 1}, ["\udfff"]])
def test_text_that_is_not_unicode_is_not_written(write, value):
    """An argument or a name of a file may be no UTF-8; what is written is."""
    with pytest.raises(FormatError) as caught:
        write(value)

    assert "codec.json.malformed" == caught.value.reason
