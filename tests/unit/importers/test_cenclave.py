"""What the predecessor wrote opens with its keys, and with nothing else; nothing is ever written in its forms."""

import base64
import os
import subprocess
import sys

import pytest
from cryptography.fernet import Fernet
from nacl.bindings import crypto_secretbox
from nacl.public import PrivateKey, SealedBox

from glasscase.errors import Error
from glasscase.importers.cenclave import Kind, decrypt

PLAIN = b"def answer():\n    return 42\n" * 100
KEY = bytes(range(32))
PRIVATE = PrivateKey(bytes(range(1, 33)))


def secretbox(plain, key=KEY):
    nonce = os.urandom(24)
    return nonce + crypto_secretbox(plain, nonce, key)


CASES = {
    Kind.SECRETBOX: (secretbox(PLAIN), KEY),
    Kind.FERNET: (Fernet(base64.urlsafe_b64encode(KEY)).encrypt(PLAIN), base64.urlsafe_b64encode(KEY)),
    Kind.SEALED_BOX: (SealedBox(PRIVATE.public_key).encrypt(PLAIN), bytes(PRIVATE.public_key) + bytes(PRIVATE)),
}


# Written by the predecessor's own library, cenclave-lib-crypto 1.0.0 (encrypt_directory with the nonce 00..17, seal, key pair of
# x25519_keygen as `cenclave keygen --asymmetric` stores it), and by what `cenclave encrypt` of cenclave 1.0.0a10 calls.
REAL = {
    Kind.SECRETBOX: (
        base64.b64decode("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXIQtKP9Ix5jbbYf8wDyjt+S6NUSGz4oV11V/jXx7qbb5Y"), KEY,
    ),
    Kind.FERNET: (
        b"gAAAAABrBkmuPlWfwbPHbLwbpGQU1lwpmjbKbD0oIh4lOEopq5807QtriWwyhR2dreF1opMcYOb7Q3ZDazS2f9IkyzqV6n7nWwkz1CxtOIz_UvDClHlv"
        b"1S4=",
        b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    ),
    Kind.SEALED_BOX: (
        base64.b64decode(
            "cin1NeAekUWj8jhyTPsw15nsCrm9MSUrCENulNihhnLs+NRsjGY+aftZjFPQNh10h8jRlkFtKv5X3Qto63dc3Vw="
        ),
        base64.b64decode("tvtxtVzxdtZit6xIurAxMXL46z8HzlP10Z/NIYpHZA7kbUNFxi1WXADO0p+3jB/Wy6zJYXAnDGOnACvpV+BDnw=="),
    ),
}  # fmt: skip


def refused(reason, *arguments):
    with pytest.raises(Error) as caught:
        decrypt(*arguments)
    assert reason == caught.value.reason


@pytest.mark.parametrize("kind", Kind)
def test_opens(kind):
    """Each form opens with its key file, also with the newline of an editor where the key is text."""
    data, key = CASES[kind]
    assert PLAIN == decrypt(data, key, kind)
    if kind is Kind.FERNET:
        assert PLAIN == decrypt(data + b"\n", key + b"\n", kind)
    if kind is Kind.SEALED_BOX:
        assert PLAIN == decrypt(data, bytes(PRIVATE), kind)


@pytest.mark.parametrize("kind", Kind)
def test_opens_what_the_predecessor_has_written(kind):
    """Files of the predecessor's own code open with its own key files."""
    data, key = REAL[kind]

    assert b"print('enclave')\n" == decrypt(data, key, kind)
    if kind is Kind.SEALED_BOX:
        assert b"print('enclave')\n" == decrypt(data, key[32:], kind)
        refused("stream.key.malformed", data, key[32:] + key[:32], kind)


@pytest.mark.parametrize("kind", Kind)
def test_refuses(kind):
    """A changed, cut, empty or foreign file and another key give nothing."""
    data, key = CASES[kind]
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    for bad in (bytes(flipped), data[:-1], b"", b"short", os.urandom(500)):
        refused("stream.legacy.unauthentic", bad, key, kind)
    for other in Kind:
        if other is not kind:
            refused("stream.legacy.unauthentic", CASES[other][0], key, kind)
    wrong = {
        Kind.SECRETBOX: b"w" * 32,
        Kind.FERNET: Fernet.generate_key(),
        Kind.SEALED_BOX: bytes(PrivateKey.generate()),
    }
    refused("stream.legacy.unauthentic", data, wrong[kind], kind)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("key", [b"", b"k" * 31, b"k" * 33, b"k" * 64, b"!" * 44])
def test_keys(kind, key):
    """A key of another form is named as such."""
    refused("stream.key.malformed", CASES[kind][0], key, kind)


def test_command_line(tmp_path):
    """A directory comes out decrypted and then goes into a package of ours; a bad file leaves nothing."""
    old = tmp_path / "old"
    (old / "sub").mkdir(parents=True)
    (old / "sub" / "app.py.enc").write_bytes(secretbox(PLAIN))
    (old / "requirements.txt").write_bytes(b"flask\n")
    (tmp_path / "key").write_bytes(KEY)
    (tmp_path / "key").chmod(0o600)
    run = [sys.executable, "-m", "glasscase", "decrypt", old, "-o", tmp_path / "new", "--key", tmp_path / "key"]
    done = subprocess.run([*run, "--legacy", "secretbox"], capture_output=True, check=False)

    assert 0 == done.returncode, done.stderr
    assert PLAIN == (tmp_path / "new" / "sub" / "app.py").read_bytes()
    assert b"flask\n" == (tmp_path / "new" / "requirements.txt").read_bytes()
    assert b"never authenticated" in done.stderr
    (old / "sub" / "b.py.enc").write_bytes(b"x" * 100)
    run[5:7] = ["-o", tmp_path / "third"]
    done = subprocess.run([*run, "--legacy", "secretbox"], capture_output=True, check=False)
    assert (2, True) == (done.returncode, b"[stream.legacy.unauthentic]" in done.stderr)
    assert ["key", "new", "old"] == sorted(path.name for path in tmp_path.iterdir())


@pytest.mark.parametrize("name", [".enc", "..enc", "...enc", "a/.enc", "a/...enc"])
def test_names_that_the_suffix_alone_made_names_are_refused(tmp_path, name):
    """Without `.enc` these would be the directory itself or the one above: nothing is written anywhere."""
    (tmp_path / "key").write_bytes(KEY)
    (tmp_path / "key").chmod(0o600)
    path = tmp_path / "in" / "package" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(secretbox(b"content"))
    arguments = ["decrypt", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--key", str(tmp_path / "key")]
    done = subprocess.run(
        [sys.executable, "-m", "glasscase", *arguments, "--legacy", "secretbox"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert 2 == done.returncode and "[fs.path.refused]" in done.stderr
    assert ["in", "key"] == sorted(entry.name for entry in tmp_path.iterdir())
