"""The verb `seal`: verdict first, output last, and co-signing through files."""

import json
import os
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from glasscase.cli.main import run
from glasscase.cli.sealing import parse_secrets, pinned_policy, write_together
from glasscase.errors import FormatError, UsageError
from glasscase.evidence.format import to_json
from glasscase.statements.ledger import NO_KEY, next_line
from glasscase.verify.policy import parse_policy

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "seal"))
import conftest as seal_bench

POLICY = f"""version = 1
[measurement]
bundle = true
bundle_id = "{seal_bench.BUNDLE_ID.hex()}"
[platform]
platforms = ["any-intel"]
[freshness]
evidence_max_age = "off"
"""


@pytest.fixture
def desk(tmp_path, monkeypatch, tmp_path_factory):
    """Return a directory with everything that seal takes, for an enclave that is alive at the time of the test."""
    from glasscase.sim.platform import SimPlatform

    bench = seal_bench.Bench(SimPlatform.open(tmp_path_factory.mktemp("desk")), threshold=1)
    monkeypatch.setattr("glasscase.bundle.check.check_bundle", lambda _path, **_options: bench.bundle)
    monkeypatch.setattr("glasscase.cli.sealing.time.time", lambda: float(seal_bench.AT))
    monkeypatch.setenv("GLASSCASE_DATA", str(tmp_path / "data"))
    (tmp_path / "secrets.json").write_text('{"token": "hunter2", "raw": {"base64": "AAE"}}')
    (tmp_path / "evidence.json").write_bytes(to_json(bench.evidence()))
    (tmp_path / "policy.toml").write_text(POLICY)
    (tmp_path / "root.pem").write_text(bench.platform.root_pem)
    for number, seed in enumerate(seal_bench.SEEDS):
        key = Ed25519PrivateKey.from_private_bytes(seed)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path = tmp_path / f"owner{number}.key"
        path.touch(0o600)
        path.write_bytes(pem)
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (tmp_path / f"owner{number}.pub").write_bytes(public)
    monkeypatch.chdir(tmp_path)
    return bench


def seal(capsys, *words, secrets="secrets.json", output="out.sealed", owner="owner0.key"):
    """Run the verb and return exit code, JSON and stderr."""
    common = [
        "--evidence",
        "evidence.json",
        "--policy",
        "policy.toml",
        "--bundle",
        "b",
        "--insecure-anchor",
        "root.pem",
    ]
    code = run(["seal", secrets, *common, "--owner-key", owner, "-o", output, "--json", *words])
    captured = capsys.readouterr()
    return code, json.loads(captured.out), captured.err


def test_it_seals(desk, capsys):
    """The envelope is written 0600 and the enclave accepts it."""
    code, value, _ = seal(capsys)
    accepted = desk.provisioner().accept(Path("out.sealed").read_bytes())

    assert 0 == code
    assert {"token": "hunter2", "raw": b"\0\1"} == accepted.contents.secrets
    assert (accepted.digest.hex(), desk.bundle.measurement.mrenclave.hex()) == (value["digest"], value["mrenclave"])
    assert 0o600 == Path("out.sealed").stat().st_mode & 0o777
    assert 32 == len(value["id"])


def test_no_output_without_a_verdict(desk, capsys):
    """Intel's own root does not know the simulator: exit 2 and no file; no policy identity: exit 1 and no file."""
    words = ["--evidence", "evidence.json", "--policy", "policy.toml", "--bundle", "b", "--owner-key", "owner0.key"]

    assert 2 == run(["seal", "secrets.json", *words, "-o", "out.sealed"])
    Path("policy.toml").write_text(POLICY.replace("any-intel", "ab" * 16))
    capsys.readouterr()
    code, value, _ = seal(capsys)
    assert (2, False) == (code, Path("out.sealed").exists())
    assert value["error"]["id"].startswith("policy.") or value["error"]["id"].startswith("platform.")


@pytest.mark.parametrize("missing", ["--evidence", "--policy", "--bundle", "--owner-key"])
def test_each_option_is_needed(desk, capsys, missing):
    """Without one of them there is a usage error and no file."""
    words = ["--evidence", "evidence.json", "--policy", "policy.toml", "--bundle", "b", "--owner-key", "owner0.key"]
    at = words.index(missing)
    del words[at : at + 2]

    assert 1 == run(["seal", "secrets.json", *words, "-o", "out.sealed"])
    assert missing in capsys.readouterr().err
    assert not Path("out.sealed").exists()


def test_an_output_is_not_overwritten(desk, capsys):
    """An existing output stays."""
    Path("out.sealed").write_text("mine")
    code, value, _ = seal(capsys)

    assert (1, "fs.output.exists") == (code, value["error"]["id"])
    assert "mine" == Path("out.sealed").read_text()


def test_the_ledger_says_whose_bundle(desk, capsys):
    """Without bundle_id the sealer's own ledger decides; a retired release does not count."""
    Path("policy.toml").write_text("\n".join(line for line in POLICY.splitlines() if "bundle_id" not in line))
    code, value, _ = seal(capsys)
    assert (1, "seal.identity.unproven") == (code, value["error"]["id"])

    lines = ()
    for kind in ("release", "retire"):
        facts = {"bundle_id": seal_bench.BUNDLE_ID, "mrenclave": seal_bench.MRENCLAVE, "isv_svn": 3, "time": 1}
        lines = (*lines, next_line(lines, public_key=NO_KEY, kind=kind, **facts))
        Path("data").mkdir(exist_ok=True)
        Path("data/measurements.jsonl").write_bytes(b"".join(line.to_bytes() for line in lines))
        assert (0 if kind == "release" else 1) == seal(capsys, output=f"{kind}.sealed")[0]
    Path("data/measurements.jsonl").write_bytes(lines[1].to_bytes())
    code, value, _ = seal(capsys)
    assert (2, "ledger.chain.broken") == (code, value["error"]["id"])


def test_pin_platform(desk, capsys):
    """--pin-platform writes a policy that names the platform that was seen, and nothing else changes."""
    code, value, _ = seal(capsys, "--pin-platform")
    pinned = parse_policy(Path("policy.pinned.toml").read_bytes())

    assert (0, ["policy.pinned.toml"]) == (code, value["written"])
    assert 1 == len(pinned.platforms)
    assert pinned.platforms[0] in desk.verified().platform_ids
    assert 1 == seal(capsys, "--pin-platform", output="two.sealed")[0]
    assert not Path("two.sealed").exists()
    assert 0 == seal(capsys, "--pin-platform", "mine.toml", output="three.sealed")[0]
    Path("policy.toml").write_bytes(Path("mine.toml").read_bytes())
    assert 0 == seal(capsys, output="four.sealed")[0]


def test_two_results_have_two_names(desk, capsys):
    """An envelope and the pinned policy cannot be one file."""
    assert 1 == seal(capsys, "--pin-platform", "./one", output="one")[0]
    assert not Path("one").exists()


@pytest.mark.parametrize(
    "text",
    [
        POLICY, POLICY.replace('["any-intel"]', '[\n  "any-intel",\n]'), POLICY.replace('platforms = ["any-intel"]\n', ""),
        POLICY.replace('[platform]\nplatforms = ["any-intel"]\n', ""),
    ],
)  # fmt: skip
def test_pinned_policies(text):
    """Every way to write the table keeps the rest of the policy."""
    assert ("ab" * 16,) == parse_policy(pinned_policy(text.encode(), "ab" * 16)).platforms


def test_co_signing_through_files(desk, capsys):
    """The first owner writes a request, the second signs it, joined the enclave accepts it."""
    code, value, _ = seal(capsys, "--cosign", "owner1.pub")
    (request,) = value["written"]
    assert (0, False) == (code, value["complete"])
    assert request.startswith("out.sealed.")
    assert 0 == seal(capsys, secrets=request, owner="owner1.key", output="second.sealed")[0]
    assert 2 == seal(capsys, secrets=request, owner="owner2.key", output="third.sealed")[0]
    assert not Path("third.sealed").exists()
    code = run(["seal", "out.sealed", "--cosign", "second.sealed", "-o", "both.sealed", "--json"])
    joined = json.loads(capsys.readouterr().out)

    assert (0, True) == (code, joined["complete"])
    assert "hunter2" == desk.provisioner().accept(Path("both.sealed").read_bytes()).contents.secrets["token"]


@pytest.mark.parametrize("taken", ["out.sealed", "request", "mine.toml"])
def test_a_taken_name_leaves_nothing_behind(desk, capsys, taken):
    """Envelope, co-signing requests and pinned policy are written together: if one name is taken there is none of them."""
    if taken == "request":
        (taken,) = seal(capsys, "--cosign", "owner1.pub")[1]["written"]
        Path("out.sealed").unlink()
    Path(taken).write_bytes(b"mine")
    before = sorted({*os.listdir(), "data"})
    code, value, _ = seal(capsys, "--cosign", "owner1.pub", "--pin-platform", "mine.toml")

    assert (1, "fs.output.exists") == (code, value["error"]["id"])
    assert before == sorted({*os.listdir(), "data"})
    assert b"mine" == Path(taken).read_bytes()


def test_a_name_taken_meanwhile_leaves_nothing_behind(tmp_path, monkeypatch):
    """A file that turns up between the check and the last rename is kept, and what was written is removed again."""
    names = [str(tmp_path / name) for name in ("first", "second", "third")]
    link = os.link

    def late(source, target, **options):
        if target == names[2]:
            Path(target).write_bytes(b"theirs")
        link(source, target, **options)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(UsageError) as caught:
        write_together(dict.fromkeys(names, b"ours"), overwrite=False)

    assert "fs.output.exists" == caught.value.reason
    assert ["third"] == os.listdir(tmp_path)
    assert b"theirs" == Path(names[2]).read_bytes()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", '{"a": 1}', '{"a": "x", "a": "y"}', '{"a": {"base64": 1}}', '{"a": {"base64": "!"}}', '{"a": {"hex": "00"}}',
     '{"a": {"base64": "\u00e9"}}', '{"a": {"base64": "AA", "b": 1}}', '{"a": null}', "{"],
)  # fmt: skip
def test_malformed_secrets(text):
    """Only an object of text and base64 is taken, and the message quotes no value."""
    with pytest.raises(FormatError) as caught:
        parse_secrets(text.encode())
    assert "seal.contents.malformed" == caught.value.reason


@pytest.mark.parametrize("spelling", ["AAECA__7", "AAECA//7", "AA==", "AA"])
def test_both_alphabets_of_base64(spelling):
    """Bytes may be spelt in either alphabet, with or without padding."""
    assert isinstance(parse_secrets(json.dumps({"k": {"base64": spelling}}).encode())["k"], bytes)


@pytest.mark.parametrize("content", [b"", b"not a key", b"\0" * 32])
def test_a_wrong_owner_key(desk, capsys, content):
    """A file that is no Ed25519 PEM is a usage error; one that others can read too."""
    Path("owner0.key").write_bytes(content)
    assert (1, "seal.owner.malformed") == (lambda r: (r[0], r[1]["error"]["id"]))(seal(capsys))
    Path("owner0.key").chmod(0o644)
    assert (1, "fs.key.exposed") == (lambda r: (r[0], r[1]["error"]["id"]))(seal(capsys))


@pytest.mark.parametrize("text", [b"[]", b"", b'{"a":1}', b'{"a":{"base64":"!"}}', b'{"":"x"}'])
def test_wrong_secrets_say_what_they_should_look_like(text):
    """Whatever is wrong with SECRETS, the hint shows the form."""
    with pytest.raises(FormatError) as caught:
        parse_secrets(text)

    assert ("seal.contents.malformed", True) == (caught.value.reason, '{"base64": ' in caught.value.hint)


def test_nonce_is_a_usage_error(desk, capsys):
    """A nonce that is none exits 1, as for verify, and nothing is written."""
    code, value, _ = seal(capsys, "--nonce", "zz")

    assert (1, "cli.nonce.malformed") == (code, value["error"]["id"])
    assert not Path("out.sealed").exists()


def test_envelope_to_stdout(desk, capsysbinary):
    """`-o -` writes the envelope alone to stdout, and no file."""
    words = ["--evidence", "evidence.json", "--policy", "policy.toml", "--bundle", "b", "--insecure-anchor", "root.pem"]
    code = run(["seal", "secrets.json", *words, "--owner-key", "owner0.key", "-o", "-"])
    written = capsysbinary.readouterr().out

    assert (0, b"\xd8\x62") == (code, written[:2])
    assert not Path("-").exists()


def test_a_simulators_evidence_without_its_anchor_is_explained(desk, capsys):
    """Whoever forgets --insecure-anchor is told that the quote is a simulator's, by every verb that verifies first."""
    words = ["--evidence", "evidence.json", "--policy", "policy.toml", "--bundle", "b", "--owner-key", "owner0.key"]
    code = run(["seal", "secrets.json", *words, "-o", "out.sealed"])

    assert 2 == code
    assert "by the simulator: --insecure-anchor ROOT.pem" in capsys.readouterr().err
    assert not Path("out.sealed").exists()
