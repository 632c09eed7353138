"""The index of a GGUF file (versions 2 and 3, little-endian): metadata, then where each tensor stands.

Invariants: counts and lengths are compared with limits before anything is read for them.
Source: the format's own description (ggml-org/ggml, docs/gguf.md).
"""

import struct
from typing import Any

from glasscase.errors import FormatError
from glasscase.seal.tensors import (
    NAME_MAX,
    TENSORS_MAX,
    Tensor,
    TensorFile,
    check_layout,
    file_size,
    fill,
    tensor_size,
)

MAGIC = b"GGUF"
VERSIONS = (2, 3)
STRING_MAX = 16 << 20  # bytes
INDEX_MAX = 256 << 20  # bytes before the first tensor
KEYS_MAX = 100_000
DIMENSIONS_MAX = 4
ALIGNMENT = 32  # bytes, unless general.alignment says otherwise
_NESTING_MAX = 4
_STEP = 1 << 20
_MALFORMED = "package.tensor.malformed"
_STRING, _ARRAY, _BOOL = 8, 9, 7
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<B", 10: "<Q", 11: "<q", 12: "<d"}
# number in the file -> name, elements and bytes of a block
_TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8),
    28: ("F64", 1, 8), 30: ("BF16", 1, 2),
    2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292), 16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136), 29: ("IQ1_M", 256, 56), 34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
}  # fmt: skip


def read(file: Any) -> TensorFile:
    """Return the tensors of an open GGUF file, shapes outermost first. Raises FormatError for what the format forbids."""
    cursor = _Cursor(file)
    if cursor.take(4) != MAGIC:
        raise FormatError(_MALFORMED, "the file is not a GGUF file")
    version = cursor.number("<I")
    if version not in VERSIONS:
        raise FormatError("package.tensor.unsupported", f"the GGUF file has version {version}, known are 2 and 3")
    count = cursor.count(TENSORS_MAX, "tensors")
    metadata: dict[str, Any] = {}
    for _ in range(cursor.count(KEYS_MAX, "metadata")):
        key = cursor.text()
        if key in metadata:
            raise FormatError(_MALFORMED, f"the GGUF key {key!r} occurs twice")
        metadata[key] = cursor.value(cursor.number("<I"), 0)
    alignment = metadata.get("general.alignment", ALIGNMENT)
    if not isinstance(alignment, int) or not 8 <= alignment <= 1 << 20 or alignment & 7:
        raise FormatError(_MALFORMED, "the alignment of the GGUF file is not a multiple of 8")
    found = [_stated(cursor) for _ in range(count)]
    start = -(-cursor.offset // alignment) * alignment
    tensors: dict[str, Tensor] = {}
    for name, kind, shape, offset in found:
        if name in tensors or offset % alignment:
            raise FormatError(_MALFORMED, f"the tensor {name!r} occurs twice or is not aligned")
        tensors[name] = _tensor(name, kind, shape, start + offset)
    check_layout(list(tensors.values()), file_size(file))
    return TensorFile(file, tensors, metadata)


def _stated(cursor: "_Cursor") -> tuple[str, int, tuple[int, ...], int]:
    name = cursor.text()
    if len(name.encode("utf-8")) > NAME_MAX:
        raise FormatError(_MALFORMED, "a tensor of the GGUF file has a name that is too long")
    dimensions = cursor.number("<I")
    if dimensions > DIMENSIONS_MAX:
        raise FormatError(_MALFORMED, f"the tensor {name!r} has {dimensions} dimensions")
    shape = tuple(cursor.number("<Q") for _ in range(dimensions))[::-1]  # innermost first in the file
    return name, cursor.number("<I"), shape, cursor.number("<Q")


def _tensor(name: str, kind: int, shape: tuple[int, ...], offset: int) -> Tensor:
    known = _TYPES.get(kind)
    if known is None:
        raise FormatError("package.tensor.unsupported", f"the tensor {name!r} has the unknown type {kind}")
    block = known[1:]
    size = tensor_size(shape, block)
    if size is None:
        raise FormatError("package.tensor.layout", f"the rows of {name!r} are not whole blocks of {known[0]}")
    return Tensor(name, known[0], shape, offset, size, block)


class _Cursor:
    """Reads the index from front to back, in steps of 1 MiB."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._end = min(file_size(file), INDEX_MAX)
        self._buffer = b""
        self._start = 0
        self.offset = 0

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        if size > self._end - self.offset:
            raise FormatError(_MALFORMED, "the index of the GGUF file ends too early or is larger than 256 MiB")
        at = self.offset - self._start
        if at + size > len(self._buffer):
            length = min(max(size, _STEP), self._end - self.offset)
            buffer = bytearray(length)
            fill(self._file, memoryview(buffer), self.offset)
            self._buffer, self._start, at = bytes(buffer), self.offset, 0
        self.offset += size
        return self._buffer[at : at + size]

    def number(self, form: str) -> Any:
        """Return one number of a struct format."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def count(self, limit: int, what: str) -> int:
        """Return a 64-bit count of at most `limit`."""
        value = int(self.number("<Q"))
        if value > limit:
            raise FormatError(_MALFORMED, f"the GGUF file states {value} {what}, at most {limit} are allowed")
        return value

    def text(self) -> str:
        """Return a string of at most 16 MiB."""
        raw = self.take(self.count(STRING_MAX, "bytes of a text"))
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise FormatError(_MALFORMED, "a text of the GGUF file is not UTF-8") from None

    def value(self, kind: int, depth: int) -> Any:
        """Return a metadata value; an array comes as a list."""
        if kind == _STRING:
            return self.text()
        if kind == _BOOL:
            return bool(self.number("<B"))
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind != _ARRAY or depth >= _NESTING_MAX:
            raise FormatError(_MALFORMED, f"the GGUF file has a value of the unknown type {kind}")
        inner = int(self.number("<I"))
        length = self.count(self._end, "values of an array")
        if inner in _SCALARS:
            size = struct.calcsize(_SCALARS[inner])
            raw = self.take(size * length)
            values = [item[0] for item in struct.iter_unpack(_SCALARS[inner], raw)]
            return [bool(item) for item in values] if inner == _BOOL else values
        return [self.value(inner, depth + 1) for _ in range(length)]
