"""The memory areas of an enclave, from manifest.sgx and libpal.so: where Gramine's signer and loader put what.

Invariants: `areas` is the order in which pages are added and hashed; areas do not overlap, are page aligned and lie in
[0, size). Same constants for Gramine 1.5 to 1.9. Source: docs/bundle-format.md, "Memory layout".
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from glasscase.errors import FormatError
from glasscase.gramine.elf import PAGE, PF_R, PF_W, PF_X, PalImage, Segment, page_up, read_pal
from glasscase.gramine.manifest import parse_manifest
from glasscase.gramine.options import EnclaveOptions, enclave_options

SSA_FRAME = 4 * PAGE  # bytes
SSA_FRAMES = 2  # a thread
STACK = 0x40000  # bytes
SIGNAL_STACK = 0x10000  # bytes
HEAP_MIN = 0x10000
CANARY = 0xBADBADBADBAD
GPR_SIZE = 184  # bytes at the end of an SSA frame

SECINFO_R, SECINFO_W, SECINFO_X, SECINFO_TCS, SECINFO_REG = 0x1, 0x2, 0x4, 0x100, 0x200
_REG_RW = SECINFO_REG | SECINFO_R | SECINFO_W


@dataclass(frozen=True)
class EnclaveArea:
    """One run of pages with the same SECINFO flags. thread: whose stack it is; segment: its part of libpal.so.

    measured: its content is hashed; otherwise only that its pages were added.
    """

    name: str
    start: int
    size: int
    flags: int
    measured: bool = True
    thread: int | None = None
    segment: Segment | None = None

    @property
    def end(self) -> int:
        """Return the first address behind it."""
        return self.start + self.size


@dataclass(frozen=True)
class EnclaveLayout:
    """All areas of one enclave, in the order in which they are measured.

    manifest: the measured text, without its NUL; document: what it says. pal_start: where address 0 of libpal.so lies, which
    is the end of the heap.
    """

    options: EnclaveOptions
    manifest: bytes
    document: Mapping[str, Any]
    pal: PalImage
    pal_start: int
    areas: tuple[EnclaveArea, ...]

    @property
    def size(self) -> int:
        """Return the bytes of address space (ELRANGE)."""
        return self.options.size

    def area(self, name: str, thread: int | None = None) -> EnclaveArea:
        """Return the first area of a name, and of a thread where it has one."""
        return next(area for area in self.areas if area.name == name and area.thread == thread)


def layout(manifest_sgx: bytes, libpal: bytes) -> EnclaveLayout:
    """Return the layout that Gramine gives the enclave of these two files.

    Raises FormatError: gramine.manifest.*, gramine.pal.*, or gramine.enclave.too_small.
    """
    document = parse_manifest(manifest_sgx)
    options = enclave_options(document)
    pal = read_pal(libpal)
    threads = options.max_threads
    plan: list[tuple[str, int, int, int | None]] = [
        ("manifest", page_up(len(manifest_sgx) + 1), SECINFO_REG | SECINFO_R, None),
        ("ssa", threads * SSA_FRAMES * SSA_FRAME, _REG_RW, None),
        ("tcs", threads * PAGE, SECINFO_TCS, None),
        ("tls", threads * PAGE, _REG_RW, None),
    ]
    plan += [("stack", STACK, _REG_RW, thread) for thread in range(threads)]
    plan += [("sig_stack", SIGNAL_STACK, _REG_RW, thread) for thread in range(threads)]
    top = options.size
    areas = []
    for name, size, flags, thread in plan:
        top -= size
        areas.append(EnclaveArea(name=name, start=top, size=size, flags=flags, thread=thread))
    base = top - pal.size
    if base < HEAP_MIN:
        needed = options.size - base + HEAP_MIN
        raise FormatError(
            "gramine.enclave.too_small",
            f"the enclave has {options.size} bytes, manifest, {threads} threads and libpal.so need at least {needed}",
            hint="raise sgx.enclave_size or lower sgx.max_threads",
            what="manifest",
        )
    areas += [_pal_area(segment, base) for segment in pal.segments if segment.end > segment.first]
    if not options.edmm and base > HEAP_MIN:
        flags = _REG_RW | SECINFO_X
        areas.append(EnclaveArea(name="free", start=HEAP_MIN, size=base - HEAP_MIN, flags=flags, measured=False))
    return EnclaveLayout(
        options=options,
        manifest=bytes(manifest_sgx),
        document=document,
        pal=pal,
        pal_start=base,
        areas=tuple(areas),
    )


def manifest_pages(plan: EnclaveLayout) -> bytes:
    """Return the manifest's pages: its text, a NUL, zeros."""
    return plan.manifest + bytes(plan.area("manifest").size - len(plan.manifest))


def tcs_pages(plan: EnclaveLayout) -> bytes:
    """Return one page of thread control structure for each thread."""
    ssa, tls = plan.area("ssa").start, plan.area("tls").start
    pages = bytearray(plan.area("tcs").size)
    for thread in range(plan.options.max_threads):
        at = thread * PAGE
        struct.pack_into("<Q", pages, at + 0x10, ssa + thread * SSA_FRAMES * SSA_FRAME)  # OSSA
        struct.pack_into("<I", pages, at + 0x1C, SSA_FRAMES)  # NSSA
        struct.pack_into("<Q", pages, at + 0x20, plan.pal_start + plan.pal.entry)  # OENTRY
        struct.pack_into("<Q", pages, at + 0x38, tls + at)  # OGSBASE
        struct.pack_into("<II", pages, at + 0x40, 0xFFF, 0xFFF)  # OFSLIMIT, OGSLIMIT
    return bytes(pages)


def tls_pages(plan: EnclaveLayout) -> bytes:
    """Return one page for each thread with the thread control block of Gramine's PAL."""
    tls, tcs, ssa_area = plan.area("tls").start, plan.area("tcs").start, plan.area("ssa").start
    stacks = [area for area in plan.areas if area.name == "stack"]
    signal_stacks = [area for area in plan.areas if area.name == "sig_stack"]
    pages = bytearray(plan.area("tls").size)
    for thread in range(plan.options.max_threads):
        ssa = ssa_area + thread * SSA_FRAMES * SSA_FRAME
        fields = {
            0x000: tls + thread * PAGE,  # self
            0x008: CANARY,
            0x110: plan.size,
            0x118: tcs + thread * PAGE,
            0x120: stacks[thread].end,
            0x130: signal_stacks[thread].start,
            0x138: signal_stacks[thread].end,
            0x148: ssa,
            0x150: ssa + SSA_FRAME - GPR_SIZE,
            0x1A0: len(plan.manifest) + 1,
            0x1A8: HEAP_MIN,
            0x1B0: plan.pal_start,
        }
        for offset, value in fields.items():
            struct.pack_into("<Q", pages, thread * PAGE + offset, value)
    return bytes(pages)


def _pal_area(segment: Segment, base: int) -> EnclaveArea:
    flags = SECINFO_REG
    for elf_flag, secinfo_flag in ((PF_R, SECINFO_R), (PF_W, SECINFO_W), (PF_X, SECINFO_X)):
        flags |= secinfo_flag if segment.flags & elf_flag else 0
    return EnclaveArea(
        name="pal", start=base + segment.first, size=segment.end - segment.first, flags=flags, segment=segment
    )
