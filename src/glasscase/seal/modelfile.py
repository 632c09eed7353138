"""A model file of either known form, told apart by its first bytes.

Source: docs/stream-format.md, "Models".
"""

from typing import Any

from glasscase.seal import gguf, safetensors
from glasscase.seal.tensors import TensorFile, file_size, fill


def open_tensors(file: Any) -> TensorFile:
    """Return the tensors of an open safetensors or GGUF file; the file is closed with the result, also when this fails.

    file: seekable and readable, such as glasscase.runtime.open_encrypted gives. Raises FormatError if it is neither.
    """
    try:
        head = bytearray(8)
        if file_size(file) >= 8:
            fill(file, memoryview(head), 0)
        return gguf.read(file) if head[:4] == gguf.MAGIC else safetensors.read(file)
    except BaseException:
        file.close()
        raise
