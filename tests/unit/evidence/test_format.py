"""Evidence has two forms that map to each other without loss, and no third."""

import json
from dataclasses import replace

import pytest

from glasscase import auditor
from glasscase.collateral.model import Collateral
from glasscase.errors import FormatError
from glasscase.evidence.attestation import Attestation, Provision
from glasscase.evidence.format import from_json, parse_evidence, to_json
from glasscase.evidence.model import Evidence

COLLATERAL = Collateral(
    root_ca_crl=b"\x30\x00", pck_crl=b"\x30\x01\x02", pck_crl_issuer_chain="a\nb\n", tcb_info='{"x":"é"}',
    tcb_info_issuer_chain="c", qe_identity="d", qe_identity_issuer_chain="e", source="intel", fetched_at=7,
)  # fmt: skip
SMALL = Evidence(attestation=Attestation(b"quote", b"claims"), bundle_id=b"b" * 32, created_at=5)
FULL = Evidence(
    attestation=Attestation(b"quote", b"claims", b"certificate", b"request", Provision(b"envelope", b"receipt")),
    bundle_id=b"b" * 32, created_at=2**53 - 1, nonce=b"n" * 32, collateral=COLLATERAL, beacon='{"tcbInfo":{},\n"x":1}',
    insecure=("debug", "simulated"),
)  # fmt: skip


@pytest.mark.parametrize("evidence", [SMALL, FULL], ids=["small", "full"])
def test_both_forms_are_lossless(evidence):
    """CBOR and JSON come back to the same value, the same bytes and the same id."""
    cbor, text = evidence.to_cbor(), to_json(evidence)

    assert evidence == parse_evidence(cbor) == parse_evidence(text) == parse_evidence(b"\n " + text)
    assert cbor == parse_evidence(text).to_cbor()
    assert text == to_json(parse_evidence(cbor))
    assert evidence.evidence_id == parse_evidence(text).evidence_id


def test_the_spelling_of_json():
    """Fixed lengths and CRLs are hex, other bytes base64url without padding."""
    value = json.loads(to_json(FULL))

    assert ("62" * 32, "6e" * 32) == (value["bundle_id"], value["nonce"])
    assert ("cXVvdGU", "ZW52ZWxvcGU") == (value["quote"], value["provision"]["envelope"])
    assert "300102" == value["collateral"]["pck_crl"]
    assert (1, "glasscase-evidence") == (value["v"], value["type"])


def test_evidence_carries_no_roots_and_no_policy():
    """An extra key, such as a root or an expected value, is refused in both forms."""
    value = json.loads(to_json(FULL))
    for key in ("root", "roots", "policy", "expected", "anchor", "mrenclave"):
        with pytest.raises(FormatError) as caught:
            from_json(json.dumps({**value, key: "00"}).encode())
        assert "evidence.file.malformed" == caught.value.reason
        from glasscase.codec import cbor

        with pytest.raises(FormatError):
            Evidence.from_cbor(cbor.encode({**FULL.fields(), key: b"x"}))


def changed(**changes):
    value = json.loads(to_json(FULL))
    for key, item in changes.items():
        if item is ...:
            del value[key]
        else:
            value[key] = item
    return json.dumps(value).encode()


@pytest.mark.parametrize("change", [
    {"v": ...}, {"type": ...}, {"quote": ...}, {"claims": ...}, {"bundle_id": ...}, {"created_at": ...}, {"insecure": ...},
    {"type": "glasscase-attestation"}, {"quote": ""}, {"quote": "cXVvdGU="}, {"quote": "cXVvdGV"}, {"quote": 5},
    {"quote": "A" * 100_000}, {"claims": "A" * 12_000}, {"bundle_id": "62" * 31}, {"bundle_id": "6G" * 32},
    {"nonce": "6E" * 32}, {"nonce": None}, {"created_at": -1}, {"created_at": 1.5}, {"created_at": True},
    {"created_at": 2**53}, {"insecure": ["b", "a"]}, {"insecure": ["a", "a"]}, {"insecure": "debug"}, {"insecure": [1]},
    {"insecure": ["a\nb"]}, {"provision": {}}, {"provision": {"envelope": "AA"}}, {"provision": "AA"},
    {"provision": {"envelope": "AA", "receipt": "AA", "x": "AA"}}, {"collateral": {}}, {"collateral": "x"},
    {"beacon": 1}, {"beacon": ""}, {"certificate": ""},
])  # fmt: skip
def test_anything_else_is_refused(change):
    """A missing, malformed or oversized value is refused with an id."""
    with pytest.raises(FormatError):
        from_json(changed(**change))


@pytest.mark.parametrize("name", sorted(json.loads(to_json(FULL))["collateral"].keys() - {"v"}))
def test_a_key_that_collateral_lacks_is_named(name):
    """The message says which key is not there, not what its value must be."""
    value = json.loads(to_json(FULL))["collateral"]
    del value[name]
    with pytest.raises(FormatError, match=f"collateral lacks the key '{name}'"):
        from_json(changed(collateral=value))


def test_newer_collateral_is_said_to_be_newer():
    """Whatever its CRLs are there, nothing of it is parsed."""
    for more in ({}, {"root_ca_crl": 5, "pck_crl": ["x"]}):
        with pytest.raises(FormatError) as caught:
            from_json(changed(collateral={"v": 2, **more}))
        assert "format.newer" == caught.value.reason


def test_a_newer_version_is_said_to_be_newer():
    """Version 2 is not parsed further, in either form."""
    from glasscase.codec import cbor

    for data in (b'{"v": 2, "what": "ever"}', cbor.encode({"v": 2, "what": "ever"})):
        with pytest.raises(FormatError) as caught:
            parse_evidence(data)
        assert ("format.newer", 2) == (caught.value.reason, caught.value.exit_code)


@pytest.mark.parametrize("data", [
    b"", b"{", b"[]", b"null", b"\xff" * 50, b"\xa0", b"\xbf\xff", b'{"v":1,"v":1}', b"\xef\xbb\xbf{}",
    SMALL.to_cbor() + b"\0", SMALL.to_cbor()[:-1],
])  # fmt: skip
def test_other_bytes_are_refused(data):
    """Truncated, extended, indefinite and foreign bytes are no evidence."""
    with pytest.raises(FormatError):
        auditor.load_evidence(data)


def test_every_byte_of_the_cbor_form_counts():
    """Changing any one byte gives a refusal or other evidence with another id, never the same."""
    good = FULL.to_cbor()
    for offset in range(0, len(good), 3):
        broken = good[:offset] + bytes([good[offset] ^ 1]) + good[offset + 1 :]
        try:
            other = parse_evidence(broken)
        except FormatError:
            continue
        assert FULL != other
        assert FULL.evidence_id != other.evidence_id


def test_a_value_made_in_code_is_checked():
    """Lengths and order hold for evidence made in code too."""
    for change in ({"bundle_id": b""}, {"nonce": b"x"}, {"insecure": ("b", "a")}, {"beacon": ""}, {"created_at": -1}):
        with pytest.raises(FormatError):
            replace(FULL, **change)


def test_a_time_that_json_cannot_say_is_refused_in_cbor():
    """CBOR has integers of 64 bits and JSON of 53: what one form accepts the other must be able to say."""
    from glasscase.codec import cbor

    late = 2**53
    for fields in ({"created_at": late}, {"collateral": {**COLLATERAL.fields(), "fetched_at": late}}):
        with pytest.raises(FormatError) as caught:
            Evidence.from_cbor(cbor.encode({**FULL.fields(), **fields}))
        assert caught.value.reason in ("evidence.file.malformed", "collateral.file.malformed")
