"""Statements count for m of n only if a policy key signed a rebuild of this very measurement that holds now."""

import base64
import json

import nacl.bindings
import pytest

from glasscase.errors import FormatError
from glasscase.statements.dsse import pae, read_dsse, sign_dsse
from glasscase.statements.intoto import LEDGER_HEAD, REPRODUCTION, VERIFICATION, Statement, vouching_keys

MRENCLAVE = b"m" * 32
AT = 1764000000
SEEDS = [bytes([number]) * 32 for number in range(1, 4)]
KEYS = tuple(nacl.bindings.crypto_sign_seed_keypair(seed)[0] for seed in SEEDS)
PREDICATE = {"tool": "glasscase 0.1", "method": "public", "lock": "00" * 32, "at": AT, "simulated": False}


def rebuild(seed=SEEDS[0], mrenclave=MRENCLAVE, kind=REPRODUCTION, **changes):
    statement = Statement(mrenclave, b"b" * 32, kind, {**PREDICATE, **changes})
    return sign_dsse(statement.to_bytes(), seed=seed)


def vouch(*files, at=AT, keys=KEYS):
    return vouching_keys(files, mrenclave=MRENCLAVE, keys=keys, at_unix=at)


def test_a_signed_statement_comes_back():
    """Payload and signer are those that were written; the payload is cJSON."""
    signed = read_dsse(rebuild())
    statement = Statement.from_bytes(signed.payload)

    assert (MRENCLAVE, b"b" * 32, REPRODUCTION) == (statement.mrenclave, statement.bundle_id, statement.predicate_type)
    assert signed.payload == statement.to_bytes()
    assert KEYS[:1] == signed.signers(KEYS)
    assert b"DSSEv1 28 application/vnd.in-toto+json 2 hi" == pae(b"hi")


def test_keys_count_once_each():
    """Two statements by one key count once, by two keys twice; a key that is not in the policy counts for nothing."""
    assert KEYS[:1] == vouch(rebuild(), rebuild(at=AT - 1))
    assert set(KEYS[:2]) == set(vouch(rebuild(), rebuild(SEEDS[1])))
    assert () == vouch(rebuild(SEEDS[2]), keys=KEYS[:2])
    assert () == vouch()


@pytest.mark.parametrize("data", [
    rebuild(mrenclave=b"x" * 32), rebuild(mrenclave=None), rebuild(simulated=True), rebuild(at=AT + 1),
    rebuild(expires=AT), b"garbage", b"{}", rebuild()[:-5],
])  # fmt: skip
def test_what_does_not_count(data):
    """Another measurement, a simulated, future or expired rebuild, and garbage count for nothing and do not raise."""
    assert () == vouch(data)


def test_expiry_is_exclusive():
    """A rebuild counts until the second before it expires."""
    assert KEYS[:1] == vouch(rebuild(expires=AT + 1))
    assert () == vouch(rebuild(expires=AT + 1), at=AT + 1)


def test_only_a_rebuild_vouches_for_a_measurement():
    """A verification of one piece of evidence is a statement, but not about the measurement."""
    predicate = {"tool": "t", "evidence": "00" * 32, "policy": "00" * 32, "engine": "native", "at": AT,
                 "valid_until": AT + 1, "simulated": False}  # fmt: skip
    data = sign_dsse(Statement(MRENCLAVE, None, VERIFICATION, predicate).to_bytes(), seed=SEEDS[0])

    assert VERIFICATION == Statement.from_bytes(read_dsse(data).payload).predicate_type
    assert () == vouch(data)


def test_the_keyid_is_not_believed():
    """Another key's name beside a signature does not make it that key's."""
    value = json.loads(rebuild())
    value["signatures"][0]["keyid"] = KEYS[1].hex()
    del value["signatures"][0]["keyid"]

    assert KEYS[:1] == vouch(json.dumps(value).encode())
    value["signatures"][0]["keyid"] = KEYS[1].hex()
    assert KEYS[:1] == vouch(json.dumps(value).encode())


def test_a_changed_payload_or_signature_counts_for_nothing():
    """Every byte of the payload is signed, and the signature is checked."""
    value = json.loads(rebuild())
    payload = base64.b64decode(value["payload"])
    changed = payload.replace(b'"public"', b'"key"')
    assert changed != payload
    assert () == vouch(json.dumps({**value, "payload": base64.b64encode(changed).decode()}).encode())
    signature = bytearray(base64.b64decode(value["signatures"][0]["sig"]))
    signature[0] ^= 1
    value["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    assert () == vouch(json.dumps(value).encode())


@pytest.mark.parametrize("change", [
    {"payloadType": "text/plain"}, {"payload": "!"}, {"payload": "aGk"}, {"payload": 5}, {"payload": "QR=="}, {"signatures": []},
    {"signatures": [{}]}, {"signatures": [{"sig": "AA=="}]}, {"signatures": [{"sig": "A" * 88, "x": 1}]}, {"extra": 1},
    {"signatures": "x"}, {"signatures": [{"sig": "A" * 86 + "=="}] * 17}, {"signatures": [{"sig": "A" * 85 + "B=="}]},
])  # fmt: skip
def test_a_malformed_envelope_is_refused(change):
    """Another payload type, base64 with other spellings of the same bytes, no or too many signatures are refused."""
    with pytest.raises(FormatError) as caught:
        read_dsse(json.dumps({**json.loads(rebuild()), **change}).encode())

    assert "statements.envelope.malformed" == caught.value.reason


def payload(**changes):
    value = json.loads(Statement(MRENCLAVE, b"b" * 32, REPRODUCTION, PREDICATE).to_bytes())
    value.update(changes)
    return (json.dumps(value, sort_keys=True, separators=(",", ":")) + "\n").encode()


@pytest.mark.parametrize("data", [
    payload(_type="other"), payload(predicateType="urn:other"), payload(subject={}), payload(more=1),
    payload(_type=[]), payload(predicateType=[]), payload(predicateType={}), payload(subject=[{"name": [], "digest": {}}]),
    payload(subject=[{"name": "x", "digest": {"sha256": "00" * 32}}]),
    payload(subject=[{"name": "MRENCLAVE", "digest": {"sha256": "00" * 32}}]),
    payload(subject=[{"name": "MRENCLAVE", "digest": {"sgxMrEnclave": "00"}}]),
    payload(subject=[{"name": "MRENCLAVE", "digest": {"sgxMrEnclave": "00" * 32}}] * 2),
    payload(predicate={**PREDICATE, "method": "magic"}), payload(predicate={**PREDICATE, "at": True}),
    payload(predicate={**PREDICATE, "at": -1}), payload(predicate={**PREDICATE, "lock": "zz"}),
    payload(predicate={**PREDICATE, "simulated": 0}), payload(predicate={**PREDICATE, "source": {"uri": "x"}}),
    payload(predicate={**PREDICATE, "source": {"uri": "x", "commit": 5}}), payload(predicate={}), payload(predicate=[]),
    payload()[:-1], b" " + payload(), b"",
])  # fmt: skip
def test_a_malformed_statement_is_refused(data):
    """Other types, subjects and predicates, and another spelling of the same JSON, are refused."""
    with pytest.raises(FormatError):
        Statement.from_bytes(data)


def test_ledger_heads_are_statements_without_subject():
    """The head of a ledger has no subject."""
    statement = Statement(None, None, LEDGER_HEAD, {"n": 3, "head": "00" * 32, "at": AT})

    assert statement == Statement.from_bytes(statement.to_bytes())
