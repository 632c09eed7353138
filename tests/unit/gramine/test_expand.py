"""From a manifest to manifest.sgx: what is listed, hashed, kept and refused."""

import hashlib
import os
import tomllib

import pytest

from glasscase.errors import Error, FormatError
from glasscase.gramine.expand import sgx_manifest

HEAD = 'loader.entrypoint = {uri = "file:x", sha256 = "' + "00" * 32 + '"}\n'


def expand(tmp_path, trusted, *, head=HEAD, **options):
    text = sgx_manifest((head + f"sgx.trusted_files = {trusted}\n").encode(), directory=tmp_path, **options)
    return [(entry["uri"], entry["sha256"]) for entry in tomllib.loads(text.decode())["sgx"]["trusted_files"]]


def reason(*arguments, **options):
    with pytest.raises(Error) as caught:
        expand(*arguments, **options)
    return caught.value.reason


def sha(data):
    return hashlib.sha256(data).hexdigest()


def test_directories_are_walked_in_code_point_order(tmp_path):
    """Files and directories of one directory stand in one order, depth first, and URIs are spelt by pathlib."""
    for name in ("sub/z", "sub-dash", "sub.d/x", "B", "_", "a", ".h"):
        path = tmp_path / "d" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())

    found = expand(tmp_path, '["file:./d/"]')
    assert [f"file:d/{name}" for name in (".h", "B", "_", "a", "sub/z", "sub-dash", "sub.d/x")] == [
        uri for uri, _ in found
    ]
    assert sha(b"sub/z") == dict(found)["file:d/sub/z"]


def test_written_uris_are_kept_or_normalised_by_series(tmp_path):
    """Gramine 1.5 rewrites URIs, later releases keep them."""
    (tmp_path / "a").write_bytes(b"a")

    assert ["file:.//a", "file:a"] == [uri for uri, _ in expand(tmp_path, '["file:.//a", "file:a"]')]
    old = 'loader.entrypoint = "file:x"\n'
    assert ["file:a"] == [uri for uri, _ in expand(tmp_path, '["file:.//a", "file:a"]', head=old, series="v1.5")]


def test_defaults_by_series(tmp_path):
    """Each series appends its own defaults in its own order."""
    old = b'loader.entrypoint = "file:x"\n[sgx]\n'
    v15 = list(tomllib.loads(sgx_manifest(old, directory=tmp_path, series="v1.5").decode())["sgx"])
    v16 = list(tomllib.loads(sgx_manifest(old, directory=tmp_path, series="v1.6").decode())["sgx"])

    common = ["trusted_files", "max_threads", "isvprodid", "isvsvn", "remote_attestation", "debug"]
    required = ["require_avx", "require_avx512", "require_mpx", "require_pkru", "require_amx", "require_exinfo"]
    assert [*common, *required, "enable_stats", "edmm_enable", "enclave_size"] == v15
    assert [*common, "enable_stats", "edmm_enable", "enclave_size", "use_exinfo", "cpu_features"] == v16


@pytest.mark.parametrize(
    ("trusted", "expected"),
    [
        ('["x"]', "gramine.trusted.malformed"),
        ("[1]", "gramine.trusted.malformed"),
        ('[{sha256 = "00"}]', "gramine.trusted.malformed"),
        ('[{uri = "file:a", sha256 = "00"}]', "gramine.trusted.malformed"),
        ('[{uri = "file:a", more = 1}]', "gramine.trusted.malformed"),
        ('"file:a"', "gramine.trusted.malformed"),
        ('["file:d"]', "gramine.trusted.malformed"),
        ('["file:a/"]', "fs.file.missing"),
        ('["file:none"]', "fs.file.missing"),
        ('["file:none/"]', "fs.file.missing"),
        ('["file:dangling"]', "fs.file.missing"),
        ('[{uri = "file:d/", sha256 = "%s"}]' % ("00" * 32), "gramine.trusted.malformed"),
        ('[{{uri = "file:a", sha256 = "{}"}}, {{uri = "file:a", sha256 = "{}"}}]'.format("00" * 32, "01" * 32),
         "gramine.trusted.malformed"),
        ('["file:fifo"]', "fs.entry.refused"),
    ],
)  # fmt: skip
def test_entries_that_are_refused(tmp_path, trusted, expected):
    """Each wrong entry has a reason."""
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "d").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo")

    assert expected == reason(tmp_path, trusted)


def test_hashed_files_are_not_opened_and_their_spelling_stays(tmp_path):
    """A given digest is copied as written."""
    digest = "Ab" * 32

    assert [("file:none", digest)] == expand(tmp_path, f'[{{uri = "file:none", sha256 = "{digest}"}}]')


@pytest.mark.parametrize(
    ("series", "head", "words"),
    [
        ("v1.8", 'loader.entrypoint = "file:x"', "loader.entrypoint is a URI, Gramine 1.8 and 1.9 take a table"),
        ("v1.8", "loader.entrypoint = 5", "entrypoint must be a table"),
        (
            "v1.6",
            'loader.entrypoint.uri = "file:x"',
            "loader.entrypoint must be a URI, Gramine 1.6 and 1.7 take no table",
        ),
    ],
)
def test_an_entrypoint_of_another_release_is_named(tmp_path, series, head, words):
    """Who signs a manifest of an older or newer Gramine reads what to write, not that a trusted file is wrong."""
    with pytest.raises(FormatError) as caught:
        sgx_manifest(head.encode() + b"\n[sgx]\n", directory=tmp_path, series=series)

    assert ("gramine.manifest.unloadable", words) == (caught.value.reason, caught.value.message)


def test_what_is_skipped_is_said(tmp_path):
    """Links that lead nowhere, loops and FIFOs in a directory are skipped as Gramine does, but not silently."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a").write_bytes(b"a")
    (tmp_path / "d/dangling").symlink_to("nowhere")
    (tmp_path / "d/loop").symlink_to("loop")
    os.mkfifo(tmp_path / "d/fifo")
    skipped = []

    assert ["file:d/a"] == [uri for uri, _ in expand(tmp_path, '["file:d/"]', on_skipped=skipped.append)]
    assert ["dangling", "fifo", "loop"] == [os.path.basename(path) for path in skipped]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_files_are_refused(tmp_path):
    """Gramine leaves such files out; then the measurement would depend on who signs."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a").write_bytes(b"a")
    (tmp_path / "d/a").chmod(0)

    assert "fs.file.denied" == reason(tmp_path, '["file:d/"]')


def test_names_that_are_not_utf8_are_refused(tmp_path):
    """A manifest is text."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / os.fsdecode(b"\xff")).write_bytes(b"")

    assert "gramine.trusted.malformed" == reason(tmp_path, '["file:d/"]')


def test_chroot_resolves_links_inside(tmp_path):
    """Absolute links mean the chroot's own files; what leads out of it on this machine is refused."""
    root = tmp_path / "root"
    (root / "real").mkdir(parents=True)
    (root / "real/a").write_bytes(b"inside")
    (root / "link").symlink_to("/real")
    (root / "up").symlink_to("../../../real/a")
    (root / "loop").symlink_to("/loop")

    assert [("file:/link/a", sha(b"inside"))] == expand(tmp_path, '["file:/link/a"]', chroot=root)
    assert [("file:/up", sha(b"inside"))] == expand(tmp_path, '["file:/up"]', chroot=root)
    assert [("file:/real/a", sha(b"inside"))] == expand(tmp_path, '["file:/link/"]', chroot=root)
    assert "fs.file.failed" == reason(tmp_path, '["file:/loop"]', chroot=root)
    assert "gramine.trusted.malformed" == reason(tmp_path, '["file:real/a"]', chroot=root)
    (root / "etc").mkdir()
    (root / "etc/passwd").symlink_to("/etc/passwd")
    assert "gramine.trusted.outside" == reason(tmp_path, '["file:/etc/"]', chroot=root)


def test_entrypoint_default_is_the_installed_library(tmp_path):
    """Without loader.entrypoint the given libsysdb.so is named and hashed; without one it is refused."""
    (tmp_path / "libsysdb.so").write_bytes(b"sysdb")

    text = sgx_manifest(b"", directory=tmp_path, libsysdb=tmp_path / "libsysdb.so").decode()
    assert list(tomllib.loads(text)) == ["sgx", "loader"]
    assert {"uri": f"file:{tmp_path}/libsysdb.so", "sha256": sha(b"sysdb")} == tomllib.loads(text)["loader"][
        "entrypoint"
    ]
    assert "gramine.manifest.entrypoint" == reason(tmp_path, "[]", head="")


@pytest.mark.parametrize(
    "entry",
    ['uri = "file:x", sha256 = 5', 'uri = "file:x", sha256 = "00"', 'uri = 5, sha256 = "%s"' % ("00" * 32), "uri = 5",
     'uri = "x"'],
)  # fmt: skip
def test_an_entrypoint_that_no_gramine_could_open_is_refused(tmp_path, entry):
    """Its hash is taken as it stands, so it must be one; a file's URI begins with file:."""
    assert "gramine.manifest.unloadable" == reason(tmp_path, "[]", head=f"loader.entrypoint = {{{entry}}}\n")


def test_options_of_1_5_are_not_taken_by_1_8(tmp_path):
    """The schema of 1.8 has no require_*; 1.6 still takes them and then adds no cpu_features."""
    old = b'loader.entrypoint = "file:x"\n[sgx]\nrequire_avx = true\n'
    with pytest.raises(Error) as caught:
        sgx_manifest(HEAD.encode() + b"sgx.require_exinfo = true\n", directory=tmp_path)
    assert "gramine.manifest.unloadable" == caught.value.reason
    assert b"cpu_features" not in sgx_manifest(old, directory=tmp_path, series="v1.6")
