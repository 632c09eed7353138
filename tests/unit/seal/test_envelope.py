"""Envelopes and receipts: one form, bound to one instance, nothing accepted beside it."""

import dataclasses
import hashlib

import cbor2
import nacl.bindings
import pytest

from glasscase.codec import cbor
from glasscase.codec.labels import label
from glasscase.errors import FormatError, UsageError
from glasscase.seal import cose, hpke
from glasscase.seal.envelope import (
    FORM,
    Contents,
    Context,
    Envelope,
    check_contents,
    check_signatures,
    make_payload,
    open_envelope,
    read_envelope,
    read_signed_envelope,
    sign_payload,
)
from glasscase.seal.receipt import FORM as RECEIPT_FORM
from glasscase.seal.receipt import Receipt, read_receipt

SEEDS = [bytes([n]) * 32 for n in (1, 2, 3)]
OWNERS = sorted(cose.public_key(seed) for seed in SEEDS)
SEED_OF = {cose.public_key(seed): seed for seed in SEEDS}
CONTENTS = Contents(b"r" * 32, b"p" * 32, {b"m" * 16: b"k" * 32}, {"token": "hunter2", "raw": b"\0\1"})
KEY = hpke.SealKey()
CONTEXT = Context(b"e" * 16, b"M" * 32, b"I" * 32, b"P" * 32, CONTENTS.commitment, (OWNERS[0],), 3, 1000, 2000)


def make(*, contents=CONTENTS, signers=None, context=None, key=KEY, **changes):
    signers = signers or [OWNERS[0]]
    context = dataclasses.replace(
        context or CONTEXT, secrets=contents.commitment, owners=tuple(sorted(signers)), **changes
    )
    payload = make_payload(contents, context, seal_key=key.public)
    signatures = tuple(sign_payload(payload, owner_seed=SEED_OF[key]) for key in signers)
    return cose.encode_sign(payload, signatures, form=FORM)


def reason_of(call, *args, **kwargs):
    with pytest.raises(FormatError) as caught:
        call(*args, **kwargs)
    return caught.value.reason


def test_an_envelope_opens_for_its_key():
    """What was sealed comes out, after signature and context were read."""
    envelope = read_envelope(make())
    check_signatures(envelope, owners=tuple(OWNERS), threshold=1)

    assert CONTENTS == open_envelope(envelope, seal_key=KEY)
    assert CONTEXT == envelope.context
    assert hashlib.sha256(envelope.payload).digest() == envelope.digest
    assert make() != make()  # HPKE is randomised


def test_the_bytes_are_cose_sign():
    """Tag 98, protected content type, inline payload, one Ed25519 signature with its key, external_aad in the message."""
    data = make()
    value = cbor2.loads(data)
    body, unprotected, payload, [[signer, empty, signature]] = value.value
    message = cbor2.dumps(["Signature", body, signer, b"glasscase/v1/envelope", payload], canonical=True)

    assert 98 == value.tag
    assert {3: "application/vnd.glasscase.envelope+cbor"} == cbor2.loads(body)
    assert {1: -8, 4: OWNERS[0]} == cbor2.loads(signer)
    assert ({}, {}) == (unprotected, empty)
    assert message == nacl.bindings.crypto_sign_open(signature + message, OWNERS[0])


def test_commitment_and_info_are_labelled():
    """The commitment covers r and the rest of the plaintext, the HPKE info the whole context."""
    rest = cbor.encode({key: item for key, item in cbor2.loads(CONTENTS.to_bytes()).items() if key != "r"})

    assert hashlib.sha256(label("secrets") + b"r" * 32 + rest).digest() == CONTENTS.commitment
    assert label("envelope") + hashlib.sha256(cbor.encode(CONTEXT.to_map())).digest() == CONTEXT.info


@pytest.mark.parametrize("threshold", [1, 2, 3])
def test_three_owners_sign_one_payload(threshold):
    """Three signatures satisfy every threshold up to three, whatever their order was."""
    envelope = read_envelope(make(signers=list(reversed(OWNERS))))

    check_signatures(envelope, owners=tuple(OWNERS), threshold=threshold)


def test_fewer_signatures_than_the_threshold_are_refused():
    """Two of three is not three."""
    envelope = read_envelope(make(signers=OWNERS[:2]))

    assert "seal.signature.missing" == reason_of(check_signatures, envelope, owners=tuple(OWNERS), threshold=3)


def test_a_strangers_signature_is_refused():
    """A signer who is not measured is refused, even beside enough others."""
    envelope = read_envelope(make(signers=OWNERS))

    assert "seal.signature.stranger" == reason_of(check_signatures, envelope, owners=tuple(OWNERS[:2]), threshold=1)


def test_signers_must_be_those_of_the_context():
    """Dropping or adding a signature changes the set that the context names."""
    envelope = read_envelope(make(signers=OWNERS[:2]))
    fewer = dataclasses.replace(envelope, signatures=envelope.signatures[:1])
    more = dataclasses.replace(
        envelope, signatures=(*envelope.signatures, sign_payload(envelope.payload, owner_seed=SEED_OF[OWNERS[2]]))
    )

    for changed in (fewer, more):
        assert "seal.signature.mismatch" == reason_of(check_signatures, changed, owners=tuple(OWNERS), threshold=1)


def test_a_signature_over_another_payload_is_refused():
    """A signature moved from another envelope, or with a flipped bit, is not valid."""
    one, two = read_envelope(make()), read_envelope(make())
    for signature in (
        two.signatures[0],
        cose.Signature(OWNERS[0], bytes([one.signatures[0].signature[0] ^ 1]) + one.signatures[0].signature[1:]),
        cose.Signature(OWNERS[0], bytes(64)),
    ):
        moved = dataclasses.replace(one, signatures=(signature,))
        assert "seal.signature.invalid" == reason_of(check_signatures, moved, owners=tuple(OWNERS), threshold=1)


def test_every_signature_is_looked_at_whoever_the_signers_are():
    """An envelope is only read as signed if each of its signatures holds."""
    envelope = read_envelope(make(signers=OWNERS[:2]))
    broken = [*envelope.signatures[:1], dataclasses.replace(envelope.signatures[1], signature=bytes(64))]

    assert envelope == read_signed_envelope(make_again(envelope, envelope.signatures))
    assert "seal.signature.invalid" == reason_of(read_signed_envelope, make_again(envelope, broken))
    assert "seal.signature.mismatch" == reason_of(read_signed_envelope, make_again(envelope, envelope.signatures[:1]))


def make_again(envelope, signatures):
    return cose.encode_sign(envelope.payload, tuple(signatures), form=FORM)


@pytest.mark.parametrize("seed", [b"s" * 31, b"s" * 64, "s" * 32, None, bytearray(32)])
def test_an_owner_key_is_32_bytes(seed):
    """Anything else never signs."""
    with pytest.raises(UsageError) as caught:
        cose.public_key(seed)
    assert "seal.owner.malformed" == caught.value.reason


def test_small_order_keys_never_sign():
    """The keys that verify anything under lax rules verify nothing here."""
    small = [
        bytes(32),
        b"\1" + bytes(31),
        bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    ]
    for key in small:
        for signature in (bytes(64), key + bytes(32)):
            assert not cose.is_valid(key, b"message", signature)


def test_every_context_field_is_bound():
    """An envelope whose context was changed after sealing does not open, whoever signs it."""
    envelope = read_envelope(make())
    changes = {
        "id": b"x" * 16, "mrenclave": b"x" * 32, "instance": b"x" * 32, "package": b"x" * 32, "secrets": b"x" * 32,
        "owners": (OWNERS[1],), "isv_svn": 4, "issued_at": 1001, "not_after": 2001,
    }  # fmt: skip
    for name, value in changes.items():
        changed = dataclasses.replace(envelope, context=dataclasses.replace(envelope.context, **{name: value}))

        assert "seal.ciphertext.unauthentic" == reason_of(open_envelope, changed, seal_key=KEY), name


@pytest.mark.parametrize(
    "ciphertext",
    [
        lambda c: c[:-1],
        lambda c: c + b"\0",
        lambda c: c[:1088] + bytes(32) + c[1120:],
        lambda c: bytes(len(c)),
        lambda c: b"\0" * 1137,
    ],
)
def test_a_changed_ciphertext_does_not_open(ciphertext):
    """Any change, an all-zero X25519 share too, fails in the one way."""
    envelope = read_envelope(make())
    changed = dataclasses.replace(envelope, ciphertext=ciphertext(envelope.ciphertext))

    assert "seal.ciphertext.unauthentic" == reason_of(open_envelope, changed, seal_key=KEY)


def test_another_or_a_wiped_key_does_not_open():
    """Another key and a wiped one fail alike."""
    envelope = read_envelope(make())
    wiped = hpke.SealKey()
    own = read_envelope(make(key=wiped))
    wiped.wipe()

    assert "seal.ciphertext.unauthentic" == reason_of(open_envelope, envelope, seal_key=hpke.SealKey())
    assert "seal.ciphertext.unauthentic" == reason_of(open_envelope, own, seal_key=wiped)
    assert not wiped.alive


def test_contents_other_than_committed_are_refused():
    """A plaintext that does not match the commitment the owners signed is refused after opening."""
    context = dataclasses.replace(CONTEXT, secrets=b"x" * 32)
    ciphertext = hpke.seal_to(KEY.public, CONTENTS.to_bytes(), info=context.info)

    assert "seal.secrets.mismatch" == reason_of(make_payload, CONTENTS, context, seal_key=KEY.public)
    assert "seal.secrets.mismatch" == reason_of(open_envelope, Envelope(b"", context, ciphertext, ()), seal_key=KEY)


@pytest.mark.parametrize(("package", "package_key"), [(bytes(32), b"p" * 32), (b"P" * 32, None)])
def test_package_key_exactly_if_there_is_a_package(package, package_key):
    """A key without a package and a package without a key are refused."""
    contents = dataclasses.replace(CONTENTS, package_key=package_key)
    envelope = read_envelope(make(contents=contents, package=package))

    assert "seal.package_key.unexpected" == reason_of(open_envelope, envelope, seal_key=KEY)


def test_model_keys_never_come_without_a_package():
    """They belong to blobs of the package, and there is none."""
    contents = dataclasses.replace(CONTENTS, package_key=None)
    context = dataclasses.replace(CONTEXT, package=bytes(32), secrets=contents.commitment)
    without = dataclasses.replace(contents, model_keys={})

    check_contents(without, dataclasses.replace(context, secrets=without.commitment))
    assert "seal.package_key.unexpected" == reason_of(check_contents, contents, context)


def parts():
    tag = cbor.decode(make(), max_bytes=1 << 20, what="x", tags=frozenset({98}), cose=True)
    return tag.value


def cose_with(change):
    value = parts()
    change(value)
    return cbor2.dumps(cbor2.CBORTag(98, value), canonical=True)


def payload_with(**changes):
    def change(value):
        payload = cbor2.loads(value[2])
        context = dict(payload["ctx"])
        for name, item in changes.items():
            target = payload if name in ("v", "ct", "extra") else context
            name = name.removeprefix("ctx_")
            if item is None:
                del target[name]
            else:
                target[name] = item
        value[2] = cbor2.dumps({**payload, "ctx": context}, canonical=True)

    return cose_with(change)


def put(index, item):
    return cose_with(lambda value: value.__setitem__(index, item))


def signer(**changes):
    def change(value):
        for index, item in changes.items():
            value[3][0][int(index[1:])] = item

    return cose_with(change)


PROTECTED = cbor2.dumps({1: -8, 4: OWNERS[0]}, canonical=True)
MALFORMED = {
    "empty": b"",
    "text": b"hello",
    "another tag": cbor2.dumps(cbor2.CBORTag(18, parts()), canonical=True),
    "no tag": cbor2.dumps(parts(), canonical=True),
    "trailing byte": make() + b"\0",
    "truncated": make()[:-1],
    "three parts": cbor2.dumps(cbor2.CBORTag(98, parts()[:3]), canonical=True),
    "another content type": put(0, cbor2.dumps({3: "text/plain"}, canonical=True)),
    "receipt's content type": put(0, cbor2.dumps({3: RECEIPT_FORM.content_type}, canonical=True)),
    "no protected header": put(0, b""),
    "an unprotected header": put(1, {4: b"x"}),
    "detached payload": put(2, b""),
    "payload as text": put(2, "x"),
    "no signature": put(3, []),
    "17 signatures": put(3, [[PROTECTED, {}, bytes(64)]] * 17),
    "the same signature twice": cose_with(lambda value: value[3].append(value[3][0])),
    "an unprotected signer header": signer(_1={4: b"x"}),
    "another algorithm": signer(_0=cbor2.dumps({1: -7, 4: OWNERS[0]}, canonical=True)),
    "a key of 31 bytes": signer(_0=cbor2.dumps({1: -8, 4: b"k" * 31}, canonical=True)),
    "a further protected header": signer(_0=cbor2.dumps({1: -8, 3: 0, 4: OWNERS[0]}, canonical=True)),
    "a signature of 63 bytes": signer(_2=bytes(63)),
    "unknown context field": payload_with(ctx_extra=1),
    "unknown payload field": payload_with(extra=1),
    "no context id": payload_with(ctx_id=None),
    "short mrenclave": payload_with(ctx_mrenclave=b"M" * 31),
    "another type": payload_with(ctx_type="key-share"),
    "negative svn": payload_with(ctx_isv_svn=-1),
    "true as svn": payload_with(ctx_isv_svn=True),
    "no owners": payload_with(ctx_owners=[]),
    "owners not sorted": payload_with(ctx_owners=[OWNERS[1], OWNERS[0]]),
    "an owner twice": payload_with(ctx_owners=[OWNERS[0], OWNERS[0]]),
    "17 owners": payload_with(ctx_owners=[bytes([n]) * 32 for n in range(17)]),
    "short ciphertext": payload_with(ct=bytes(1136)),
    "ciphertext as text": payload_with(ct="x" * 2000),
    "float time": payload_with(ctx_issued_at=1.0),
    "null time": cose_with(lambda value: value.__setitem__(2, value[2].replace(b"\x19\x07\xd0", b"\xf6"))),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_envelopes_are_refused(name):
    """Whatever is not the one form is refused while it is read."""
    assert "seal.envelope.malformed" == reason_of(read_envelope, MALFORMED[name])


def test_an_unsorted_signature_array_is_refused():
    """The signatures stand in the order of their keys."""

    def swap(value):
        value[3].reverse()

    value = cbor.decode(make(signers=OWNERS[:2]), max_bytes=1 << 20, what="x", tags=frozenset({98}), cose=True).value
    swap(value)

    assert "seal.envelope.malformed" == reason_of(read_envelope, cbor2.dumps(cbor2.CBORTag(98, value), canonical=True))


@pytest.mark.parametrize("data", [payload_with(v=2), payload_with(v=2, extra=1), payload_with(ctx_v=2)])
def test_a_newer_envelope_is_named_so(data):
    """A higher version is `format.newer`."""
    assert "format.newer" == reason_of(read_envelope, data)


def test_an_oversized_envelope_is_refused_before_parsing():
    """More than 1 MiB is refused by its length alone."""
    assert "seal.envelope.oversize" == reason_of(read_envelope, bytes((1 << 20) + 1))


@pytest.mark.parametrize(
    "contents",
    [
        dataclasses.replace(CONTENTS, secrets={f"n{i}": "x" for i in range(257)}),
        dataclasses.replace(CONTENTS, secrets={"n": b"x" * 256 * 1024}),
        dataclasses.replace(CONTENTS, chain=(b"x",) * 9),
        dataclasses.replace(CONTENTS, model_keys={n.to_bytes(16, "big"): b"k" * 32 for n in range(257)}),
    ],
)
def test_too_much_is_not_sealed(contents):
    """What is above the limits of the format is refused before anything is encrypted."""
    context = dataclasses.replace(CONTEXT, secrets=contents.commitment)

    assert "seal.contents.oversize" == reason_of(make_payload, contents, context, seal_key=KEY.public)


GOOD = cbor2.loads(CONTENTS.to_bytes())


@pytest.mark.parametrize(
    "value",
    [
        {**GOOD, "extra": 1},
        {key: item for key, item in GOOD.items() if key != "r"},
        {key: item for key, item in GOOD.items() if key != "secrets"},
        {**GOOD, "r": b"r" * 31},
        {**GOOD, "pk": b"p" * 33},
        {**GOOD, "secrets": {"n": 1}},
        {**GOOD, "secrets": {"": "x"}},
        {**GOOD, "secrets": {"n" * 256: "x"}},
        {**GOOD, "secrets": {"a\nb": "x"}},
        {**GOOD, "secrets": []},
        {**GOOD, "model_keys": {}},
        {**GOOD, "model_keys": {"00" * 15: b"k" * 32}},
        {**GOOD, "model_keys": {"zz" * 16: b"k" * 32}},
        {**GOOD, "model_keys": {"AA" * 16: b"k" * 32}},
        {**GOOD, "model_keys": {"00" * 16: b"k" * 31}},
        {**GOOD, "cert_chain": []},
        {**GOOD, "cert_chain": ["x"]},
        {**GOOD, "cert_chain": [b"x"] * 9},
        {**GOOD, "secrets": {f"n{number}": "x" for number in range(257)}},
        {**GOOD, "secrets": {"n": b"x" * 256 * 1024}},
        {**GOOD, "model_keys": {f"{number:032x}": b"k" * 32 for number in range(257)}},
        [],
    ],
)
def test_malformed_contents_are_refused_without_a_word(value):
    """The plaintext is read strictly, and the message quotes nothing of it."""
    with pytest.raises(FormatError) as caught:
        Contents.from_bytes(cbor2.dumps(value, canonical=True))

    assert "seal.contents.malformed" == caught.value.reason
    assert "what is in the envelope is not of the one form" == caught.value.message


def test_contents_do_not_show_themselves():
    """No secret is in the text form of what holds secrets."""
    for text in (repr(CONTENTS), str(CONTENTS), repr(KEY), f"{CONTENTS}"):
        assert "hunter2" not in text
        assert "pppp" not in text


RECEIPT = Receipt(b"I" * 32, b"E" * 32, tuple(OWNERS), b"S" * 32, b"P" * 32, b"M" * 32, 1234)
RECEIPT_KEY = cose.public_key(b"s" * 32)


def test_a_receipt_comes_back():
    """A receipt is read with the key that signed it."""
    assert RECEIPT == read_receipt(RECEIPT.sign(b"s" * 32), receipt_key=RECEIPT_KEY)


def test_a_receipt_of_another_key_is_refused():
    """A receipt by another key, or with a changed payload, is not authentic."""
    data = RECEIPT.sign(b"s" * 32)
    changed = data.replace(b"E" * 32, b"X" * 32)

    assert "seal.receipt.unauthentic" == reason_of(read_receipt, data, receipt_key=OWNERS[0])
    assert "seal.receipt.unauthentic" == reason_of(read_receipt, RECEIPT.sign(b"t" * 32), receipt_key=RECEIPT_KEY)
    assert "seal.receipt.unauthentic" == reason_of(read_receipt, changed, receipt_key=RECEIPT_KEY)


@pytest.mark.parametrize("data", [b"", b"x", make(), RECEIPT.sign(b"s" * 32) + b"\0", RECEIPT.sign(b"s" * 32)[:-1]])
def test_malformed_receipts_are_refused(data):
    """What is not a receipt is refused by its form."""
    assert "seal.receipt.malformed" == reason_of(read_receipt, data, receipt_key=RECEIPT_KEY)


def signed_receipt(change):
    """Return a receipt whose four parts were changed by `change`, which may sign again."""
    items = list(cbor2.loads(RECEIPT.sign(b"s" * 32)).value)
    change(items)
    return cbor2.dumps(cbor2.CBORTag(18, items), canonical=True)


def sign_again(protected):
    def change(items):
        items[0] = cbor2.dumps(protected, canonical=True)
        message = cbor2.dumps(["Signature1", items[0], RECEIPT_FORM.aad, items[2]], canonical=True)
        secret = nacl.bindings.crypto_sign_seed_keypair(b"s" * 32)[1]
        items[3] = nacl.bindings.crypto_sign(message, secret)[:64]

    return change


HEADER = {1: -8, 3: RECEIPT_FORM.content_type, 4: RECEIPT_KEY}


def test_the_header_of_a_receipt_is_the_one_form():
    """Signed again with the right key: the same header is read, any other header is not, whatever the signature says."""
    assert RECEIPT == read_receipt(signed_receipt(sign_again(HEADER)), receipt_key=RECEIPT_KEY)
    for header in (
        {**HEADER, 1: -7}, {**HEADER, 3: FORM.content_type}, {**HEADER, 4: OWNERS[0]}, {**HEADER, 5: b""}, {1: -8},
    ):  # fmt: skip
        data = signed_receipt(sign_again(header))
        assert "seal.receipt.unauthentic" == reason_of(read_receipt, data, receipt_key=RECEIPT_KEY)


@pytest.mark.parametrize(("change", "reason"), [
    (lambda items: items.append(b""), "seal.receipt.malformed"),
    (lambda items: items.pop(), "seal.receipt.malformed"),
    (lambda items: items.__setitem__(1, {4: b"x"}), "seal.receipt.malformed"),
    (lambda items: items.__setitem__(0, {}), "seal.receipt.malformed"),
    (lambda items: items.__setitem__(2, None), "seal.receipt.malformed"),
    (lambda items: items.__setitem__(3, "s"), "seal.receipt.malformed"),
    (lambda items: items.__setitem__(3, items[3] + b"\0"), "seal.receipt.unauthentic"),
    (lambda items: items.__setitem__(3, b""), "seal.receipt.unauthentic"),
    (lambda items: items.__setitem__(2, b"\0" + items[2]), "seal.receipt.unauthentic"),
])  # fmt: skip
def test_a_receipt_has_four_parts_of_the_right_kinds(change, reason):
    """Another number of parts, an unprotected header, a detached payload or another signature are refused."""
    assert reason == reason_of(read_receipt, signed_receipt(change), receipt_key=RECEIPT_KEY)


@pytest.mark.parametrize(("version", "reason"), [
    (2, "format.newer"), (0, "codec.version.malformed"), ("1", "codec.version.malformed"), (True, "codec.version.malformed"),
    (None, "codec.cbor.malformed"),
])  # fmt: skip
def test_a_newer_receipt_is_named_so(version, reason):
    """A receipt of a later version, truly signed, is said to be newer; another version is malformed."""
    payload = cbor2.dumps({**cbor2.loads(cbor2.loads(RECEIPT.sign(b"s" * 32)).value[2]), "v": version}, canonical=True)
    data = cose.encode_sign1(payload, form=RECEIPT_FORM, seed=b"s" * 32)

    assert reason == reason_of(read_receipt, data, receipt_key=RECEIPT_KEY)


def test_an_envelope_signature_is_not_a_receipt():
    """The labels keep signatures of one kind from passing as the other."""
    payload = b"payload"
    envelope = cose.sign(payload, form=FORM, seed=SEEDS[0])
    receipt = cose.sign(payload, form=RECEIPT_FORM, seed=SEEDS[0])

    assert cose.signature_holds(payload, envelope, form=FORM)
    assert not cose.signature_holds(payload, receipt, form=FORM)
