"""Report data: claims and application quotes never look alike."""

import hashlib

from glasscase.codec.labels import label
from glasscase.sgx.reportdata import app_report_data, claims_report_data


def test_claims_report_data():
    """Claims give SHA-256 and 32 zero bytes."""
    assert hashlib.sha256(b"claims").digest() + bytes(32) == claims_report_data(b"claims")


def test_app_report_data_is_never_claims():
    """An application's second half is a constant that is not zero."""
    digest = bytes(range(32))
    data = app_report_data(digest, b"x")

    assert hashlib.sha256(b"glasscase/v1/app-quote\0" + digest + b"x").digest() == data[:32]
    assert hashlib.sha256(label("app-quote")).digest() == data[32:]
    assert bytes(32) != data[32:]
