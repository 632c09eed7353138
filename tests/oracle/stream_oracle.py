"""An independent reader of encrypted files and packages, on `cryptography` and hmac alone: whole files in memory, one page.

It shares no code with glasscase and is written from docs/stream-format.md; only tests use it.
"""

import hashlib
import hmac
from pathlib import Path

import cbor2
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

CHUNK = 16384
LABEL = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0"


class Refused(Exception):
    """The message is not authentic or not of the format."""


def expand(key: bytes, info: bytes, size: int) -> bytes:
    """HKDF-Expand-SHA512."""
    out = block = b""
    number = 1
    while len(out) < size:
        block = hmac.new(key, block + info + bytes([number]), "sha512").digest()
        out += block
        number += 1
    return out[:size]


def key_id(key: bytes) -> bytes:
    return expand(key, b"glasscase/v1/key-id", 16)


def bare(key: bytes, message: bytes, context: bytes = b"") -> bytes:
    """Decrypt a message of the chunk format without a prefix."""
    if len(message) < 56:
        raise Refused("short header")
    secret = expand(key, LABEL + message[:24] + context, 76)
    if secret[44:] != message[24:56]:
        raise Refused("commitment")
    gcm, nonce, payload = AESGCM(secret[:32]), int.from_bytes(secret[32:44], "big"), message[56:]
    plain, number = [], 0
    while True:
        chunk, payload = payload[: CHUNK + 16], payload[CHUNK + 16 :]
        try:
            plain.append(gcm.decrypt((nonce ^ number).to_bytes(12, "big"), chunk, None))
        except Exception as error:
            raise Refused(f"chunk {number}") from error
        if len(chunk) < CHUNK + 16:
            if payload:
                raise Refused("trailing")
            return b"".join(plain)
        number += 1


def parse(header: bytes) -> dict:
    """The fields of a header, every reserved byte checked."""
    if len(header) != 128 or header[:8] != b"\x89GLASS\r\n" or header[8] != 1 or header[9] != 2 or header[10] > 2:
        raise Refused("prefix")
    if header[11] != 0 or header[12:16] != b"\0\x48\0\0":
        raise Refused("reserved")
    return {
        "kind": header[10], "package": header[16:32], "blob": header[32:48], "size": int.from_bytes(header[48:56], "big"),
        "key_id": header[56:72], "salt": header[72:96],
    }  # fmt: skip


def ours(key: bytes, file: bytes, app_context: bytes = b"") -> bytes:
    """Decrypt a file of ours."""
    fields = parse(file[:128])
    if fields["key_id"] != key_id(key):
        raise Refused("key")
    context = b"glasscase/v1\0" + file[:72] + len(app_context).to_bytes(4, "big") + app_context
    plain = bare(key, file[72:], context)
    if fields["size"] not in (len(plain), 2**64 - 1):
        raise Refused("size")
    return plain


def content_digest(plain: bytes) -> bytes:
    leaves = [hashlib.sha256(plain[at : at + CHUNK]).digest() for at in range(0, len(plain), CHUNK)]
    pieces = [hashlib.sha256(b"".join(leaves[at : at + 64])).digest() for at in range(0, len(leaves), 64)]
    return hashlib.sha256(b"".join(pieces)).digest()


def _u64(number: int) -> bytes:
    return number.to_bytes(8, "big")


def package(directory: Path, key: bytes, model_keys: tuple[bytes, ...] = ()) -> tuple[dict[str, bytes], bytes]:
    """All files of a package, every derivation checked, and its code commitment."""
    sealed = (directory / "manifest").read_bytes()
    plain = ours(key, sealed)
    manifest = cbor2.loads(plain)
    assert cbor2.dumps(manifest, canonical=True) == plain
    entries = manifest["entries"]
    stated = [{name: entry[name] for name in ("p", "t", "m", "s", "d") if name in entry} for entry in entries]
    digest = hashlib.sha256(b"glasscase/v1/package\0" + cbor2.dumps(stated, canonical=True)).digest()
    fields = parse(sealed[:128])
    assert fields["kind"] == 1
    assert fields["package"] == manifest["pkg"] == expand(key, b"glasscase/v1/package-id\0" + digest, 16)
    assert fields["salt"] == expand(key, b"glasscase/v1/manifest-salt\0" + hashlib.sha256(plain).digest(), 24)
    opening = expand(key, b"glasscase/v1/opening\0" + digest, 32)
    commitment = hashlib.sha256(b"glasscase/v1/code-commitment\0" + opening + digest).digest()
    roots = {key_id(root): root for root in model_keys}
    files = {}
    for entry in entries:
        if entry["t"] == "d":
            continue
        root = roots[entry["r"]] if "r" in entry else key
        files[entry["p"]] = blob(directory, root, entry, entry["d"], entry["s"])
        if "l" in entry:
            content = files[entry["p"]]
            leaves = b"".join(hashlib.sha256(content[at : at + CHUNK]).digest() for at in range(0, len(content), CHUNK))
            assert blob(directory, root, entry["l"], entry["l"]["d"], len(leaves)) == leaves
    return files, commitment


def blob(directory: Path, root: bytes, names: dict, digest: bytes, size: int) -> bytes:
    tail = digest + _u64(size)
    blob_key = expand(root, b"glasscase/v1/blob-key\0" + tail, 32)
    sealed = (directory / names["b"].hex()).read_bytes()
    fields = parse(sealed[:128])
    assert names["k"] == blob_key
    assert names["b"] == fields["blob"] == expand(root, b"glasscase/v1/blob-id\0" + tail, 16)
    assert names["h"] == sealed[:128]
    assert fields["kind"] == 2
    assert fields["salt"] == expand(blob_key, b"glasscase/v1/salt\0" + tail, 24)
    plain = ours(blob_key, sealed)
    assert content_digest(plain) == digest
    return plain
