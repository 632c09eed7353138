"""Sealing: only to a verified enclave, only to one's own bundle, only with keys that fit; then the enclave accepts it."""

import dataclasses
from datetime import datetime
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from glasscase.core.chunks import Key
from glasscase.errors import CannotVerify, Error, FormatError, UsageError
from glasscase.seal import cose
from glasscase.seal.envelope import FORM, NO_PACKAGE, Contents, Context, make_payload, sign_payload
from glasscase.seal.package import build_package, sources_of
from glasscase.seal.sealing import Offer, _request, cosign, is_request, join, propose, seal

from .conftest import AT, MRENCLAVE, MRSIGNER, SEEDS, aware

SECRETS = {"token": "hunter2", "raw": b"\0\1"}
OWNER = SEEDS[0]


def do(bench, **changes):
    options = {"to": bench.verified(), "package_key": None, "owner": OWNER, "at": aware(AT), **changes}
    return seal(options.pop("secrets", SECRETS), **options)


def reason_of(kind, call, *args, **kwargs):
    with pytest.raises(kind) as caught:
        call(*args, **kwargs)
    return caught.value.reason


def test_what_was_sealed_is_accepted(bench):
    """An envelope made by seal is accepted by the enclave that was verified, with the secrets as they were."""
    one = bench()
    sealed = do(one)
    accepted = one.provisioner().accept(sealed.data)

    assert SECRETS == accepted.contents.secrets
    assert sealed.digest == accepted.digest
    assert (MRENCLAVE, AT + 7 * 86400, True) == (sealed.mrenclave, sealed.not_after, sealed.complete)


def test_another_instance_refuses_it(bench):
    """The same bundle in another instance does not take the envelope."""
    sealed = do(bench())

    assert "seal.context.instance" == reason_of(FormatError, bench().provisioner().accept, sealed.data)


@pytest.mark.parametrize("owner", [b"", b"x" * 31, b"-----BEGIN PRIVATE KEY-----\n", "x" * 32, None])
def test_an_owner_key_is_32_raw_bytes(bench, owner):
    """The content of a key file, or text, is refused in our words."""
    assert "seal.owner.malformed" == reason_of(UsageError, do, bench(), owner=owner)


@pytest.mark.parametrize("receiver", [None, b"key", SimpleNamespace(seal_key=b"s" * 1216, mrenclave=MRENCLAVE)])
def test_only_a_verified_enclave_is_sealed_to(bench, receiver):
    """Nothing but what verdict.require() returns is a receiver."""
    assert "seal.receiver.unverified" == reason_of(UsageError, do, bench(), to=receiver)


@pytest.mark.parametrize(
    ("policy", "known", "allowed"),
    [
        ({}, (), True),
        ({"bundle_id": None}, (), False),
        ({"bundle_id": None}, (b"x" * 32,), False),
        ({"bundle_id": None}, (MRENCLAVE,), True),
        ({"bundle_id": None, "mrsigner": MRSIGNER}, (), True),
        ({"bundle_id": None, "mrenclave": (MRENCLAVE,)}, (), True),
    ],
)
def test_the_bundle_must_be_the_sealers_own(bench, policy, known, allowed):
    """`bundle = true` alone proves "this bundle", not whose; something must say that."""
    one = bench()
    enclave = one.verified(policy=one.policy(**policy))
    if allowed:
        assert do(one, to=enclave, known=known).complete
    else:
        assert "seal.identity.unproven" == reason_of(UsageError, do, one, to=enclave, known=known)


def test_a_platform_must_be_named(bench):
    """A policy without platforms is good for verify only."""
    one = bench()
    enclave = one.verified(policy=one.policy(platforms=()))

    assert "seal.platform.unnamed" == reason_of(UsageError, do, one, to=enclave)


def test_an_owner_must_be_measured(bench):
    """A key that is not in enclave.cbor cannot seal."""
    assert "seal.owner.unmeasured" == reason_of(UsageError, do, bench(), owner=b"\x99" * 32)


def test_a_provisioned_enclave_is_not_sealed_to(bench):
    """An enclave that has accepted an envelope has no seal key any more."""
    one = bench()
    enclave = one.verified(claims={"prov": b"e" * 32})

    assert "seal.instance.provisioned" == reason_of(UsageError, do, one, to=enclave)


@pytest.mark.parametrize("shift", [-4000, 90 * 86400])
def test_a_verdict_of_another_time_is_not_enough(bench, shift):
    """The time of sealing lies in the window of the verdict."""
    assert "seal.verdict.stale" == reason_of(CannotVerify, do, bench(), at=aware(AT + shift))


def test_a_naive_time_is_refused(bench):
    """A time without a zone is nobody's time, and neither is what is no time; for not_after as for at."""
    for changes in (
        {"at": datetime(2027, 1, 1)},
        {"at": AT},
        {"not_after": datetime(2027, 3, 1)},
        {"not_after": AT + 60},
    ):
        assert "seal.time.naive" == reason_of(UsageError, do, bench(), **changes)


@pytest.mark.parametrize("secrets", [None, ["token"], "token", {5: "x"}, {"a": 5}, {"": "x"}])
def test_what_are_no_secrets_is_refused(bench, secrets):
    """Secrets are texts or bytes by name; anything else is wrong use, said as such."""
    assert "seal.contents.malformed" == reason_of(UsageError, do, bench(), secrets=secrets)


def test_an_expired_envelope_is_not_made(bench):
    """not_after lies after the time of sealing."""
    assert "seal.time.past" == reason_of(UsageError, do, bench(), not_after=aware(AT))
    assert AT + 60 == do(bench(), not_after=aware(AT + 60)).not_after


@pytest.mark.parametrize(
    "secrets",
    [
        {"": "x"},
        {"a\n": "x"},
        {"n" * 256: "x"},
        {"n": 5},
        {"n": None},
        {"n": "x" * 300_000},
        {f"n{i}": "" for i in range(257)},
    ],
)
def test_improper_secrets_are_refused(bench, secrets):
    """What the enclave would refuse is refused before it is sealed."""
    with pytest.raises(Error) as caught:
        do(bench(), secrets=secrets)
    assert caught.value.reason.startswith("seal.contents.")


def test_another_bundle_is_refused(bench):
    """The bundle that is given must be the one that was measured in the quote."""
    one = bench()
    other = one.checked(measurement=SimpleNamespace(mrenclave=b"x" * 32))

    assert "seal.bundle.mismatch" == reason_of(FormatError, do, one, bundle=other)


def test_an_unsound_bundle_is_refused(bench):
    """A bundle with a problem is not sealed to."""
    one = bench()
    other = one.checked()

    def unsound():
        raise FormatError("bundle.file.changed", "a file was changed")

    other.require_sound = unsound
    assert "bundle.file.changed" == reason_of(FormatError, do, one, bundle=other)


@pytest.fixture
def packaged(bench, tmp_path):
    """Return a bench with an encrypted application and a model that has its own key."""
    source, blobs = tmp_path / "src", tmp_path / "blobs"
    source.mkdir()
    blobs.mkdir()
    (source / "main.py").write_text("app = None")
    sources = [
        *sources_of(str(source), prefix="app"),
        *sources_of(str(source), prefix="models/m", lazy=True, model_key=b"m" * 32),
    ]
    built = build_package(sources, key=b"p" * 32, out_dir=str(blobs))
    return bench(blobs=str(blobs), encrypt=True, package=built.header, commitment=built.commitment)


def test_keys_of_an_encrypted_application(packaged):
    """With the right keys it seals, and the enclave opens the package with them."""
    sealed = do(packaged, package_key=b"p" * 32, model_keys=(b"m" * 32,))
    accepted = packaged.provisioner().accept(sealed.data)

    assert {Key(b"m" * 32).id: b"m" * 32} == accepted.contents.model_keys
    assert accepted.package is not None


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"package_key": b"x" * 32},
        {"package_key": b"p" * 32},
        {"package_key": b"p" * 32, "model_keys": (b"x" * 32,)},
        {"package_key": b"p" * 32, "model_keys": (b"m" * 32, b"x" * 32)},
        {"package_key": b"p" * 32, "model_keys": (b"m" * 32, b"p" * 32)},
    ],
)
def test_keys_that_do_not_open_the_package_are_refused(packaged, keys):
    """A missing or wrong key, or one that nothing in the package needs, is found before anything is sealed."""
    with pytest.raises(Error):
        do(packaged, **keys)


def test_another_package_key_is_named(packaged):
    """The application's key, not some file's, is said to be another one, with where the right one stands."""
    with pytest.raises(FormatError) as caught:
        do(packaged, package_key=b"x" * 32)

    assert "stream.key.wrong" == caught.value.reason
    assert "the application is encrypted with another key" in caught.value.message
    assert "[keys] package" in caught.value.hint


def test_a_key_without_a_package_is_refused(bench):
    """A clear application takes no package key and no model key."""
    assert "seal.package_key.unexpected" == reason_of(UsageError, do, bench(), package_key=b"p" * 32)
    assert "seal.package_key.unexpected" == reason_of(UsageError, do, bench(), model_keys=(b"m" * 32,))


def certificate(key):
    name = x509.Name([])
    builder = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    )
    signed = builder.not_valid_before(aware(AT)).not_valid_after(aware(AT + 9)).sign(key, hashes.SHA256())
    return signed.public_bytes(Encoding.DER)


def test_a_chain_for_certificate_mode_own(bench):
    """In mode own the chain must be there and be for the key of the evidence; otherwise it must not."""
    one = bench(server={"certificate": "own"})
    right, other = certificate(one.tls), certificate(ec.generate_private_key(ec.SECP256R1()))

    assert "seal.chain.wrong" == reason_of(UsageError, do, one)
    assert "seal.chain.wrong" == reason_of(FormatError, do, one, chain=(other,))
    assert "seal.chain.wrong" == reason_of(FormatError, do, one, chain=(b"x",))
    assert "seal.chain.wrong" == reason_of(UsageError, do, bench(), chain=(right,))
    assert "seal.chain.wrong" == reason_of(FormatError, do, one, chain=(right, b"x"))
    weak = certificate(rsa.generate_private_key(65537, 1024))
    with pytest.raises(FormatError) as caught:
        do(one, chain=(right, weak))
    assert "TLS does not take the chain: ca key too small" == caught.value.message
    p256, unknown = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d030163")
    strange = other.replace(p256, unknown)  # a curve that nobody knows
    assert "seal.chain.wrong" == reason_of(FormatError, do, one, chain=(strange,))
    with pytest.raises(FormatError) as caught:
        one.provisioner()._check_chain((strange,))
    assert "seal.chain.wrong" == caught.value.reason
    accepted = one.provisioner().accept(do(one, chain=(right, other)).data)
    assert (right, other) == accepted.contents.chain


def test_two_of_three_owners(bench):
    """The first seals and asks, the second verifies and signs the same payload, joined it is accepted."""
    one = bench(threshold=2)
    enclave = one.verified()
    assert "seal.owner.few" == reason_of(UsageError, do, one)
    second = cose.public_key(SEEDS[1])
    part, requests = propose(Offer(SECRETS), to=enclave, signers=(second,), owner=OWNER, at=aware(AT))

    assert (False, [second]) == (part.complete, list(requests))
    assert is_request(requests[second])
    assert "seal.signature.mismatch" == reason_of(FormatError, one.provisioner().accept, part.data)
    assert b"hunter2" not in requests[second]
    other = cosign(requests[second], to=enclave, owner=SEEDS[1], at=aware(AT))
    assert "seal.signature.mismatch" == reason_of(FormatError, one.provisioner().accept, other.data)
    joined = join([part.data, other.data])
    assert joined.complete
    assert joined.digest == part.digest == other.digest
    assert SECRETS == one.provisioner().accept(joined.data).contents.secrets


def test_a_cosigner_signs_only_what_he_verified(bench):
    """A request for another instance, another owner or with a changed box is not signed."""
    one, other = bench(threshold=2), bench(threshold=2)
    second = cose.public_key(SEEDS[1])
    _, requests = propose(Offer(SECRETS), to=one.verified(), signers=(second,), owner=OWNER, at=aware(AT))
    request = requests[second]

    def sign(data=request, *, to=None, seed=SEEDS[1], at=AT):
        return cosign(data, to=to or one.verified(), owner=seed, at=aware(at))

    assert "seal.cosign.mismatch" == reason_of(FormatError, sign, to=other.verified())
    assert "seal.cosign.mismatch" == reason_of(FormatError, sign, seed=SEEDS[2])
    with pytest.raises(FormatError):
        sign(request[:-1])
    flipped = bytearray(request)
    flipped[request.index(b"box") + 20] ^= 1
    with pytest.raises(FormatError):
        sign(bytes(flipped))
    assert "seal.owner.unmeasured" == reason_of(
        UsageError,
        propose,
        Offer(SECRETS),
        to=one.verified(),
        signers=(cose.public_key(b"\x55" * 32),),
        owner=OWNER,
        at=aware(AT),
    )


def test_a_cosigner_does_not_rest_on_what_the_proposer_checked(bench):
    """A request that propose() would never make is not signed: strangers, too few owners, keys for nothing, a bad name."""
    one = bench(threshold=2)
    to, second, stranger = one.verified(), cose.public_key(SEEDS[1]), cose.public_key(b"\x55" * 32)
    both = tuple(sorted((cose.public_key(OWNER), second)))

    def sign(contents=Contents(b"r" * 32, None, {}, SECRETS), owners=both):  # noqa: B008 - it never changes
        context = Context(
            b"e" * 16,
            to.mrenclave,
            to.instance_digest,
            NO_PACKAGE,
            contents.commitment,
            owners,
            to.isv_svn,
            AT,
            AT + 99,
        )
        payload = make_payload(contents, context, seal_key=to.seal_key)
        return cosign(_request(payload, contents, second), to=to, owner=SEEDS[1], at=aware(AT))

    assert not sign().complete
    for owners, reason in (
        (tuple(sorted((*both, stranger))), "seal.owner.unmeasured"), ((second,), "seal.owner.few"),
        ((cose.public_key(OWNER),), "seal.owner.unmeasured"),
    ):  # fmt: skip
        assert reason == reason_of(UsageError, sign, owners=owners)
    for contents in (
        Contents(b"r" * 32, b"p" * 32, {}, SECRETS),
        Contents(b"r" * 32, None, {b"i" * 16: b"k" * 32}, SECRETS),
    ):
        assert "seal.package_key.unexpected" == reason_of(UsageError, sign, contents)
    assert "seal.chain.wrong" == reason_of(UsageError, sign, Contents(b"r" * 32, None, {}, SECRETS, (b"der",)))


def test_join_takes_one_payload_and_named_signers(bench):
    """Envelopes of different payloads, and signers whom the context does not name, are not joined."""
    one = bench(threshold=2)
    second = cose.public_key(SEEDS[1])
    part, _ = propose(Offer(SECRETS), to=one.verified(), signers=(second,), owner=OWNER, at=aware(AT))
    again, _ = propose(Offer(SECRETS), to=one.verified(), signers=(second,), owner=OWNER, at=aware(AT))
    payload, _ = cose.read_sign(part.data, form=FORM)

    assert "seal.cosign.mismatch" == reason_of(FormatError, join, [part.data, again.data])
    stranger = cose.encode_sign(payload, (sign_payload(payload, owner_seed=SEEDS[2]),), form=FORM)
    assert "seal.signature.stranger" == reason_of(FormatError, join, [part.data, stranger])
    forged = cose.encode_sign(
        payload, (dataclasses.replace(sign_payload(payload, owner_seed=OWNER), signature=bytes(64)),), form=FORM
    )
    assert "seal.signature.invalid" == reason_of(FormatError, join, [part.data, forged])
    assert not join([part.data, part.data]).complete


def test_nothing_of_the_secrets_is_readable(bench):
    """Neither the envelope nor any text form holds a secret."""
    sealed = do(bench())

    assert b"hunter2" not in sealed.data
    assert "hunter2" not in repr(sealed) + repr(Offer(SECRETS))
