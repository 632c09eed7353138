"""enclave.cbor has one encoding, and every rule of its fields is enforced both ways."""

from dataclasses import replace

import pytest

from glasscase.codec import cbor
from glasscase.config.enclave import EnclaveConfig, GramineOptions, ServerOptions, parse_size
from glasscase.errors import FormatError

GRAMINE = GramineOptions(profile="v1.8", size="512M", max_threads=32, isv_prod_id=1, isv_svn=1)
CLEAR = EnclaveConfig(
    name="fraud-api", entry="app.main:app", interface="asgi", health="/health", encrypt=False, models="digest",
    build_epoch=1_700_000_000, owners=(b"\1" * 32, b"\2" * 32), threshold=2, package=None, commitment=None,
    gramine=GRAMINE, server=ServerOptions(client_ca=(b"DER",)), env={"MODE": "x"},
)  # fmt: skip
SECRET = replace(CLEAR, encrypt=True, package=b"\7" * 128, commitment=b"\3" * 32, health=None, server=ServerOptions())


@pytest.mark.parametrize("config", [CLEAR, SECRET], ids=["clear", "encrypted"])
def test_bytes_round_trip(config):
    """Decoding gives the same value and encoding it the same bytes."""
    encoded = config.to_bytes()

    assert config == EnclaveConfig.from_bytes(encoded)
    assert encoded == EnclaveConfig.from_bytes(encoded).to_bytes()


def test_fields_are_those_of_the_format():
    """The map holds exactly the keys of the format; absent ones are absent, never null."""
    value = cbor.decode(CLEAR.to_bytes(), max_bytes=1 << 16, what="enclave.cbor")

    expected = (
        "v type name entry interface health encrypt models build_epoch owners threshold gramine env server insecure"
    )
    assert set(expected.split()) == set(value)
    assert {"profile", "size", "max_threads", "isv_prod_id", "isv_svn", "edmm", "dns", "persist", "debug"} == set(
        value["gramine"]
    )
    assert "client_ca" not in cbor.decode(SECRET.to_bytes(), max_bytes=1 << 16, what="x")["server"]


BAD = [
    ("name", "Fraud"), ("name", "a" * 64), ("name", "a\n"), ("entry", "app.main"), ("entry", "a:b c"), ("entry", "a:b\n"),
    ("interface", "cgi"), ("health", "health"), ("health", "/\n"), ("health", "/e\u0301"), ("encrypt", 1),
    ("models", "none"), ("models", "key"), ("build_epoch", -1), ("build_epoch", True), ("owners", ()),
    ("owners", (b"\2" * 32, b"\1" * 32)), ("owners", (b"\1" * 32,) * 2), ("owners", (b"\1" * 31,)),
    ("owners", tuple(bytes([i]) * 32 for i in range(17))), ("threshold", 0), ("threshold", 3), ("package", b"\0" * 128),
    ("commitment", b"\0" * 32), ("insecure", ("simulated", "host-python")), ("insecure", ("other",)), ("insecure", ({},)),
    ("insecure", ("debug",)), ("env", {"A=": "x"}), ("env", {"LD_PRELOAD": "x"}), ("env", {"A": "a\0"}), ("env", {"A": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BAD, ids=[f"{n}-{i}" for i, (n, _) in enumerate(BAD)])
def test_wrong_values_are_refused(name, value):
    """One wrong field is refused with the reason of the format."""
    with pytest.raises(FormatError) as caught:
        replace(CLEAR, **{name: value})

    assert "bundle.config.malformed" == caught.value.reason


@pytest.mark.parametrize("text", ["0M", "512", "512m", "0512M", "768M", "2048G", "512M\n", "1T", "", 512])
def test_wrong_sizes_are_refused(text):
    """Only a power of two with K, M or G up to 1024G is a size."""
    with pytest.raises(FormatError):
        replace(GRAMINE, size=text)


def test_sizes():
    """The suffixes are powers of 1024 and 1024G is the largest size."""
    assert (1 << 29, 1 << 40, 1 << 20) == (parse_size("512M"), parse_size("1024G"), parse_size("1024K"))


@pytest.mark.parametrize("field", ["package", "commitment"])
def test_encrypted_needs_both(field):
    """With encryption the header and the commitment are both measured."""
    with pytest.raises(FormatError):
        replace(SECRET, **{field: None})


def change(where, key, value):
    decoded = cbor.decode(SECRET.to_bytes(), max_bytes=1 << 16, what="x")
    target = decoded[where] if where else decoded
    if value is None:
        del target[key]
    else:
        target[key] = value
    return cbor.encode(decoded)


@pytest.mark.parametrize(
    ("where", "key", "value", "reason"),
    [
        ("", "v", 2, "format.newer"), ("", "v", 0, "codec.version.malformed"), ("", "v", None, "codec.version.malformed"),
        ("", "v", True, "codec.version.malformed"), ("", "type", "x", "bundle.config.malformed"),
        ("", "extra", 1, "bundle.config.malformed"), ("", "entry", None, "bundle.config.malformed"),
        ("gramine", "extra", 1, "bundle.config.malformed"), ("gramine", "size", None, "bundle.config.malformed"),
        ("server", "drain", None, "bundle.config.malformed"), ("server", "client_ca", [], "bundle.config.malformed"),
        ("server", "body_max", -1, "bundle.config.malformed"), ("", "owners", b"x", "bundle.config.malformed"),
        ("", "gramine", [], "bundle.config.malformed"), ("", "insecure", "debug", "bundle.config.malformed"),
        ("", "env", [], "bundle.config.malformed"),
    ],
)  # fmt: skip
def test_wrong_maps_are_refused(where, key, value, reason):
    """Unknown, missing and wrong keys at each level are refused, a newer version before all else."""
    with pytest.raises(FormatError) as caught:
        EnclaveConfig.from_bytes(change(where, key, value))

    assert reason == caught.value.reason
