"""The verbs build, export, import and reproduce on the command line: keys of --json, exit codes, no half outputs."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from glasscase.bundle import locking
from glasscase.cli import main

_PATH = Path(__file__).resolve().parents[1] / "bundle" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("workshop_for_verbs", _PATH)
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)


@pytest.fixture
def shop(tmp_path):
    """Give an encrypted project whose inputs are in the cache of the command line."""
    made = _MODULE.Workshop(tmp_path)
    made.edit("encrypt = false", "encrypt = true")
    return made


def run(shop, *arguments, code=0, data=None):
    """Run one command; return stdout as JSON if it is, else as text."""
    environment = os.environ | {"GLASSCASE_CACHE": str(shop.root / "cache"), "GLASSCASE_DATA": str(shop.root / "data")}
    done = subprocess.run(
        [sys.executable, "-m", "glasscase", *map(str, arguments)],
        env=environment,
        cwd=shop.root,
        input=data,
        capture_output=True,
        check=False,
    )
    assert code == done.returncode, done.stderr.decode() + done.stdout.decode()
    assert b"Traceback" not in done.stderr
    text = done.stdout.decode("utf-8", "replace")
    return json.loads(text) if "--json" in arguments else text


def test_build_export_import_reproduce(shop):
    """One bundle goes through all four verbs and keeps its id and MRENCLAVE."""
    built = run(shop, "build", "project", "-o", "a.bundle", "--json", "-q")
    assert {"bundle", "bundle_id", "mrenclave", "files", "bytes"} <= set(built)
    default = run(shop, "build", "project", "--json", "-q", "--jobs", "1")
    assert (built["mrenclave"], "project/dist/shop.bundle") == (default["mrenclave"], default["bundle"])
    for option, name, source in (("--tar", "a.tar", "a.tar"), ("--oci", "layout", "layout")):
        made = run(shop, "export", "a.bundle", option, name, "--json")
        assert built["bundle_id"] == made["bundle_id"]
        back = run(shop, "import", source, "-o", f"{name}.bundle", "--json")
        assert (built["bundle_id"], built["mrenclave"]) == (back["bundle_id"], back["mrenclave"])
    piped = run(shop, "import", "-", "-o", "piped.bundle", "--json", data=(shop.root / "a.tar").read_bytes())
    assert built["bundle_id"] == piped["bundle_id"]
    result = run(shop, "reproduce", "a.bundle", "--source", "project", "--key", "project/keys/package.key", "--json")
    assert (True, []) == (result["same"], result["differences"])
    opening = run(shop, "disclose", "a.bundle", "--key", "project/keys/package.key", "-o", "open.json", "--json")
    assert opening["opening"] == "open.json"
    digits = json.loads((shop.root / "open.json").read_text())["opening"]
    for given in ("open.json", digits):
        result = run(shop, "reproduce", "a.bundle", "--source", "project", "--opening", given, "--json")
        assert (True, "opening", built["mrenclave"]) == (result["same"], result["method"], result["mrenclave"])
    (shop.project / "src" / "app" / "main.py").write_bytes(b"app = 1\n")
    result = run(shop, "reproduce", "a.bundle", "--source", "project", "--opening", digits, "--json", code=6)

    assert ["code commitment"] == [row["what"] for row in result["differences"]]


def test_a_build_that_fails_leaves_no_dist(shop):
    """Without -o the folder is made for the bundle: a build that fails takes it away, but never one that was there."""
    key = shop.project / "keys" / "package.key"
    secret = key.read_bytes()
    key.unlink()
    before = sorted(shop.project.rglob("*"))
    run(shop, "build", "project", code=4)
    assert before == sorted(shop.project.rglob("*"))
    (shop.project / "dist").mkdir()
    run(shop, "build", "project", code=4)
    assert [] == list((shop.project / "dist").iterdir())
    key.write_bytes(secret)
    key.chmod(0o600)
    run(shop, "build", "project")


def test_a_release_that_no_ledger_takes_is_said_of_a_complete_bundle(shop):
    """The bundle is there, and the error says so; built again, where the ledger can be written, it is recorded once."""
    (shop.root / "data").write_bytes(b"")  # a file where the user's ledger would be
    said = run(shop, "build", "project", "-o", "a.bundle", "--json", "-q", code=4)["error"]
    assert "'a.bundle' is complete, but not every ledger has its release: " in said["message"]
    assert "GLASSCASE_DATA=DIR" in said["hint"] and said["hint"].endswith("then build again, or with --no-record")
    run(shop, "measure", "a.bundle")
    (shop.root / "data").unlink()
    run(shop, "build", "project", "-o", "a.bundle", "--json", "-q")

    for ledger in ("project", "data"):
        assert 1 == len((shop.root / ledger / "measurements.jsonl").read_bytes().splitlines())


def test_private_document(shop):
    """Paths and digests of what is encrypted go to a file of mode 0600 only if asked for."""
    built = run(shop, "build", "project", "-o", "a.bundle", "--private", "a.private.json", "--json", "-q")
    path = shop.root / "a.private.json"
    value = json.loads(path.read_text())

    assert 0o600 == path.stat().st_mode & 0o777
    assert (built["bundle_id"], built["mrenclave"]) == (value["bundle_id"], value["mrenclave"])
    assert ["app", "app/app", "app/app/__init__.py", "app/app/main.py"] == [row["path"] for row in value["entries"]]
    shop.edit("encrypt = true", "encrypt = false")
    run(shop, "build", "project", "-o", "b.bundle", "--private", "b.private.json", code=1)

    assert not {"b.private.json", "b.bundle"} & set(os.listdir(shop.root))


def test_private_document_has_a_place_of_its_own(shop):
    """It goes neither into the next bundle nor into this one, and a place that cannot be is said before anything is built."""
    for place in ("project/src/app/x.json", "a.bundle/x.json", "a.bundle", "nowhere/x.json"):
        run(shop, "build", "project", "-o", "a.bundle", "--private", place, code=4 if "nowhere" in place else 1)
        assert not (shop.root / "a.bundle").exists()
    run(shop, "build", "project", "-o", "a.bundle", "-q")
    before = sorted(os.walk(shop.root))
    run(shop, "build", "project", "-o", "a.bundle", "--private", "a.bundle/x.json", code=1)

    assert before == sorted(os.walk(shop.root))


def test_no_output_becomes_a_file_of_its_bundle(shop):
    """A file more would spoil the bundle it was made from: the verbs that read one write beside it."""
    run(shop, "build", "project", "-o", "a.bundle", "-q")
    key = ("--key", "project/keys/package.key")
    for argv in (
        ("export", "a.bundle", "--tar", "a.bundle/a.tar"), ("export", "a.bundle", "--oci", "a.bundle/oci"),
        ("export", "a.bundle", "--tar", "a.bundle/bundle.json"), ("policy", "a.bundle", "-o", "a.bundle/policy.toml"),
        ("disclose", "a.bundle", *key, "-o", "a.bundle/blobs/x"), ("sign", "a.bundle", "--request", "a.bundle/x"),
        ("map", "a.bundle", "--svg", "a.bundle/x.svg"), ("why", "a.bundle", "b.bundle", "--html", "a.bundle/x.html"),
        ("why", "b.bundle", "a.bundle", "--html", "a.bundle/bundle.json"),
        ("attest", "a.bundle", "--source", "project", "--key", "signer", "-o", "a.bundle/x.json"),
        ("attest", "none.json", "--bundle", "a.bundle", "--key", "signer", "-o", "a.bundle/x.json"),
        ("report", "none.json", "--policy", "none.toml", "--bundle", "a.bundle", "-o", "a.bundle/x.html"),
        ("get", "https://127.0.0.1:1/", "--policy", "none.toml", "--bundle", "a.bundle", "-o", "a.bundle/x"),
        ("seal", "none.json", "--evidence", "none.json", "--policy", "none.toml", "--bundle", "a.bundle", "--owner-key", "signer",
         "-o", "a.bundle/x"),
    ):  # fmt: skip
        assert "bundle.output.inside" == run(shop, *argv, "--json", code=1)["error"]["id"]

    run(shop, "measure", "a.bundle")


def test_no_verb_overwrites_a_key(shop):
    """Whatever is asked for as an output, the keys of the project are what they were."""
    keys = shop.root / "project" / "keys"
    run(shop, "keygen", "--kind", "enclave", "-o", keys / "enclave.pem")
    run(shop, "build", "project", "-o", "a.bundle", "-q")
    before = {path: path.read_bytes() for path in keys.iterdir()}
    package, pem = keys / "package.key", keys / "enclave.pem"
    manifest = ("--manifest", "a.bundle/app.manifest.sgx", "--libpal", "a.bundle/runtime/libpal.so", "--key", pem)
    for argv in (
        ("build", "project", "-o", "a.bundle", "--private", package), ("export", "a.bundle", "--tar", package),
        ("disclose", "a.bundle", "--key", package, "-o", package), ("policy", "a.bundle", "-o", pem, "--force"),
        ("sign", *manifest, "-o", pem), ("sign", *manifest, "-o", "m.sgx", "--sigfile", pem),
        ("sign", "a.bundle", "--request", pem), ("map", "a.bundle", "--svg", package),
        ("encrypt", "project/glasscase.toml", "--key", package, "-o", pem),
    ):  # fmt: skip
        assert "fs.output.key" == run(shop, *argv, "--json", code=1)["error"]["id"]
        assert before == {path: path.read_bytes() for path in keys.iterdir()}


def test_errors(shop):
    """Each fault has its exit code and leaves no output."""
    run(shop, "build", "project", "-o", "x.bundle", "--size", "3M", code=1)
    run(shop, "build", "project", "-o", "x.bundle", "--size", "2048G", code=1)
    run(shop, "build", "nowhere", "-o", "x.bundle", code=4)
    run(shop, "build", "project", "-o", "x.bundle", "--package-key", "nowhere", code=4)
    run(shop, "build", "project", "-o", "x.bundle", "--owner", "project/glasscase.toml", code=1)
    run(shop, "build", "project", "-o", "x.bundle", "--runtime", "none", code=1)
    run(shop, "build", "project", "-o", "a.bundle", "-q")
    run(shop, "export", "a.bundle", code=1)
    run(shop, "export", "a.bundle", "--tar", "t", "--oci", "o", code=1)
    run(shop, "export", "nowhere", "--tar", "t", code=4)
    run(shop, "import", "nowhere", code=4)
    run(shop, "import", "project/glasscase.toml", "-o", "x.bundle", code=2)
    run(shop, "import", "/dev/zero", "-o", "x.bundle", code=2)
    run(shop, "import", "project", "-o", "x.bundle", code=4)
    run(shop, "import", "-", code=1)
    run(shop, "reproduce", "a.bundle", "--opening", "00" * 32, code=1)
    run(shop, "reproduce", "a.bundle", "--source", "project", "--opening", "project/glasscase.toml", code=2)
    lost = run(shop, "reproduce", "a.bundle", "--source", "project", "--opening", "00", "--json", code=4)
    assert "64 hex digits" in lost["error"]["hint"]
    run(shop, "reproduce", "project", code=4)
    (shop.root / "a.bundle" / "runtime" / "loader").write_bytes(b"x")
    run(shop, "export", "a.bundle", "--tar", "t", code=2)
    run(shop, "reproduce", "a.bundle", code=2)

    assert not {"x.bundle", "t", "o"} & set(os.listdir(shop.root))
    assert not [name for name in os.listdir(shop.root) if name.startswith(".part-")]


def test_lock_verb(shop):
    """--check is exit 0 for a fresh lock, 6 and lines for a stale one; what would not count beside it is refused."""
    made = shop.lock(tool=run(shop, "version", "--json")["version"])
    assert 5 == made.inputs()
    assert [] == run(shop, "lock", "project", "--check", "--json")["stale"]
    (shop.project / "requirements.txt").write_bytes(b"other\n")
    assert 1 == len(run(shop, "lock", "project", "--check", "--json", code=6)["stale"])
    for option in (("--update",), ("--wheel", "x"), ("--pylock", "x"), ("--python", "debian")):
        assert "cli.usage.wrong" == run(shop, "lock", "project", "--check", *option, "--json", code=1)["error"]["id"]
    run(shop, "lock", "nowhere", code=4)


def test_a_wrong_directory_is_explained(shop, capsys):
    """Where no project or no bundle is, the next step stands there, not just that a file is missing."""
    assert 4 == main.run(["build", str(shop.root)])
    assert "glasscase init DIR makes one" in capsys.readouterr().err
    assert 4 == main.run(["export", str(shop.project), "--tar", str(shop.root / "a.tar")])
    assert "glasscase build or import wrote" in capsys.readouterr().err
    assert not (shop.root / "a.tar").exists()


def test_a_lock_that_is_no_file_is_not_waited_for(shop, capsys):
    """Where a FIFO has the name of the lock, `lock` says so at once, before anything is chosen."""
    (shop.project / "glasscase.lock").unlink()
    os.mkfifo(shop.project / "glasscase.lock")
    for option in ([], ["--check"]):
        assert 1 == main.run(["lock", str(shop.project), *option])
        assert "[fs.entry.refused]" in capsys.readouterr().err


@pytest.mark.parametrize(("epoch", "last"), [(None, "unchanged {}"), (1, "wrote     {} and pylock.toml")])
def test_a_lock_that_stays_is_not_said_to_be_written(shop, monkeypatch, capsys, epoch, last):
    """The last line says whether glasscase.lock has other bytes than before."""
    made = shop.lock()

    def make(_request, **_):
        return (made if epoch is None else shop.lock(epoch=epoch)), []

    monkeypatch.setattr(locking, "make_lock", make)

    assert 0 == main.run(["lock", str(shop.project)])
    assert last.format(shop.project / "glasscase.lock") == capsys.readouterr().out.splitlines()[-1]
