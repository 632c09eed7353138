"""A writer of small ELF files for x86-64, in the shape that Gramine's own binaries have.

Invariants: the bytes follow from the arguments alone, no compiler or linker takes part; segments begin at address 0, are
congruent to their file offsets modulo the page size and share no page.
Source: System V ABI, AMD64 supplement; generic ABI, chapters "Object Files" and "Program Loading".
"""

import struct
from dataclasses import dataclass

PAGE = 4096  # bytes
READ_EXECUTE = 5
READ_WRITE = 6
ET_EXEC = 2
ET_DYN = 3
_EM_X86_64 = 62
_PT_LOAD = 1
_PT_DYNAMIC = 2
_PT_GNU_STACK = 0x6474E551
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_HEADERS = 4
HEADERS_SIZE = _HEADER.size + _HEADERS * _PROGRAM_HEADER.size
_DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SYMENT, _DT_SONAME = 4, 5, 6, 10, 11, 14
_DYNAMIC_SIZE = 7 * 16


@dataclass(frozen=True)
class Image:
    """A program of two segments: code from address 0 (R-X, headers first) and variables (RW-), then zeros.

    code: machine code and constants, placed behind the headers; entry: its offset in `code`; variables: content of the
    writable segment, to which the dynamic section is added; zeros: bytes of bss; base: address of the first page.
    """

    kind: int
    name: str
    code: bytes
    entry: int
    variables: bytes
    zeros: int
    base: int = 0

    def encode(self) -> bytes:
        """Return the file."""
        names = b"\0" + self.name.encode("ascii") + b"\0"
        tables = struct.pack("<IIII", 1, 1, 0, 0) + bytes(24) + names  # hash table, null symbol, strings
        text = self.code + bytes(-len(self.code) % 16) + tables
        text_size = HEADERS_SIZE + len(text)
        data_offset = text_size + -text_size % PAGE
        tables_at = self.base + text_size - len(tables)
        data = self._dynamic(tables_at, len(names)) + self.variables
        data_address = self.base + data_offset + PAGE  # one page that is never mapped, as linkers leave it
        programs = (
            (_PT_LOAD, READ_EXECUTE, 0, self.base, text_size, text_size, PAGE),
            (_PT_LOAD, READ_WRITE, data_offset, data_address, len(data), len(data) + self.zeros, PAGE),
            (_PT_DYNAMIC, READ_WRITE, data_offset, data_address, _DYNAMIC_SIZE, _DYNAMIC_SIZE, 8),
            (_PT_GNU_STACK, READ_WRITE, 0, 0, 0, 0, 16),
        )
        header = _HEADER.pack(
            b"\x7fELF\x02\x01\x01".ljust(16, b"\0"), self.kind, _EM_X86_64, 1, self.base + HEADERS_SIZE + self.entry,
            _HEADER.size, 0, 0, _HEADER.size, _PROGRAM_HEADER.size, _HEADERS, 0, 0, 0,
        )  # fmt: skip
        table = b"".join(
            _PROGRAM_HEADER.pack(kind, flags, offset, address, address, filed, mapped, align)
            for kind, flags, offset, address, filed, mapped, align in programs
        )
        return (header + table + text).ljust(data_offset, b"\0") + data

    def _dynamic(self, tables_at: int, names_size: int) -> bytes:
        entries = (
            (_DT_HASH, tables_at), (_DT_SYMTAB, tables_at + 16), (_DT_SYMENT, 24),
            (_DT_STRTAB, tables_at + 40), (_DT_STRSZ, names_size), (_DT_SONAME, 1), (0, 0),
        )  # fmt: skip
        return b"".join(struct.pack("<QQ", tag, value) for tag, value in entries)


def say_and_exit(message: bytes, status: int) -> bytes:
    """Return machine code that writes `message` to standard error and exits with `status`; the message stands behind it."""
    code_size = 38
    return b"".join(
        (
            b"\xb8\x01\x00\x00\x00",  # mov eax, 1 (write)
            b"\xbf\x02\x00\x00\x00",  # mov edi, 2
            b"\x48\x8d\x35" + struct.pack("<i", code_size - 17),  # lea rsi, [rip + message]
            b"\xba" + struct.pack("<i", len(message)),  # mov edx, length
            b"\x0f\x05",  # syscall
            b"\xb8\x3c\x00\x00\x00",  # mov eax, 60 (exit)
            b"\xbf" + struct.pack("<i", status),  # mov edi, status
            b"\x0f\x05",  # syscall
            b"\x0f\x0b",  # ud2
            message,
        )
    )
