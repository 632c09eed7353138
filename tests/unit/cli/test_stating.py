"""attest signs only what was verified or rebuilt here; a ledger only grows, and its past cannot be changed."""

import json
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from glasscase.cli import reproducing
from glasscase.cli.main import run
from glasscase.cli.releases import record_release
from glasscase.collateral.model import parse_collateral
from glasscase.evidence.attestation import Attestation, Claims, Instance, Session
from glasscase.evidence.format import to_json
from glasscase.evidence.model import Evidence
from glasscase.ratls.cert import spki_digest
from glasscase.sgx.reportdata import claims_report_data
from glasscase.sim.platform import SimPlatform
from glasscase.sim.quoting import report_body
from glasscase.statements.dsse import read_dsse
from glasscase.statements.intoto import REPRODUCTION, VERIFICATION, Statement

AT = 1764000000
MRENCLAVE = b"\1" * 32


@pytest.fixture
def desk(tmp_path, monkeypatch, capsys):
    """Return a directory with evidence, root, policy and a signer's key, and the command line."""
    for name in ("STATE", "CACHE", "DATA"):
        monkeypatch.setenv(f"GLASSCASE_{name}", str(tmp_path / name.lower()))
    platform = SimPlatform.open(tmp_path / "simulator")
    key = ec.generate_private_key(ec.SECP256R1())
    instance = Instance(b"i" * 16, 1, b"s" * 1216, b"r" * 32)
    claims = Claims(
        spki_digest(key.public_key()), instance.to_bytes(), Session(1, AT, AT + 3600, ()).to_bytes()
    ).to_bytes()
    quote = platform.quote(report_body(mrenclave=MRENCLAVE, mrsigner=bytes(32), report_data=claims_report_data(claims)))
    collateral = parse_collateral(json.dumps(platform.collateral(at=AT)).encode())
    evidence = Evidence(
        attestation=Attestation(quote, claims), bundle_id=bytes(32), created_at=AT, collateral=collateral
    )
    (tmp_path / "evidence.json").write_bytes(to_json(evidence))
    (tmp_path / "root.pem").write_text(platform.root_pem)
    (tmp_path / "policy.toml").write_text(
        f'version = 1\n[measurement]\nmrenclave = "{MRENCLAVE.hex()}"\n[freshness]\nevidence_max_age = "off"\n'
    )

    def command(*arguments):
        code = run([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    assert 0 == command("keygen", "--kind", "owner", "-o", tmp_path / "signer")[0]
    return SimpleNamespace(folder=tmp_path, run=command, evidence=evidence)


def attest(desk, *more, policy="policy.toml"):
    folder = desk.folder
    return desk.run("attest", folder / "evidence.json", "--policy", folder / policy, "--insecure-anchor",
                    folder / "root.pem", "--at", AT + 60, "--key", folder / "signer", "-o", folder / "said.json",
                    *more)  # fmt: skip


@pytest.mark.parametrize("verb", [("verify",), ("report", "-o")])
def test_a_statement_that_cannot_count_is_said(desk, verb):
    """Another file after --statement, or a policy that asks for none, changes no verdict and does not pass in silence."""
    folder = desk.folder
    attest(desk)
    words = [*verb, *([folder / "page.html"] if "-o" in verb else []), folder / "evidence.json", "--insecure-anchor",
             folder / "root.pem", "--at", AT + 60]  # fmt: skip
    code, _, err = desk.run(*words, "--policy", folder / "policy.toml", "--statement", folder / "root.pem")
    assert 0 == code
    assert f"warning: '{folder}/root.pem' counts for nothing: statement is not JSON" in err
    assert "warning: no statement was needed: the policy's [statements] require is 0" in err
    (folder / "two.toml").write_text(
        (folder / "policy.toml").read_text() + f'[statements]\nrequire = 1\nkeys = ["{"11" * 32}"]\n'
    )
    code, _, err = desk.run(*words, "--policy", folder / "two.toml", "--statement", folder / "said.json")
    assert (2, False) == (code, "warning" in err)
    (folder / "quote.bin").write_bytes(desk.evidence.attestation.quote)
    words[words.index(folder / "evidence.json")] = folder / "quote.bin"
    _, _, err = desk.run(*words, "--policy", folder / "policy.toml", "--statement", folder / "said.json")
    assert "warning: --statement is for evidence: beside a quote none is read" in err


def test_verified_evidence_gives_a_signed_statement(desk):
    """The statement names evidence, policy, times and that it is simulated; it verifies under the signer's key."""
    code, out, _ = attest(desk, "--json")
    signed = read_dsse((desk.folder / "said.json").read_bytes())
    said = Statement.from_bytes(signed.payload)
    inspected = json.loads(desk.run("inspect", desk.folder / "signer.pub", "--json")[1])

    assert 0 == code
    assert (VERIFICATION, MRENCLAVE) == (said.predicate_type, said.mrenclave)
    assert (desk.evidence.evidence_id.hex(), AT + 60, True) == (
        said.predicate["evidence"], said.predicate["at"], said.predicate["simulated"],
    )  # fmt: skip
    assert said.predicate == json.loads(out)["predicate"]
    key = bytes.fromhex(inspected["id"])
    assert (key,) == signed.signers((key,))


def test_nothing_is_said_of_what_is_not_verified(desk):
    """A failed or undetermined verdict, another policy, a quote: no statement, the exit code of the verdict."""
    (desk.folder / "other.toml").write_text(f'version = 1\n[measurement]\nmrenclave = "{"22" * 32}"\n')
    (desk.folder / "bundle.toml").write_text(
        'version = 1\n[measurement]\nbundle = true\n[freshness]\nevidence_max_age = "off"\n'
    )
    (desk.folder / "quote.bin").write_bytes(desk.evidence.quote)

    assert 2 == attest(desk, policy="other.toml")[0]
    assert 3 == attest(desk, policy="bundle.toml")[0]
    code, _, err = desk.run("attest", desk.folder / "quote.bin", "--key", desk.folder / "signer", "-o",
                            desk.folder / "said.json")  # fmt: skip
    assert (2, True) == (code, "[evidence.file.malformed]" in err)
    assert 3 == desk.run("attest", desk.folder / "evidence.json", "--insecure-anchor", desk.folder / "root.pem", "--at",
                         AT + 60, "--key", desk.folder / "signer", "-o", desk.folder / "said.json")[0]  # fmt: skip
    assert 1 == attest(desk, "--uri", "x")[0]
    assert not (desk.folder / "said.json").exists()


@pytest.mark.parametrize(
    ("policy", "code", "name"),
    [("other.toml", 2, "policy.mrenclave.unlisted"), ("bundle.toml", 3, "policy.bundle.missing")],
)
def test_what_is_not_verified_is_a_failure_of_attest_in_json_too(desk, policy, code, name):
    """With --json stdout holds the one object of a failure: nothing was said, so there is no result."""
    (desk.folder / "other.toml").write_text(f'version = 1\n[measurement]\nmrenclave = "{"22" * 32}"\n')
    (desk.folder / "bundle.toml").write_text(
        'version = 1\n[measurement]\nbundle = true\n[freshness]\nevidence_max_age = "off"\n'
    )
    found, out, err = attest(desk, "--json", policy=policy)
    value = json.loads(out)

    assert (code, code, name) == (found, value["exit"], value["error"]["id"])
    assert value["error"]["message"] and value["error"]["hint"]
    assert f"[{name}]" in err


def rebuilt(monkeypatch, *, differences=(), not_checked=(), insecure=()):
    index = SimpleNamespace(find=lambda _: SimpleNamespace(sha256=b"l" * 32))
    checked = SimpleNamespace(bundle=SimpleNamespace(id=b"b" * 32, index=index), insecure=insecure)
    result = SimpleNamespace(
        same=not differences, differences=differences, not_checked=not_checked, method="opening", mrenclave=MRENCLAVE
    )
    monkeypatch.setattr(reproducing, "rebuild_bundle", lambda *_, **__: (checked, result))


def say_rebuild(desk, *more):
    (desk.folder / "app.bundle").mkdir(exist_ok=True)
    return desk.run("attest", desk.folder / "app.bundle", "--key", desk.folder / "signer", "-o", desk.folder / "said.json",
                    *more)  # fmt: skip


def test_a_rebuild_gives_a_statement_that_counts(desk, monkeypatch):
    """The statement names method, lock, source and expiry, and counts for m of n."""
    from glasscase.statements.intoto import vouching_keys

    rebuilt(monkeypatch)
    code, _, _ = say_rebuild(desk, "--uri", "https://example.invalid/app", "--commit", "abc", "--expires",
                             "2099-01-01T00:00:00Z")  # fmt: skip
    data = (desk.folder / "said.json").read_bytes()
    said = Statement.from_bytes(read_dsse(data).payload)
    key = bytes.fromhex(json.loads(desk.run("inspect", desk.folder / "signer.pub", "--json")[1])["id"])

    assert (0, REPRODUCTION, "opening") == (code, said.predicate_type, said.predicate["method"])
    assert ({"uri": "https://example.invalid/app", "commit": "abc"}, False) == (
        said.predicate["source"], said.predicate["simulated"],
    )  # fmt: skip
    assert (key,) == vouching_keys([data], mrenclave=MRENCLAVE, keys=(key,), at_unix=said.predicate["at"])


@pytest.mark.parametrize("facts", [
    {"differences": (SimpleNamespace(what="rootfs/x"),)}, {"not_checked": ("the application's code",)},
])  # fmt: skip
def test_a_rebuild_that_differs_or_leaves_out_says_nothing(desk, monkeypatch, facts):
    """A difference, or anything taken over unchecked, gives no statement."""
    rebuilt(monkeypatch, **facts)
    code, _, err = say_rebuild(desk)

    assert (2, True) == (code, "[statements.rebuild.incomplete]" in err)
    assert not (desk.folder / "said.json").exists()


def test_the_wrong_options_are_refused(desk, monkeypatch):
    """Options of evidence do not go with a bundle, nor half a source."""
    rebuilt(monkeypatch)
    for more in (["--policy", "x"], ["--uri", "x"], ["--commit", "x"], ["--nonce", "00"], ["--expires", "soon"]):
        assert 1 == say_rebuild(desk, *more)[0]
    assert not (desk.folder / "said.json").exists()


def test_the_ledger_grows_is_signed_and_remembers(desk):
    """Release, retire, sign the head; a shorter or changed ledger does not continue the head that is remembered."""
    project = desk.folder / "project"
    project.mkdir()
    for number in (1, 2):
        record_release(str(project), bundle_id=bytes([number]) * 32, mrenclave=bytes([number]) * 32, isv_svn=number)
    shown = json.loads(desk.run("ledger", "show", "--json")[1])
    assert ["01" * 32, "02" * 32] == shown["released"]
    assert 0 == desk.run("ledger", "head", "--key", desk.folder / "signer", "-o", desk.folder / "head.json")[0]
    code, out, _ = desk.run("ledger", "retire", "01" * 32, "--json")
    assert (0, ["02" * 32]) == (code, json.loads(out)["released"])
    trust = ["--statement", desk.folder / "head.json", "--signer", desk.folder / "signer.pub"]
    assert 0 == desk.run("ledger", "verify", *trust)[0]
    assert 0 == desk.run("ledger", "verify", "--head", shown["head"])[0]

    file = desk.folder / "data" / "measurements.jsonl"
    good = file.read_bytes()
    file.write_bytes(good.splitlines(keepends=True)[0])
    for more in (trust, ["--head", shown["head"]]):
        code, _, err = desk.run("ledger", "verify", *more)
        assert (2, True) == (code, "[ledger.head.differs]" in err)
    file.write_bytes(good.replace(b'"isv_svn":1', b'"isv_svn":9', 1))
    code, _, err = desk.run("ledger", "show")
    assert (2, True) == (code, "[ledger.chain.broken]" in err)


def test_what_a_ledger_refuses(desk):
    """An unknown measurement, a foreign signer, half an option and no ledger at all."""
    assert 4 == desk.run("ledger", "show")[0]
    project = desk.folder / "project"
    project.mkdir()
    record_release(str(project), bundle_id=b"b" * 32, mrenclave=MRENCLAVE, isv_svn=1)
    assert 0 == desk.run("ledger", "head", "--key", desk.folder / "signer", "-o", desk.folder / "head.json")[0]
    assert 0 == desk.run("keygen", "--kind", "owner", "-o", desk.folder / "other")[0]
    before = (desk.folder / "data" / "measurements.jsonl").read_bytes()
    cases = (
        (["retire", "ff" * 32], 1), (["retire"], 1), (["retire", "xyz"], 1), (["head"], 1), (["verify", "--head", "0"], 1),
        (["verify", "--statement", desk.folder / "head.json"], 1),
        (["verify", "--statement", desk.folder / "head.json", "--signer", desk.folder / "other.pub"], 2),
        (["verify", "--head", "0:" + "00" * 32], 2), (["verify", "--head", "9:" + "00" * 32], 2),
        (["show", "--head", "9:" + "00" * 32], 1), (["show", "11" * 32], 1), (["verify", "--key", desk.folder / "signer"], 1),
        (["head", "--statement", desk.folder / "head.json"], 1), (["retire", MRENCLAVE.hex(), "--head", "0:" + "00" * 32], 1),
    )  # fmt: skip
    for arguments, expected in cases:
        assert expected == desk.run("ledger", *arguments)[0], arguments
    assert before == (desk.folder / "data" / "measurements.jsonl").read_bytes()


def test_a_ledger_says_what_was_compared(desk):
    """verify names the head that the ledger continues, or that it was given none; head names the file that it wrote."""
    project = desk.folder / "project"
    project.mkdir()
    record_release(str(project), bundle_id=b"b" * 32, mrenclave=MRENCLAVE, isv_svn=1)
    head = json.loads(desk.run("ledger", "show", "--json")[1])["head"]
    signed, public = desk.folder / "head.json", desk.folder / "signer.pub"

    assert (
        f"wrote {signed}"
        == desk.run("ledger", "head", "--key", desk.folder / "signer", "-o", signed)[1].splitlines()[-1]
    )
    for more, said in (
        ([], "checked its own chain only: give the --head or --statement that you remember"),
        (["--head", head], f"continues {head}"),
        (["--statement", signed, "--signer", public], f"continues {head}, signed by {public}"),
    ):
        assert said == desk.run("ledger", "verify", *more)[1].splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "name", "said"),
    [
        ("report evidence.json --policy policy.toml", "evidence.json", "the input"),
        ("report evidence.json --policy policy.toml", "./evidence.json", "the input"),
        ("report evidence.json --policy policy.toml", "link.json", "the input"),
        ("report evidence.json --policy policy.toml", "policy.toml", "what --policy names"),
        (
            "report evidence.json --policy policy.toml --statement root.pem --statement x.json",
            "x.json",
            "what --statement names",
        ),
        ("attest evidence.json --policy policy.toml --key signer", "evidence.json", "the input"),
        ("attest evidence.json --policy policy.toml --key signer", "signer", "what --key names"),
        ("ledger head --file x.json --key signer", "x.json", "what --file names"),
        ("ledger head --file x.json --key signer", "signer", "what --key names"),
        ("ledger head --key signer", "data/measurements.jsonl", "the input"),
        ("get https://127.0.0.1:1/ --policy policy.toml", "policy.toml", "what --policy names"),
        ("collateral fetch --for evidence.json --source http://127.0.0.1:1", "evidence.json", "what --for names"),
    ],
)
def test_no_output_takes_the_place_of_an_input(desk, monkeypatch, words, name, said):
    """Evidence cannot be collected again and a key never: naming one after -o is a slip, and nothing is lost by it."""
    monkeypatch.chdir(desk.folder)
    (desk.folder / "x.json").write_bytes(b"")
    (desk.folder / "link.json").symlink_to("evidence.json")
    record_release(str(desk.folder), bundle_id=b"b" * 32, mrenclave=MRENCLAVE, isv_svn=1)
    before = {path: path.read_bytes() for path in desk.folder.rglob("*") if path.is_file()}
    code, _, err = desk.run(*words.split(), "-o", name)

    assert (1, True) == (code, f"the output is {said} [cli.usage.wrong]" in err), err
    assert before == {path: path.read_bytes() for path in desk.folder.rglob("*") if path.is_file()}


def test_the_signed_head_goes_to_stdout_like_every_statement(desk):
    """`-o -` writes the statement and nothing else there; what the ledger holds is talk then, and --json is refused."""
    record_release(str(desk.folder), bundle_id=b"b" * 32, mrenclave=MRENCLAVE, isv_svn=1)
    words = ["ledger", "head", "--key", desk.folder / "signer", "-o", "-"]
    code, out, err = desk.run(*words)
    said = Statement.from_bytes(read_dsse(out.encode()).payload)

    assert (0, "urn:glasscase:ledger-head:v1", 0) == (code, said.predicate_type, said.predicate["n"])
    assert MRENCLAVE.hex() in err
    code, _, err = desk.run(*words, "--json")
    assert (1, True) == (code, "both want stdout" in err)


@pytest.mark.parametrize("action", [["show"], ["verify"], ["retire", "11" * 32]])
def test_who_asks_for_a_ledger_that_is_not_there_makes_no_directory(desk, action):
    """It would fail in a home that cannot be written, with another reason than the true one."""
    code, _, err = desk.run("ledger", *action)

    assert (4, True) == (code, "[fs.file.missing]" in err)
    assert not (desk.folder / "data").exists()
