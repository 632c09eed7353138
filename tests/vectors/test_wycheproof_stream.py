"""Wycheproof: Cobblestone-256 through every path of the core, AES-GCM through libcrypto and through the chunk codec."""

import ctypes
import hashlib
import io
import json
import shlex
import subprocess
import zlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from glasscase.core import chunks, stream
from glasscase.core.chunks import CHUNK_SIZE
from glasscase.core.reader import Reader
from glasscase.errors import Error, FormatError, UsageError
from tests.oracle import stream_oracle

ROOT = Path(__file__).resolve().parents[2]
COUNT = 35
GCM_COUNT = 316


def cases(shared, name):
    groups = json.loads((shared / "vectors" / "wycheproof" / name).read_text())["testGroups"]
    return [(group, case) for group in groups for case in group["tests"]]


@pytest.fixture(scope="module")
def messages(shared):
    """Return the 35 cases as (case, key, context, message)."""
    found = [
        (case, bytes.fromhex(case["key"]), bytes.fromhex(case["ctx"]), zlib.decompress(bytes.fromhex(case["ct"])))
        for _, case in cases(shared, "c2sp_chunked_encryption_aes_256_gcm_test.json")
    ]
    assert COUNT == len(found)
    return found


def judge(case, plain):
    """`plain` is what came out, None if it was refused."""
    if case["result"] == "valid":
        assert plain is not None, case["comment"]
        assert (case["msgLength"], case["msgSha512"]) == (len(plain), hashlib.sha512(plain).hexdigest())
    else:
        assert plain is None, case["comment"]


def attempt(call, *args, **kwargs):
    try:
        return call(*args, **kwargs)
    except (FormatError, UsageError):
        return None


def in_memory(key, context, message):
    return chunks.decrypt_bytes(message, key=chunks.Key(key), app_context=context, bare=True)[0]


def test_memory(messages):
    """All 35 through whole messages in memory."""
    for case, key, context, message in messages:
        judge(case, attempt(in_memory, key, context, message))


@pytest.mark.parametrize("step", [1009, 16400, 70000])
def test_push(messages, step):
    """All 35 through the push interface; what comes out of a bad one is at most its valid prefix, and it stays failed."""
    for case, key, context, message in messages:
        released = b""
        plain = None
        try:
            machine = stream.Decryptor(key, context=context, bare=True)
        except UsageError:
            judge(case, None)
            continue
        try:
            for at in range(0, len(message), step):
                released += machine.update(message[at : at + step])
            released += machine.finish()
            plain = released
        except FormatError:
            with pytest.raises(FormatError):
                machine.update(b"more")
        judge(case, plain)
        if case["result"] == "invalid":
            assert case.get("msgLength", 0) >= len(released)
            if len(released) == case.get("msgLength"):
                assert case["msgSha512"] == hashlib.sha512(released).hexdigest()


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_descriptors(messages, threads, tmp_path):
    """All 35 through regular files; a refused one leaves no output file."""
    for case, key, context, message in messages:
        source, target = tmp_path / "in", tmp_path / "out"
        source.write_bytes(message)
        done = attempt(stream.decrypt_file, source, target, key=key, context=context, threads=threads, bare=True)
        judge(case, target.read_bytes() if done else None)
        assert bool(done) == target.exists()
        assert {"in"} | ({"out"} if done else set()) == {path.name for path in tmp_path.iterdir()}
        target.unlink(missing_ok=True)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_pipes(messages, threads, tmp_path):
    """All 35 from one descriptor to another in order; what comes out of a bad one is at most its valid prefix."""
    for case, key, context, message in messages:
        (tmp_path / "in").write_bytes(message)
        with (tmp_path / "in").open("rb", buffering=0) as source, (tmp_path / "out").open("wb", buffering=0) as target:
            done = attempt(
                stream.decrypt_pipe,
                source.fileno(),
                target.fileno(),
                key=key,
                context=context,
                threads=threads,
                bare=True,
            )
        released = (tmp_path / "out").read_bytes()
        judge(case, released if done else None)
        if not done:
            assert case.get("msgLength", 0) >= len(released)
            assert 0 == len(released) % CHUNK_SIZE


def test_reader(messages, tmp_path):
    """All 35 through random access, read from the end to the start; it never opens without an authentic last chunk."""
    for case, key, context, message in messages:
        path = tmp_path / "in"
        path.write_bytes(message)
        opened = plain = None
        try:
            descriptor = path.open("rb")
            with descriptor, Reader(_dup(descriptor), key=chunks.Key(key), context=context, bare=True) as reader:
                opened = reader.size
                parts = [reader.pread(5000, at) for at in reversed(range(0, reader.size, 5000))]
                plain = b"".join(reversed(parts))
        except (FormatError, UsageError):
            pass
        judge(case, plain)
        assert (opened is not None) == (case["result"] == "valid" or "ValidFinalChunk" in case["flags"])


def _dup(file: io.BufferedReader) -> int:
    import os

    return os.dup(file.fileno())


def test_the_oracle_agrees(messages):
    """The independent reader gives the same 35 answers."""
    for case, key, context, message in messages:
        try:
            plain = stream_oracle.bare(key, message, context) if len(key) == 32 else None
        except stream_oracle.Refused:
            plain = None
        judge(case, plain)


def test_aes_gcm_through_libcrypto(shared):
    """All 316 AES-GCM cases give their result: 313 with the libcrypto that the core is linked to, and the three with a nonce
    of 257 bytes, which it refuses because it takes at most 128 (ours have 12), with GCM put together from AES here.
    """
    long_nonces = []
    right = 0
    for group, case in cases(shared, "aes_gcm_test.json"):
        valid = case["result"] == "valid"
        if group["ivSize"] > 1024:
            assert not _gcm(group, case)
            long_nonces.append(case["tcId"])
        else:
            assert valid == _gcm(group, case), case["tcId"]
        assert valid == _gcm_from_aes(case), case["tcId"]
        right += 1

    assert (GCM_COUNT, 3) == (right, len(long_nonces))


def test_aes_gcm_through_the_chunk_codec(shared, tmp_path):
    """Every AES-256-GCM case of the shape of a chunk (nonce of 12 bytes, no associated data) through the C codec."""
    chosen = [
        case for group, case in cases(shared, "aes_gcm_test.json")
        if (group["keySize"], group["ivSize"], group["tagSize"]) == (256, 96, 128) and not case["aad"]
    ]  # fmt: skip
    program = tmp_path / "aead_vectors"
    native = ROOT / "native"
    flags = shlex.split((native / "cflags").read_text())
    sources = [native / "tests" / "aead_vectors.c", *sorted((native / "src").glob("*.c"))]
    subprocess.run(
        ["cc", *flags, "-O1", f"-I{native / 'include'}", f"-I{native / 'src'}", f"-I{native / 'tests'}", *map(str, sources),
         "-o", str(program), "-lcrypto", "-ldl", "-pthread"], check=True,
    )  # fmt: skip
    lines = "".join(" ".join(case[name] or "-" for name in ("key", "iv", "msg", "ct", "tag")) + "\n" for case in chosen)
    answers = subprocess.run([program], input=lines, capture_output=True, text=True, check=True).stdout.splitlines()

    assert len(chosen) > 30
    assert ["yes yes" if case["result"] == "valid" else "no no" for case in chosen] == answers


def _gcm_from_aes(case) -> bool:
    """Decrypt one case with the block cipher alone, as NIST SP 800-38D puts GCM together; whether it gives what the case says."""
    key, iv, aad, msg, ct, tag = (bytes.fromhex(case[name]) for name in ("key", "iv", "aad", "msg", "ct", "tag"))
    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor().update
    factor = int.from_bytes(block(bytes(16)), "big")

    def ghash(*parts: bytes) -> int:
        value = 0
        data = b"".join(part + bytes(-len(part) % 16) for part in parts)
        data += b"".join((8 * len(part)).to_bytes(8, "big") for part in (parts if len(parts) == 2 else (b"", *parts)))
        for at in range(0, len(data), 16):
            value ^= int.from_bytes(data[at : at + 16], "big")
            product, power = 0, factor
            for bit in range(127, -1, -1):
                product ^= power * (value >> bit & 1)
                power = power >> 1 ^ (0xE1 << 120) * (power & 1)
            value = product
        return value

    start = int.from_bytes(iv + b"\0\0\0\1", "big") if len(iv) == 12 else ghash(iv)
    counters = [(start & -(1 << 32)) | (start + number) % 2**32 for number in range(-(-len(ct) // 16) + 1)]
    stream = b"".join(block(counter.to_bytes(16, "big")) for counter in counters)
    good = iv != b"" and tag == bytes(a ^ b for a, b in zip(ghash(aad, ct).to_bytes(16, "big"), stream, strict=False))
    return good and msg == bytes(a ^ b for a, b in zip(ct, stream[16:], strict=False))


def _gcm(group, case) -> bool:
    """Decrypt one case with EVP; whether that gives what the case says."""
    lib = _libcrypto()
    key, iv, aad, msg, ct, tag = (bytes.fromhex(case[name]) for name in ("key", "iv", "aad", "msg", "ct", "tag"))
    cipher = lib.EVP_CIPHER_fetch(None, f"AES-{group['keySize']}-GCM".encode(), None)
    context = lib.EVP_CIPHER_CTX_new()
    out, last = ctypes.create_string_buffer(len(ct) + 16), ctypes.create_string_buffer(16)
    size = ctypes.c_int()
    try:
        good = lib.EVP_DecryptInit_ex(context, cipher, None, None, None) == 1
        good = good and lib.EVP_CIPHER_CTX_ctrl(context, 9, len(iv), None) == 1
        good = good and lib.EVP_DecryptInit_ex(context, None, None, key, iv) == 1
        good = good and lib.EVP_DecryptUpdate(context, None, ctypes.byref(size), aad, len(aad)) == 1
        good = good and lib.EVP_DecryptUpdate(context, out, ctypes.byref(size), ct, len(ct)) == 1
        good = good and lib.EVP_CIPHER_CTX_ctrl(context, 17, len(tag), tag) == 1
        return good and lib.EVP_DecryptFinal_ex(context, last, ctypes.byref(size)) == 1 and out.raw[: len(ct)] == msg
    finally:
        lib.EVP_CIPHER_CTX_free(context)
        lib.EVP_CIPHER_free(cipher)


def _libcrypto():
    path = next(
        line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libcrypto.so" in line
    )
    lib = ctypes.CDLL(path)
    for name in ("EVP_CIPHER_fetch", "EVP_CIPHER_CTX_new"):
        getattr(lib, name).restype = ctypes.c_void_p
    lib.EVP_CIPHER_fetch.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p]
    lib.EVP_DecryptInit_ex.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_char_p] * 2
    lib.EVP_DecryptUpdate.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
    lib.EVP_DecryptFinal_ex.argtypes = [ctypes.c_void_p] * 3
    lib.EVP_CIPHER_CTX_ctrl.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_char_p]
    lib.EVP_CIPHER_CTX_free.argtypes = lib.EVP_CIPHER_free.argtypes = [ctypes.c_void_p]
    return lib


def test_every_refusal_has_an_id(messages):
    """Each bad case ends in an error of ours with a reason, never in another exception."""
    for case, key, context, message in messages:
        if case["result"] == "invalid":
            with pytest.raises(Error) as caught:
                chunks.decrypt_bytes(message, key=chunks.Key(key), app_context=context, bare=True)
            assert caught.value.reason.startswith("stream.")
