"""The receipt: what an enclave accepted, from whom, signed by a key made inside it.

Invariants: a Receipt exists only if its signature holds for the receipt key that the caller took from verified claims.
Source: docs/provisioning.md, "Receipt".
"""

from dataclasses import dataclass

from glasscase.codec import cbor
from glasscase.codec.record import check_version, take_list, take_map
from glasscase.errors import FormatError
from glasscase.seal import cose

_MALFORMED = "seal.receipt.malformed"
FORM = cose.Form("application/vnd.glasscase.receipt+cbor", b"glasscase/v1/receipt", _MALFORMED, "seal.receipt.oversize")


@dataclass(frozen=True)
class Receipt:
    """instance: instance digest. envelope: SHA-256 of the accepted payload. host_time: the untrusted clock, unix seconds."""

    instance: bytes
    envelope: bytes
    owners: tuple[bytes, ...]
    secrets: bytes
    package: bytes
    mrenclave: bytes
    host_time: int

    def sign(self, seed: bytes) -> bytes:
        """Return the COSE_Sign1 object by the receipt key `seed`."""
        payload = cbor.encode({"v": 1, **vars(self), "owners": list(self.owners)})
        return cose.encode_sign1(payload, form=FORM, seed=seed)


def read_receipt(data: bytes, *, receipt_key: bytes) -> Receipt:
    """Return the receipt if it is by `receipt_key`, which comes from verified claims.

    Raises FormatError: "seal.receipt.unauthentic", "seal.receipt.malformed", "seal.receipt.oversize"; for a payload that was
    signed and is none of ours also "format.newer" and those of the codec.
    """
    payload = cose.read_sign1(data, form=FORM, key=receipt_key)
    if payload is None:
        raise FormatError("seal.receipt.unauthentic", "the receipt is not signed by this enclave's receipt key")
    value = cbor.decode(payload, max_bytes=cose.COSE_MAX, what="receipt")
    check_version(value, what="receipt", reason=_MALFORMED)
    fields = take_map(
        value,
        what="receipt",
        reason=_MALFORMED,
        required={
            "v": int, "instance": 32, "envelope": 32, "owners": list, "secrets": 32, "package": 32, "mrenclave": 32,
            "host_time": int,
        },
        optional={},
    )  # fmt: skip
    del fields["v"]
    owners = take_list(fields.pop("owners"), 32, what="owners", reason=_MALFORMED, limit=cose.SIGNERS_MAX)
    return Receipt(owners=owners, **fields)
