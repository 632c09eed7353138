"""`report`: one page with the verdict, what it rests on and how to repeat it."""

import hashlib
import io
import json
import os
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest

from glasscase.audit.report_html import report_page
from glasscase.audit.report_json import EDGES
from glasscase.cli.main import run
from glasscase.core import dcap
from glasscase.evidence.format import to_json
from glasscase.sgx.sigstruct import Sigstruct
from glasscase.verify.catalog import OWN
from tests.unit.bundle.conftest import Workshop
from tests.unit.sgx.test_sigstruct import key, pem
from tests.unit.verify.conftest import AT, lab  # noqa: F401 - a fixture

POLICY = """version = 1
[measurement]
bundle = true
[platform]
platforms = ["any-intel"]
"""
VOID = {"meta", "br", "rect", "line"}


class Page(HTMLParser):
    """A page taken apart: tags must nest, scripts must be inert."""

    def __init__(self, content: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.open, self.scripts, self.links, self.words, self.data = [], [], [], [], ""
        self.feed(content.decode())
        self.close()
        assert [] == self.open

    def handle_starttag(self, tag, attrs):
        facts = dict(attrs)
        if tag == "script":
            self.scripts.append(facts)
        self.links += [facts[name] for name in ("src", "href", "style") if name in facts]
        self.links += [name for name in facts if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert tag == self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.data += data
        else:
            self.words.append(data)


class Office:
    """A signed bundle, evidence of an enclave that runs it, a policy and the root, on disk."""

    def __init__(self, lab, root, capsys):  # noqa: F811
        self.root, self._capsys = root, capsys
        (root / "w").mkdir()
        self.workshop = Workshop(root / "w")
        self.workshop.build("a.bundle")
        self.bundle = root / "w/a.bundle"
        (root / "key.pem").write_bytes(pem(key()))
        assert 0 == run(["sign", str(self.bundle), "--key", str(root / "key.pem")])
        capsys.readouterr()
        signed = Sigstruct.from_bytes((self.bundle / "app.sig").read_bytes())
        facts = {
            "mrenclave": signed.mrenclave, "mrsigner": signed.mrsigner, "isv_prod_id": signed.isv_prod_id,
            "isv_svn": signed.isv_svn, "xfrm": signed.xfrm, "misc_select": signed.misc_select,
        }  # fmt: skip
        bundle_id = hashlib.sha256((self.bundle / "bundle.json").read_bytes()).digest()
        (root / "e.json").write_bytes(to_json(lab.evidence(facts=facts, bundle_id=bundle_id)))
        (root / "root.pem").write_text(lab.platform.root_pem)
        (root / "p.toml").write_text(POLICY)

    def report(self, *more, output="r.html", code=0):
        base = [
            "report",
            str(self.root / "e.json"),
            "--policy",
            str(self.root / "p.toml"),
            "-o",
            str(self.root / output),
        ]
        base += ["--insecure-anchor", str(self.root / "root.pem"), "--at", str(AT + 60)]
        assert code == run([*base, *map(str, more)])
        self.out, self.err = self._capsys.readouterr()
        return (self.root / output).read_bytes()


@pytest.fixture
def office(lab, tmp_path, capsys):  # noqa: F811
    return Office(lab, tmp_path, capsys)


def test_a_verified_report_holds_everything(office):
    """Verdict, measurement, chain, times, platform, memory, inventory, every check, limits, command and quote."""
    content = office.report("--bundle", office.bundle)
    page = Page(content)
    words = " ".join(page.words)
    document = json.loads(page.data)

    assert [{"type": "application/json", "id": "report"}] == page.scripts
    assert [] == page.links
    assert "VERIFIED" in words
    assert "SIMULATED" in words
    assert "equal; recomputed from" in words
    assert "demo" in words
    for name in (*dcap.CHECKS, *OWN):
        assert name in words
    for sentence in ("side channels", "rollback", "benign"):
        assert sentence in words
    assert "glasscase verify" in words
    assert {"pass"} == {edge["outcome"] for edge in document["chain"]}
    assert document["raw_quote"] == document["raw_quote"].lower()
    assert hashlib.sha256((office.root / "p.toml").read_bytes()).hexdigest() in words
    for picture in re.findall(rb"<svg.*?</svg>", content, re.DOTALL):
        ET.fromstring(picture)
    assert 3 == content.count(b"<svg ")


def test_the_same_command_gives_the_same_page(office):
    """No clock and no order of hashing shows."""
    assert office.report("--bundle", office.bundle) == office.report("--bundle", office.bundle, output="two.html")


def test_the_digests_are_of_what_was_judged_by(office, lab, monkeypatch):  # noqa: F811
    """A pipe gives its content once, a file may change: what is hashed is what was read for the verdict, from stdin too."""
    (office.root / "c.json").write_bytes(json.dumps(lab.platform.collateral(at=AT)).encode())
    contents = {name: (office.root / name).read_bytes() for name in ("p.toml", "root.pem", "c.json", "key.pem")}
    pipes = {}
    for name, content in contents.items():
        reading, writing = os.pipe()
        pipes[name] = f"/dev/fd/{reading}"
        os.write(writing, content)
        os.close(writing)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"stdin")))
    page = Page(office.report("--bundle", office.bundle, "--policy", pipes["p.toml"], "--insecure-anchor", pipes["root.pem"],
                              "--collateral", pipes["c.json"], "--statement", pipes["key.pem"], "--statement", "-"))  # fmt: skip
    for path in pipes.values():
        os.close(int(path.rpartition("/")[2]))
    options = {"policy": "p.toml", "insecure_anchor": "root.pem", "collateral": "c.json", "statement 1": "key.pem"}
    wanted = {option: hashlib.sha256(contents[name]).hexdigest() for option, name in options.items()}

    assert {**wanted, "statement 2": hashlib.sha256(b"stdin").hexdigest()} == json.loads(page.data)["inputs"]["files"]


def test_json_is_what_verify_prints(office):
    """`report --json` prints the object of `verify --json`, which the page holds too."""
    page = Page(office.report("--bundle", office.bundle, "--json"))
    printed = json.loads(office.out)

    assert "verified" == printed["status"]
    assert json.loads(page.data)["verdict"] == {name: value for name, value in printed.items() if name != "notice"}


def test_a_failed_verdict_is_reported_too(office):
    """Another bundle: exit 2, the page says FAILED, marks the digits that differ and names the check."""
    office.workshop.edit("max_threads = 4", "max_threads = 5")
    office.workshop.build("b.bundle")
    content = office.report("--bundle", office.root / "w/b.bundle", code=2)
    words = " ".join(Page(content).words)

    assert "FAILED: do not trust this enclave" in words
    assert "DIFFERENT" in words
    assert b"<mark>" in content
    assert "policy.mrenclave.mismatch" in words
    assert "VERIFIED" not in words


def test_the_wrong_root_is_undetermined_or_failed_and_said(office):
    """Without the simulator's root nothing verifies, and the broken edge of the chain is the first."""
    base = ["report", str(office.root / "e.json"), "--policy", str(office.root / "p.toml"), "--at", str(AT + 60)]
    assert 2 == run([*base, "-o", str(office.root / "r.html"), "--bundle", str(office.bundle)])
    document = json.loads(Page((office.root / "r.html").read_bytes()).data)

    assert "fail" == document["chain"][0]["outcome"]
    assert "failed" == document["verdict"]["status"]


def test_without_a_policy_there_is_no_verdict(office):
    """Exit 3, and the page says so."""
    base = [
        "report",
        str(office.root / "e.json"),
        "--insecure-anchor",
        str(office.root / "root.pem"),
        "--at",
        str(AT + 60),
    ]
    assert 3 == run([*base, "-o", str(office.root / "r.html")])

    assert "UNDETERMINED" in " ".join(Page((office.root / "r.html").read_bytes()).words)


@pytest.mark.parametrize("content", [b"", b"{}", b"\0" * 100, b"{" + b"x" * 70_000])
def test_garbage_gives_no_page_or_an_honest_one(office, content):
    """What is no evidence and no quote ends with a reason and without a page that says verified."""
    (office.root / "e.json").write_bytes(content)
    base = ["report", str(office.root / "e.json"), "--policy", str(office.root / "p.toml"), "--at", str(AT + 60)]
    code = run([*base, "-o", str(office.root / "r.html")])

    assert code in (2, 3)
    if (office.root / "r.html").exists():
        assert "VERIFIED" not in " ".join(Page((office.root / "r.html").read_bytes()).words)


def test_every_text_is_escaped(office):
    """Markup in any text of the report stays text, and nothing ends the element with the data."""
    evil = "</script><script>alert(1)</script><img src=x onerror=y>\u202e\x1b"
    document = json.loads(Page(office.report("--bundle", office.bundle)).data)

    def spoil(value):
        if isinstance(value, dict):
            return {name: spoil(item) for name, item in value.items()}
        if isinstance(value, list):
            return [spoil(item) for item in value]
        return evil if isinstance(value, str) else value

    spoilt = {name: spoil(value) for name, value in document.items()}
    for keep in ("status", "at", "valid_until"):
        spoilt["verdict"][keep] = document["verdict"][keep]
    spoilt["raw_quote"] = document["raw_quote"]
    for table, field in (("chain", "outcome"),):
        for row, good in zip(spoilt[table], document[table], strict=True):
            row[field] = good[field]
    for row, good in zip(spoilt["verdict"]["checks"], document["verdict"]["checks"], strict=True):
        row["outcome"] = good["outcome"]
    content = report_page(spoilt)
    page = Page(content)

    assert 1 == len(page.scripts)
    assert [] == page.links
    assert "\u202e" not in content.decode()
    assert b"\x1b" not in content


def test_each_check_of_the_chain_has_one_edge(office):
    """Edges take checks by the longest prefix, so none is counted twice; all seven have some."""
    document = json.loads(Page(office.report("--bundle", office.bundle)).data)
    names = [check["id"] for check in document["verdict"]["checks"]]
    covered = sum(any(name.startswith(p) for _, _, prefixes in EDGES for p in prefixes) for name in names)

    assert covered == sum(edge["checks"] for edge in document["chain"])
    assert all(edge["checks"] for edge in document["chain"])
