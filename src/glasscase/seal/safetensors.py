"""The index of a safetensors file: eight bytes of length, a JSON header, then the tensors without a gap.

Invariants: as the format demands, the tensors cover the rest of the file exactly.
Source: the format's own description (huggingface/safetensors, README, "Format").
"""

from typing import Any

from glasscase.codec import strictjson
from glasscase.errors import FormatError
from glasscase.seal.tensors import (
    DIMENSIONS_MAX,
    TENSORS_MAX,
    Tensor,
    TensorFile,
    check_layout,
    file_size,
    fill,
    plain_type,
    tensor_size,
)

HEADER_MAX = 100 << 20  # bytes, the format's own limit
_MALFORMED = "package.tensor.malformed"


def read(file: Any) -> TensorFile:
    """Return the tensors of an open safetensors file. Raises FormatError for anything that the format does not allow."""
    total = file_size(file)
    head = bytearray(8)
    if total < 8:
        raise FormatError(_MALFORMED, "the file is too short to be a safetensors file")
    fill(file, memoryview(head), 0)
    length = int.from_bytes(head, "little")
    if not 2 <= length <= HEADER_MAX or 8 + length > total:
        raise FormatError(_MALFORMED, f"the header of the safetensors file states {length} bytes")
    raw = bytearray(length)
    fill(file, memoryview(raw), 8)
    header = strictjson.parse(bytes(raw), max_bytes=HEADER_MAX, what="safetensors header")
    if raw[:1] != b"{" or not isinstance(header, dict) or len(header) > TENSORS_MAX:
        raise FormatError(_MALFORMED, "the header of the safetensors file is not an object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FormatError(_MALFORMED, "the metadata of the safetensors file are not texts")
    tensors = {name: _tensor(name, entry, 8 + length) for name, entry in header.items()}
    check_layout(list(tensors.values()), total)
    if sum(tensor.size for tensor in tensors.values()) != total - 8 - length:
        raise FormatError("package.tensor.layout", "the tensors do not cover the whole safetensors file")
    return TensorFile(file, tensors, metadata)


def _tensor(name: str, entry: Any, start: int) -> Tensor:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise FormatError(_MALFORMED, f"the tensor {name!r} has other fields than the format's")
    shape, offsets, kind = entry["shape"], entry["data_offsets"], entry["dtype"]
    if not _counts(shape) or len(shape) > DIMENSIONS_MAX or not _counts(offsets) or len(offsets) != 2:
        raise FormatError(_MALFORMED, f"the tensor {name!r} has a shape or offsets that are not numbers")
    block = plain_type(kind) if isinstance(kind, str) else None
    if block is None:
        raise FormatError("package.tensor.unsupported", f"the tensor {name!r} has the unknown type {str(kind)[:32]!r}")
    size = tensor_size(tuple(shape), block)
    if size is None or offsets[1] - offsets[0] != size:
        raise FormatError("package.tensor.layout", f"the tensor {name!r} has another size than its shape")
    return Tensor(name, kind, tuple(shape), start + offsets[0], size, block)


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)
