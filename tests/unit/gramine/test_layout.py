"""Memory layout, the PAL's segments and everything that Gramine's loader would refuse."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glasscase.errors import Error, FormatError
from glasscase.gramine.elf import LOAD_MAX, read_pal
from glasscase.gramine.layout import layout
from glasscase.gramine.manifest import parse_manifest
from glasscase.gramine.options import enclave_options
from glasscase.measure.mrenclave import measure
from tests.unit.gramine.pal import PLAIN, manifest, pal


def reason(call, *arguments):
    with pytest.raises(Error) as caught:
        call(*arguments)
    return caught.value.reason


def test_areas_fill_the_enclave_from_the_top():
    """Areas do not overlap, leave no hole above the heap but between segments, and the heap is added, not measured."""
    plan = layout(manifest(max_threads=3), PLAIN)
    ordered = sorted(plan.areas, key=lambda area: area.start)

    assert 64 << 20 == ordered[-1].end
    assert ("free", 0x10000, False) == (ordered[0].name, ordered[0].start, ordered[0].measured)
    assert all(one.end <= two.start for one, two in itertools.pairwise(ordered))
    assert ["stack"] * 3 + ["sig_stack"] * 3 == [area.name for area in plan.areas if "stack" in area.name]
    assert plan.area("stack", 0).start > plan.area("stack", 2).start > plan.area("sig_stack", 0).start
    assert all(area.measured for area in plan.areas if area.name != "free")


def test_heap_is_not_added_with_edmm():
    """EDMM differs by the missing free area (and by its text)."""
    with_heap, without = (measure(manifest(edmm_enable=edmm), PLAIN) for edmm in (False, True))

    assert "free" == with_heap.areas[-1].name
    assert "free" not in [area.name for area in without.areas]
    assert with_heap.pages_measured == without.pages_measured == without.pages_added


@pytest.mark.parametrize("size", ["4K", "64M", "65536K", "67108864", "1024G"])
def test_sizes_that_signer_and_loader_read_alike(size):
    """Decimal digits with K, M, G or nothing."""
    assert enclave_options(parse_manifest(manifest(enclave_size=size))).size in (4096, 64 << 20, 1 << 40)


@pytest.mark.parametrize(
    "size", ["0x4000000", "064M", "64m", "64MB", "-64M", "+64M", "64 M", "", "0", "0M", "2K", "3M", "96M", "2048G",
             "1025G", "٦٤M", 64, True, 6.4, ["64M"]],
)  # fmt: skip
def test_other_sizes_are_refused(size):
    """What the signer takes and the loader does not is refused, and so is what neither takes."""
    assert "gramine.manifest.unloadable" == reason(measure, manifest(enclave_size=size), PLAIN)


@pytest.mark.parametrize(
    "fields",
    [
        {"max_threads": 0}, {"max_threads": 4097}, {"max_threads": -1}, {"max_threads": True}, {"max_threads": "4"},
        {"isvprodid": 65536}, {"isvsvn": -1}, {"insecure__rpc_thread_num": 257}, {"insecure__rpc_thread_num": -1},
        {"insecure__rpc_thread_num": 1, "max_threads": 1025}, {"preheat_enclave": True, "edmm_enable": True},
        {"enable_stats": True}, {"sigfile": "x"}, {"thread_num": 4}, {"nonpie_binary": True}, {"debug": 1},
        {"edmm_enable": "true"}, {"remote_attestation": "DCAP"}, {"remote_attestation": True},
        {"file_check_policy": "none"}, {"profile": {"enable": "main"}}, {"cpu_features": {"avx": "maybe"}},
        {"cpu_features": {"mpx": "unspecified"}}, {"cpu_features": "all"},
        {"cpu_features": {"avx": "required"}, "require_avx": True}, {"trusted_files": ["file:x"]},
        {"trusted_files": [{"uri": "file:x"}]}, {"trusted_files": [{"uri": "x", "sha256": "00" * 32}]},
        {"trusted_files": [{"uri": "file:x", "sha256": "00" * 31}]}, {"trusted_files": "file:x"},
        {"allowed_files": ["x"]}, {"allowed_files": "file:x"},
    ],
)  # fmt: skip
def test_values_that_the_loader_refuses(fields):
    """Each of these would be signed by Gramine's tool and fail on the machine."""
    assert "gramine.manifest.unloadable" == reason(measure, manifest(**fields), PLAIN)


def test_the_limits_themselves_are_taken():
    """4096 threads, 65535 numbers and 256 RPC threads are fine."""
    fields = {"max_threads": 4096, "isvprodid": 65535, "isvsvn": 65535, "enclave_size": "2G"}

    assert 4096 == layout(manifest(**fields), PLAIN).options.max_threads
    measure(manifest(insecure__rpc_thread_num=256), PLAIN)


@pytest.mark.parametrize("field", ["enclave_size", "max_threads"])
def test_missing_fields_are_not_guessed(field):
    """A manifest before signing is not measured with defaults."""
    assert "gramine.manifest.incomplete" == reason(measure, manifest(**{field: None}), PLAIN)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", "gramine.manifest.incomplete"),
        (b"x = 1\0", "gramine.manifest.nul"),
        (b'x = "a\\u0000b"', "gramine.manifest.nul"),
        (b'"a\\u0000b" = 1', "gramine.manifest.nul"),
        (b"x = 9223372036854775808", "gramine.manifest.malformed"),
        (b"x = " + b"9" * 5000, "gramine.manifest.malformed"),
        (b"x = \xff", "gramine.manifest.malformed"),
        (b"x = 1\nx = 2", "gramine.manifest.malformed"),
        (b"x = " + b"[" * 100_000, "gramine.manifest.malformed"),
        (b"{{ template }}", "gramine.manifest.malformed"),
        (b"sgx = 1", "gramine.manifest.incomplete"),
    ],
)
def test_texts_that_are_no_manifest(text, expected):
    """Bad text has a reason and never a traceback."""
    assert expected == reason(measure, text, PLAIN)


def test_sizes_at_the_edge():
    """One page less than the areas need is refused with the number that is needed, the exact fit is taken."""
    needed = next(area for area in layout(manifest(edmm_enable=True), PLAIN).areas if area.name == "pal")
    used = (64 << 20) - needed.start

    assert used < 2 << 20
    layout(manifest(edmm_enable=True, enclave_size="2M"), PLAIN)
    assert "gramine.enclave.too_small" == reason(layout, manifest(edmm_enable=True, enclave_size="1M"), PLAIN)


@pytest.mark.parametrize(
    ("libpal", "expected"),
    [
        (b"", "malformed"),
        (bytes(4096), "malformed"),
        (PLAIN[:60], "malformed"),
        (b"\x7fELF\x01" + PLAIN[5:], "malformed"),
        (pal([(0, b"x", 1, 5)], machine=3), "malformed"),
        (pal([(0, b"x", 1, 5)], kind=1), "malformed"),
        (pal([(0, b"x", 1, 5)], phentsize=55), "malformed"),
        (pal([(0, b"x", 1, 5)], size=100), "malformed"),
        (pal([]), "malformed"),
        (pal([(0x1000, b"x", 1, 5)], entry=0x1000), "unloadable"),
        (pal([(0, b"x" * 99, 98, 5)]), "unloadable"),
        (pal([(0, b"x" * 99, 99, 5, 1)]), "unloadable"),
        (pal([(0, b"x" * 99, 99, 5, 0x10000)]), "unloadable"),
        (pal([(0, b"x" * 99, 99, 5, 2**64 - 4096)]), "unloadable"),
        (pal([(0, b"x", 0x1001, 5), (0x1800, b"x", 1, 6)]), "unloadable"),
        (pal([(0x2000, b"x", 1, 5), (0, b"x", 1, 6)], entry=0x2000), "unloadable"),
        (pal([(0, b"x", 1, 5), (2**63, b"x", 1, 6)]), "unloadable"),
        (pal([(0, b"x", 2**63, 5)]), "unloadable"),
        (pal([(page * 4096, b"x", 1, 5) for page in range(LOAD_MAX + 1)]), "unloadable"),
        (pal([(0, b"x", 1, 5)], entry=0x1000), "unloadable"),
    ],
    ids=range(20),
)
def test_broken_pals(libpal, expected):
    """Each defect of a PAL on which signer, loader and CPU would differ is refused."""
    assert f"gramine.pal.{expected}" == reason(measure, manifest(), libpal)


def test_bytes_beside_a_segment_are_not_measured():
    """Bytes of the file that share a page with a segment but lie outside of it do not change the measurement."""
    one = bytearray(PLAIN)
    measured = measure(manifest(), bytes(one)).mrenclave
    one[0x1150] ^= 1  # behind the first segment, before the second

    assert measured == measure(manifest(), bytes(one)).mrenclave
    one[0x1122] ^= 1  # inside the first segment
    assert measured != measure(manifest(), bytes(one)).mrenclave


def test_zero_pages_are_measured_but_not_built():
    """A large bss costs no memory, and an empty segment adds nothing."""
    big = pal([(0, b"x", 1, 5), (0x1000, b"y", 3 << 30, 6)])
    text = manifest(edmm_enable=True, enclave_size="8G", max_threads=1)
    plan = layout(text, big)

    assert 3 << 30 < plan.pal.size
    assert sum(len(segment.filled_pages()) for segment in plan.pal.segments) <= 2 * 4096
    assert read_pal(pal([(0, b"x", 1, 5), (0x1000, b"", 0, 4)])).size == 0x1000


def test_every_byte_of_the_two_files_counts():
    """A changed byte of manifest or PAL changes MRENCLAVE; SIGSTRUCT's own fields come from the manifest."""
    base = measure(manifest(), PLAIN)

    assert base.mrenclave != measure(manifest(isvsvn=1), PLAIN).mrenclave
    assert base.mrenclave != measure(manifest() + b"\n", PLAIN).mrenclave
    assert base == measure(manifest(), PLAIN)
    assert isinstance(base.mrenclave, bytes)
    with pytest.raises(FormatError):
        measure(manifest() + b"\0", PLAIN)


def test_no_mutation_of_a_pal_ends_in_a_traceback():
    """Whatever stands in the headers, the answer is a measurement or a reason, without much memory."""
    text = manifest(edmm_enable=True, max_threads=1)
    values = (0, 1, 0x7F, 0x80, 0xFF)
    for offset in range(64 + 2 * 56):
        for value in values:
            broken = bytearray(PLAIN)
            broken[offset] = value
            try:
                assert 32 == len(measure(text, bytes(broken)).mrenclave)
            except FormatError as error:
                assert error.reason.startswith(("gramine.pal.", "gramine.enclave.")), offset


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_no_text_ends_in_a_traceback(text):
    """Noise as a manifest has a reason."""
    with pytest.raises(FormatError):
        measure(text, PLAIN)
