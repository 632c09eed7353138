"""What an application may use inside its enclave.

    from glasscase import runtime
    token = runtime.secrets["token"]
    with runtime.open_encrypted("/models/llm/weights.safetensors") as file: ...
    evidence = runtime.quote(b"what I say")

Invariants: outside a provisioned enclave everything here raises UsageError("enclave.runtime.absent").
"""

import io
import os
from typing import TYPE_CHECKING

from glasscase.enclave.handover import Secrets, handed

if TYPE_CHECKING:
    from glasscase.seal.tensors import TensorFile

secrets = Secrets()


def quote(data: bytes) -> bytes:
    """Return a quote that names this enclave instance and `data`, and cannot pass as the enclave's own claims.

    Its report data are SHA-256(label "app-quote" || instance digest || data) || SHA-256(label "app-quote").
    """
    return handed().quote(data)


def open_encrypted(path: str | os.PathLike[str]) -> io.RawIOBase:
    """Return a seekable file of the encrypted package, for example "/models/llm/weights.safetensors", with readinto.

    Every byte that comes out has been authenticated against the measured package. Raises StorageError if there is no such
    file, FormatError if the host has changed it.
    """
    return handed().open_file(os.fspath(path))


def open_tensors(path: str | os.PathLike[str]) -> "TensorFile":
    """Return the tensors of a safetensors or GGUF file of the package, read straight into NumPy or torch memory.

    `.numpy(name)`, `.torch(name)`, `.load()`; as for open_encrypted, every byte is authenticated before it is used.
    """
    from glasscase.seal import modelfile

    return modelfile.open_tensors(open_encrypted(path))
