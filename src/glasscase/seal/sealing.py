"""Sealing secrets to a verified enclave: the only way from secrets to an envelope.

Invariants: the receiver is a VerifiedEnclave, so there is no way to seal to a key that no verdict has proven; the bundle that
runs is known to be the sealer's own, its owners measured, its package opened with the key that is given; nothing is returned
unless all of that holds.
Source: docs/provisioning.md, "Sealing".
"""

import hashlib
import secrets as random
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import nacl.bindings
import nacl.exceptions
import nacl.public

from glasscase.codec import cbor
from glasscase.codec.record import take_object
from glasscase.errors import CannotVerify, FormatError, UsageError
from glasscase.evidence.attestation import SUITE_HYBRID
from glasscase.ratls.cert import spki_digest
from glasscase.seal import cose
from glasscase.seal.envelope import (
    FORM,
    NO_PACKAGE,
    Contents,
    Context,
    check_limits,
    is_secret_name,
    make_payload,
    read_payload,
    read_signed_envelope,
    sign_payload,
)
from glasscase.verify.verdict import VerifiedEnclave

VALID_S = 7 * 86_400  # seconds until an envelope expires, unless the sealer says otherwise
SKEW_S = 300  # seconds that the time of sealing may be before that of the verdict
_COSIGN = "glasscase-cosign"


@dataclass(frozen=True)
class SealedSecrets:
    """An envelope for one instance. data: the file; id: of the envelope, 16 bytes; digest: SHA-256 of what is signed.

    mrenclave: 32 bytes, of the enclave that can open it. not_after: unix seconds, when it expires.
    complete: whether every signer that the context names has signed.
    """

    data: bytes
    id: bytes
    digest: bytes
    mrenclave: bytes
    not_after: int
    complete: bool


@dataclass(frozen=True, repr=False)
class Offer:
    """What goes into an envelope. package_key, model_keys: 32 raw bytes each; chain: DER, leaf first (mode `own`)."""

    secrets: Mapping[str, str | bytes]
    package_key: bytes | None = None
    model_keys: tuple[bytes, ...] = ()
    chain: tuple[bytes, ...] = ()


def seal(
    secrets: Mapping[str, str | bytes],
    *,
    to: VerifiedEnclave,
    package_key: bytes | None,
    owner: bytes,
    at: datetime,
    bundle: Any = None,
    known: Collection[bytes] = (),
    not_after: datetime | None = None,
    model_keys: tuple[bytes, ...] = (),
    chain: tuple[bytes, ...] = (),
) -> SealedSecrets:
    """Return secrets and keys sealed to the verified enclave `to`, signed by one owner.

    secrets: name -> text or bytes, at most 256 names and 256 KiB. package_key: 32 bytes exactly if the application is
    encrypted. owner: the 32-byte private Ed25519 key of an owner that the enclave has measured. at: now, a datetime with a
    time zone. bundle: the checked bundle that runs, if the verdict was not given it as measurement. known: measurements (32
    bytes each) of the sealer's own ledger. not_after: when the envelope expires, in 7 days without it. model_keys: 32 bytes
    each. chain: DER, leaf first (certificate mode `own`).
    Raises UsageError, FormatError or CannotVerify with a reason of the area `seal`.
    """
    offer = Offer(secrets, package_key, model_keys, chain)
    sealed, _ = propose(
        offer, to=to, signers=(cose.public_key(owner),), owner=owner, at=at, bundle=bundle, known=known, not_after=not_after
    )  # fmt: skip
    return sealed


def propose(
    offer: Offer,
    *,
    to: VerifiedEnclave,
    signers: tuple[bytes, ...],
    owner: bytes,
    at: datetime,
    bundle: Any = None,
    known: Collection[bytes] = (),
    not_after: datetime | None = None,
) -> tuple[SealedSecrets, dict[bytes, bytes]]:
    """Return an envelope that all `signers` shall sign, signed by `owner`, and a co-signing request for each of the others.

    signers: public keys, among them the owner's. Raises as seal does.
    """
    if not isinstance(offer.secrets, Mapping):
        raise UsageError("seal.contents.malformed", "secrets are a mapping of names to text or bytes")
    case = _case(to, at=at, bundle=bundle, known=known)
    own = cose.public_key(owner)
    names = tuple(sorted(set(signers) | {own}))
    _check_signers(names, own, case.config)
    contents = Contents(random.token_bytes(32), offer.package_key, _model_keys(offer), dict(offer.secrets), offer.chain)
    _check_contents(contents, case)
    if not_after is not None:
        _check_time(not_after, "not_after")
    until = int(not_after.timestamp()) if not_after is not None else case.now + VALID_S
    if until <= case.now:
        raise UsageError("seal.time.past", "the envelope would have expired already")
    context = Context(
        id=random.token_bytes(16), mrenclave=to.mrenclave, instance=to.instance_digest, package=case.package,
        secrets=contents.commitment, owners=names, isv_svn=to.isv_svn, issued_at=case.now, not_after=until,
    )  # fmt: skip
    payload = make_payload(contents, context, seal_key=to.seal_key)
    requests = {key: _request(payload, contents, key) for key in names if key != own}
    return _sealed(payload, (sign_payload(payload, owner_seed=owner),)), requests


def cosign(
    request: bytes,
    *,
    to: VerifiedEnclave,
    owner: bytes,
    at: datetime,
    bundle: Any = None,
    known: Collection[bytes] = (),
) -> SealedSecrets:
    """Return the envelope of a co-signing request with this owner's signature alone, to be joined with the others'.

    The co-signer has verified the evidence himself; everything that the payload says is compared with it.
    Raises as seal does, FormatError("seal.cosign.malformed") and FormatError("seal.cosign.mismatch").
    """
    case = _case(to, at=at, bundle=bundle, known=known)
    payload, contents = _open_request(request, owner)
    context, _ = read_payload(payload)
    own = cose.public_key(owner)
    _check_signers(context.owners, own, case.config)
    _check_contents(contents, case)
    told = (context.mrenclave, context.instance, context.package, context.isv_svn, context.secrets)
    found = (to.mrenclave, to.instance_digest, case.package, to.isv_svn, contents.commitment)
    if told != found or own not in context.owners:
        raise FormatError(
            "seal.cosign.mismatch", "the payload is not for the enclave and the contents that you verified"
        )
    if not context.issued_at - SKEW_S <= case.now <= context.not_after:
        raise FormatError("seal.time.expired", "the envelope is not valid now")
    return _sealed(payload, (sign_payload(payload, owner_seed=owner),))


def join(envelopes: Collection[bytes]) -> SealedSecrets:
    """Return one envelope with the signatures of several of the same payload; it need not be complete yet.

    Raises FormatError("seal.cosign.mismatch") if the payloads differ, FormatError("seal.signature.*") for a bad signature.
    """
    payloads: set[bytes] = set()
    signatures: dict[bytes, cose.Signature] = {}
    for data in envelopes:
        payload, found = cose.read_sign(data, form=FORM)
        payloads.add(payload)
        for signature in found:
            if not cose.signature_holds(payload, signature, form=FORM):
                raise FormatError("seal.signature.invalid", f"the signature of {signature.key.hex()} is not valid")
            signatures[signature.key] = signature
    if len(payloads) != 1:
        raise FormatError("seal.cosign.mismatch", "the envelopes are not about the same payload")
    payload = payloads.pop()
    context, _ = read_payload(payload)
    if not set(signatures) <= set(context.owners):
        raise FormatError("seal.signature.stranger", "somebody signed whom the context does not name")
    return _sealed(payload, tuple(signatures.values()))


@dataclass(frozen=True)
class _Case:
    """One act of sealing. package: SHA-256 of the package header, or zeros. now: unix seconds."""

    to: VerifiedEnclave
    bundle: Any
    config: Any
    package: bytes
    now: int


def _case(to: VerifiedEnclave, *, at: datetime, bundle: Any, known: Collection[bytes]) -> _Case:
    """Return what is sealed to, once everything about the receiver holds."""
    if not isinstance(to, VerifiedEnclave):
        raise UsageError(
            "seal.receiver.unverified", "secrets are sealed to what verdict.require() returns, nothing else"
        )
    _check_time(at, "the time of sealing")
    checked = bundle if bundle is not None else getattr(to, "bundle", None)
    if checked is None:
        raise UsageError(
            "seal.bundle.missing", "the bundle that runs must be given",
            hint="give --bundle BUNDLE; in Python verify with measurement=provider.check_bundle(BUNDLE)",
        )  # fmt: skip
    checked.require_sound()
    if checked.measurement.mrenclave != to.mrenclave:
        raise FormatError("seal.bundle.mismatch", "the verified enclave does not run this bundle")
    _check_identity(to, known)
    if to.suite != SUITE_HYBRID:
        raise FormatError("seal.key.malformed", f"the enclave's suite {to.suite} is not known")
    if to.provisioned is not None:
        raise UsageError("seal.instance.provisioned", "the enclave has accepted an envelope already")
    now = int(at.timestamp())
    if to.valid_until is None or at >= to.valid_until or now < int(to.at.timestamp()) - SKEW_S:
        raise CannotVerify("seal.verdict.stale", "the verdict is not valid at the time of sealing")
    header = checked.config.package
    return _Case(
        to, checked, checked.config, hashlib.sha256(header).digest() if header is not None else NO_PACKAGE, now
    )


def _check_time(time: Any, what: str) -> None:
    if not isinstance(time, datetime) or time.utcoffset() is None:
        raise UsageError("seal.time.naive", f"{what} is not a datetime with a time zone")


def _check_identity(to: VerifiedEnclave, known: Collection[bytes]) -> None:
    """Return if something says whose enclave this is, and on whose machine it may be."""
    policy = to.policy
    named = policy.bundle_id is not None or policy.mrsigner is not None or to.mrenclave in policy.mrenclave
    if not named and policy.statements_require < 1 and to.mrenclave not in known:
        raise UsageError(
            "seal.identity.unproven",
            "nothing says that this bundle is yours: neither bundle_id nor mrsigner, no statement, not in your ledger",
            hint="set bundle_id in the policy's [measurement], or build the bundle on this machine",
        )
    if not policy.names_platforms:
        raise UsageError(
            "seal.platform.unnamed",
            "the policy names no platform",
            hint='set platforms = ["..."] in [platform], or platforms = ["any-intel"]',
        )


def _check_signers(signers: tuple[bytes, ...], own: bytes, config: Any) -> None:
    for key in signers:
        if key not in config.owners:
            raise UsageError("seal.owner.unmeasured", f"{key.hex()} is not an owner that this bundle has measured")
    if own not in signers:
        raise UsageError("seal.owner.unmeasured", "the owner key is not one that shall sign")
    if len(signers) < config.threshold:
        raise UsageError(
            "seal.owner.few", f"{len(signers)} owners would sign, the enclave asks for {config.threshold}",
            hint="name the others: --cosign OWNER.pub",
        )  # fmt: skip


def _check_contents(contents: Contents, case: _Case) -> None:
    """Return if keys, chain and secrets are what the enclave will accept."""
    for name, secret in contents.secrets.items():
        if not isinstance(name, str) or not is_secret_name(name) or not isinstance(secret, str | bytes):
            raise UsageError("seal.contents.malformed", "a secret is neither text nor bytes, or has no proper name")
    check_limits(contents)
    encrypted = case.config.package is not None
    if (contents.package_key is not None) != encrypted:
        raise UsageError(
            "seal.package_key.unexpected",
            "the application is encrypted: its package key is needed"
            if encrypted
            else "the application is not encrypted",
            hint="give --package-key FILE exactly if the project says encrypt = true",
        )
    if encrypted and contents.package_key is not None:
        _check_package(contents, case)
    elif contents.model_keys:
        raise UsageError("seal.package_key.unexpected", "model keys need an encrypted package")
    _check_chain(contents.chain, case)


def _check_package(contents: Contents, case: _Case) -> None:
    """Open the bundle's package with these keys, as the enclave will; each must be needed, none is given away by mistake."""
    import os

    from glasscase.seal.files import open_package

    config = case.config
    try:
        opened = open_package(
            os.path.join(case.bundle.bundle.path, "blobs"), header=config.package, commitment=config.commitment,
            key=contents.package_key or b"", model_keys=dict(contents.model_keys), lazy_unchecked=config.models == "key",
        )  # fmt: skip
    except FormatError as error:
        if error.reason == "stream.key.wrong":
            raise FormatError(
                error.reason, "the application is encrypted with another key than this package key",
                hint="give the key that [keys] package of the project names",
            ) from None  # fmt: skip
        raise
    unused = contents.model_keys.keys() - {entry.root for entry in opened.package.entries}
    if unused:
        raise UsageError(
            "seal.model_key.unused", f"no model of this bundle has the key {min(unused).hex()}",
            hint="give the keys that [[model]] of the project names, and no other",
        )  # fmt: skip


def _check_chain(chain: tuple[bytes, ...], case: _Case) -> None:
    own = case.config.server.certificate == "own"
    if bool(chain) != own:
        raise UsageError(
            "seal.chain.wrong",
            "certificate mode own needs the CA's chain" if own else "a chain is taken in certificate mode own only",
            hint="glasscase inspect EVIDENCE shows the request; give --chain PEM",
        )
    if own:
        from cryptography import x509
        from cryptography.exceptions import UnsupportedAlgorithm

        from glasscase.seal.chain import chain_fault

        try:
            leaf = x509.load_der_x509_certificate(chain[0]).public_key()
            same = spki_digest(leaf) == case.to.tls_spki_sha256
            fault = chain_fault(chain)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise FormatError("seal.chain.wrong", "the chain cannot be read") from None
        if not same:
            raise FormatError("seal.chain.wrong", "the chain's first certificate is not for the key of this evidence")
        if fault:
            raise FormatError(
                "seal.chain.wrong", f"TLS does not take the chain: {fault}",
                hint="ask the CA for a chain without keys and digests that OpenSSL refuses by now",
            )  # fmt: skip


def _model_keys(offer: Offer) -> dict[bytes, bytes]:
    if not offer.model_keys:
        return {}
    from glasscase.core.chunks import Key

    return {Key(key).id: key for key in offer.model_keys}


def _sealed(payload: bytes, signatures: tuple[cose.Signature, ...]) -> SealedSecrets:
    context, _ = read_payload(payload)
    data = cose.encode_sign(payload, signatures, form=FORM)
    complete = {signature.key for signature in signatures} == set(context.owners)
    if complete:
        read_signed_envelope(data)
    return SealedSecrets(
        data, context.id, hashlib.sha256(payload).digest(), context.mrenclave, context.not_after, complete
    )


def _request(payload: bytes, contents: Contents, key: bytes) -> bytes:
    """Return a co-signing request: the payload, and the contents in a sealed box for the X25519 form of the owner key."""
    try:
        curve = nacl.bindings.crypto_sign_ed25519_pk_to_curve25519(key)
        box = nacl.public.SealedBox(nacl.public.PublicKey(curve)).encrypt(contents.to_bytes())
    except nacl.exceptions.CryptoError:
        raise FormatError("seal.key.malformed", f"{key.hex()} is not a sound owner key") from None
    return cbor.encode({"v": 1, "type": _COSIGN, "payload": payload, "to": key, "box": bytes(box)})


def _open_request(request: bytes, owner: bytes) -> tuple[bytes, Contents]:
    reason = "seal.cosign.malformed"
    fields = take_object(
        cbor.decode(request, max_bytes=2 * cose.COSE_MAX, what="co-signing request"),
        kind=_COSIGN,
        what="co-signing request",
        reason=reason,
        required={"payload": bytes, "to": 32, "box": bytes},
        optional={},
    )
    public, secret = nacl.bindings.crypto_sign_seed_keypair(owner)
    if fields["to"] != public:
        raise FormatError("seal.cosign.mismatch", "the request is for another owner")
    curve = nacl.public.PrivateKey(nacl.bindings.crypto_sign_ed25519_sk_to_curve25519(secret))
    try:
        plaintext = nacl.public.SealedBox(curve).decrypt(fields["box"])
    except nacl.exceptions.CryptoError:
        raise FormatError(reason, "the request does not open with this owner key") from None
    return fields["payload"], Contents.from_bytes(bytes(plaintext))


def is_request(data: bytes) -> bool:
    """Return whether this is a co-signing request, by its beginning."""
    try:
        value = cbor.decode(data, max_bytes=2 * cose.COSE_MAX, what="co-signing request")
    except FormatError:
        return False
    return isinstance(value, dict) and value.get("type") == _COSIGN
