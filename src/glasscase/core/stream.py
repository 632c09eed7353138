"""Encrypted files: by path, through pipes, and with random access.

Invariants: an output file has its final name only when all of it is right; only chunks whose tag held are handed out; a
reader that met a forged chunk stays dead. Inside an enclave only pread, pwrite, ftruncate and rename are used.
Source: docs/stream-format.md.
"""

import errno
import os
import select
import stat as stat_module
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, BinaryIO

from glasscase._native import ffi, lib
from glasscase.core import chunks
from glasscase.core.chunks import (
    CHUNK_SIZE,
    HEADER_SIZE,
    KIND_FILE,
    SIZE_UNKNOWN,
    TAG_SIZE,
    Key,
    Message,
    Progress,
    accept,
    as_key,
    check_context,
    check_threads,
    decrypt_accepted,
    encrypt_descriptor,
    facts_of,
    own,
    run,
    sealed_size,
)
from glasscase.core.faults import check, error, stat_of
from glasscase.core.reader import Reader
from glasscase.errors import FormatError, StorageError, UsageError
from glasscase.fs.atomic import storage_error
from glasscase.fs.part import PartFile

_PRECHECK_FROM = 1 << 20  # bytes; a smaller file that does not fit is found out by writing it


def encrypt_file(
    source: str | os.PathLike[str], target: str | os.PathLike[str], *, key: bytes | Key, threads: int = 2,
    context: bytes = b"", progress: Progress | None = None,
) -> Message:  # fmt: skip
    """Encrypt a file to a new file of mode 0600 with a fresh random salt; return its header and the plaintext's size in bytes.

    key: 32 raw bytes. threads: 1 to 64. context: bytes that the reader must give again, at most 4096. progress: called with
    the bytes done. A pipe or device is read to its end.
    Raises StorageError if a file is missing or a disk fails, FormatError("stream.content.changed") if the file changes
    meanwhile, UsageError for another key, number of threads or context.
    """
    secret, threads = as_key(key), check_threads(threads)
    check_context(context)
    _check_name(target)
    with _Opened(source) as (file, facts):
        if not stat_module.S_ISREG(facts.st_mode):
            with PartFile(target) as output:
                return encrypt_pipe(file, output, key=secret, threads=threads, context=context, progress=progress)
        total = sealed_size(facts.st_size)
        if total >= _PRECHECK_FROM:
            precheck(target, total)
        with PartFile(target) as output:
            if total >= _PRECHECK_FROM:  # a smaller one is written at once
                os.ftruncate(output, total)
            header = encrypt_descriptor(
                file, output, facts.st_size, key=secret, app_context=context, threads=threads, progress=progress
            )
        return Message(header, KIND_FILE, facts.st_size, None)


def decrypt_file(
    source: str | os.PathLike[str], target: str | os.PathLike[str] | None, *, key: bytes | Key, threads: int = 2,
    context: bytes = b"", mode: int = 0o600, progress: Progress | None = None, bare: bool = False,
) -> Message:  # fmt: skip
    """Decrypt a file to a new file, or with target=None only verify it; return its header and the plaintext's size in bytes.

    key, threads, context, progress: as for encrypt_file. mode: permissions of the target. The target appears only after the
    last chunk and the size have been verified. bare: the file has no prefix of ours.
    Raises FormatError if the file is not authentic, cut, too long, or made with another key or context; StorageError if a file
    is missing or a disk fails, UsageError as encrypt_file.
    """
    secret, threads = as_key(key), check_threads(threads)
    if target is not None:
        _check_name(target)
    with _Opened(source) as (file, facts):
        if not stat_module.S_ISREG(facts.st_mode):
            return _from_device(file, target, mode, secret, threads, context, progress, bare=bare)
        head = 56 if bare else HEADER_SIZE
        header = os.pread(file, head, 0)
        if len(header) < head:
            raise error(lib.GLASS_ERR_TRUNCATED, stat_of(lib.GLASS_STREAM_TRUNCATED), repr(os.fspath(source)))
        stream = accept(header, key=secret, app_context=context, bare=bare)
        stated = facts_of(stream)
        _refuse_parts(stated)
        plain = plain_size(facts.st_size - head) if stated.size == SIZE_UNKNOWN else stated.size
        if target is None:
            return decrypt_accepted(stream, file, -1, size=plain, threads=threads, progress=progress)
        if facts.st_size - head < plain + TAG_SIZE * (plain // CHUNK_SIZE + 1):  # before the disk is asked for room
            raise error(lib.GLASS_ERR_TRUNCATED, stat_of(lib.GLASS_STREAM_TRUNCATED), repr(os.fspath(source)))
        if plain >= _PRECHECK_FROM:
            precheck(target, plain)
        with PartFile(target, mode=mode) as output:
            if plain >= _PRECHECK_FROM:
                os.ftruncate(output, plain)
            return decrypt_accepted(stream, file, output, size=plain, threads=threads, progress=progress)


def open_encrypted(path: str | os.PathLike[str], *, key: bytes | Key, context: bytes = b"", threads: int = 1) -> Reader:
    """Return an encrypted file as a seekable raw stream with readinto; `.size`, in bytes, is authentic. See Reader.

    key, threads, context: as for encrypt_file. Every byte that a read gives was authenticated before; one that is not raises
    FormatError. Raises FormatError too for another key or context or what is no such file, StorageError if it is missing,
    UsageError for what cannot be seeked.
    """
    with _Opened(path) as (file, facts):
        if not stat_module.S_ISREG(facts.st_mode):
            raise UsageError(
                "stream.source.sequential", f"{os.fspath(path)!r} is not a regular file and cannot be seeked"
            )
        return Reader(os.dup(file), key=as_key(key), context=context, threads=threads, kind=KIND_FILE)


class Encryptor:
    """Encrypts what comes through a pipe: `update` and at the end `finish` give the bytes of the file.

    Calls from several threads come one after the other: no chunk is ever encrypted under the number of another.
    """

    def __init__(self, key: bytes | Key, *, size: int | None = None, context: bytes = b"") -> None:
        check_context(context)
        out = ffi.new("glass_stream **")
        stated = SIZE_UNKNOWN if size is None else size
        status = lib.glass_stream_create(chunks.context(), out, as_key(key).handle, stated, context, len(context))
        self._stream = own(status, out)
        self._stat = ffi.new("glass_stream_stat *")
        self._lock = threading.Lock()
        self.message = facts_of(self._stream)

    @property
    def bytes_done(self) -> int:
        """Return how many bytes of plaintext have gone through."""
        return int(self._stat.bytes)

    def update(self, data: bytes | bytearray | memoryview) -> bytes:
        """Return the file's next bytes, perhaps none."""
        with self._lock:
            return _push(self._stream, self._stat, data)

    def finish(self) -> bytes:
        """Return the file's last bytes. Raises FormatError("stream.size.mismatch") if a size was stated and is wrong."""
        with self._lock:
            return _finish(self._stream, self._stat)


class Decryptor:
    """Decrypts what comes through a pipe: `update` gives plaintext of verified chunks only, `finish` the last of it.

    Without a successful `finish` the plaintext is not complete. After a FormatError every call raises it again.
    """

    def __init__(self, key: bytes | Key, *, context: bytes = b"", bare: bool = False) -> None:
        check_context(context, bare=bare)
        self._key = as_key(key)
        self._context = context
        self._bare = bare
        self._head = b""
        self._stream: Any = None
        self._failed: FormatError | None = None
        self._lock = threading.Lock()
        self._stat = ffi.new("glass_stream_stat *")
        self.message: Message | None = None

    @property
    def bytes_done(self) -> int:
        """Return how many bytes of plaintext have been handed out."""
        return int(self._stat.bytes)

    def update(self, data: bytes | bytearray | memoryview) -> bytes:
        """Return the verified plaintext that the input so far gives, perhaps none."""
        return self._once(lambda: self._update(memoryview(data).cast("B")))

    def finish(self) -> bytes:
        """Return the last plaintext; raises FormatError if the input was cut or goes on."""
        return self._once(self._finish)

    def _once(self, call: Callable[[], bytes]) -> bytes:
        with self._lock:
            if self._failed is not None:
                raise self._failed
            try:
                return call()
            except FormatError as error:
                self._failed = error
                raise

    def _update(self, data: memoryview) -> bytes:
        if self._stream is None:
            need = (56 if self._bare else HEADER_SIZE) - len(self._head)
            self._head += bytes(data[:need])
            data = data[need:]
            if len(self._head) < (56 if self._bare else HEADER_SIZE):
                return b""
            self._stream = accept(self._head, key=self._key, app_context=self._context, bare=self._bare)
            self.message = facts_of(self._stream)
            _refuse_parts(self.message)
        return _push(self._stream, self._stat, data)

    def _finish(self) -> bytes:
        if self._stream is None:
            raise error(lib.GLASS_ERR_TRUNCATED, stat_of(lib.GLASS_STREAM_TRUNCATED), "the input")
        return _finish(self._stream, self._stat)


def encrypt_pipe(
    source: int, target: int, *, key: bytes | Key, size: int | None = None, context: bytes = b"", threads: int = 2,
    progress: Progress | None = None,
) -> Message:  # fmt: skip
    """Encrypt what a descriptor gives until its end to another one; return header and size. size: if it is known before.

    Raises FormatError("stream.size.mismatch") if it was another, BrokenPipeError if nobody reads any more.
    """
    check_context(context)
    out = ffi.new("glass_stream **")
    stated = SIZE_UNKNOWN if size is None else size
    status = lib.glass_stream_create(chunks.context(), out, as_key(key).handle, stated, context, len(context))
    return _pump(own(status, out), source, target, check_threads(threads), progress)


def decrypt_pipe(
    source: int, target: int, *, key: bytes | Key, context: bytes = b"", threads: int = 2, bare: bool = False,
    progress: Progress | None = None, expect: Progress | None = None,
) -> Message:  # fmt: skip
    """Decrypt what a descriptor gives until its end to another one (-1: only verify); return header and size.

    Only verified chunks are written, in order; without a return from here they are not all. expect: called with the size that
    the header states, if it does. Raises as decrypt_file.
    """
    head = 56 if bare else HEADER_SIZE
    header = _read_header(source, head)
    if len(header) < head:
        raise error(lib.GLASS_ERR_TRUNCATED, stat_of(lib.GLASS_STREAM_TRUNCATED), "the input")
    stream = accept(header, key=as_key(key), app_context=context, bare=bare)
    stated = facts_of(stream)
    _refuse_parts(stated)
    if stated.size != SIZE_UNKNOWN:
        if expect is not None:
            expect(stated.size)
        if target >= 0 and stat_module.S_ISREG(os.fstat(target).st_mode):
            _require_room(os.fstatvfs(target), stated.size)
    return _pump(stream, source, target, check_threads(threads), progress)


def _read_header(source: int, size: int) -> bytes:
    """Return the first `size` bytes that a descriptor gives, fewer if it ends; it may be one that does not wait."""
    header, waiter = b"", select.poll()
    waiter.register(source, select.POLLIN)
    try:
        while len(header) < size:
            try:
                part = os.read(source, size - len(header))
            except BlockingIOError:
                waiter.poll()
                continue
            if not part:
                break
            header += part
    except OSError as error:
        raise StorageError(
            "stream.io.failed", f"the input: {os.strerror(error.errno or 0).lower()}", errno=error.errno
        ) from None
    return header


def _pump(stream: Any, source: int, target: int, threads: int, progress: Progress | None) -> Message:
    facts, stat = facts_of(stream), ffi.new("glass_stream_stat *")
    try:
        run(
            lambda: lib.glass_stream_pump_fd(stream, stat, source, target, threads),
            stat, size=SIZE_UNKNOWN, what="the input", progress=progress,
        )  # fmt: skip
    except StorageError:
        if stat.os_errno == errno.EPIPE:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from None
        raise
    return Message(facts.header, facts.kind, stat.bytes, None)


def _check_name(path: str | os.PathLike[str]) -> None:
    """Raise StorageError for what can be the name of no file: text with a NUL or a lone surrogate."""
    try:
        named = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        named = False
    if not named:
        name = os.fspath(path)
        raise StorageError("fs.file.missing", f"{name!r} cannot be the name of a file", path=name)


class _Opened:
    """Descriptor and facts of a file opened for reading, closed at the end of the block; an OSError there is a StorageError."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        _check_name(path)
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise storage_error(error, path) from None
        self._facts = os.fstat(self._descriptor)
        if stat_module.S_ISDIR(self._facts.st_mode):
            os.close(self._descriptor)
            raise UsageError("stream.source.directory", f"{os.fspath(path)!r} is a directory, a file must be given")

    def __enter__(self) -> tuple[int, os.stat_result]:
        return self._descriptor, self._facts

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)
        if isinstance(error, OSError):
            raise storage_error(error, self._path) from None


def open_source(path: str | os.PathLike[str]) -> BinaryIO:
    """Return a file opened for reading without a buffer; StorageError if it is missing, UsageError for a directory."""
    with _Opened(path) as (file, _):
        return os.fdopen(os.dup(file), "rb", buffering=0)


def _from_device(  # noqa: PLR0917 - what decrypt_file was given
    file: int, target: str | os.PathLike[str] | None, mode: int, key: Key, threads: int, context: bytes,
    progress: Progress | None, *, bare: bool,
) -> Message:  # fmt: skip
    """Decrypt a pipe or device to a new file or to nowhere."""
    if target is None:
        return decrypt_pipe(file, -1, key=key, threads=threads, context=context, progress=progress, bare=bare)
    with PartFile(target, mode=mode) as output:
        return decrypt_pipe(file, output, key=key, threads=threads, context=context, progress=progress, bare=bare)


def precheck(target: str | os.PathLike[str], size: int) -> None:
    """Raise StorageError("stream.disk.full") if the file system of `target` says that `size` bytes do not fit."""
    folder = os.path.dirname(os.path.abspath(target))
    try:
        facts = os.statvfs(folder)
    except OSError as error:
        raise storage_error(error, folder) from None
    _require_room(facts, size, os.fspath(target))


def _require_room(facts: os.statvfs_result, size: int, path: str = "") -> None:
    free = facts.f_bavail * facts.f_frsize
    if facts.f_blocks and free < size:
        what = repr(path) if path else "the output"
        raise StorageError("stream.disk.full", f"{what} needs {size} bytes, {free} are free", path=path)


def plain_size(payload: int) -> int:
    """Return the plaintext size that a payload of this length has, 0 if none has it."""
    whole, last = divmod(payload, CHUNK_SIZE + TAG_SIZE)
    return whole * CHUNK_SIZE + last - TAG_SIZE if payload > 0 and last >= TAG_SIZE else 0


def _refuse_parts(facts: Message) -> None:
    if facts.kind != KIND_FILE:
        raise FormatError(
            "stream.kind.wrong", "the file is a part of a package, not a single file",
            hint="decrypt the directory that it is in",
        )  # fmt: skip


def _push(stream: Any, stat: Any, data: bytes | bytearray | memoryview) -> bytes:
    data = memoryview(data).cast("B")  # whose length is in bytes
    out = bytearray(lib.glass_stream_push_bound(stream, len(data)))
    got = ffi.new("size_t *")
    with ffi.from_buffer(out) as view, ffi.from_buffer(data) as source:
        check(lib.glass_stream_push(stream, stat, view, len(out), got, source, len(data)), stat, "the input")
    return bytes(memoryview(out)[: got[0]])


def _finish(stream: Any, stat: Any) -> bytes:
    out = bytearray(HEADER_SIZE + CHUNK_SIZE + TAG_SIZE)
    got = ffi.new("size_t *")
    with ffi.from_buffer(out) as view:
        check(lib.glass_stream_finish(stream, stat, view, len(out), got), stat, "the input")
    return bytes(memoryview(out)[: got[0]])
