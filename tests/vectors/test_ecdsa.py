"""Wycheproof's ECDSA P-256 / SHA-256 cases through the signature functions of the core: raw r || s and strict DER."""

import json

import pytest

from glasscase.core import dcap

FILES = {  # file: (DER?, number of cases)
    "ecdsa_secp256r1_sha256_p1363_test.json": (False, 262),
    "ecdsa_secp256r1_sha256_test.json": (True, 484),
}


@pytest.mark.parametrize("name", FILES)
def test_every_case(shared, name):
    """A valid signature holds, an invalid one does not, in every case of the file."""
    der, count = FILES[name]
    groups = json.loads((shared / "vectors" / "wycheproof" / name).read_text())["testGroups"]
    seen = 0
    for group in groups:
        key = bytes.fromhex(group["publicKey"]["uncompressed"])
        for test in group["tests"]:
            holds = dcap.p256_verify(key, bytes.fromhex(test["msg"]), bytes.fromhex(test["sig"]), der=der)

            assert (test["result"] == "valid") == holds, (test["tcId"], test["comment"])
            seen += 1
    assert count == seen


def test_keys_that_are_no_points_are_refused():
    """Compressed, infinite, off-curve and short keys verify nothing; neither does a signature of r = s = 1."""
    good = bytes.fromhex(
        "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
        "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
    )
    one = (1).to_bytes(32, "big") * 2
    order = int("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551", 16).to_bytes(32, "big")
    for signature in (one, bytes(64), order + order, one[:63], one + b"\0", b"\xff" * 64):
        assert not dcap.p256_verify(good, b"message", signature, der=False)
    for key in (bytes(65), b"\x04" + bytes(64), b"\x02" + good[1:], good[:64], good[:-1] + b"\0", b"\x06" + good[1:]):
        assert not dcap.p256_verify(key, b"message", one, der=False)
