"""ELF files for tests, made field by field."""

import struct

PAGE = 4096


def pal(segments, *, entry=0x10, kind=3, machine=62, size=None, phentsize=56, magic=b"\x7fELF\x02\x01\x01"):
    """Return an ELF file with PT_LOADs (vaddr, content, memory size, flags[, offset]) and nothing else."""
    headers, body = b"", b""
    at = 64 + 56 * len(segments)
    for vaddr, content, memory, flags, *rest in segments:
        offset = rest[0] if rest else at + (vaddr - at) % PAGE
        if not rest:
            body += bytes(offset - at) + content
            at = offset + len(content)
        headers += struct.pack("<IIQQQQQQ", 1, flags, offset, vaddr, vaddr, len(content), memory, PAGE)
    head = (
        magic
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", kind, machine, 1, entry, 64, 0, 0, 64, phentsize, len(segments), 0, 0, 0)
    )
    whole = head + headers + body
    return whole if size is None else whole[:size]


PLAIN = pal([(0, b"\x90" * 0x123, 0x123, 5), (0x3E60, b"data" * 9, 0x2000, 6)])


def manifest(**sgx):
    """Return a manifest.sgx that the loader takes, with fields of the table sgx changed; None removes one."""
    from glasscase.gramine.toml import write_toml

    fields = {"enclave_size": "64M", "max_threads": 4, "trusted_files": [], "isvprodid": 0, "isvsvn": 0}
    fields = {key: value for key, value in (fields | sgx).items() if value is not None}
    return write_toml({"loader": {"entrypoint": {"uri": "file:x", "sha256": "00" * 32}}, "sgx": fields})
