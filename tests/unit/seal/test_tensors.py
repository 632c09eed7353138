"""Model files: tensors straight into arrays, in bounded memory, and malformed files refused."""

import io
import json
import struct
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from glasscase.core import stream
from glasscase.errors import Error, FormatError, UsageError
from glasscase.seal.modelfile import open_tensors

KEY = bytes(32)
ARRAYS = {
    "embed": np.arange(60_000, dtype=np.float32).reshape(300, 200), "bias": np.arange(7, dtype=np.float16),
    "mask": np.array([True, False, True]), "empty": np.zeros((0, 4), np.int64), "one": np.array(3.5),
    "deep": np.arange(24, dtype=np.int16).reshape(2, 3, 4),
}  # fmt: skip


@pytest.fixture
def encrypt(tmp_path):
    """Return a function that gives an open encrypted file of these bytes."""

    def make(data):
        (tmp_path / "plain").write_bytes(data)
        stream.encrypt_file(tmp_path / "plain", tmp_path / "sealed", key=KEY)
        return stream.open_encrypted(tmp_path / "sealed", key=KEY)

    return make


@pytest.fixture
def saved(tmp_path):
    save_file(ARRAYS, tmp_path / "m.safetensors", metadata={"maker": "test"})
    return (tmp_path / "m.safetensors").read_bytes()


def test_safetensors(encrypt, saved):
    """Every tensor of a file that the format's own library wrote comes out equal, one by one and all at once."""
    with open_tensors(encrypt(saved)) as model:
        assert {"maker": "test"} == model.metadata
        loaded = model.load()
        assert ARRAYS.keys() == loaded.keys()
        for name, array in ARRAYS.items():
            assert array.dtype == loaded[name].dtype
            assert np.array_equal(array, loaded[name]) and array.shape == loaded[name].shape
        out = np.zeros(60_000, np.float32)
        assert model.numpy("embed", out=out) is out
        assert np.array_equal(ARRAYS["embed"].reshape(-1), out)
        with pytest.raises(UsageError, match="contiguous"):
            model.numpy("embed", out=np.zeros(5))
        with pytest.raises(UsageError, match="no tensor"):
            model.numpy("nothing")


def test_plain_files_too(saved):
    """An unpacked file is read the same way."""
    with open_tensors(io.BytesIO(saved)) as model:
        assert np.array_equal(ARRAYS["deep"], model.numpy("deep"))


def test_bfloat16_bits(encrypt):
    """A type that NumPy lacks comes as its bits."""
    data = struct.pack("<4H", 0x3F80, 0x4000, 0, 0xFFFF)
    header = json.dumps({"w": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]}}).encode()
    with open_tensors(encrypt(len(header).to_bytes(8, "little") + header + data)) as model:
        assert [[0x3F80, 0x4000], [0, 0xFFFF]] == model.numpy("w").tolist()
        assert "BF16" == model.tensors["w"].type


def safetensors_file(header, data=b"12345678"):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


GOOD = {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}
BAD_SAFETENSORS = [
    b"", b"1234567", (1 << 40).to_bytes(8, "little") + b"{}", safetensors_file(b"[]"), safetensors_file(b"{"),
    safetensors_file(b'{"a":1,"a":1}'), safetensors_file({"a": {**GOOD, "extra": 1}}),
    safetensors_file({"a": {**GOOD, "dtype": "U9"}}), safetensors_file({"a": {**GOOD, "shape": [9]}}),
    safetensors_file({"a": {**GOOD, "shape": [-8]}}), safetensors_file({"a": {**GOOD, "shape": [True] * 8}}),
    safetensors_file({"a": {**GOOD, "data_offsets": [1, 9]}}), safetensors_file({"a": {**GOOD, "data_offsets": [0]}}),
    safetensors_file({"a": GOOD, "b": GOOD}), safetensors_file({"a": {**GOOD, "shape": [4], "data_offsets": [0, 4]}}),
    safetensors_file({"a": GOOD}, b"1234567"), safetensors_file({"a": GOOD}, b"123456789"),
    safetensors_file({"__metadata__": {"a": 1}, "b": GOOD}), safetensors_file({"a": {**GOOD, "shape": [8] * 40}}),
    b"GGUF" + bytes(3), b"GGUF" + struct.pack("<IQQ", 9, 0, 0), b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0),
    b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60), b"GGUF" + struct.pack("<IQQ", 3, 1, 0),
    b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 50),
]  # fmt: skip


@pytest.mark.parametrize("data", BAD_SAFETENSORS, ids=range(len(BAD_SAFETENSORS)))
def test_malformed(data):
    """Anything that the formats do not allow is refused, and the file closed."""
    file = io.BytesIO(data)
    with pytest.raises(FormatError):
        open_tensors(file)
    assert file.closed


def text(value):
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def gguf_file(tensors, keys=(), *, data=b"", alignment=32, version=3):
    """A GGUF file: tensors = (name, dims innermost first, type number, offset)."""
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(keys)) + b"".join(keys)
    for name, dims, kind, offset in tensors:
        out += text(name) + struct.pack("<I", len(dims)) + b"".join(struct.pack("<Q", d) for d in dims)
        out += struct.pack("<IQ", kind, offset)
    return out + bytes(-len(out) % alignment) + data


KEYS = [
    text("general.name") + struct.pack("<I", 8) + text("tiny"),
    text("general.alignment") + struct.pack("<II", 4, 64),
    text("layers") + struct.pack("<IQ", 10, 2),
    text("on") + struct.pack("<IB", 7, 1),
    text("tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b"),
    text("scores") + struct.pack("<IIQ2f", 9, 6, 2, 0.5, 1.5),
]


@pytest.mark.parametrize("version", [2, 3])
def test_gguf(encrypt, version):
    """Metadata, plain and quantised tensors of a GGUF file; shapes are outermost first."""
    weights = np.arange(6, dtype=np.float32)
    quantised = bytes(range(36))
    data = weights.tobytes() + bytes(64 - 24) + quantised
    made = gguf_file([("w", (3, 2), 0, 0), ("q", (64,), 2, 64)], KEYS, data=data, alignment=64, version=version)
    with open_tensors(encrypt(made)) as model:
        assert [[0, 1, 2], [3, 4, 5]] == model.numpy("w").tolist()
        assert quantised == model.numpy("q").tobytes()
        assert ("Q4_0", (64,), True) == (
            model.tensors["q"].type,
            model.tensors["q"].shape,
            model.tensors["q"].quantised,
        )
        assert {
            "general.name": "tiny", "general.alignment": 64, "layers": 2, "on": True, "tokens": ["a", "b"],
            "scores": [0.5, 1.5],
        } == model.metadata  # fmt: skip


@pytest.mark.parametrize(
    "made",
    [
        gguf_file([("w", (3,), 0, 0)], data=b"12345678901"), gguf_file([("w", (3,), 0, 8)], data=bytes(40)),
        gguf_file([("w", (3,), 99, 0)], data=bytes(12)), gguf_file([("w", (33,), 2, 0)], data=bytes(40)),
        gguf_file([("w", (3,), 0, 0), ("w", (3,), 0, 32)], data=bytes(64)),
        gguf_file([("v", (9,), 0, 0), ("w", (3,), 0, 32)], data=bytes(64)),
        gguf_file([("w", (1,) * 5, 0, 0)], data=bytes(64)), gguf_file([], [KEYS[0], KEYS[0]]),
        gguf_file([], [text("general.alignment") + struct.pack("<II", 4, 3)]),
        gguf_file([], [text("k") + struct.pack("<I", 77)]),
        gguf_file([], [text("k") + struct.pack("<IIQ", 9, 9, 1) * 6]),
        gguf_file([], [text("k") + struct.pack("<IIQ", 9, 0, 1 << 40)]),
        gguf_file([("x" * 2000, (1,), 0, 0)], data=bytes(64)), gguf_file([("w", (1 << 62, 1 << 62), 0, 0)], data=b"1"),
    ],
    ids=range(14),
)  # fmt: skip
def test_malformed_gguf(made):
    """Bad sizes, offsets, types, names and counts are refused before memory is asked for."""
    with pytest.raises(FormatError):
        open_tensors(io.BytesIO(made))


def test_a_forged_chunk_gives_no_tensor(tmp_path, saved):
    """A tensor whose chunk was changed is not handed out."""
    (tmp_path / "plain").write_bytes(saved)
    stream.encrypt_file(tmp_path / "plain", tmp_path / "sealed", key=KEY)
    data = bytearray((tmp_path / "sealed").read_bytes())
    data[128 + 5 * 16400] ^= 1
    (tmp_path / "sealed").write_bytes(data)
    with open_tensors(stream.open_encrypted(tmp_path / "sealed", key=KEY)) as model:
        with pytest.raises(Error) as caught:
            model.numpy("embed")
    assert "stream.chunk.unauthentic" == caught.value.reason


PEAK = """
import resource, sys, numpy
from glasscase.core import stream
from glasscase.seal.modelfile import open_tensors
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) << 10
before = peak()
with open_tensors(stream.open_encrypted(sys.argv[1], key=bytes(32))) as model:
    loaded = model.load()
print(peak() - before - sum(array.nbytes for array in loaded.values()))
"""


def test_memory(tmp_path):
    """Loading a model takes the memory of its tensors and at most 16 MiB."""
    save_file({f"t{n}": np.ones((512, 8192), np.float32) for n in range(6)}, tmp_path / "m")
    stream.encrypt_file(tmp_path / "m", tmp_path / "sealed", key=KEY)
    run = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path / "sealed")], capture_output=True, text=True, check=True
    )

    assert 16 << 20 > int(run.stdout)


def test_torch(encrypt, saved):
    """The same into torch, where it is installed."""
    torch = pytest.importorskip("torch")
    with open_tensors(encrypt(saved)) as model:
        assert torch.equal(torch.from_numpy(ARRAYS["embed"]), model.torch("embed"))


TORCH = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "U16": "uint16",
    "I16": "int16", "F16": "float16", "BF16": "bfloat16", "U32": "uint32", "I32": "int32", "F32": "float32",
    "U64": "uint64", "I64": "int64", "F64": "float64",
}  # fmt: skip


@pytest.mark.parametrize("shape", [(3,), (2, 3), (), (0, 4)])
@pytest.mark.parametrize("kind", TORCH)
def test_torch_types(kind, shape):
    """Each type of safetensors is torch's type of that name, with the same bytes, also as a scalar and without elements."""
    torch = pytest.importorskip("torch")
    dtype = getattr(torch, TORCH[kind])
    data = bytes(number % 2 for number in range(int(np.prod(shape)) * dtype.itemsize))
    entry = {"dtype": kind, "shape": list(shape), "data_offsets": [0, len(data)]}
    with open_tensors(io.BytesIO(safetensors_file({"w": entry}, data))) as model:
        made = model.torch("w")

    assert (dtype, shape) == (made.dtype, tuple(made.shape))
    assert data == made.reshape(-1).view(torch.uint8).numpy().tobytes()
