"""The loadable segments of libpal.so, Gramine's PAL, which are what is measured of it.

Invariants: a PalImage begins at address 0; its segments lie in ascending order, share no page, and their bytes are all in
the file. Sections, notes and relocations play no part. Source: ELF-64 object file format; docs/bundle-format.md.
"""

import struct
from dataclasses import dataclass

from glasscase.errors import FormatError

PAGE = 4096
PAL_MAX = 64 << 20  # bytes of a libpal.so
IMAGE_MAX = 1 << 32  # bytes of address space
LOAD_MAX = 16  # segments that Gramine's loader takes
PF_X, PF_W, PF_R = 1, 2, 4
_PT_LOAD = 1
_HEADER = struct.Struct("<4sBBB9xHHIQQQIHHH")
_PROGRAM_HEADER = struct.Struct("<IIQQQQQQ")
_EM_X86_64 = 62
_TYPES = (2, 3)  # executable, shared object


@dataclass(frozen=True)
class Segment:
    """One PT_LOAD. first and end: page-aligned addresses; vaddr: where `content` begins; flags: PF_R, PF_W, PF_X."""

    first: int
    end: int
    vaddr: int
    flags: int
    content: bytes

    def filled_pages(self) -> bytes:
        """Return whole pages from `first` on that hold all of `content`; what follows them up to `end` is zeros."""
        if not self.content:
            return b""
        filled = bytes(self.vaddr - self.first) + self.content
        return filled + bytes(page_up(len(filled)) - len(filled))


@dataclass(frozen=True)
class PalImage:
    """What the loader maps of a libpal.so. size: bytes from 0 to the end of the last segment; entry: offset in it."""

    entry: int
    size: int
    segments: tuple[Segment, ...]


def read_pal(libpal: bytes) -> PalImage:
    """Return the segments of a libpal.so.

    Raises FormatError("gramine.pal.malformed") for what is no such file, FormatError("gramine.pal.unloadable") for one that
    Gramine's signer and loader would not agree about, or that the loader or the CPU refuse.
    """
    entry, raw = _program_headers(libpal)
    segments = tuple(_segment(libpal, fields) for fields in raw if fields[0] == _PT_LOAD)
    if not segments:
        raise _malformed("it has no PT_LOAD segment")
    if len(segments) > LOAD_MAX:
        raise _unloadable(f"it has {len(segments)} PT_LOAD segments, the loader takes {LOAD_MAX}")
    if segments[0].first != 0:
        raise _unloadable(
            f"it begins at {segments[0].first:#x}: a PAL with a fixed base is measured and loaded differently"
        )
    end = 0
    for segment in segments:
        if segment.first < end:
            raise _unloadable(f"the segment at {segment.first:#x} shares a page with another or is out of order")
        end = max(end, segment.end)
    if not 0 <= entry < end:
        raise _unloadable(f"its entry {entry:#x} lies outside of it")
    return PalImage(entry=entry, size=end, segments=segments)


def _program_headers(libpal: bytes) -> tuple[int, list[tuple[int, ...]]]:
    if len(libpal) > PAL_MAX:
        raise _malformed(f"it has {len(libpal)} bytes, at most {PAL_MAX} are allowed")
    if len(libpal) < _HEADER.size + 6:
        raise _malformed("it is too short for an ELF file")
    magic, kind, order, version, etype, machine, _, entry, offset, _, _, _, size, count = _HEADER.unpack_from(libpal)
    if (magic, kind, order, version) != (b"\x7fELF", 2, 1, 1) or machine != _EM_X86_64 or etype not in _TYPES:
        raise _malformed("it is not an ELF file for x86-64")
    if size != _PROGRAM_HEADER.size or offset > len(libpal) or count * size > len(libpal) - offset:
        raise _malformed("its program headers lie outside of the file")
    return entry, [_PROGRAM_HEADER.unpack_from(libpal, offset + index * size) for index in range(count)]


def _segment(libpal: bytes, fields: tuple[int, ...]) -> Segment:
    _, flags, offset, vaddr, _, file_size, memory_size, _ = fields
    if vaddr > IMAGE_MAX or memory_size > IMAGE_MAX - vaddr:
        raise _unloadable(f"a segment at {vaddr:#x} of {memory_size:#x} bytes is beyond any enclave")
    if file_size > memory_size:
        raise _unloadable(f"the segment at {vaddr:#x} has more bytes in the file than in memory")
    if offset > len(libpal) or file_size > len(libpal) - offset:
        raise _unloadable(f"the segment at {vaddr:#x} ends beyond the end of the file")
    if offset % PAGE != vaddr % PAGE:
        raise _unloadable(f"the segment at {vaddr:#x} has file offset {offset:#x}: not congruent modulo the page size")
    return Segment(
        first=vaddr - vaddr % PAGE,
        end=page_up(vaddr + memory_size),
        vaddr=vaddr,
        flags=flags & (PF_R | PF_W | PF_X),
        content=bytes(libpal[offset : offset + file_size]),
    )


def page_up(size: int) -> int:
    """Return `size` rounded up to whole pages."""
    return -(-size // PAGE) * PAGE


def _malformed(why: str) -> FormatError:
    return FormatError("gramine.pal.malformed", f"libpal.so is not usable: {why}", what="libpal.so")


def _unloadable(why: str) -> FormatError:
    return FormatError("gramine.pal.unloadable", f"libpal.so cannot be loaded: {why}", what="libpal.so")
