"""Random access to an encrypted file.

Invariants: the size is authentic from the start; bytes come only from chunks whose tag held, straight into the caller's
buffer; a reader that met a forged chunk stays dead. Only pread is used.
Source: docs/stream-format.md.
"""

import io
import os
import threading
from typing import Any

from glasscase._native import ffi, lib
from glasscase.core import chunks, handles
from glasscase.core.chunks import HEADER_SIZE, Key, check_context, check_threads, run
from glasscase.core.faults import check, error
from glasscase.errors import FormatError

_LONG_READ = 64 << 20  # bytes
_BYTES = ffi.typeof("uint8_t[]")  # a name is looked up at each call, which a read of 4 KiB feels
_STAT = ffi.typeof("glass_stream_stat *")
_SIZE = ffi.typeof("size_t *")
_pread = lib.glass_reader_pread


class Helpers:
    """How many threads besides their callers the readers that share it may have at a time."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._lock = threading.Lock()

    def take(self, wanted: int) -> int:
        """Return how many there are now, at most `wanted`; nobody waits."""
        with self._lock:
            taken = min(wanted, self._left)
            self._left -= taken
        return taken

    def give(self, taken: int) -> None:
        """Return what was taken."""
        with self._lock:
            self._left += taken


class Reader(io.RawIOBase):
    """An encrypted file as a seekable raw stream that decrypts on demand, straight into the caller's buffer.

    Owns the descriptor and closes it. `pread` may be called from many threads at once. Every chunk that is read must be
    authentic, and with a leaf list the very content of its leaf; after one that is not, every read raises.
    header: what the file must begin with, if that is known. kind: what it must be. helpers: whose threads are used beyond the
    caller's own.
    """

    def __init__(
        self, descriptor: int, *, key: Key, context: bytes = b"", header: bytes | None = None, threads: int = 1,
        kind: int | None = None, bare: bool = False, helpers: Helpers | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self._descriptor = descriptor
        self._threads = check_threads(threads)
        self._helpers = helpers
        self._position = 0
        self._lock = threading.Lock()
        self._leaf_descriptor = -1
        self._handle: Any = None
        try:
            self._open(key, context, header, kind, bare=bare)
        except BaseException:
            self.close()
            raise

    def _open(self, key: Key, app_context: bytes, header: bytes | None, kind: int | None, *, bare: bool) -> None:
        check_context(app_context, bare=bare)
        if header is not None and len(header) != HEADER_SIZE:
            raise FormatError("stream.header.malformed", f"a header has {HEADER_SIZE} bytes, this one {len(header)}")
        out = ffi.new("glass_reader **")
        stat = ffi.new("glass_stream_stat *")
        tail = (app_context, len(app_context))
        if bare:
            status = lib.glass_reader_new_bare(chunks.context(), out, stat, key.handle, self._descriptor, *tail)
        else:
            expect = ffi.NULL if header is None else header
            status = lib.glass_reader_new(chunks.context(), out, stat, key.handle, self._descriptor, expect, *tail)
        check(status, stat, "the file")
        self._handle = ffi.gc(out[0], lib.glass_reader_free)
        facts = ffi.new("glass_stream_facts *")
        handles.check(lib.glass_reader_facts(self._handle, facts), "no facts")
        if kind is not None and not bare and facts.kind != kind:
            raise FormatError("stream.kind.wrong", "the file is a part of a package, not a single file")
        self.header = bytes(facts.header)
        self.size = int(lib.glass_reader_size(self._handle))

    def check_leaves(self, leaves: "Reader", digest: bytes) -> None:
        """From now on every chunk must be the one of its leaf; takes the reader of the leaf list over.

        Raises FormatError("stream.leaf.mismatch") if the list does not hash to `digest`.
        """
        stat = ffi.new("glass_stream_stat *")
        list_handle, self._leaf_descriptor = leaves._handle, leaves._descriptor
        leaves._handle, leaves._descriptor = None, -1
        ffi.gc(list_handle, None)
        run(
            lambda: lib.glass_reader_set_leaves(self._handle, stat, list_handle, digest),
            stat, size=leaves.size, what="the leaf list",
        )  # fmt: skip
        leaves.close()

    def pread_into(self, buffer: Any, offset: int, *, threads: int | None = None) -> int:
        """Fill `buffer` from `offset`; return how many bytes that was, fewer than its length only at the end.

        Decrypts straight into the buffer, which is wiped if a chunk is not authentic.
        """
        handle = self._handle
        if handle is None:
            raise ValueError("I/O operation on closed file")
        if offset < 0:
            raise ValueError("negative offset")
        lanes = self._threads if threads is None else check_threads(threads)
        view = ffi.from_buffer(_BYTES, buffer, True)
        count, stat, got = len(view), ffi.new(_STAT), ffi.new(_SIZE)
        helpers = self._helpers if lanes > 1 else None
        if helpers is not None:
            lanes = 1 + helpers.take(lanes - 1)
        try:
            if count < _LONG_READ:
                status = _pread(handle, stat, view, got, count, offset, lanes)
                if status:
                    raise error(status, stat, "the file")
            else:
                run(lambda: _pread(handle, stat, view, got, count, offset, lanes), stat, size=count, what="the file")
        except BaseException:
            ffi.release(view)  # or the exception would hold the caller's buffer, and the keys
            handle = None
            raise
        finally:
            if helpers is not None:
                helpers.give(lanes - 1)
        return int(got[0])

    def pread(self, size: int, offset: int) -> bytes:
        """Return up to `size` bytes from `offset`, fewer only at the end."""
        buffer = bytearray(max(0, min(size, self.size - offset)))
        return bytes(memoryview(buffer)[: self.pread_into(buffer, offset)])

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` from the current position without a copy; return the number of bytes, 0 at the end."""
        with self._lock:
            got = self.pread_into(buffer, self._position)
            self._position += got
        return got

    def readall(self) -> bytes:
        """Return everything from the current position."""
        return self.read(max(0, self.size - self._position))

    def read(self, size: int | None = -1) -> bytes:
        """Return up to `size` bytes from the current position, all that is left if it is negative."""
        if size is None or size < 0:
            return self.readall()
        buffer = bytearray(max(0, min(size, self.size - self._position)))
        return bytes(memoryview(buffer)[: self.readinto(buffer)])

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position; return it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}.get(whence)
        if base is None:
            raise ValueError(f"whence {whence} is not 0, 1 or 2")
        if base + offset < 0:
            raise ValueError("negative seek position")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def close(self) -> None:
        """Wipe the keys and close the descriptor; a pread in another thread ends with an error, and the keys with it."""
        self._handle = None  # not released here: what still reads holds it
        for descriptor in (self._descriptor, self._leaf_descriptor):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._leaf_descriptor = -1
        super().close()
