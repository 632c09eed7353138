"""Tensors of a model file, read straight into the arrays that the application keeps: no second copy in memory.

Invariants: the index of a file is checked before a tensor is read: known types, sizes that follow from the shapes, no overlap,
nothing outside the file. Every byte comes through the file that was given, which authenticates it.
Source: docs/stream-format.md, "Models".
"""

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from glasscase.errors import FormatError, UsageError

NAME_MAX = 1024  # bytes
TENSORS_MAX = 1_000_000
DIMENSIONS_MAX = 16

# type name -> (NumPy type that holds it, elements in a block, bytes of a block); without a NumPy type of its own the bits
# are handed out in an unsigned one
_PLAIN = {
    "BOOL": ("bool", 1), "U8": ("uint8", 1), "I8": ("int8", 1), "F8_E4M3": ("uint8", 1), "F8_E5M2": ("uint8", 1),
    "U16": ("uint16", 2), "I16": ("int16", 2), "F16": ("float16", 2), "BF16": ("uint16", 2), "U32": ("uint32", 4),
    "I32": ("int32", 4), "F32": ("float32", 4), "U64": ("uint64", 8), "I64": ("int64", 8), "F64": ("float64", 8),
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """Where a tensor stands. type: "F32", "BF16", "Q4_0", ... shape: outermost first. offset, size: bytes in the file.

    block: elements and bytes of one block, for quantised types; (1, n) else.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    offset: int
    size: int
    block: tuple[int, int]

    @property
    def quantised(self) -> bool:
        """Return whether several elements share a block of bytes."""
        return self.block[0] > 1


class TensorFile:
    """The tensors of one open file, by name, and what the file says about itself."""

    def __init__(self, file: Any, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
        self._file = file
        self.tensors = dict(tensors)
        self.metadata = dict(metadata)

    def __enter__(self) -> "TensorFile":
        return self

    def __exit__(self, *_failure: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def numpy(self, name: str, *, out: Any = None, threads: int = 2) -> Any:
        """Return a tensor as a NumPy array, filled in place; out: an array of the same size to be filled instead.

        Types that NumPy lacks come as their bits (BF16 as uint16), quantised ones as rows of uint8.
        """
        import numpy as np

        tensor = self._find(name)
        array: Any = np.empty(_array_shape(tensor), _array_type(tensor)) if out is None else out
        if array.nbytes != tensor.size or not array.flags.c_contiguous:
            raise UsageError("package.tensor.buffer", f"{name!r} needs {tensor.size} contiguous bytes")
        if tensor.size:
            fill(self._file, memoryview(array.reshape(-1)).cast("B"), tensor.offset, threads=threads)
        return array

    def torch(self, name: str, *, threads: int = 2) -> Any:
        """Return a tensor as a torch tensor, filled in place. Quantised types come as rows of uint8."""
        torch = importlib.import_module("torch")
        tensor = self._find(name)
        kind = "uint8" if tensor.quantised else _TORCH.get(tensor.type)
        if kind is None or not hasattr(torch, kind):
            raise UsageError("package.tensor.unavailable", f"torch has no type for {tensor.type}")
        made = torch.empty(_array_shape(tensor), dtype=getattr(torch, kind))
        if tensor.size:
            fill(self._file, memoryview(made.view(-1).view(torch.uint8).numpy()), tensor.offset, threads=threads)
        return made

    def load(self, *, threads: int = 2) -> dict[str, Any]:
        """Return all tensors as NumPy arrays; memory in use is the tensors and a few MiB."""
        return {name: self.numpy(name, threads=threads) for name in self.tensors}

    def _find(self, name: str) -> Tensor:
        found = self.tensors.get(name)
        if found is None:
            raise UsageError("package.tensor.unknown", f"there is no tensor {name!r}")
        return found


def plain_type(name: str) -> tuple[int, int] | None:
    """Return the block of a type that is not quantised, None if there is no such type."""
    found = _PLAIN.get(name)
    return None if found is None else (1, found[1])


def tensor_size(shape: tuple[int, ...], block: tuple[int, int]) -> int | None:
    """Return the bytes that a shape needs, None if the innermost dimension is not a number of whole blocks."""
    elements, size = block
    if elements > 1 and (not shape or shape[-1] % elements):
        return None
    return math.prod(shape) // elements * size


def check_layout(tensors: list[Tensor], end: int) -> None:
    """Return if no two tensors overlap and none ends behind `end`; raises FormatError("package.tensor.layout")."""
    before = 0
    for tensor in sorted(tensors, key=lambda tensor: (tensor.offset, tensor.size)):
        if tensor.offset < before or tensor.offset + tensor.size > end:
            raise FormatError(
                "package.tensor.layout", f"{tensor.name!r} overlaps another tensor or the end of the file"
            )
        before = tensor.offset + tensor.size


def fill(file: Any, view: memoryview, offset: int, *, threads: int = 2) -> None:
    """Fill `view` from a place in the file, by the reader's own threads if it has any; FormatError if the file ends."""
    done = 0
    if hasattr(file, "pread_into"):
        done = file.pread_into(view, offset, threads=threads)
    else:
        file.seek(offset)
        while done < len(view) and (got := file.readinto(view[done:])):
            done += got
    if done < len(view):
        raise FormatError("package.tensor.layout", f"the model file ends {len(view) - done} bytes too early")


def file_size(file: Any) -> int:
    """Return the length of an open file."""
    return int(file.size) if hasattr(file, "pread_into") else int(file.seek(0, 2))


def _array_shape(tensor: Tensor) -> tuple[int, ...]:
    if not tensor.quantised:
        return tensor.shape
    return (*tensor.shape[:-1], tensor.shape[-1] // tensor.block[0] * tensor.block[1])


def _array_type(tensor: Tensor) -> str:
    return "uint8" if tensor.quantised else _PLAIN[tensor.type][0]


_TORCH = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "U16": "uint16",
    "I16": "int16", "F16": "float16", "BF16": "bfloat16", "U32": "uint32", "I32": "int32", "F32": "float32",
    "U64": "uint64", "I64": "int64", "F64": "float64",
}  # fmt: skip
