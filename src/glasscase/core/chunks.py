"""Encryption of single messages: keys, whole messages in memory, regular files by descriptor, and content digests.

Invariants: a key is 32 bytes in memory that is wiped; nothing comes out of a message whose commitment or tag does not hold;
a blob or manifest is encrypted only from content that has the digest its salt was derived from.
Source: docs/stream-format.md.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from glasscase._native import ffi, lib
from glasscase.core import handles
from glasscase.core.faults import check, error, stat_of
from glasscase.errors import Error, FormatError, UsageError

CHUNK_SIZE = 16384  # bytes of plaintext
PIECE_SIZE = 1 << 20
TAG_SIZE = 16
HEADER_SIZE = 128
KEY_SIZE = 32
CONTEXT_MAX = 4096  # bytes
SIZE_UNKNOWN = 2**64 - 1
SIZE_MAX = 2**44  # bytes of plaintext
THREADS_MAX = 64
KIND_FILE, KIND_MANIFEST, KIND_BLOB = 0, 1, 2
_HELPER_FROM = 32 << 20  # bytes; longer calls run beside the main thread, so that Ctrl-C is heard
_POLL_S = 0.1
_FACTS = ffi.typeof("glass_stream_facts *")

Progress = Callable[[int], None]


class Key:
    """32 secret bytes in memory of the core, left out of core dumps and wiped when the object goes.

    Raises UsageError("stream.key.malformed") if `raw` is not exactly 32 bytes.
    """

    def __init__(self, raw: bytes) -> None:
        if not isinstance(raw, bytes | bytearray | memoryview):
            raise UsageError("stream.key.malformed", f"the key is of type {type(raw).__name__}, it must be bytes")
        if len(raw) != KEY_SIZE:
            raise UsageError(
                "stream.key.malformed",
                f"the key has {len(raw)} bytes, it must have exactly {KEY_SIZE}",
                hint="a key file holds 32 raw bytes, no text and no newline; glasscase keygen -o FILE makes one",
            )
        out = ffi.new("glass_key **")
        handles.check(lib.glass_key_new(context(), out, bytes(raw)), "the key cannot be kept")
        self.handle = ffi.gc(out[0], lib.glass_key_free)

    def __repr__(self) -> str:
        return "<32 secret bytes>"

    @property
    def id(self) -> bytes:
        """Return the 16 public bytes that name this key."""
        out = ffi.new("uint8_t[16]")
        handles.check(lib.glass_key_id(context(), out, self.handle), "the key has no id")
        return bytes(out)

    def expand(self, info: bytes, size: int) -> bytes:
        """Return the first `size` <= 64 bytes of HKDF-Expand-SHA512 with this key and `info`."""
        out = ffi.new("uint8_t[]", size)
        handles.check(lib.glass_key_expand(context(), out, size, self.handle, info, len(info)), "no derivation")
        return bytes(out)


@dataclass(frozen=True)
class BlobNames:
    """What a package derives for one content under one root key: the blob's key, its id (the file name) and its header."""

    key: bytes
    id: bytes
    header: bytes

    def __repr__(self) -> str:
        return f"BlobNames(id={self.id.hex()})"


@dataclass(frozen=True)
class ContentDigest:
    """The digest of a content, the digests of its 1 MiB pieces, and those of its 16 KiB leaves if they were asked for."""

    digest: bytes
    pieces: bytes
    leaves: bytes | None
    size: int


@dataclass(frozen=True)
class Message:
    """What a message that was read says about itself; digest: of its content, if it was asked for."""

    header: bytes
    kind: int
    size: int
    digest: bytes | None


@handles.once
def context() -> Any:
    """Return the shared context of the core after its self-test has passed once."""
    ctx = handles.context()
    handles.check(lib.glass_stream_selftest(ctx), "the self-test of the encryption failed")
    return ctx


def sealed_size(size: int) -> int:
    """Return the length of the encrypted file of a plaintext of `size` bytes."""
    return HEADER_SIZE + size + TAG_SIZE * (size // CHUNK_SIZE + 1)


def content_digest(data: bytes) -> bytes:
    """Return the content digest of bytes in memory."""
    out = ffi.new("uint8_t[32]")
    handles.check(lib.glass_content_digest(context(), out, ffi.from_buffer(data), len(data)), "no digest")
    return bytes(out)


def digest_descriptor(fd: int, size: int, *, threads: int = 1, leaves: bool = False) -> ContentDigest:
    """Return the content digest of a regular file that must have exactly `size` bytes.

    Raises FormatError("stream.content.changed" or "stream.size.mismatch") if the file is not as long or changes meanwhile.
    """
    out = ffi.new("uint8_t[32]")
    pieces = bytearray(-(-size // PIECE_SIZE) * 32)
    leaf_bytes = bytearray(-(-size // CHUNK_SIZE) * 32 if leaves else 0)
    stat = ffi.new("glass_stream_stat *")
    with ffi.from_buffer(pieces) as piece_view, ffi.from_buffer(leaf_bytes) as leaf_view:
        leaf_pointer = leaf_view if leaves else ffi.NULL
        run(
            lambda: lib.glass_content_digest_fd(
                context(), stat, out, piece_view, len(pieces), leaf_pointer, len(leaf_bytes), fd, 0, size, threads
            ),
            stat,
            size=size,
            what="the file",
        )
    return ContentDigest(bytes(out), bytes(pieces), bytes(leaf_bytes) if leaves else None, size)


def blob_names(root: Key, digest: bytes, size: int) -> BlobNames:
    """Return what the content with this digest and size is called under `root`. Raises FormatError above 2**44 bytes."""
    key, name, header = ffi.new("uint8_t[32]"), ffi.new("uint8_t[16]"), ffi.new("uint8_t[128]")
    status = lib.glass_blob_names(context(), key, name, header, root.handle, _exactly(digest, 32), size)
    handles.check(status, "no blob")
    names = BlobNames(bytes(key), bytes(name), bytes(header))
    lib.glass_wipe(key, 32)
    return names


def package_id(key: Key, package_digest: bytes) -> bytes:
    """Return the 16 bytes that name a package of this plaintext digest under `key`."""
    out = ffi.new("uint8_t[16]")
    handles.check(lib.glass_package_id(context(), out, key.handle, _exactly(package_digest, 32)), "no package id")
    return bytes(out)


class BlobSeal:
    """The encryption of one blob, once: the names that its content has under `root`, then its bytes.

    digest, size: of the content, which must have them: FormatError("stream.content.changed") if it has not.
    """

    def __init__(self, root: Key, digest: bytes, size: int) -> None:
        out, key = ffi.new("glass_stream **"), ffi.new("uint8_t[32]")
        status = lib.glass_stream_create_blob(context(), out, key, root.handle, _exactly(digest, 32), size)
        self._stream = own(status, out)
        header = facts_of(self._stream).header
        self.names = BlobNames(bytes(key), header[32:48], header)
        lib.glass_wipe(key, 32)

    def encrypt(self, data: bytes) -> bytearray:
        """Return the encrypted file of a content in memory."""
        return _encrypt(self._stream, data)

    def encrypt_descriptor(
        self, source: int, target: int, content: ContentDigest, *, threads: int = 1, progress: Progress | None = None
    ) -> None:
        """Encrypt a regular file to `target`; each piece is read to private memory, compared and only then encrypted."""
        stat = ffi.new("glass_stream_stat *")
        run(
            lambda: lib.glass_stream_encrypt_fd(
                self._stream, stat, source, 0, target, 0, content.pieces, len(content.pieces), threads
            ),
            stat,
            size=content.size,
            what="the file",
            progress=progress,
        )


def encrypt_manifest(data: bytes, key: Key, *, package_digest: bytes, digest: bytes, app_context: bytes = b"") -> bytes:
    """Return the encrypted package manifest; digest: SHA-256 of `data`."""
    out = ffi.new("glass_stream **")
    status = lib.glass_stream_create_manifest(
        context(), out, key.handle, _exactly(package_digest, 32), _exactly(digest, 32), len(data),
        app_context, len(app_context),
    )  # fmt: skip
    return bytes(_encrypt(own(status, out), data))


def manifest_header(key: Key, *, package_digest: bytes, digest: bytes, size: int, app_context: bytes = b"") -> bytes:
    """Return the header that a manifest of this digest and size has under `key`."""
    out = ffi.new("glass_stream **")
    status = lib.glass_stream_create_manifest(
        context(), out, key.handle, _exactly(package_digest, 32), _exactly(digest, 32), size,
        app_context, len(app_context),
    )  # fmt: skip
    return facts_of(own(status, out)).header


def encrypt_descriptor(
    source: int, target: int, size: int, *, key: Key, app_context: bytes = b"", threads: int = 1,
    progress: Progress | None = None,
) -> bytes:  # fmt: skip
    """Encrypt a regular file of exactly `size` bytes with a new random salt to `target`; return the header.

    Raises FormatError("stream.content.changed") if the file changes meanwhile, StorageError if the disk fails.
    """
    out = ffi.new("glass_stream **")
    stream = own(lib.glass_stream_create(context(), out, key.handle, size, app_context, len(app_context)), out)
    stat = ffi.new("glass_stream_stat *")
    run(
        lambda: lib.glass_stream_encrypt_fd(stream, stat, source, 0, target, 0, ffi.NULL, 0, threads),
        stat, size=size, what="the file", progress=progress,
    )  # fmt: skip
    facts = ffi.new(_FACTS)
    handles.check(lib.glass_stream_facts_of(stream, facts), "no facts")
    return bytes(ffi.buffer(facts.header))


def decrypt_accepted(
    stream: Any, source: int, target: int, *, size: int, threads: int = 1, digest: bool = False,
    progress: Progress | None = None,
) -> Message:  # fmt: skip
    """Decrypt a regular file whose header was accepted to `target` (-1: only verify); return what it was.

    size: about how long it is, to choose between a direct call and a helper thread. The caller gives `target` its final
    name only after this has returned. Raises FormatError with the first fault, StorageError if the disk fails.
    """
    facts = facts_of(stream)
    stat = ffi.new("glass_stream_stat *")
    out = ffi.new("uint8_t[32]") if digest else ffi.NULL
    run(
        lambda: lib.glass_stream_decrypt_fd(stream, stat, out, source, 0, target, 0, threads),
        stat, size=size, what="the file", progress=progress,
    )  # fmt: skip
    return Message(facts.header, facts.kind, stat.bytes, bytes(out) if digest else None)


def decrypt_bytes(
    data: bytes, *, key: Key, app_context: bytes = b"", kind: int | None = None, expect: bytes | None = None,
    bare: bool = False,
) -> tuple[bytes, bytes]:  # fmt: skip
    """Return the plaintext of an encrypted file in memory, and its content digest.

    kind, expect: the kind or the whole header that it must have.
    """
    head = _bare_size(bare)
    if len(data) < head:
        raise error(lib.GLASS_ERR_TRUNCATED, stat_of(lib.GLASS_STREAM_TRUNCATED), "the file")
    header = bytes(data[:head])
    if expect is not None and not handles.constant_time_equal(header, expect):
        raise error(lib.GLASS_ERR_AUTH, stat_of(lib.GLASS_STREAM_HEADER_DIFFERS), "the file")
    stream = accept(header, key=key, app_context=app_context, bare=bare)
    if kind is not None and facts_of(stream).kind != kind:
        raise FormatError("stream.kind.wrong", f"the file is a {_KINDS[facts_of(stream).kind]}, not a {_KINDS[kind]}")
    plain = bytearray(len(data))
    stat = ffi.new("glass_stream_stat *")
    out_len, digest = ffi.new("size_t *"), ffi.new("uint8_t[32]")
    with ffi.from_buffer(plain) as view, ffi.from_buffer(data) as source:
        status = lib.glass_stream_decrypt(
            stream, stat, view, len(plain), out_len, digest, source + head, len(data) - head
        )
    check(status, stat, "the file")
    return bytes(memoryview(plain)[: out_len[0]]), bytes(digest)


def accept(header: bytes, *, key: Key, app_context: bytes = b"", bare: bool = False) -> Any:
    """Return the core's stream for a header of 128 bytes (bare: 56), whose commitment has been checked."""
    check_context(app_context, bare=bare)
    out = ffi.new("glass_stream **")
    stat = ffi.new("glass_stream_stat *")
    call = lib.glass_stream_accept_bare if bare else lib.glass_stream_accept
    head = _exactly(header, _bare_size(bare))
    check(call(context(), out, stat, key.handle, head, app_context, len(app_context)), stat, "the file")
    return ffi.gc(out[0], lib.glass_stream_free)


def as_key(key: bytes | Key) -> Key:
    """Return `key` as a Key; raises UsageError("stream.key.malformed") if it is not 32 bytes."""
    return key if isinstance(key, Key) else Key(key)


def check_threads(threads: int) -> int:
    """Return `threads`; raises UsageError("stream.threads.range") if it is not 1 to 64."""
    if not 1 <= threads <= lib.GLASS_STREAM_THREADS_MAX:
        raise UsageError("stream.threads.range", f"{threads} threads, 1 to {lib.GLASS_STREAM_THREADS_MAX} are allowed")
    return threads


def check_context(app_context: bytes, *, bare: bool = False) -> None:
    """Raise UsageError("stream.context.long") if the application's context is longer than allowed."""
    limit = lib.GLASS_STREAM_BARE_CONTEXT_MAX if bare else CONTEXT_MAX
    if len(app_context) > limit:
        raise UsageError(
            "stream.context.long", f"the context has {len(app_context)} bytes, at most {limit} are allowed"
        )


def own(status: int, out: Any) -> Any:
    """Return the stream that a create function made, freed with the Python object; raise if it made none."""
    if status == lib.GLASS_ERR_LIMIT:
        raise UsageError("stream.size.limit", "the content or the context is larger than the format allows")
    handles.check(status, "no stream")
    return ffi.gc(out[0], lib.glass_stream_free)


def facts_of(stream: Any) -> Message:
    """Return header, kind and stated size of a stream of the core."""
    facts = ffi.new(_FACTS)
    handles.check(lib.glass_stream_facts_of(stream, facts), "no facts")
    header = bytes(ffi.buffer(facts.header, _bare_size(bool(facts.bare))))
    return Message(header, facts.kind, facts.size, None)


def run(call: Callable[[], int], stat: Any, *, size: int, what: str, progress: Progress | None = None) -> None:
    """Make one long call of the core; raise what its status says.

    In the main thread, calls on much data run beside it: an exception that a signal handler raises meanwhile cancels the
    call and goes on when it has ended. Where no further thread can be had the call runs here, and a signal waits for its end.
    progress: called with the bytes done, about ten times a second and at the end.
    """
    main = threading.current_thread() is threading.main_thread()
    if progress is None and (size < _HELPER_FROM or not main):
        check(call(), stat, what)
        return
    status: list[int] = []

    def work() -> None:
        if not stat.cancel:
            status.append(call())

    helper = threading.Thread(target=work, name="glasscase-stream")
    try:
        try:
            helper.start()
        except RuntimeError:  # the system gives no more threads
            work()
        while helper.is_alive():
            helper.join(_POLL_S)
            if progress is not None:
                progress(stat.progress)
    finally:
        stat.cancel = 1  # of no effect when the call has ended; one that has not begun never will
        _join(helper)
    if progress is not None:
        progress(stat.progress)
    check(status[0] if status else lib.GLASS_ERR_STATE, stat, what)


def _join(helper: threading.Thread) -> None:
    """Wait for the end of the core's call, which is near, whatever signals say."""
    while helper.is_alive():
        try:
            helper.join()
        except BaseException:  # noqa: BLE001, S112 - the first exception is on its way already
            continue


def _encrypt(stream: Any, data: bytes) -> bytearray:
    cap = sealed_size(len(data))
    sealed = bytearray(cap)
    stat = ffi.new("glass_stream_stat *")
    out_len = ffi.new("size_t *")
    with ffi.from_buffer(sealed) as view, ffi.from_buffer(data) as source:
        check(lib.glass_stream_encrypt(stream, stat, view, cap, out_len, source, len(data)), stat, "the content")
    return sealed


def _exactly(value: bytes, size: int) -> bytes:
    if len(value) != size:
        raise Error("core.state.wrong", f"{len(value)} bytes where {size} must be")
    return value


def _bare_size(bare: bool) -> int:  # noqa: FBT001
    return int(lib.GLASS_STREAM_BARE_HEADER if bare else HEADER_SIZE)


_KINDS = {KIND_FILE: "single file", KIND_MANIFEST: "package manifest", KIND_BLOB: "blob of a package"}
