"""What an operator may hand over instead of honest evidence: replays, mixtures and hostile files, as the command line sees them.

Each is refused by name, with the times that matter and with what was not checked.
"""

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest

from glasscase import auditor
from glasscase.cli.main import run
from glasscase.evidence.format import to_json
from glasscase.sim.platform import SimPlatform

DAY = 86_400


class Desk:
    """The files of one auditor and his command line."""

    def __init__(self, lab, tmp_path, capsys):
        self.lab, self._folder, self._capsys = lab, tmp_path, capsys
        self.policy = self.write("policy.toml", self.policy_text())
        self.root = self.write("root.pem", lab.platform.root_pem)

    def policy_text(self, more=""):
        return f'version = 1\n[measurement]\nmrenclave = "{self.lab.mrenclave.hex()}"\n{more}'

    def write(self, name, content):
        path = self._folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    def verify(self, evidence, *more, at):
        """Return exit code, the object of --json (None without one), stdout of people's form and stderr."""
        content = evidence if isinstance(evidence, bytes) else to_json(evidence)
        common = ["verify", self.write("evidence.json", content), "--policy", self.policy, "--insecure-anchor", self.root,
                  "--at", str(at), *more]  # fmt: skip
        code = run(common)
        out, err = self._capsys.readouterr()
        assert code == run([*common, "--json"])
        value, _ = self._capsys.readouterr()
        assert "Traceback" not in out + err
        return code, json.loads(value), out, err


@pytest.fixture
def desk(lab, tmp_path, capsys):
    return Desk(lab, tmp_path, capsys)


def day(lab, number):
    return lab.time_at(lab.at + number * DAY).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_an_old_nonce(desk, lab):
    """Evidence that answered another nonce fails for the one of today, both shown."""
    evidence = lab.evidence(claims=lab.claims(nonce=b"o" * 32))
    code, value, _, err = desk.verify(evidence, "--nonce", "6e" * 32, at=lab.at + 60)

    assert (2, ["freshness.nonce.mismatch"]) == (code, value["failed"])
    check = next(check for check in value["checks"] if check["id"] == "freshness.nonce.mismatch")
    assert ((b"o" * 32).hex(), "6e" * 32) == (check["observed"], check["expected"])
    assert "[freshness.nonce.mismatch]" in err


def test_an_old_quote_with_fresh_collateral(desk, lab):
    """Fresh collateral does not make an old quote young: its beacon counts; both times are shown."""
    old = lab.evidence(beacon=lab.platform.collateral(at=lab.at)["tcb_info"])
    fresh = replace(old, collateral=lab.collateral(lab.at + 5 * DAY), created_at=lab.at + 5 * DAY)
    code, value, out, err = desk.verify(fresh, at=lab.at + 5 * DAY + 60)

    assert (2, ["freshness.evidence.old"]) == (code, value["failed"])
    assert f"issued {day(lab, 0)}, 5 days old" in out + err
    assert "as of 2025-11-29 16:01:00Z" in out


def test_a_fresh_quote_with_old_collateral(desk, lab):
    """Old collateral gives no verdict on a fresh quote: exit 3, with its date of issue and the time of the verdict."""
    fresh = lab.evidence(claims=lab.claims(nonce=b"n" * 32, nbf=lab.at + 10 * DAY, exp=lab.at + 10 * DAY + 3600))
    code, value, out, err = desk.verify(fresh, "--nonce", (b"n" * 32).hex(), at=lab.at + 10 * DAY)

    assert (3, ["collateral.tcbinfo.stale", "collateral.qeidentity.stale"]) == (code, value["failed"])
    assert "undetermined" == value["status"]
    assert f"issued {day(lab, 0)}, 10 days old" in out + err
    assert "as of 2025-12-04 16:00:00Z" in out


def test_evidence_of_another_application(desk, lab):
    """Genuine evidence of another enclave is not evidence of the one that is meant."""
    other = lab.evidence(facts={"mrenclave": b"\x77" * 32})
    code, value, _, err = desk.verify(other, at=lab.at + 60)

    assert (2, ["policy.mrenclave.unlisted"]) == (code, value["failed"])
    assert "77" * 32 in err


def test_evidence_after_a_tcb_recovery(desk, lab):
    """Evidence from before new TCB data of Intel's fails with the data of today, and says what the platform lacks."""
    later = lab.at + DAY // 2
    scene = lab.platform.scene(body=bytes(384), at=later)
    raised = json.loads(json.dumps(scene.tcb_info))
    for component in raised["tcbLevels"][0]["tcb"]["sgxtcbcomponents"]:
        component["svn"] = 255
    raised["tcbLevels"].append(
        {
            **json.loads(json.dumps(scene.tcb_info["tcbLevels"][0])),
            "tcbStatus": "OutOfDate",
            "advisoryIDs": ["INTEL-SA-01192"],
        }
    )
    scene.tcb_info = {**raised, "tcbEvaluationDataNumber": 20}
    recovered = desk.write("recovered.json", json.dumps(scene.render().collateral))
    code, value, out, _ = desk.verify(lab.evidence(), "--collateral", recovered, at=later + 60)

    assert 2 == code
    assert value["failed"][0] == "platform.tcb.out_of_date"
    assert "needs 255" in out and "INTEL-SA-01192" in out


def edited(lab, **changes):
    value = json.loads(to_json(lab.evidence()))
    for key, item in changes.items():
        target, _, inner = key.partition("__")
        if inner:
            value[target] = {name: kept for name, kept in value[target].items() if name != inner} | (
                {} if item is None else {inner: item}
            )
        else:
            value[target] = item
    return json.dumps(value).encode()


REFUSED = {
    "its own root": (lambda lab: edited(lab, root=lab.platform.root_pem), "evidence.file.malformed"),
    "its own roots": (lambda lab: edited(lab, collateral__roots=[]), "collateral.file.malformed"),
    "its own policy": (lambda lab: edited(lab, policy={}), "evidence.file.malformed"),
    "no root CRL": (lambda lab: edited(lab, collateral__root_ca_crl=None), "collateral.file.malformed"),
    "no PCK CRL": (lambda lab: edited(lab, collateral__pck_crl=None), "collateral.file.malformed"),
    "a field twice": (
        lambda lab: to_json(lab.evidence()).replace(b'"v": 1,', b'"v": 1, "created_at": 1,', 1),
        "codec.json.malformed",
    ),
    "a field twice in CBOR": (
        lambda lab: b"\xbf" + lab.evidence().to_cbor()[1:] + b"\xff",
        "codec.cbor.malformed",
    ),
    "standard base64": (
        lambda lab: edited(lab, quote=base64.b64encode(lab.evidence().quote).decode()),
        "codec.base64.malformed",
    ),
    "UTF-16": (lambda lab: to_json(lab.evidence()).decode().encode("utf-16"), "quote"),
    "a byte order mark": (lambda lab: b"\xef\xbb\xbf" + to_json(lab.evidence()), "quote"),
    "trailing bytes": (lambda lab: lab.evidence().to_cbor() + b"\0", "codec.cbor.malformed"),
    "a newer version": (lambda lab: edited(lab, v=2), "format.newer"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_hostile_files_are_refused(desk, lab, name):
    """No file brings roots, leaves a CRL out, says a thing twice or in another encoding: exit 2, and no verdict."""
    make, reason = REFUSED[name]
    code, value, _, err = desk.verify(make(lab), at=lab.at + 60)

    assert 2 == code
    assert "status" not in value or "verified" != value["status"]
    assert f"[{reason}" in err


def test_a_file_of_a_gigabyte_is_not_read(desk, lab, tmp_path, capsys):
    """A sparse gigabyte ends at the limit of the format."""
    with open(tmp_path / "big.json", "wb") as big:
        big.write(b"{")
        big.truncate(1 << 30)
    code = run(["verify", str(tmp_path / "big.json"), "--policy", desk.policy, "--insecure-anchor", desk.root])
    out, err = capsys.readouterr()

    assert (2, "") == (code, out)
    assert "oversize]" in err


@pytest.mark.parametrize(("size", "reason"), [(65_536, "quote."), (65_537, "quote.bytes.oversize")])
def test_a_quote_at_and_above_the_limit(desk, lab, size, reason):
    """65,536 bytes are looked at and are not a quote with a tail; one more is not looked at."""
    quote = lab.evidence().quote
    code, _, _, err = desk.verify(
        quote + bytes(size - len(quote)), "--collateral", desk.write("c.json", json.dumps(lab.platform.collateral(at=lab.at))),
        at=lab.at + 60,
    )  # fmt: skip

    assert 2 == code
    assert f"[{reason}" in err


def test_evidence_that_only_the_operator_has_signed(desk, lab, tmp_path):
    """A PKI of the operator's own, in the same names, is not the anchor's; nothing that follows makes it so."""
    own = replace(lab, platform=SimPlatform.open(tmp_path / "operator"))
    code, value, out, _ = desk.verify(own.evidence(), at=lab.at + 60)

    assert (2, "failed") == (code, value["status"])
    assert "root.certificate.unknown" in value["failed"] and "root.key.mismatch" in value["failed"]
    assert "PASS  signatures" not in out


def test_what_was_not_checked_is_printed(desk, lab):
    """Every verdict, good or bad, names what it does not say; a policy that looks takes its name from the list."""
    for evidence in (lab.evidence(), lab.evidence(facts={"mrenclave": b"\x77" * 32})):
        _, value, out, _ = desk.verify(evidence, at=lab.at + 60)
        line = next(line for line in out.splitlines() if line.startswith("NOTE  not checked"))
        said = {name.strip() for name in line.removeprefix("NOTE  not checked").partition(";")[0].split(",")}

        assert said <= set(value["not_checked"])
        assert {"platform.any", "statements", "physical.interposition"} <= said
    desk.policy = desk.write("named.toml", desk.policy_text(f'[platform]\nplatforms = ["{platform_of(lab)}"]\n'))
    _, value, _, _ = desk.verify(lab.evidence(), at=lab.at + 60)

    assert "platform.any" not in value["not_checked"]


def platform_of(lab):
    return lab.judge().require().platform_ids[0]


def test_evidence_of_this_version_will_be_read():
    """A file that version 1 wrote is kept here: it is read, has its id, and is written again as the same bytes."""
    kept = (Path(__file__).parent / "evidence_v1.json").read_bytes()
    evidence = auditor.load_evidence(kept)

    assert "f899a9d400affe38720a68343e53e35f28911748c54fa3966d7642587c6450ae" == evidence.evidence_id.hex()
    assert kept == to_json(evidence)
    assert evidence == auditor.load_evidence(evidence.to_cbor())
