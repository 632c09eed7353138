"""Read a safetensors file: eight bytes of length, a JSON header, then the tensors one after the other."""

import json

import numpy as np

HEADER_MAX = 100 << 20  # bytes
TYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "U8": np.uint8}


def read_tensors(file):
    """Return metadata and name -> array. Each array is filled in place: no second copy of the model in memory."""
    length = int.from_bytes(_read(file, 8), "little")
    if length > HEADER_MAX:
        raise ValueError("the header is too long")
    header = json.loads(_read(file, length))
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        array = np.empty(entry["shape"], TYPES[entry["dtype"]])
        if array.nbytes != end - start:
            raise ValueError(f"{name} has another size than its shape")
        file.seek(8 + length + start)
        _fill(file, memoryview(array.reshape(-1)).cast("B"))
        tensors[name] = array
    return metadata, tensors


def _read(file, count):
    buffer = bytearray(count)
    _fill(file, memoryview(buffer))
    return bytes(buffer)


def _fill(file, view):
    while view:
        count = file.readinto(view)
        if not count:
            raise ValueError("the file ends too early")
        view = view[count:]
