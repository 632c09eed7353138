"""Hex and base64url have one spelling."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasscase.codec import hexid
from glasscase.errors import FormatError


@given(st.binary(max_size=64))
def test_round_trips(data):
    """Bytes survive both spellings."""
    assert data == hexid.from_base64url(hexid.to_base64url(data), "x")
    assert data == hexid.from_hex(data.hex(), len(data), "x")


@pytest.mark.parametrize("text", ["", "0", "0A", "00 ", " 0", "0x", "000", "٣٣", "0g", "00\n"])
def test_hex_of_another_form(text):
    """One byte is exactly two lower-case ASCII digits."""
    with pytest.raises(FormatError):
        hexid.from_hex(text, 1, "x")


@pytest.mark.parametrize("text", ["A", "AB", "AA==", "AA=", "A A", "+/+/", "AAAA\n", "é", "AAB"])
def test_base64url_of_another_form(text):
    """Padding, other alphabets, white space and unused bits are refused."""
    with pytest.raises(FormatError):
        hexid.from_base64url(text, "x")
