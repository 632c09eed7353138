"""Deterministic CBOR: one spelling for each value, and nothing else is accepted."""

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasscase.codec import cbor
from glasscase.errors import FormatError

VALUES = st.recursive(
    st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


def decode(data, **options):
    return cbor.decode(data, max_bytes=4096, what="test", **options)


@given(VALUES)
def test_what_was_encoded_decodes_to_itself(value):
    """decode(encode(v)) == v, and encoding again gives the same bytes."""
    try:
        data = cbor.encode(value)
    except FormatError:
        return  # nested deeper than the rules allow
    if len(data) <= 4096:
        assert value == decode(data)
        assert data == cbor.encode(decode(data))


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_or_canonical(data):
    """No byte string is accepted unless encoding its value gives the same bytes."""
    try:
        value = decode(data)
    except FormatError as error:
        assert error.reason.startswith("codec.cbor.")
    else:
        assert data == cbor.encode(value)


@pytest.mark.parametrize(
    "hexadecimal",
    [
        "",
        "1817",  # 23 in two bytes
        "190017",
        "1b0000000000000001",
        "5f42010243030405ff",  # indefinite bytes
        "9fff",  # indefinite array
        "bf6161 01ff",
        "a2616101616102",  # duplicate key
        "a2616201616102",  # unsorted keys
        "a10102",  # integer key
        "a14101 02",  # bytes key
        "f6",  # null
        "f7",  # undefined
        "f0",  # simple(16)
        "f97e00",  # NaN
        "f93c00",  # 1.0
        "fb3ff0000000000000",
        "c074323031332d30332d32315432303a30343a30305a",  # tag 0
        "c249010000000000000000",  # bignum
        "d9010280",  # set
        "d81c80",  # shareable
        "0000",  # trailing byte
        "6180",  # text that is not UTF-8
        "63edb080",  # surrogate
        "818181818181818181818181818101",  # depth
        "5affffffff",  # length beyond the end
        "9affffffff",
        "9bffffffffffffffff",
        "bb7fffffffffffffff",
        "41",
        "1c",
        "ff",
    ],
)
def test_other_spellings_are_refused(hexadecimal):
    """Every other form of CBOR is malformed."""
    with pytest.raises(FormatError) as caught:
        decode(bytes.fromhex(hexadecimal))

    assert caught.value.reason == "codec.cbor.malformed"


@pytest.mark.parametrize(
    ("hexadecimal", "message"),
    [
        ("", "test is empty"), ("18", "test ends too early"), ("8201", "test ends too early"), ("d864", "test ends too early"),
        ("62ffff", "test is not CBOR"),
    ],
)  # fmt: skip
def test_messages_name_no_class_of_the_parser(hexadecimal, message):
    """What is empty or cut off says so; a class name of the parser says nothing to whoever gave the file."""
    with pytest.raises(FormatError) as caught:
        decode(bytes.fromhex(hexadecimal), tags=frozenset({100}))

    assert message == caught.value.message


def test_a_million_nested_arrays_are_refused():
    """Nesting is refused before a recursive parser sees it."""
    with pytest.raises(FormatError):
        cbor.decode(b"\x81" * 1_000_000 + b"\x00", max_bytes=2_000_000, what="test")


@pytest.mark.parametrize(
    "head",
    [
        "c482 1a7fffffff",  # 4, decimal fraction: 64 KiB took a second, 1 MiB minutes
        "c582 1a00ffffff",  # 5, bigfloat
        "d81e82 01",  # 30, rational: 1 MiB took half a minute, in one call that lets no other thread run
        "d823",  # 35, regular expression
        "d824",  # 36, MIME message
        "81d81e82 01",  # inside of what is allowed
    ],
)
@pytest.mark.parametrize("tags", [frozenset(), frozenset({98})])
def test_a_tag_that_is_not_named_reaches_no_parser(monkeypatch, head, tags):
    """What the library makes of a tag can take minutes, so a foreign one is refused before it."""
    monkeypatch.setattr("cbor2.CBORDecoder", lambda _: pytest.fail("the parser was called"))
    data = bytes.fromhex(head) + b"\xc2\x5a\x00\x0f\x42\x40" + b"\xff" * 1_000_000
    with pytest.raises(FormatError) as caught:
        cbor.decode(data, max_bytes=1 << 20, what="envelope", tags=tags)

    assert "codec.cbor.malformed" == caught.value.reason


def test_tags_only_where_named():
    """A tag is accepted only from the list given."""
    data = cbor2.dumps(cbor2.CBORTag(60000, [b"a", b"b"]), canonical=True)

    assert decode(data, tags=frozenset({60000})).value == [b"a", b"b"]
    for tags in (frozenset(), frozenset({98})):
        with pytest.raises(FormatError):
            decode(data, tags=tags)


def test_cose_maps_have_small_integer_keys():
    """COSE headers may have integer keys, -24..23, never mixed with text."""
    assert decode(cbor2.dumps({1: -8}, canonical=True), cose=True) == {1: -8}
    for bad in ({1: 1, "a": 2}, {24: 1}, {-25: 1}, {True: 1}):
        with pytest.raises(FormatError):
            decode(cbor2.dumps(bad, canonical=True), cose=True)


def test_size_limit():
    """An object above its limit has its own reason."""
    with pytest.raises(FormatError) as caught:
        cbor.decode(b"\x00" * 11, max_bytes=10, what="test")

    assert caught.value.reason == "codec.cbor.oversize"


@pytest.mark.parametrize("value", [None, 1.0, {1: 2.0}, {"a": None}, 2**64, -(2**64) - 1, "\ud800", {1, 2}])
def test_encode_refuses_what_decode_would(value):
    """Nothing is written that would not be read."""
    with pytest.raises(FormatError):
        cbor.encode(value)


def test_values_are_counted_before_they_are_made():
    """65,536 values are read, one more is refused; a kind that has more says so. Strings count as one, whatever they hold."""
    fits = b"\x99\xff\xff" + b"\x80" * 0xFFFF
    one_more = b"\x9a\x00\x01\x00\x00" + b"\x80" * 0x10000

    assert 0xFFFF == len(cbor.decode(fits, max_bytes=1 << 20, what="test"))
    assert 0x10000 == len(cbor.decode(one_more, max_bytes=1 << 20, what="test", max_items=0x10001))
    assert b"\x80" * 0x20000 == cbor.decode(b"\x5a\x00\x02\x00\x00" + b"\x80" * 0x20000, max_bytes=1 << 20, what="test")
    for options in ({}, {"max_items": 0x10000}):
        with pytest.raises(FormatError) as caught:
            cbor.decode(one_more, max_bytes=1 << 20, what="test", **options)

        assert "codec.cbor.oversize" == caught.value.reason
