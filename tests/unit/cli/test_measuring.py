"""`measure` and `sign` on the command line: what is refused, and that nothing is left behind then."""

import json
import os
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives import serialization

from tests.unit.gramine.pal import PLAIN, manifest
from tests.unit.sgx.test_sigstruct import key, pem, public


def glasscase(*arguments, cwd):
    command = [sys.executable, "-m", "glasscase", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture
def work(tmp_path):
    (tmp_path / "pal.so").write_bytes(PLAIN)
    (tmp_path / "key.pem").write_bytes(pem(key()))
    (tmp_path / "m").write_bytes(manifest())
    return tmp_path


def sign(work, *more, output="app.manifest.sgx", key_file="key.pem"):
    arguments = ["sign", "--manifest", "m", "--libpal", "pal.so", "--key", key_file, "--output", output, *more]
    return glasscase(*arguments, cwd=work)


@pytest.mark.parametrize(
    ("output", "sig"),
    [
        ("app.manifest.sgx", "app.sig"),
        ("manifest.sgx", "manifest.sig"),
        ("x", "x.sig"),
        ("d.sgx/a.manifest.sgx", "d.sgx/a.sig"),
    ],
)
def test_names_of_the_two_files(work, output, sig):
    """The .sig stands beside the manifest under the name that Gramine looks for."""
    (work / "d.sgx").mkdir()
    result = sign(work, output=output)

    assert (0, "") == (result.returncode, result.stderr)
    assert (work / output).is_file()
    assert 1808 == (work / sig).stat().st_size


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"enclave_size": "96M"}, 2), ({"enclave_size": "2048G"}, 2), ({"max_threads": 0}, 2), ({"max_threads": 4097}, 2),
        ({"enclave_size": "0x4000000"}, 2), ({"enclave_size": "1M"}, 2), ({"enable_stats": True}, 2),
        ({"preheat_enclave": True, "edmm_enable": True}, 2), ({"trusted_files": ["file:none"]}, 4),
    ],
)  # fmt: skip
def test_refused_manifests_leave_nothing(work, fields, code):
    """What the loader would not run is refused: exit code, one error line with an id, no file."""
    (work / "m").write_bytes(manifest(**fields))
    before = sorted(os.listdir(work))
    result = sign(work)

    assert code == result.returncode
    assert result.stderr.startswith("glasscase: error: ")
    assert "Traceback" not in result.stderr
    assert before == sorted(os.listdir(work))


@pytest.mark.parametrize("spoil", ["m", "pal.so", "key.pem"])
@pytest.mark.parametrize("content", [b"", b"\0" * 5000, bytes(range(256)) * 20, None])
def test_wrong_inputs_leave_nothing(work, spoil, content):
    """An empty file, zeros, noise or a directory in the place of an input."""
    (work / spoil).unlink()
    if content is None:
        (work / spoil).mkdir()
    else:
        (work / spoil).write_bytes(content)
    before = sorted(os.listdir(work))
    result = sign(work)

    # an empty manifest has every default but the entry point
    assert result.returncode in (1, 2, 4)
    assert "[" in result.stderr
    assert "Traceback" not in result.stderr
    assert before == sorted(os.listdir(work))


def test_both_files_or_none(work):
    """If one of the two names cannot be written, the other keeps its old content or does not appear."""
    (work / "app.sig").mkdir()
    assert 4 == sign(work).returncode
    assert not (work / "app.manifest.sgx").exists()

    (work / "out.manifest.sgx").mkdir()
    assert 4 == sign(work, output="out.manifest.sgx").returncode
    assert not (work / "out.sig").exists()
    (work / "out.sig").write_bytes(b"old")
    assert 4 == sign(work, output="out.manifest.sgx").returncode
    assert b"old" == (work / "out.sig").read_bytes()
    assert not [name for name in os.listdir(work) if name.startswith(".part")]


def test_request_and_attach_give_what_the_key_gives(work):
    """A key elsewhere signs the request; the result is the file that the key itself would have made."""
    assert 0 == sign(work).returncode
    arguments = ["sign", "-m", "m", "-l", "pal.so"]
    result = glasscase(*arguments, "--request", "request", "--json", cwd=work)
    assert json.loads(result.stdout)["mrsigner"] is None
    subprocess.run(["openssl", "dgst", "-sha256", "-sign", "key.pem", "-out", "made", "request"], cwd=work, check=True)
    (work / "key.pub").write_bytes(public(key()))
    result = glasscase(*arguments, "--attach", "made", "--key", "key.pub", "-o", "two.manifest.sgx", cwd=work)

    assert 0 == result.returncode, result.stderr
    assert (work / "app.sig").read_bytes() == (work / "two.sig").read_bytes()
    result = glasscase(*arguments, "--attach", "m", "--key", "key.pub", "-o", "three.manifest.sgx", cwd=work)
    assert 2 == result.returncode
    assert not (work / "three.sig").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["sign"], ["sign", "-m", "m"], ["sign", "-m", "m", "-l", "pal.so", "-o", "x"], ["measure"],
        ["measure", "--manifest", "m"], ["measure", "b", "--manifest", "m"],
        ["sign", ".", "-k", "key.pem", "-m", "m"], ["sign", "-m", "m", "-l", "pal.so", "--request", "r", "-k", "key.pem"],
        ["sign", "-m", "m", "-l", "pal.so", "-k", "key.pem", "-o", "x.sig", "-s", "x.sig"],
        ["sign", "-m", "m", "-l", "pal.so", "-k", "key.pem", "-o", "x", "--date", "today"],
        ["sign", "-m", "m", "-l", "pal.so", "--request", "r", "--depfile", "d"],
        ["sign", "-m", "m", "-l", "pal.so", "--request", "r", "--passphrase-file", "key.pem"],
        ["sign", ".", "-k", "key.pem", "--depfile", "d"],
        ["sign", "-m", "m", "-l", "pal.so", "-k", "key.pem", "-o", "x.sgx", "--depfile", "./x.sgx"],
        ["sign", "-m", "m", "-l", "pal.so", "-k", "key.pem", "-o", "x.sgx", "--depfile", "x.sig"],
    ],
)  # fmt: skip
def test_wrong_combinations_are_usage_errors(work, arguments):
    """Each wrong combination exits 1 with a reason and writes nothing."""
    before = sorted(os.listdir(work))
    result = glasscase(*(arguments or ["measure", "--explain"]), cwd=work)

    assert 1 == result.returncode, result.stderr
    assert "Traceback" not in result.stderr
    assert before == sorted(os.listdir(work))


def test_depfile_is_a_rule_of_make(work):
    """Make reads the rule: with every file there is nothing to do, and each that went in is missed when it is gone."""
    names = ["a b", "c#d", "e$f", "g:h", "i\\ j"]
    for name in names:
        (work / name).write_bytes(name.encode())
    uris = ", ".join(json.dumps(f"file:{name}") for name in names)
    (work / "m").write_bytes(manifest().replace(b"trusted_files = []", f"trusted_files = [{uris}]".encode()))
    assert 0 == sign(work, "--depfile", "rule.d").returncode

    def make():
        return subprocess.run(
            ["make", "-f", "rule.d", "app.manifest.sgx"], cwd=work, capture_output=True, text=True, check=False
        )

    assert 0 == make().returncode
    for name in [*names, "pal.so", "key.pem", "m"]:
        (work / name).rename(work / "away")
        assert f"No rule to make target '{work / name if name in names else name}'" in make().stderr
        (work / "away").rename(work / name)


def test_no_depfile_is_left_by_a_failure(work):
    """A name that no rule can say is refused; nothing is written then."""
    (work / "a\nb").write_bytes(b"x")
    (work / "m").write_bytes(manifest().replace(b"trusted_files = []", b'trusted_files = ["file:a\\nb"]'))
    before = sorted(os.listdir(work))
    result = sign(work, "--depfile", "rule.d")

    assert (1, True) == (result.returncode, "sgx.depfile.unwritable" in result.stderr)
    assert before == sorted(os.listdir(work))


def test_encrypted_keys(work):
    """The passphrase comes from a file of its owner alone or a pipe, never from the command line; a wrong one is refused."""
    encryption = serialization.BestAvailableEncryption(b"secret words")
    locked = key().private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    (work / "locked.pem").write_bytes(locked)
    for name, content, mode in (
        ("right", b"secret words\n", 0o600),
        ("wrong", b"secret\n", 0o600),
        ("open", b"secret words\n", 0o644),
    ):
        (work / name).write_bytes(content)
        (work / name).chmod(mode)
    assert 0 == sign(work, output="plain.manifest.sgx").returncode
    assert 0 == sign(work, "--passphrase-file", "right", key_file="locked.pem").returncode
    assert (work / "plain.sig").read_bytes() == (work / "app.sig").read_bytes()
    command = [
        sys.executable,
        "-m",
        "glasscase",
        "sign",
        "-m",
        "m",
        "-l",
        "pal.so",
        "-k",
        "locked.pem",
        "-o",
        "piped.sgx",
    ]
    piped = subprocess.run(
        [*command, "--passphrase-file", "/dev/stdin"], cwd=work, input=b"secret words", capture_output=True, check=False
    )
    assert 0 == piped.returncode, piped.stderr
    before = sorted(os.listdir(work))
    for more, key_file, reason in (
        (["--passphrase-file", "wrong"], "locked.pem", "sgx.key.unusable"),
        (["--passphrase-file", "open"], "locked.pem", "fs.key.exposed"),
        (["--passphrase-file", "right"], "key.pem", "sgx.key.unusable"),
        (["--passphrase", "secret words"], "locked.pem", "sgx.passphrase.exposed"),
        ([], "locked.pem", "sgx.key.unusable"),
    ):
        result = sign(work, *more, output="x.manifest.sgx", key_file=key_file)
        assert (1, True) == (result.returncode, reason in result.stderr), result.stderr
        assert "secret words" not in result.stderr
    assert before == sorted(os.listdir(work))


def test_missing_files_exit_4(work):
    """A path that is not there is an I/O error."""
    assert 4 == glasscase("measure", "--manifest", "none", "--libpal", "pal.so", cwd=work).returncode
    assert 4 == glasscase("measure", "none.bundle", cwd=work).returncode
    assert 4 == sign(work, key_file="none").returncode


def test_measure_reads_standard_input(work):
    """`-` is standard input."""
    command = [sys.executable, "-m", "glasscase", "measure", "--manifest", "-", "--libpal", "pal.so", "--json"]
    result = subprocess.run(command, cwd=work, input=manifest(), capture_output=True, check=True)
    named = glasscase("measure", "--manifest", "m", "--libpal", "pal.so", "--json", cwd=work)

    assert named.stdout == result.stdout.decode()


@pytest.mark.parametrize("verb", [["measure"], ["sign", "-k", "key.pem"]])
def test_a_file_is_no_bundle(work, verb):
    """A file of the wrong kind exits 2, with a hint at the other form."""
    for content in (b"", b"\0" * 100, manifest()):
        (work / "m").write_bytes(content)
        result = glasscase(verb[0], "m", *verb[1:], cwd=work)

        assert (2, "") == (result.returncode, result.stdout)
        assert "measure.bundle.wrong" in result.stderr


@pytest.mark.parametrize("words", [("measure",), ("why", "d"), ("map",)])
@pytest.mark.parametrize("name", ["d", "none"])
def test_a_directory_that_is_no_bundle_says_what_one_is(work, words, name):
    """A wrong or missing directory is answered with what a bundle is, not with a file that nobody has named alone."""
    (work / "d").mkdir()
    result = glasscase(*words, name, cwd=work)

    assert 4 == result.returncode
    assert "[fs.file.missing]" in result.stderr
    if words[0] == "measure" or name == "d":
        assert "a bundle is the directory that glasscase build or import wrote" in result.stderr


def test_inspect_says_which_directories_it_shows(work):
    """A directory with nothing to show is told from a bundle: `name a file` alone would be half of what may be named."""
    (work / "d").mkdir()
    result = glasscase("inspect", "d", cwd=work)

    assert 4 == result.returncode
    assert "neither bundle.json nor manifest" in result.stderr and "the directory of a bundle" in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("map", "a", "--svg", "a"), "the input"),
        (("map", "a", "--libpal", "b", "--svg", "b"), "what --libpal names"),
        (("map", "a", "b", "--diff", "--svg", "b"), "the input"),
        (("why", "b", "a", "--html", "a"), "the input"),
    ],
)
def test_no_picture_or_page_takes_the_place_of_what_it_is_of(work, words, said):
    """A manifest that was drawn or compared is still there afterwards."""
    for name in ("a", "b"):
        (work / name).write_text(name)
    result = glasscase(*words, cwd=work)

    assert (1, True) == (result.returncode, f"the output is {said} [cli.usage.wrong]" in result.stderr)
    assert ["a", "b"] == [(work / name).read_text() for name in ("a", "b")]
