"""Encrypted files: what goes in comes out, and nothing else ever does."""

import array
import contextlib
import io
import itertools
import os
import stat
import subprocess
import sys
import threading
import time

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from glasscase._native import ffi, lib
from glasscase.core import chunks, faults, stream
from glasscase.core.chunks import CHUNK_SIZE, HEADER_SIZE, Key
from glasscase.core.reader import Helpers, Reader
from glasscase.errors import Error, FormatError, Interrupted, StorageError, UsageError
from tests.oracle import stream_oracle

KEY = bytes(range(32))
SIZES = [
    0, 1, 16383, 16384, 16385, 32768, 1048575, 1048576, 1048577, 3_000_001, 257 * 16384, 258 * 16384 + 1,
]  # fmt: skip
SEALED_CHUNK = CHUNK_SIZE + 16


def content(size):
    return (b"0123456789abcdefghijklmnopqrstu" * (size // 31 + 1))[:size]


def encrypted(plain, key=KEY, context=b""):
    machine = stream.Encryptor(key, size=len(plain), context=context)
    return machine.update(plain) + machine.finish()


@pytest.mark.parametrize("name", ["a\0b", "\ud800"], ids=["nul", "surrogate"])
def test_what_cannot_be_a_file_name_is_an_error_of_ours(tmp_path, name):
    """A name with a NUL or a lone surrogate, as source or target, raises StorageError and makes no file."""
    (tmp_path / "plain").write_bytes(b"content")
    stream.encrypt_file(tmp_path / "plain", tmp_path / "sealed", key=KEY)
    for call in (
        lambda: stream.encrypt_file(name, tmp_path / "new", key=KEY),
        lambda: stream.encrypt_file(tmp_path / "plain", f"{tmp_path}/{name}", key=KEY),
        lambda: stream.decrypt_file(name, None, key=KEY),
        lambda: stream.decrypt_file(tmp_path / "sealed", f"{tmp_path}/{name}", key=KEY),
        lambda: stream.open_encrypted(name, key=KEY),
    ):
        with pytest.raises(StorageError) as caught:
            call()

        assert "fs.file.missing" == caught.value.reason
    assert ["plain", "sealed"] == names(tmp_path)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def refused(tmp_path, data, *, key=KEY, context=b""):
    """Return the reason for which `data` is refused by every path, which must agree; and nothing is left behind."""
    source, target = tmp_path / "bad", tmp_path / "out"
    source.write_bytes(data)
    reasons = []
    for call in (
        lambda: stream.decrypt_file(source, target, key=key, context=context),
        lambda: stream.decrypt_file(source, None, key=key, context=context, threads=1),
        lambda: chunks.decrypt_bytes(data, key=Key(key), app_context=context),
        lambda: _push(data, key, context),
    ):
        with pytest.raises(FormatError) as caught:
            call()
        reasons.append(caught.value.reason)
    source.unlink()

    assert [] == names(tmp_path)
    return reasons


def _push(data, key, context):
    machine = stream.Decryptor(key, context=context)
    machine.update(data)
    machine.finish()


@pytest.mark.parametrize("size", SIZES)
def test_round_trip(size, tmp_path):
    """Every path in and every path out gives the same bytes, and the independent reader reads them too."""
    plain = content(size)
    source = tmp_path / "plain"
    source.write_bytes(plain)
    message = stream.encrypt_file(source, tmp_path / "file", key=KEY, threads=2)
    sealed = (tmp_path / "file").read_bytes()
    done = stream.decrypt_file(tmp_path / "file", tmp_path / "again", key=KEY, threads=3)

    assert (size, size) == (message.size, done.size)
    assert chunks.sealed_size(size) == len(sealed)
    assert message.header == sealed[:HEADER_SIZE]
    assert plain == (tmp_path / "again").read_bytes()
    assert plain == chunks.decrypt_bytes(sealed, key=Key(KEY))[0]
    assert plain == stream_oracle.ours(KEY, sealed) == stream_oracle.ours(KEY, encrypted(plain))
    with stream.open_encrypted(tmp_path / "file", key=KEY) as reader:
        assert (size, plain) == (reader.size, reader.readall())
    assert (
        0o600 == stat.S_IMODE((tmp_path / "file").stat().st_mode) == stat.S_IMODE((tmp_path / "again").stat().st_mode)
    )
    assert ["again", "file", "plain"] == names(tmp_path)


@pytest.mark.parametrize("step", [1, 977, 16384, 16400, 100_000])
def test_push_in_steps(step):
    """The size of the steps does not matter; an unknown size is written as such."""
    plain = content(70_001 if step > 1 else 20_000)
    machine = stream.Encryptor(KEY)
    sealed = b"".join(machine.update(plain[at : at + step]) for at in range(0, len(plain), step)) + machine.finish()
    reader = stream.Decryptor(KEY)
    parts = b"".join(reader.update(sealed[at : at + step]) for at in range(0, len(sealed), step)) + reader.finish()

    assert plain == parts == stream_oracle.ours(KEY, sealed)
    assert b"\xff" * 8 == sealed[48:56]
    assert len(plain) == reader.bytes_done


def test_push_of_wide_items():
    """A buffer counts in bytes, whatever the size of its items: nothing of it is left out."""
    plain = array.array("Q", range(5000))
    machine = stream.Encryptor(KEY, size=40_000)
    sealed = machine.update(memoryview(plain)) + machine.finish()
    reader = stream.Decryptor(KEY)
    padded = array.array("H", sealed)

    assert plain.tobytes() == reader.update(memoryview(padded)) + reader.finish()


def test_nothing_comes_out_before_a_whole_chunk():
    """A push decryptor hands out a chunk only when all of it and its tag are there."""
    plain = content(2 * CHUNK_SIZE + 5)
    sealed = encrypted(plain)
    machine = stream.Decryptor(KEY)

    assert b"" == machine.update(sealed[: HEADER_SIZE + SEALED_CHUNK - 1])
    assert plain[:CHUNK_SIZE] == machine.update(sealed[HEADER_SIZE + SEALED_CHUNK - 1 : HEADER_SIZE + SEALED_CHUNK])


@pytest.mark.rule("stream.header.unauthentic")
def test_every_header_bit(tmp_path):
    """A change of any bit of the header is refused by every path for the same reason."""
    sealed = encrypted(content(20_000))
    seen = set()
    for bit in range(HEADER_SIZE * 8):
        data = bytearray(sealed)
        data[bit // 8] ^= 1 << bit % 8
        reasons = refused(tmp_path, bytes(data))
        assert 1 == len(set(reasons)), (bit, reasons)
        seen |= set(reasons)

    assert {
        "stream.header.magic", "stream.version.newer", "stream.header.malformed", "stream.suite.unknown",
        "stream.key.wrong", "stream.header.unauthentic",
    } == seen  # fmt: skip


FIELDS = [
    (8, b"\x00", "stream.header.malformed"), (8, b"\x02", "stream.version.newer"), (9, b"\x01", "stream.suite.unknown"),
    (9, b"\x03", "stream.suite.unknown"), (10, b"\x01", "stream.header.unauthentic"),
    (10, b"\x03", "stream.header.malformed"), (11, b"\x80", "stream.header.malformed"),
    (12, b"\x00\x49", "stream.header.malformed"), (14, b"\x00\x01", "stream.header.malformed"),
    (16, b"\x01" * 16, "stream.header.malformed"), (32, bytes(16), "stream.header.unauthentic"),
    (48, (19_999).to_bytes(8, "big"), "stream.header.unauthentic"),
    (48, (20_001).to_bytes(8, "big"), "stream.header.unauthentic"), (48, b"\xff" * 8, "stream.header.unauthentic"),
    (48, bytes(8), "stream.header.unauthentic"), (48, (2**44 + 1).to_bytes(8, "big"), "stream.header.malformed"),
    (56, bytes(16), "stream.key.wrong"), (72, bytes(24), "stream.header.unauthentic"),
    (96, bytes(32), "stream.header.unauthentic"),
]  # fmt: skip


@pytest.mark.parametrize(("offset", "value", "reason"), FIELDS)
def test_header_fields(offset, value, reason, tmp_path):
    """Each field with another value is refused for its own reason."""
    data = bytearray(encrypted(content(20_000)))
    if reason == "stream.header.unauthentic" and offset == 10:  # a blob id where a manifest has none
        data[32:48] = bytes(16)
    data[offset : offset + len(value)] = value

    assert [reason] * 4 == refused(tmp_path, bytes(data))


def orders(count):
    """Every order of all or some of `count` chunks but the right one, and every repetition of one chunk at any place."""
    right = tuple(range(count))
    found = {order for size in range(count + 1) for order in itertools.permutations(right, size)}
    for index, place in itertools.product(right, range(count + 1)):
        found.add((*right[:place], index, *right[place:]))
    return found - {right}


def test_chunk_order():
    """Every permutation, loss and repetition of the chunks of files of 0 to 5 whole chunks and a last one is refused."""
    count = 0
    for whole in range(6):
        sealed = encrypted(content(whole * CHUNK_SIZE + 7))
        head, body = sealed[:HEADER_SIZE], sealed[HEADER_SIZE:]
        parts = [body[at : at + SEALED_CHUNK] for at in range(0, len(body), SEALED_CHUNK)]
        for order in orders(len(parts)):
            data = head + b"".join(parts[index] for index in order)
            with pytest.raises(FormatError):
                chunks.decrypt_bytes(data, key=Key(KEY))
            with pytest.raises(FormatError):
                _push(data, KEY, b"")
            count += 1

    assert 2456 == count


def stating(size, plain):
    """Return a file whose header is authentic and states this size, as only a holder of the key can make it."""
    header = stream.Encryptor(KEY, size=size).message.header
    context = b"glasscase/v1\0" + header[:72] + bytes(4)
    secret = stream_oracle.expand(KEY, stream_oracle.LABEL + header[72:96] + context, 76)
    gcm, nonce = AESGCM(secret[:32]), int.from_bytes(secret[32:44], "big")
    parts = [
        gcm.encrypt((nonce ^ number).to_bytes(12, "big"), plain[number * CHUNK_SIZE :][:CHUNK_SIZE], None)
        for number in range(len(plain) // CHUNK_SIZE + 1)
    ]
    return header + b"".join(parts)


@pytest.mark.parametrize("stated", [0, 19_999, 20_001, 2**44, None, 20_000])
def test_size_lies_of_a_key_holder(stated, tmp_path):
    """A size that is not the real one is refused by every path though the header is authentic; none at all is allowed."""
    plain = content(20_000)
    data = stating(stated, plain)
    if stated in (None, 20_000):
        assert plain == chunks.decrypt_bytes(data, key=Key(KEY))[0]
        return
    reasons = set(refused(tmp_path, data))
    (tmp_path / "f").write_bytes(data)
    with pytest.raises(FormatError) as caught:
        stream.open_encrypted(tmp_path / "f", key=KEY)

    assert {*reasons, caught.value.reason} <= {"stream.length.trailing", "stream.length.truncated"}


def test_nothing_comes_out_behind_the_stated_size(tmp_path):
    """Of a file that is longer than its header states a push hands out no chunk that goes beyond, and a writer takes none."""
    plain = content(10 * CHUNK_SIZE)
    data = stating(5 * CHUNK_SIZE + 1, plain)
    machine, released = stream.Decryptor(KEY), b""
    with pytest.raises(FormatError) as caught:
        for at in range(0, len(data), SEALED_CHUNK):
            released += machine.update(data[at : at + SEALED_CHUNK])

    assert ("stream.length.trailing", plain[: 5 * CHUNK_SIZE]) == (caught.value.reason, released)
    with pytest.raises(FormatError) as caught:
        stream.Encryptor(KEY, size=CHUNK_SIZE).update(plain)
    assert "stream.size.mismatch" == caught.value.reason


def test_a_salt_is_used_once(tmp_path):
    """A stream that failed on other content does not write again, not even the right content."""
    source, other = tmp_path / "a", tmp_path / "b"
    source.write_bytes(content(100_000))
    other.write_bytes(bytes(100_000))
    with source.open("rb") as right, other.open("rb") as wrong, (tmp_path / "out").open("w+b") as output:
        digest = chunks.digest_descriptor(right.fileno(), 100_000)
        seal = chunks.BlobSeal(Key(KEY), digest.digest, 100_000)
        with pytest.raises(FormatError) as caught:
            seal.encrypt_descriptor(wrong.fileno(), output.fileno(), digest)
        with pytest.raises(Error) as again:
            seal.encrypt_descriptor(right.fileno(), output.fileno(), digest)

    assert ("stream.content.changed", "core.state.wrong") == (caught.value.reason, again.value.reason)
    assert 0 == (tmp_path / "out").stat().st_size


def test_every_cut(tmp_path):
    """A file cut at any byte near a boundary is refused, and an unknown size does not help the one who cuts."""
    plain = content(2 * CHUNK_SIZE)
    stated = encrypted(plain)
    machine = stream.Encryptor(KEY)
    unstated = machine.update(plain) + machine.finish()
    for data in (stated, unstated):
        for edge in (0, HEADER_SIZE, HEADER_SIZE + SEALED_CHUNK, HEADER_SIZE + 2 * SEALED_CHUNK, len(data)):
            for cut in range(max(0, edge - 20), min(len(data), edge + 20)):
                with pytest.raises(FormatError):
                    chunks.decrypt_bytes(data[:cut], key=Key(KEY))
                with pytest.raises(FormatError):
                    _push(data[:cut], KEY, b"")


def test_trailing_bytes(tmp_path):
    """Bytes after the last chunk are refused, also when they are a chunk themselves."""
    plain = content(CHUNK_SIZE + 100)
    sealed = encrypted(plain)
    for more in (b"\0", bytes(16), bytes(20), sealed[-116:], encrypted(plain)):
        reasons = set(refused(tmp_path, sealed + more))
        assert reasons <= {"stream.length.trailing", "stream.chunk.unauthentic"}


def test_header_of_one_body_of_another(tmp_path):
    """The header of one file and the chunks of another do not fit."""
    first, second = encrypted(content(40_000)), encrypted(content(40_000))

    assert ["stream.chunk.unauthentic"] * 4 == refused(tmp_path, first[:HEADER_SIZE] + second[HEADER_SIZE:])


def test_wrong_key_and_context(tmp_path):
    """Another key and another context have their own reasons, before any plaintext."""
    sealed = encrypted(content(10), context=b"policy 7")

    assert ["stream.key.wrong"] * 4 == refused(tmp_path, sealed, key=bytes(32), context=b"policy 7")
    assert ["stream.header.unauthentic"] * 4 == refused(tmp_path, sealed, context=b"policy 8")
    assert ["stream.header.unauthentic"] * 4 == refused(tmp_path, sealed)
    assert content(10) == chunks.decrypt_bytes(sealed, key=Key(KEY), app_context=b"policy 7")[0]
    assert content(10) == stream_oracle.ours(KEY, sealed, b"policy 7")


@pytest.mark.parametrize("raw", [b"", b"k" * 31, b"k" * 33, b"k" * 32 + b"\n", "k" * 32, None, 32])
def test_keys_of_another_length(raw, tmp_path):
    """A key is exactly 32 bytes; a newline behind it is named, and what is no bytes at all is refused the same way."""
    with pytest.raises(UsageError) as caught:
        stream.encrypt_file(tmp_path / "x", tmp_path / "y", key=raw)

    assert "stream.key.malformed" == caught.value.reason
    assert [] == names(tmp_path)


def test_key_is_not_shown():
    """A key object never shows its bytes."""
    assert "<32 secret bytes>" == repr(Key(KEY)) == f"{Key(KEY)}"


def test_same_file_twice_differs():
    """Ten thousand encryptions of one content under one key have ten thousand salts and blob ids."""
    headers = [stream.Encryptor(KEY, size=1).message.header for _ in range(10_000)]

    assert 10_000 == len({header[72:96] for header in headers}) == len({header[32:48] for header in headers})


@pytest.mark.long
def test_hundred_thousand_salts():
    """No salt occurs twice in 100,000 files."""
    assert 100_000 == len({stream.Encryptor(KEY, size=1).message.header[72:96] for _ in range(100_000)})


def test_stated_size_must_hold():
    """A stated size that the input exceeds or misses is an error, and the file is never finished."""
    machine = stream.Encryptor(KEY, size=10)
    machine.update(b"12345")
    with pytest.raises(FormatError) as caught:
        machine.finish()
    assert "stream.size.mismatch" == caught.value.reason
    with pytest.raises(Error):
        machine.finish()


def test_lowest_failing_chunk(tmp_path):
    """The chunk that is named is the first bad one, whatever the number of threads."""
    data = bytearray(encrypted(content(300 * CHUNK_SIZE)))
    for chunk in (250, 140, 201):
        data[HEADER_SIZE + chunk * SEALED_CHUNK] ^= 1
    path = tmp_path / "file"
    path.write_bytes(data)
    for threads in range(1, 9):
        with pytest.raises(FormatError, match="chunk 140 "):
            stream.decrypt_file(path, None, key=KEY, threads=threads)


def test_failed_run_keeps_the_old_output(tmp_path):
    """An output that exists stays as it was when the new one fails."""
    bad = bytearray(encrypted(content(100_000)))
    bad[-1] ^= 1
    (tmp_path / "bad").write_bytes(bad)
    (tmp_path / "out").write_bytes(b"old")
    with pytest.raises(FormatError):
        stream.decrypt_file(tmp_path / "bad", tmp_path / "out", key=KEY)

    assert b"old" == (tmp_path / "out").read_bytes()
    assert ["bad", "out"] == names(tmp_path)


def test_missing_and_wrong_inputs(tmp_path):
    """A missing file is a storage error, a directory a usage error, an empty file is cut."""
    (tmp_path / "empty").touch()
    with pytest.raises(StorageError):
        stream.decrypt_file(tmp_path / "none", tmp_path / "out", key=KEY)
    with pytest.raises(UsageError):
        stream.decrypt_file(tmp_path, tmp_path / "out", key=KEY)
    with pytest.raises(FormatError) as caught:
        stream.decrypt_file(tmp_path / "empty", tmp_path / "out", key=KEY)
    assert "stream.length.truncated" == caught.value.reason
    with pytest.raises(FormatError) as caught:
        stream.decrypt_file("/dev/zero", tmp_path / "out", key=KEY)
    assert "stream.header.magic" == caught.value.reason
    assert ["empty"] == names(tmp_path)


def test_length_that_the_system_does_not_know(tmp_path):
    """A file of the kernel, which has a content and the length 0, is refused and not encrypted as an empty one."""
    source = "/proc/self/status"
    with pytest.raises(FormatError) as caught:
        stream.encrypt_file(source, tmp_path / "sealed", key=KEY)

    assert "stream.content.changed" == caught.value.reason
    with open(source, "rb") as file, pytest.raises(FormatError) as caught:
        chunks.digest_descriptor(file.fileno(), 0)
    assert "stream.content.changed" == caught.value.reason
    assert [] == names(tmp_path)


def test_pipes(tmp_path):
    """A FIFO is read to its end in both directions."""
    plain = content(200_000)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.write_bytes(plain))
    writer.start()
    stream.encrypt_file(fifo, tmp_path / "sealed", key=KEY)
    writer.join()
    sealed = (tmp_path / "sealed").read_bytes()
    writer = threading.Thread(target=lambda: fifo.write_bytes(sealed))
    writer.start()
    stream.decrypt_file(fifo, tmp_path / "plain", key=KEY)
    writer.join()

    assert plain == (tmp_path / "plain").read_bytes()


CLOSE_WHILE_READING = """
import sys, threading, time
from glasscase.core.stream import open_encrypted
from glasscase.errors import Error
for round in range(10):
    reader, ends = open_encrypted(sys.argv[1], key=bytes(range(32)), threads=2), []
    def read():
        try:
            ends.append(reader.pread_into(bytearray(24 << 20), 0))
        except (Error, ValueError) as error:
            ends.append(error)
    thread = threading.Thread(target=read)
    thread.start()
    time.sleep(0.001 * (1 + round))
    reader.close()
    thread.join()
    assert len(ends) == 1
"""


def test_close_while_reading(tmp_path):
    """A reader that is closed while another thread reads from it ends that read; its memory is not freed under it."""
    (tmp_path / "plain").write_bytes(bytes(24 << 20))
    stream.encrypt_file(tmp_path / "plain", tmp_path / "file", key=KEY)
    command = [sys.executable, "-c", CLOSE_WHILE_READING, tmp_path / "file"]
    assert subprocess.run(command, check=False, capture_output=True, timeout=60).returncode == 0


FIRST_USE = """
import sys, threading
from glasscase.core import chunks, handles
sys.setswitchinterval(1e-6)
for get in (handles.context, chunks.context):
    start, found = threading.Barrier(8), []
    def ask():
        start.wait()
        found.append(get())
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(one is get() for one in found), get
"""


def test_first_use_by_many_threads():
    """All threads get the one context: another would be freed while keys and streams that were made with it point to it."""
    for _ in range(3):
        assert subprocess.run([sys.executable, "-c", FIRST_USE], check=False, timeout=60).returncode == 0


def test_nothing_works_without_the_self_test(monkeypatch):
    """A core that gives wrong answers to known messages is not used."""

    class Wrong:
        def __getattr__(self, name):
            return (lambda _ctx: lib.GLASS_ERR_LIBCRYPTO) if name == "glass_stream_selftest" else getattr(lib, name)

    monkeypatch.setattr(chunks, "lib", Wrong())
    with pytest.raises(StorageError) as caught:
        chunks.context.__wrapped__()

    assert "core.libcrypto.failed" == caught.value.reason


@pytest.mark.parametrize(
    ("status", "reason"),
    [(lib.GLASS_ERR_MEMORY, "core.memory.exhausted"), (lib.GLASS_ERR_LIBCRYPTO, "core.libcrypto.failed")],
)
def test_what_the_machine_lacks_is_said(status, reason):
    """Memory that runs out before anything of a file was looked at is no wrong use: exit 4, as later."""
    found = faults.error(status, faults.stat_of(lib.GLASS_STREAM_FINE), "the file")

    assert (reason, 4) == (found.reason, found.exit_code)


def test_shared_encryptor():
    """Two threads that push into one encryptor: every chunk has a nonce of its own."""
    for _ in range(8):
        machine, parts, start = stream.Encryptor(KEY), [], threading.Barrier(2)

        def push(machine=machine, parts=parts, start=start):
            start.wait()
            parts.append(machine.update(bytes(2 << 20)))

        others = [threading.Thread(target=push) for _ in range(2)]
        for other in others:
            other.start()
        for other in others:
            other.join()
        sealed = b"".join(sorted(parts, key=len, reverse=True)) + machine.finish()  # the header came with the first
        streams = {sealed[at : at + 32] for at in range(HEADER_SIZE, len(sealed), SEALED_CHUNK)}  # zeros: the keystream
        assert len(sealed) == HEADER_SIZE + (4 << 20) + (4 * 64 + 1) * 16
        assert len(streams) == 4 * 64 + 1


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_pipes_with_threads(threads, tmp_path):
    """From pipe to pipe with any number of threads: the same bytes in the same order; a bad chunk ends it at its batch."""

    def through(function, data, **options):
        (begin, source), (sink, end) = os.pipe(), os.pipe()
        got = []

        def feed():
            with contextlib.suppress(BrokenPipeError), os.fdopen(source, "wb") as file:
                file.write(data)

        def drain():
            with os.fdopen(sink, "rb") as file:
                got.append(file.read())

        others = [threading.Thread(target=feed), threading.Thread(target=drain)]
        for other in others:
            other.start()
        try:
            message, reason = function(begin, end, key=KEY, threads=threads, **options), None
        except FormatError as caught:
            message, reason = None, caught
        finally:
            os.close(begin)
            os.close(end)
            for other in others:
                other.join()
        return message, reason, got[0]

    plain = content(3_000_000)
    message, _, sealed = through(stream.encrypt_pipe, plain, size=3_000_000, context=b"c")

    assert (3_000_000, 0) == (message.size, message.kind)
    assert plain == stream_oracle.ours(KEY, sealed, b"c")
    message, _, again = through(stream.decrypt_pipe, sealed, context=b"c")
    assert (plain, message.header) == (again, sealed[:128])
    bad = bytearray(sealed)
    for chunk in (40, 90):
        bad[128 + chunk * 16400] ^= 1
    message, reason, again = through(stream.decrypt_pipe, bad, context=b"c")
    assert "stream.chunk.unauthentic" == reason.reason
    assert "chunk 40" in str(reason)
    assert plain[: 32 * CHUNK_SIZE] == again
    for cut, expected in ((100, "stream.length.truncated"), (len(sealed) - 1, "stream.length.truncated")):
        assert expected == through(stream.decrypt_pipe, sealed[:cut], context=b"c")[1].reason
    assert "stream.length.trailing" == through(stream.decrypt_pipe, sealed + b"x", context=b"c")[1].reason
    assert "stream.header.unauthentic" == through(stream.decrypt_pipe, sealed)[1].reason
    assert "stream.size.mismatch" == through(stream.encrypt_pipe, plain, size=2_999_999)[1].reason
    _, reason, again = through(stream.decrypt_pipe, chunks.BlobSeal(chunks.Key(KEY), bytes(32), 0).names.header)
    assert ("stream.key.wrong", b"") == (reason.reason, again)


@pytest.mark.parametrize("how", ["grows", "shrinks", "changes", "stays"])
def test_file_that_changes_on_its_way_to_a_pipe(how, tmp_path):
    """A file that grows, shrinks or changes while it is encrypted to a pipe is an error, and what came out does not decrypt."""
    path = tmp_path / "plain"
    path.write_bytes(content(8_000_000))
    os.utime(path, (1, 1))
    (begin, sink), failed = os.pipe(), []

    def encrypt():
        with path.open("rb") as file:
            try:
                stream.encrypt_pipe(file.fileno(), sink, key=KEY)
            except FormatError as error:
                failed.append(error.reason)
            os.close(sink)

    thread = threading.Thread(target=encrypt)
    thread.start()
    with os.fdopen(begin, "rb") as file:
        sealed = file.read(1)  # the rest waits in the pipe, which is shorter than the file
        if how == "shrinks":
            os.truncate(path, 7_900_000)
        elif how != "stays":
            with path.open("r+b") as other:
                other.seek(0, os.SEEK_END if how == "grows" else os.SEEK_SET)
                other.write(b"x")
        sealed += file.read()
    thread.join()

    assert ([] if how == "stays" else ["stream.content.changed"]) == failed
    if how == "stays":
        assert content(8_000_000) == stream_oracle.ours(KEY, sealed)
        return
    with pytest.raises(FormatError):
        _push(sealed, KEY, b"")


def test_pipe_that_nobody_reads(tmp_path):
    """A reader that has gone is a BrokenPipeError; verifying needs no output."""
    (tmp_path / "plain").write_bytes(content(1_000_000))
    stream.encrypt_file(tmp_path / "plain", tmp_path / "sealed", key=KEY)
    sink, end = os.pipe()
    os.close(sink)
    with (tmp_path / "plain").open("rb") as file, pytest.raises(BrokenPipeError):
        stream.encrypt_pipe(file.fileno(), end, key=KEY)
    os.close(end)
    with (tmp_path / "sealed").open("rb") as file:
        assert 1_000_000 == stream.decrypt_pipe(file.fileno(), -1, key=KEY).size


def test_pipe_that_does_not_wait(tmp_path):
    """A descriptor that answers EAGAIN is waited for, also before the header has come whole."""
    sealed = encrypted(content(300_000))
    source, sink = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(sink, True)

    def feed():
        with os.fdopen(sink, "wb", buffering=0) as pipe:
            for begin, end in ((0, 50), (50, 200), (200, None)):
                time.sleep(0.1)
                pipe.write(sealed[begin:end])

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        with (tmp_path / "out").open("wb", buffering=0) as target:
            stream.decrypt_pipe(source, target.fileno(), key=KEY)
    finally:
        os.close(source)
        feeder.join()

    assert content(300_000) == (tmp_path / "out").read_bytes()


def test_whose_descriptor_fails_is_said(tmp_path):
    """A failure of the output is not told of the input, nor the other way round, in files, pipes and headers."""
    (tmp_path / "plain").write_bytes(content(100_000))
    stream.encrypt_file(tmp_path / "plain", tmp_path / "sealed", key=KEY)
    with (
        (tmp_path / "sealed").open("rb") as good,
        (tmp_path / "none").open("wb") as bad,
        (tmp_path / "plain").open("rb") as plain,
    ):
        header = os.pread(good.fileno(), HEADER_SIZE, 0)
        for what, call in (
            ("the output", lambda: stream.decrypt_pipe(good.fileno(), plain.fileno(), key=KEY)),
            ("the output", lambda: stream.encrypt_pipe(plain.fileno(), good.fileno(), key=KEY)),
            ("the output", lambda: chunks.decrypt_accepted(
                chunks.accept(header, key=Key(KEY)), good.fileno(), plain.fileno(), size=100_000)),
            ("the input", lambda: stream.decrypt_pipe(bad.fileno(), -1, key=KEY)),
            ("the input", lambda: stream.encrypt_pipe(bad.fileno(), -1, key=KEY)),
        ):  # fmt: skip
            with pytest.raises(StorageError) as caught:
                call()

            assert "stream.io.failed" == caught.value.reason
            assert caught.value.message.startswith(f"{what}: ")


def test_no_room(tmp_path, monkeypatch):
    """A file that cannot fit is refused before anything is written."""
    facts = os.statvfs(tmp_path)
    small = os.statvfs_result((facts[0], facts[1], facts[2], 0, 0, *facts[5:]))
    (tmp_path / "plain").write_bytes(content(2_000_000))
    monkeypatch.setattr(os, "statvfs", lambda _path: small)
    with pytest.raises(StorageError) as caught:
        stream.encrypt_file(tmp_path / "plain", tmp_path / "out", key=KEY)

    assert "stream.disk.full" == caught.value.reason
    assert ["plain"] == names(tmp_path)


def test_no_room_for_what_a_pipe_states(tmp_path, monkeypatch):
    """The size in an authentic header is compared with the room on the disk before the first byte; a pipe has no disk."""
    (tmp_path / "sealed").write_bytes(encrypted(content(2_000_000)))
    facts = os.statvfs(tmp_path)
    small = os.statvfs_result((facts[0], facts[1], facts[2], 0, 0, *facts[5:]))
    monkeypatch.setattr(os, "fstatvfs", lambda _descriptor: small)
    heard = []
    with (tmp_path / "sealed").open("rb", buffering=0) as source, (tmp_path / "out").open("wb", buffering=0) as target:
        with pytest.raises(StorageError) as caught:
            stream.decrypt_pipe(source.fileno(), target.fileno(), key=KEY, expect=heard.append)
        source.seek(0)
        assert 2_000_000 == stream.decrypt_pipe(source.fileno(), -1, key=KEY, expect=heard.append).size

    assert "stream.disk.full" == caught.value.reason
    assert [2_000_000, 2_000_000] == heard
    assert 0 == (tmp_path / "out").stat().st_size


def test_cancel_through_an_exception_in_progress(tmp_path):
    """An exception from the progress function (as a signal handler raises it) stops the work and leaves nothing."""
    (tmp_path / "plain").write_bytes(content(40_000_000))

    def stop(_done):
        raise Interrupted("cli.signal.received", "stopped")

    with pytest.raises(Interrupted):
        stream.encrypt_file(tmp_path / "plain", tmp_path / "out", key=KEY, progress=stop)

    assert ["plain"] == names(tmp_path)


def test_cancel_while_the_helper_begins(monkeypatch):
    """An exception that comes while the helper thread begins cancels its call too, and goes on when that has ended."""

    class Thread(threading.Thread):
        def start(self):
            super().start()
            raise KeyboardInterrupt

    stat, ended = ffi.new("glass_stream_stat *"), threading.Event()

    def call():
        give_up = time.monotonic() + 20
        while not stat.cancel and time.monotonic() < give_up:
            time.sleep(0.01)
        ended.set()
        return lib.GLASS_ERR_CANCELLED

    monkeypatch.setattr(chunks.threading, "Thread", Thread)
    with pytest.raises(KeyboardInterrupt):
        chunks.run(call, stat, size=1 << 30, what="the file")

    assert ended.is_set()


def test_no_thread_to_be_had(tmp_path, monkeypatch):
    """Where the system gives no further thread the caller's own does the work, with progress at the end."""

    def start(_self):
        raise RuntimeError("can't start new thread")

    (tmp_path / "plain").write_bytes(content(3_000_000))
    monkeypatch.setattr(threading.Thread, "start", start)
    done = []
    stream.encrypt_file(tmp_path / "plain", tmp_path / "sealed", key=KEY, progress=done.append)
    stream.decrypt_file(tmp_path / "sealed", tmp_path / "again", key=KEY, progress=done.append)

    assert [3_000_000, 3_000_000] == done
    assert content(3_000_000) == (tmp_path / "again").read_bytes()


class TestReader:
    """Random access."""

    def test_reads_anywhere(self, tmp_path):
        """Any range gives the same bytes as the plaintext, with readinto, read, pread and seek."""
        plain = content(700_000)
        (tmp_path / "f").write_bytes(encrypted(plain))
        with stream.open_encrypted(tmp_path / "f", key=KEY) as reader:
            for offset in (0, 1, 16383, 16384, 16385, 500_000, 699_999, 700_000, 800_000):
                for size in (0, 1, 100, 16384, 40_000, 300_000):
                    buffer = bytearray(size)
                    got = reader.pread_into(buffer, offset, threads=2)
                    assert plain[offset : offset + size] == bytes(buffer[:got])
                    reader.seek(offset)
                    assert plain[offset : offset + size] == reader.read(size)
            assert len(plain) == reader.seek(0, os.SEEK_END) == reader.size
            assert b"" == reader.read(5)
            assert plain[-3:] == reader.read() if reader.seek(-3, os.SEEK_END) else None
            assert reader.readable() and reader.seekable() and not reader.writable()
            with pytest.raises(ValueError, match="negative"):
                reader.seek(-1)

    def test_buffered(self, tmp_path):
        """io.BufferedReader and line reading work on it."""
        (tmp_path / "f").write_bytes(encrypted(b"one\ntwo\nthree"))
        with io.BufferedReader(stream.open_encrypted(tmp_path / "f", key=KEY)) as lines:
            assert [b"one\n", b"two\n", b"three"] == list(lines)

    def test_helpers_are_given_back(self, tmp_path):
        """Who reads beside others has no thread more, who reads after them has it, also after a read that was refused."""
        sealed = bytearray(encrypted(content(500_000)))
        sealed[HEADER_SIZE + 28 * SEALED_CHUNK] ^= 1
        (tmp_path / "f").write_bytes(sealed)
        helpers = Helpers(3)
        assert [2, 1, 0] == [helpers.take(2) for _ in range(3)]
        helpers.give(3)
        with Reader(os.open(tmp_path / "f", os.O_RDONLY), key=Key(KEY), threads=4, helpers=helpers) as reader:
            assert content(400_000) == reader.pread(400_000, 0)
            with pytest.raises(FormatError):
                reader.pread(500_000, 0)
        assert 3 == helpers.take(9)

    def test_change_after_open(self, tmp_path):
        """A chunk that the host changes after the file was opened is refused, the buffer wiped, the reader dead."""
        path = tmp_path / "f"
        sealed = bytearray(encrypted(content(500_000)))
        path.write_bytes(sealed)
        with stream.open_encrypted(path, key=KEY) as reader:
            assert content(10) == reader.pread(10, 0)
            sealed[HEADER_SIZE + 20 * SEALED_CHUNK] ^= 1
            with path.open("r+b") as file:
                file.write(sealed)
            buffer = bytearray(b"x" * 400_000)
            with pytest.raises(FormatError, match="chunk 20 "):
                reader.pread_into(buffer, 0)
            assert bytes(400_000) == bytes(buffer)
            with pytest.raises(FormatError):
                reader.pread(10, 0)

    def test_growing_and_shrinking(self, tmp_path):
        """A file that is longer or shorter than its size says is refused at open; one that shrinks later at the read."""
        path = tmp_path / "f"
        sealed = encrypted(content(500_000))
        path.write_bytes(sealed + b"x")
        with pytest.raises(FormatError, match="goes on"):
            stream.open_encrypted(path, key=KEY)
        path.write_bytes(sealed)
        with stream.open_encrypted(path, key=KEY) as reader:
            os.truncate(path, 100_000)
            with pytest.raises(FormatError, match="too early"):
                reader.pread(10, 300_000)

    def test_last_chunk_is_checked_at_open(self, tmp_path):
        """The size is authentic before the first read: a forged last chunk does not open."""
        sealed = bytearray(encrypted(content(500_000)))
        sealed[-1] ^= 1
        (tmp_path / "f").write_bytes(sealed)
        with pytest.raises(FormatError, match="not authentic"):
            stream.open_encrypted(tmp_path / "f", key=KEY)

    def test_many_threads(self, tmp_path):
        """Eight threads read one reader at once and all get the right bytes."""
        plain = content(2_000_000)
        (tmp_path / "f").write_bytes(encrypted(plain))
        wrong = []
        with stream.open_encrypted(tmp_path / "f", key=KEY) as reader:

            def work(seed):
                for step in range(200):
                    offset = (seed * 7919 + step * 104_729) % 2_000_000
                    if reader.pread(3000, offset) != plain[offset : offset + 3000]:
                        wrong.append(offset)

            threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert [] == wrong

    def test_closed(self, tmp_path):
        """A closed reader refuses to read."""
        (tmp_path / "f").write_bytes(encrypted(b"abc"))
        reader = stream.open_encrypted(tmp_path / "f", key=KEY)
        reader.close()
        reader.close()
        with pytest.raises(ValueError, match="closed"):
            reader.pread(1, 0)

    def test_a_pipe_cannot_be_seeked(self, tmp_path):
        """Only regular files have random access."""
        with pytest.raises(UsageError):
            stream.open_encrypted("/dev/null", key=KEY)


def test_expand_is_hkdf():
    """The derivation is HKDF-Expand with SHA-512, as the standard library's HMAC computes it."""
    for size in (1, 16, 24, 32, 64):
        assert stream_oracle.expand(KEY, b"info" * size, size) == Key(KEY).expand(b"info" * size, size)
    assert stream_oracle.key_id(KEY) == Key(KEY).id


def forged_large(path, size, wanted):
    """Write a file of `size` zero bytes of which only header and the chunks of `wanted` are there; the rest is a hole."""
    header = stream.Encryptor(KEY, size=size).message.header
    secret = stream_oracle.expand(
        KEY, stream_oracle.LABEL + header[72:96] + b"glasscase/v1\0" + header[:72] + bytes(4), 76
    )
    gcm, nonce = AESGCM(secret[:32]), int.from_bytes(secret[32:44], "big")
    last = size // CHUNK_SIZE
    with path.open("wb") as file:
        file.write(header)
        for number in sorted({*wanted, last}):
            plain = bytes(CHUNK_SIZE if number < last else size % CHUNK_SIZE)
            file.seek(HEADER_SIZE + number * SEALED_CHUNK)
            file.write(gcm.encrypt((nonce ^ number).to_bytes(12, "big"), plain, None))


@pytest.mark.parametrize("size", [2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1, 2**32, 2**32 + 1, 2**40 + 7])
def test_large_offsets(size, tmp_path):
    """Offsets, sizes and chunk numbers beyond 31 and 32 bits are right; a hole is not zeros but a forged chunk."""
    last = size // CHUNK_SIZE
    forged_large(tmp_path / "f", size, {last - 1, 2**31 // CHUNK_SIZE - 1})
    with stream.open_encrypted(tmp_path / "f", key=KEY) as reader:
        assert size == reader.size
        assert bytes(1000) == reader.pread(5000, size - 1000)
        assert bytes(CHUNK_SIZE + size % CHUNK_SIZE) == reader.pread(10**6, (last - 1) * CHUNK_SIZE)
        assert bytes(10) == reader.pread(10, 2**31 - 11 if size > 2**31 else size - 10)
        with pytest.raises(FormatError, match="chunk 7 "):
            reader.pread(1, 7 * CHUNK_SIZE)


MEMORY = """
import os, sys
from glasscase.core import stream
size = int(sys.argv[2])
os.chdir(sys.argv[1])
with open("in", "wb") as file:
    file.truncate(size)
stream.encrypt_file("in", "f", key=bytes(32))
os.unlink("in")
assert size == stream.decrypt_file("f", "out", key=bytes(32)).size
source, sink = os.open("f", os.O_RDONLY), os.open(os.devnull, os.O_WRONLY)
assert size == stream.decrypt_pipe(source, sink, key=bytes(32)).size
with stream.open_encrypted("f", key=bytes(32)) as reader:
    assert bytes(9) == reader.pread(9, size - 9) and b"" == reader.pread(9, size)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.parametrize("size", [200_000_001, pytest.param(2**32 + 1, marks=pytest.mark.long)])
def test_memory(size, tmp_path):
    """A process needs at most 64 MiB for a file of any size, through descriptors, pipes and random access."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, tmp_path, str(size)], capture_output=True, text=True, check=False
    )
    assert 0 == done.returncode, done.stderr

    assert chunks.sealed_size(size) == (tmp_path / "f").stat().st_size
    assert 64 << 10 > int(done.stdout)
