"""What the dynamic loader will want of an ELF file: its own name, the libraries it needs, its interpreter.

Invariants: read from the file's bytes with pyelftools; nothing is loaded or run.
Source: ELF-64 object file format; System V ABI, "Dynamic Linking".
"""

import io
from dataclasses import dataclass

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import InterpSegment

from glasscase.errors import FormatError

MAGIC = b"\x7fELF"


@dataclass(frozen=True)
class DynamicInfo:
    """soname: DT_SONAME, or None. needed: DT_NEEDED in order. interpreter: PT_INTERP, or None."""

    soname: str | None
    needed: tuple[str, ...]
    interpreter: str | None


def read_dynamic(data: bytes, what: str) -> DynamicInfo:
    """Return the dynamic facts of an ELF file for x86-64; raises FormatError("gramine.elf.malformed") for anything else."""
    soname, interpreter = None, None
    needed: list[str] = []
    try:
        file = ELFFile(io.BytesIO(data))
        if file.elfclass != 64 or file["e_machine"] != "EM_X86_64":
            raise ELFError("it is not for x86-64")
        for segment in file.iter_segments():
            if isinstance(segment, InterpSegment):
                interpreter = str(segment.get_interp_name())
            if isinstance(segment, DynamicSegment):
                for tag in segment.iter_tags():
                    if tag.entry.d_tag == "DT_NEEDED":
                        needed.append(_text(tag, "needed"))
                    elif tag.entry.d_tag == "DT_SONAME":
                        soname = _text(tag, "soname")
    except (
        ELFError,
        ValueError,
        KeyError,
        IndexError,
        AttributeError,
        TypeError,
        OverflowError,
        AssertionError,
    ) as error:
        raise FormatError("gramine.elf.malformed", f"{what!r} is not a sound ELF file: {error}", what="ELF") from None
    return DynamicInfo(soname, tuple(needed), interpreter)


def _text(tag: object, name: str) -> str:
    """Return the string that pyelftools puts on a tag under this name."""
    return str(getattr(tag, name))
