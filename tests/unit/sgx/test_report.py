"""The report body is read and written byte for byte."""

import pytest

from glasscase.errors import FormatError
from glasscase.sgx.report import ReportBody, own_report


def body_of(shared, case="sgx3-00606a000000-b7ab1c-2412"):
    return (shared / "corpus" / case / "quote.bin").read_bytes()[48 : 48 + 384]


def test_a_real_report_comes_back_byte_for_byte(shared):
    """Reading and writing the report of a real quote gives the same bytes."""
    raw = body_of(shared)
    report = ReportBody.from_bytes(raw)

    assert raw == report.to_bytes()
    assert raw[64:96] == report.mrenclave
    assert raw[128:160] == report.mrsigner
    assert raw[320:384] == report.report_data
    assert not report.debug


def test_own_report_is_the_first_384_bytes_of_432(shared):
    """The output of EREPORT gives its body; other lengths are refused."""
    raw = body_of(shared)

    assert raw == own_report(raw + bytes(48)).to_bytes()
    for wrong in (raw, raw + bytes(47), raw + bytes(49)):
        with pytest.raises(FormatError) as caught:
            own_report(wrong)
        assert "sgx.report.malformed" == caught.value.reason


@pytest.mark.parametrize("offset", [20, 31, 96, 127, 160, 191, 262, 303])
def test_a_reserved_byte_must_be_zero(shared, offset):
    """The first and last byte of each reserved field is checked."""
    raw = bytearray(body_of(shared))
    raw[offset] = 1
    with pytest.raises(FormatError) as caught:
        ReportBody.from_bytes(bytes(raw))

    assert "sgx.report.malformed" == caught.value.reason


def test_every_other_byte_is_kept():
    """Each byte outside the reserved fields stands in some field."""
    reserved = {*range(20, 32), *range(96, 128), *range(160, 192), *range(262, 304)}
    for offset in set(range(384)) - reserved:
        raw = bytearray(384)
        raw[offset] = 0xA5

        assert bytes(raw) == ReportBody.from_bytes(bytes(raw)).to_bytes()


def test_lengths_and_ranges_are_checked(shared):
    """A body of another length, a field of another length and a number that does not fit are refused."""
    report = ReportBody.from_bytes(body_of(shared))
    fields = report._asdict()
    for change in ({"mrenclave": bytes(31)}, {"isv_svn": 65536}, {"attributes_flags": -1}):
        with pytest.raises(FormatError):
            ReportBody(**{**fields, **change}).to_bytes()
    with pytest.raises(FormatError):
        ReportBody.from_bytes(bytes(383))
