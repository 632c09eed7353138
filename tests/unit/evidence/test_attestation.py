"""Claims and attestations: one form, and nothing else is read."""

import dataclasses

import pytest

from glasscase.codec import cbor
from glasscase.errors import FormatError
from glasscase.evidence.attestation import (
    Attestation,
    Claims,
    Instance,
    Provision,
    Session,
    instance_digest,
)

INSTANCE = Instance(b"i" * 16, 1, b"s" * 1216, b"r" * 32)
SESSION = Session(1, 1_700_000_000, 1_700_086_400, ("localhost", "127.0.0.1"), prev=b"p" * 32)
CLAIMS = Claims(b"h" * 32, INSTANCE.to_bytes(), SESSION.to_bytes(), b"n" * 32)


def test_claims_come_back():
    """Encoding and decoding give the same claims, instance and session."""
    again = Claims.from_bytes(CLAIMS.to_bytes())

    assert CLAIMS == again
    assert INSTANCE == again.instance_facts()
    assert SESSION == again.session_facts()


def test_claims_hold_the_standard_keys():
    """The map is the interoperable claims buffer with our two keys."""
    value = cbor.decode(CLAIMS.to_bytes(), max_bytes=8192, what="claims")

    assert {"pubkey-hash", "nonce", "glasscase-instance", "glasscase-session"} == set(value)
    assert cbor.encode([1, b"h" * 32]) == value["pubkey-hash"]


def test_instance_digest_is_labelled():
    """The digest of an instance is over the label and the encoded facts."""
    import hashlib

    data = INSTANCE.to_bytes()

    assert hashlib.sha256(b"glasscase/v1/instance\0" + data).digest() == instance_digest(data)


def _claims(**changes):
    value = cbor.decode(CLAIMS.to_bytes(), max_bytes=8192, what="claims")
    for key, item in changes.items():
        key = key.replace("_", "-")
        if item is None:
            del value[key]
        else:
            value[key] = item
    return cbor.encode(value)


def _session(**changes):
    value = cbor.decode(SESSION.to_bytes(), max_bytes=8192, what="session")
    value.update(changes)
    return _claims(glasscase_session=cbor.encode(value))


def _instance(**changes):
    value = cbor.decode(INSTANCE.to_bytes(), max_bytes=8192, what="instance")
    value.update(changes)
    return _claims(glasscase_instance=cbor.encode(value))


MALFORMED = {
    "no key hash": _claims(pubkey_hash=None),
    "no instance": _claims(glasscase_instance=None),
    "no session": _claims(glasscase_session=None),
    "unknown key": _claims(extra=1),
    "short nonce": _claims(nonce=b"n" * 31),
    "sha-384 key hash": _claims(pubkey_hash=cbor.encode([7, b"h" * 48])),
    "true as algorithm": _claims(pubkey_hash=cbor.encode([True, b"h" * 32])),
    "key hash of 31 bytes": _claims(pubkey_hash=cbor.encode([1, b"h" * 31])),
    "three in the key hash": _claims(pubkey_hash=cbor.encode([1, b"h" * 32, 0])),
    "instance is not CBOR": _claims(glasscase_instance=b"\xff"),
    "unknown suite": _instance(suite=2),
    "short seal key": _instance(seal=b"s" * 1215),
    "short receipt key": _instance(receipt_key=b"r" * 31),
    "short instance id": _instance(instance=b"i" * 15),
    "unknown instance field": _instance(x=1),
    "session too long": _session(exp=1_700_000_000 + 25 * 3600 + 1),
    "session ends before it begins": _session(exp=1_700_000_000),
    "negative time": _session(nbf=-1),
    "33 names": _session(san=[f"n{i}" for i in range(33)]),
    "a name of 254 bytes": _session(san=["n" * 254]),
    "an empty name": _session(san=[""]),
    "a name twice": _session(san=["a", "a"]),
    "a name with a control character": _session(san=["a\n"]),
    "a name outside ASCII": _session(san=["ä"]),
    "a beacon of 31 bytes": _session(beacon=b"b" * 31),
    "trailing byte": CLAIMS.to_bytes() + b"\0",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_claims_are_refused(name):
    """Whatever is not the one form of the claims raises FormatError."""
    with pytest.raises(FormatError):
        Claims.from_bytes(MALFORMED[name])


@pytest.mark.parametrize("data", [_session(v=2), _instance(v=2)])
def test_newer_claims_are_named_so(data):
    """A higher version is `format.newer`, whatever else is in it."""
    with pytest.raises(FormatError) as caught:
        Claims.from_bytes(data)

    assert "format.newer" == caught.value.reason


def test_a_longest_session_is_accepted():
    """Exactly 25 hours are allowed."""
    session = dataclasses.replace(SESSION, exp=SESSION.nbf + 25 * 3600)

    assert session == Session.from_bytes(session.to_bytes())


@pytest.mark.parametrize(
    "attestation",
    [
        Attestation(b"q", b"c"),
        Attestation(b"q", b"c", b"der", b"csr", Provision(b"e", b"r")),
    ],
)
def test_attestation_comes_back(attestation):
    """Encoding and decoding give the same attestation."""
    assert attestation == Attestation.from_bytes(attestation.to_bytes())


def _attestation(**changes):
    value = {"v": 1, "type": "glasscase-attestation", "quote": b"q", "claims": b"c", **changes}
    return cbor.encode({key: item for key, item in value.items() if item is not None})


@pytest.mark.parametrize(
    "data",
    [
        _attestation(quote=None),
        _attestation(claims=None),
        _attestation(type="glasscase-evidence"),
        _attestation(type=None),
        _attestation(v=True),
        _attestation(v=0),
        _attestation(quote=b""),
        _attestation(quote=b"q" * (64 * 1024 + 1)),
        _attestation(claims=b"q" * (8 * 1024 + 1)),
        _attestation(certificate=b""),
        _attestation(provision={"envelope": b"e"}),
        _attestation(provision={"envelope": b"e", "receipt": b""}),
        _attestation(extra=b"x"),
        _attestation() + b"\0",
        cbor.encode([1]),
        b"",
    ],
)
def test_malformed_attestations_are_refused(data):
    """Whatever is not the one form of an attestation raises FormatError."""
    with pytest.raises(FormatError):
        Attestation.from_bytes(data)


def test_newer_attestation_is_named_so():
    """A higher version is `format.newer`, even with unknown keys."""
    with pytest.raises(FormatError) as caught:
        Attestation.from_bytes(_attestation(v=2, extra=1))

    assert "format.newer" == caught.value.reason
