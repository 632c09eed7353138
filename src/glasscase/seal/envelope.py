"""The envelope: secrets for one enclave instance, encrypted to its seal key and signed by the owners it has measured.

Invariants: what is encrypted is bound to the whole context (HPKE info), the context is what the owners sign, and the
context commits to the plaintext, so a co-signer who saw the plaintext knows what he signs. Reading is strict; a value of
Contents never shows its secrets.
Source: docs/provisioning.md, "Envelope".
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from glasscase.codec import cbor
from glasscase.codec.labels import label
from glasscase.codec.record import check_version, is_plain_text, take_list, take_map
from glasscase.errors import FormatError
from glasscase.seal import cose, hpke

TYPE = "key-envelope"
SECRETS_MAX = 256 * 1024  # bytes of the encoded secrets
NAMES_MAX = 256
NAME_MAX = 255  # bytes of a secret's name
CHAIN_MAX = 8  # certificates
MODEL_KEYS_MAX = 256
NO_PACKAGE = bytes(32)
_ENVELOPE = "seal.envelope.malformed"
_CONTENTS = "seal.contents.malformed"
FORM = cose.Form(
    "application/vnd.glasscase.envelope+cbor", b"glasscase/v1/envelope", _ENVELOPE, "seal.envelope.oversize"
)


@dataclass(frozen=True)
class Context:
    """Whom and what an envelope is for. owners: sorted keys of the signers; issued_at, not_after: unix seconds.

    instance: instance digest. package: SHA-256 of the 128-byte package header, or zeros. secrets: the commitment.
    """

    id: bytes
    mrenclave: bytes
    instance: bytes
    package: bytes
    secrets: bytes
    owners: tuple[bytes, ...]
    isv_svn: int
    issued_at: int
    not_after: int

    def to_map(self) -> dict[str, Any]:
        """Return the map that stands in the payload."""
        return {"v": 1, "type": TYPE, **vars(self), "owners": list(self.owners)}

    @property
    def info(self) -> bytes:
        """Return the HPKE info: label "envelope" || SHA-256(CBOR(ctx))."""
        return label("envelope") + hashlib.sha256(cbor.encode(self.to_map())).digest()


@dataclass(frozen=True, repr=False)
class Contents:
    """What is inside. r: 32 random bytes; package_key: 32 bytes exactly if there is a package; chain: DER, leaf first.

    model_keys: key id (16 bytes) to key (32 bytes). secrets: name to text or bytes.
    """

    r: bytes
    package_key: bytes | None = None
    model_keys: Mapping[bytes, bytes] = field(default_factory=dict)
    secrets: Mapping[str, str | bytes] = field(default_factory=dict)
    chain: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        """Return a text without any secret."""
        return f"<contents of an envelope with {len(self.secrets)} secrets>"

    def to_bytes(self) -> bytes:
        """Return the CBOR plaintext."""
        return cbor.encode({"r": self.r, **self._rest()})

    @property
    def commitment(self) -> bytes:
        """Return SHA-256(label "secrets" || r || CBOR(plaintext without r))."""
        return hashlib.sha256(label("secrets") + self.r + cbor.encode(self._rest())).digest()

    def _rest(self) -> dict[str, Any]:
        value: dict[str, Any] = {"secrets": dict(self.secrets)}
        if self.package_key is not None:
            value["pk"] = self.package_key
        if self.model_keys:
            value["model_keys"] = {key_id.hex(): key for key_id, key in self.model_keys.items()}
        if self.chain:
            value["cert_chain"] = list(self.chain)
        return value

    @classmethod
    def from_bytes(cls, plaintext: bytes) -> "Contents":
        """Return the contents of exactly these bytes; raises FormatError("seal.contents.malformed") without quoting any."""
        try:
            return _read_contents(plaintext)
        except FormatError:
            raise FormatError(_CONTENTS, "what is in the envelope is not of the one form") from None


@dataclass(frozen=True)
class Envelope:
    """A well-formed envelope, nothing verified. payload: the signed bytes; its SHA-256 names the envelope."""

    payload: bytes
    context: Context
    ciphertext: bytes
    signatures: tuple[cose.Signature, ...]

    @property
    def digest(self) -> bytes:
        """Return SHA-256(payload)."""
        return hashlib.sha256(self.payload).digest()

    @property
    def signers(self) -> tuple[bytes, ...]:
        """Return the keys of the signatures, sorted."""
        return tuple(signature.key for signature in self.signatures)

    def to_bytes(self) -> bytes:
        """Return the COSE_Sign object."""
        return cose.encode_sign(self.payload, self.signatures, form=FORM)


def make_payload(contents: Contents, context: Context, *, seal_key: bytes) -> bytes:
    """Return the payload for owners to sign: context and the contents sealed to `seal_key`.

    Raises FormatError: "seal.secrets.mismatch" if the context commits to other contents, "seal.contents.oversize" above
    the limits, "seal.key.malformed".
    """
    if contents.commitment != context.secrets:
        raise FormatError("seal.secrets.mismatch", "the context commits to other contents")
    check_limits(contents)
    ciphertext = hpke.seal_to(seal_key, contents.to_bytes(), info=context.info)
    return cbor.encode({"v": 1, "ctx": context.to_map(), "ct": ciphertext})


def read_payload(payload: bytes) -> tuple[Context, bytes]:
    """Return context and ciphertext; raises FormatError("seal.envelope.malformed" or "format.newer")."""
    try:
        value = cbor.decode(payload, max_bytes=cose.COSE_MAX, what="envelope payload")
    except FormatError as error:
        raise FormatError(_ENVELOPE, error.message) from None
    check_version(value, what="envelope payload", reason=_ENVELOPE)
    required = {"v": int, "ctx": dict, "ct": bytes}
    parts = take_map(value, what="envelope payload", reason=_ENVELOPE, required=required, optional={})
    if len(parts["ct"]) <= hpke.OVERHEAD:
        raise FormatError(_ENVELOPE, "the ciphertext is too short")
    return _read_context(parts["ctx"]), parts["ct"]


def sign_payload(payload: bytes, *, owner_seed: bytes) -> cose.Signature:
    """Return one owner's signature. owner_seed: the 32-byte Ed25519 private key."""
    return cose.sign(payload, form=FORM, seed=owner_seed)


def read_envelope(data: bytes) -> Envelope:
    """Return a well-formed envelope; raises FormatError "seal.envelope.oversize" or "seal.envelope.malformed"."""
    payload, signatures = cose.read_sign(data, form=FORM)
    context, ciphertext = read_payload(payload)
    return Envelope(payload, context, ciphertext, signatures)


def read_signed_envelope(data: bytes) -> Envelope:
    """Return an envelope whose signers are those of its context and whose signatures all hold, whoever the signers are.

    Raises what read_envelope raises, FormatError("seal.signature.mismatch") and FormatError("seal.signature.invalid").
    """
    envelope = read_envelope(data)
    check_signatures(envelope, owners=envelope.signers, threshold=len(envelope.signers))
    return envelope


def check_signatures(envelope: Envelope, *, owners: tuple[bytes, ...], threshold: int) -> None:
    """Return if exactly the owners of the context signed, all known, at least `threshold`, all signatures valid.

    owners: the measured keys. Raises FormatError: "seal.signature.mismatch", ".stranger", ".missing" or ".invalid".
    """
    signers = envelope.signers
    if signers != envelope.context.owners:
        raise FormatError("seal.signature.mismatch", "the signers are not the owners that the context names")
    for key in signers:
        if key not in owners:
            raise FormatError("seal.signature.stranger", f"{key.hex()} is not an owner of this enclave")
    if not 1 <= threshold <= len(signers):
        raise FormatError("seal.signature.missing", f"{len(signers)} owners signed, {threshold} must")
    for signature in envelope.signatures:
        if not cose.signature_holds(envelope.payload, signature, form=FORM):
            raise FormatError("seal.signature.invalid", f"the signature of {signature.key.hex()} is not valid")


def open_envelope(envelope: Envelope, *, seal_key: hpke.SealKey) -> Contents:
    """Return the contents, whose commitment is that of the context.

    Raises FormatError: "seal.ciphertext.unauthentic", "seal.contents.malformed", "seal.secrets.mismatch",
    "seal.package_key.unexpected".
    """
    contents = Contents.from_bytes(seal_key.open(envelope.ciphertext, info=envelope.context.info))
    check_contents(contents, envelope.context)
    return contents


def check_contents(contents: Contents, context: Context) -> None:
    """Return if these are the contents that the context commits to, with a package key exactly if there is a package.

    Raises FormatError("seal.secrets.mismatch") or FormatError("seal.package_key.unexpected").
    """
    if contents.commitment != context.secrets:
        raise FormatError("seal.secrets.mismatch", "the contents are not those that the owners signed")
    if (contents.package_key is None) != (context.package == NO_PACKAGE):
        raise FormatError("seal.package_key.unexpected", "a package key must be there exactly if there is a package")
    if contents.model_keys and contents.package_key is None:
        raise FormatError("seal.package_key.unexpected", "model keys are there without a package")


def check_limits(contents: Contents) -> None:
    """Return if the contents are within the limits of the format; raises FormatError("seal.contents.oversize")."""
    for count, limit, what in (
        (len(contents.secrets), NAMES_MAX, "secrets"),
        (len(cbor.encode(dict(contents.secrets))), SECRETS_MAX, "bytes of secrets"),
        (len(contents.model_keys), MODEL_KEYS_MAX, "model keys"),
        (len(contents.chain), CHAIN_MAX, "certificates"),
    ):
        if count > limit:
            raise FormatError("seal.contents.oversize", f"there are {count} {what}, at most {limit} are allowed")


def is_secret_name(name: str) -> bool:
    """Return whether `name` may name a secret: 1 to 255 bytes of NFC text without control characters."""
    return 0 < len(name.encode()) <= NAME_MAX and is_plain_text(name)


def _read_context(value: Any) -> Context:
    what = "envelope context"
    check_version(value, what=what, reason=_ENVELOPE)
    fields = take_map(
        value,
        what=what,
        reason=_ENVELOPE,
        required={
            "v": int, "type": str, "id": 16, "mrenclave": 32, "instance": 32, "package": 32, "secrets": 32,
            "owners": list, "isv_svn": int, "issued_at": int, "not_after": int,
        },
        optional={},
    )  # fmt: skip
    del fields["v"]
    if fields.pop("type") != TYPE:
        raise FormatError(_ENVELOPE, f"the context is not a {TYPE}")
    owners = take_list(fields.pop("owners"), 32, what="owners", reason=_ENVELOPE, limit=cose.SIGNERS_MAX)
    if not owners or list(owners) != sorted(set(owners)):
        raise FormatError(_ENVELOPE, "owners are not sorted and distinct")
    return Context(owners=owners, **fields)


def _read_contents(plaintext: bytes) -> Contents:
    what = "contents"
    value = cbor.decode(plaintext, max_bytes=cose.COSE_MAX, what=what)
    fields = take_map(
        value,
        what=what,
        reason=_CONTENTS,
        required={"r": 32, "secrets": dict},
        optional={"pk": 32, "model_keys": dict, "cert_chain": list},
    )
    for name, secret in fields["secrets"].items():
        if not is_secret_name(name) or not isinstance(secret, str | bytes):
            raise FormatError(_CONTENTS, "a secret is neither text nor bytes, or has no proper name")
    model_keys = take_map(
        fields.get("model_keys", {}),
        what="model keys",
        reason=_CONTENTS,
        required=dict.fromkeys(fields.get("model_keys", {}), 32),
        optional={},
    )
    if not all(len(key_id) == 32 and key_id == key_id.lower() for key_id in model_keys):
        raise FormatError(_CONTENTS, "a model key's id is not hex")
    chain = take_list(fields.get("cert_chain", []), bytes, what="chain", reason=_CONTENTS, limit=CHAIN_MAX)
    if ("cert_chain" in fields and not chain) or ("model_keys" in fields and not model_keys):
        raise FormatError(_CONTENTS, "an empty field stands where it must be absent")
    try:
        ids = {bytes.fromhex(key_id): key for key_id, key in model_keys.items()}
    except ValueError:
        raise FormatError(_CONTENTS, "a model key's id is not hex") from None
    contents = Contents(fields["r"], fields.get("pk"), ids, fields["secrets"], chain)
    check_limits(contents)
    return contents
