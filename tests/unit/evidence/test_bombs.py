"""Evidence within its size limit that would be gigabytes of objects is refused before they are made."""

import time

import pytest

from glasscase.errors import FormatError
from glasscase.evidence.format import parse_evidence
from glasscase.evidence.model import EVIDENCE_CBOR_MAX, EVIDENCE_JSON_MAX

COUNT = EVIDENCE_CBOR_MAX - 16
CBOR = b"\xa1\x61a\x9a" + COUNT.to_bytes(4, "big")


@pytest.mark.parametrize(
    "data",
    [CBOR + b"\x80" * COUNT, CBOR + b"\xa0" * COUNT, b'{"a":[' + b"{}," * (EVIDENCE_JSON_MAX // 3 - 8) + b"1]}",
     b'{"a":[' + b"1," * (EVIDENCE_JSON_MAX // 2 - 8) + b"1]}"],
    ids=["arrays", "maps", "objects", "numbers"],
)  # fmt: skip
def test_a_bomb_of_values_costs_a_moment(data):
    """Thirty million empty arrays are an error within seconds; each of them would be 56 bytes and a walk."""
    begin = time.monotonic()
    with pytest.raises(FormatError) as caught:
        parse_evidence(data)

    assert caught.value.reason in ("codec.cbor.oversize", "codec.json.oversize")
    assert time.monotonic() - begin < 10
