"""SIGSTRUCT both ways, and signatures made elsewhere."""

import subprocess
from functools import cache

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from glasscase.errors import Error
from glasscase.sgx.sigstruct import (
    SIGSTRUCT_SIZE,
    Sigstruct,
    SigstructBody,
    attach_signature,
    parse_date,
    sign_sigstruct,
)

BODY = SigstructBody(
    mrenclave=bytes(range(32)), attributes_flags=4, xfrm=3, xfrm_mask=0xFFFFFFFFFFF9FF1B, misc_select=1, isv_prod_id=7,
    isv_svn=9, date="2024-02-29",
)  # fmt: skip


def pem(key):
    encryption = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


@cache
def key(bits=3072, exponent=3):
    return rsa.generate_private_key(exponent, bits)


def public(private):
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return private.public_key().public_bytes(encoding, form)


def reason(call, *arguments):
    with pytest.raises(Error) as caught:
        call(*arguments)
    return caught.value.reason


def test_round_trip():
    """What is written is read back, field for field."""
    sigstruct = sign_sigstruct(BODY, pem(key()))

    assert sigstruct == Sigstruct.from_bytes(sigstruct.to_bytes())
    assert BODY == sigstruct.body
    assert SIGSTRUCT_SIZE == len(sigstruct.to_bytes())


def test_every_bit_is_checked():
    """No byte of a SIGSTRUCT can change unnoticed."""
    whole = sign_sigstruct(BODY, pem(key())).to_bytes()
    for offset in range(SIGSTRUCT_SIZE):
        broken = bytearray(whole)
        broken[offset] ^= 0x80

        assert reason(Sigstruct.from_bytes, bytes(broken)).startswith("sgx.sigstruct."), offset


@pytest.mark.parametrize("size", [0, 1807, 1809])
def test_other_lengths_are_refused(size):
    """Exactly 1808 bytes."""
    assert "sgx.sigstruct.malformed" == reason(Sigstruct.from_bytes, bytes(size))


def test_signature_from_elsewhere(tmp_path):
    """A signature by openssl over the 256 bytes gives the same SIGSTRUCT; of another body it is refused."""
    (tmp_path / "key.pem").write_bytes(pem(key()))
    (tmp_path / "request").write_bytes(BODY.signed_message())
    command = ["openssl", "dgst", "-sha256", "-sign", "key.pem", "-out", "signature", "request"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    signature = (tmp_path / "signature").read_bytes()

    assert 256 == len(BODY.signed_message())
    assert sign_sigstruct(BODY, pem(key())) == attach_signature(BODY, public(key()), signature)
    other = SigstructBody(**{**vars(BODY), "isv_svn": 10})
    assert "sgx.sigstruct.unauthentic" == reason(attach_signature, other, public(key()), signature)
    assert "sgx.sigstruct.malformed" == reason(attach_signature, BODY, public(key()), signature[:-1])


@pytest.mark.parametrize(
    "bad", [b"", b"-----BEGIN PRIVATE KEY-----\n", pem(rsa.generate_private_key(65537, 3072)),
            pem(rsa.generate_private_key(3, 2048)), pem(ec.generate_private_key(ec.SECP256R1()))],
    ids=["empty", "broken", "exponent", "size", "curve"],
)  # fmt: skip
def test_keys_that_cannot_sign(bad):
    """Only RSA-3072 with exponent 3."""
    assert "sgx.key.unusable" == reason(sign_sigstruct, BODY, bad)
    assert "sgx.key.unusable" == reason(attach_signature, BODY, bad, bytes(384))


def test_encrypted_key_is_refused():
    """There is no prompt for a passphrase."""
    encryption = serialization.BestAvailableEncryption(b"secret")
    locked = key().private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)

    assert "sgx.key.unusable" == reason(sign_sigstruct, BODY, locked)


@pytest.mark.parametrize("date", ["0000-00-00", "2024-02-29", "2000-02-29", "1999-12-31"])
def test_dates(date):
    """Days of the calendar and the one that is none."""
    assert date == parse_date(date)


@pytest.mark.parametrize(
    "date", ["", "today", "2023-02-29", "1900-02-29", "2024-13-01", "2024-00-01", "2024-01-00", "2024-1-1", "٢٠٢٤-01-01",
             "2024-01-01\n", "0000-00-01", "2025-W25-4"],
)  # fmt: skip
def test_other_dates_are_refused(date):
    """Nothing is guessed."""
    assert "sgx.date.wrong" == reason(parse_date, date)
