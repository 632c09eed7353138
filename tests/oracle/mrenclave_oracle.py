"""MRENCLAVE and SIGSTRUCT once more, written apart from src: one page and one record at a time, pyelftools for the ELF.

It serves only as a second opinion in tests. It refuses nothing: what both sides refuse is tested elsewhere.
"""

import hashlib
import io
import struct
import tomllib

from elftools.elf.elffile import ELFFile

UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


def mrenclave(manifest: bytes, libpal: bytes) -> bytes:
    """Return the 32 bytes for a manifest.sgx and a libpal.so, by the rules of the signing tool."""
    sgx = tomllib.loads(manifest.decode())["sgx"]
    size = int(sgx["enclave_size"].rstrip("KMG")) * UNITS.get(sgx["enclave_size"][-1], 1)
    threads = range(sgx["max_threads"])
    elf = ELFFile(io.BytesIO(libpal))
    loads = [segment for segment in elf.iter_segments() if segment["p_type"] == "PT_LOAD"]
    pal_end = max(-(-(s["p_vaddr"] + s["p_memsz"]) // 4096) * 4096 for s in loads)
    text = manifest + b"\0"
    text += bytes(-len(text) % 4096)

    address = size
    place = {}
    for name, length in [
        ("manifest", len(text)), ("ssa", 0x8000 * len(threads)), ("tcs", 4096 * len(threads)), ("tls", 4096 * len(threads)),
        *[(("stack", t), 0x40000) for t in threads], *[(("signal", t), 0x10000) for t in threads], ("pal", pal_end),
    ]:  # fmt: skip
        address -= length
        place[name] = address

    digest = hashlib.sha256(b"ECREATE\0" + struct.pack("<IQ", 4, size) + bytes(44))

    def page(at: int, flags: int, content: bytes | None) -> None:
        digest.update(b"EADD" + bytes(4) + struct.pack("<QQ", at, flags) + bytes(40))
        for offset in range(0, 4096 if content is not None else 0, 256):
            digest.update(b"EEXTEND\0" + struct.pack("<Q", at + offset) + bytes(48) + content[offset : offset + 256])

    for offset in range(0, len(text), 4096):
        page(place["manifest"] + offset, 0x201, text[offset : offset + 4096])
    for index in range(8 * len(threads)):
        page(place["ssa"] + 4096 * index, 0x203, bytes(4096))
    for t in threads:
        tcs = bytearray(4096)
        tcs[0x10:0x18] = struct.pack("<Q", place["ssa"] + 0x8000 * t)
        tcs[0x1C:0x20] = struct.pack("<I", 2)
        tcs[0x20:0x28] = struct.pack("<Q", place["pal"] + elf["e_entry"])
        tcs[0x38:0x40] = struct.pack("<Q", place["tls"] + 4096 * t)
        tcs[0x40:0x48] = struct.pack("<II", 0xFFF, 0xFFF)
        page(place["tcs"] + 4096 * t, 0x100, bytes(tcs))
    for t in threads:
        ssa = place["ssa"] + 0x8000 * t
        tls = bytearray(4096)
        for at, value in (
            (0, place["tls"] + 4096 * t), (8, 0xBADBADBADBAD), (0x110, size), (0x118, place["tcs"] + 4096 * t),
            (0x120, place["stack", t] + 0x40000), (0x130, place["signal", t]), (0x138, place["signal", t] + 0x10000),
            (0x148, ssa), (0x150, ssa + 0x4000 - 0xB8), (0x1A0, len(manifest) + 1), (0x1A8, 0x10000), (0x1B0, place["pal"]),
        ):  # fmt: skip
            tls[at : at + 8] = struct.pack("<Q", value)
        page(place["tls"] + 4096 * t, 0x203, bytes(tls))
    for name, pages in (("stack", 64), ("signal", 16)):
        for t in threads:
            for index in range(pages):
                page(place[name, t] + 4096 * index, 0x203, bytes(4096))
    for segment in loads:
        memory = bytearray(pal_end)
        start, content = segment["p_vaddr"], segment.data()
        memory[start : start + len(content)] = content
        flags = 0x200
        for elf_bit, page_bit in ((4, 1), (2, 2), (1, 4)):
            flags |= page_bit if segment["p_flags"] & elf_bit else 0
        for at in range(start - start % 4096, -(-(start + segment["p_memsz"]) // 4096) * 4096, 4096):
            page(place["pal"] + at, flags, bytes(memory[at : at + 4096]))
    if not sgx.get("edmm_enable", False):
        for at in range(0x10000, place["pal"], 4096):
            page(at, 0x207, None)
    return digest.digest()
