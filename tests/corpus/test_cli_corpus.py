"""The whole corpus through the auditor's API, and a sample of it through `glasscase verify` as a process."""

import json
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from glasscase import auditor
from glasscase.reasons.stricter import EXCEPTIONS
from glasscase.reasons.table import reasons
from glasscase.verify.policy import STATUSES

INTEL_STATUS = {
    "OK": "UpToDate", "SW_HARDENING_NEEDED": "SWHardeningNeeded", "CONFIG_NEEDED": "ConfigurationNeeded",
    "CONFIG_AND_SW_HARDENING_NEEDED": "ConfigurationAndSWHardeningNeeded", "OUT_OF_DATE": "OutOfDate",
    "OUT_OF_DATE_CONFIG_NEEDED": "OutOfDateConfigurationNeeded",
}  # fmt: skip
POLICY = f"""version = 1
[measurement]
insecure_any = true
[platform]
accept = {json.dumps(STATUSES)}
advisories = ["any"]
[freshness]
collateral_max_age = "36500d"
crl_max_age = "36500d"
evidence_max_age = "off"
[enclave]
insecure_debug = true
""".replace("(", "[").replace(")", "]")
SAMPLE = (
    "sgx3-00606a000000-c81a90-2407", "sgx3-00a067110000-743a7a-2506", "sgx3-00606a000000-b7ab1c-2305v2",
    "mix-qve-plat", "mix-oldroot-plat", "odd-trailing-plat", "odd-mrenclave-bit-plat", "tdx5-90c06f000000-d0010d-2506",
)  # fmt: skip


def folders(shared):
    return sorted(path.parent for path in (shared / "corpus").glob("*/expected.json"))


def anchor_of(shared, expected):
    if expected["root"].startswith("intel-"):
        return auditor.TrustAnchor.intel()
    return auditor.TrustAnchor.insecure_root((shared / "corpus" / "roots" / f"{expected['root']}.pem").read_bytes())


def excused(failed):
    """Return whether every failed check is one of the written exceptions, or the TEE that is not judged."""
    return all(
        any(name == exception.check or name.endswith(exception.check) for exception in EXCEPTIONS)
        or name == "quote.tee.unsupported"
        for name in failed
    )


def test_every_case_and_instant_through_the_api(shared):
    """Valid: verified with Intel's status, but for the written exceptions; all else failed or undetermined with an id."""
    policy = auditor.load_policy(POLICY.encode())
    verified = refused = excepted = 0
    for folder in folders(shared):
        expected = json.loads((folder / "expected.json").read_text())
        if not expected["checks"]:
            continue
        quote = (folder / "quote.bin").read_bytes()
        collateral = auditor.load_collateral(folder / "collateral.json")
        verifier = auditor.Verifier(anchor=anchor_of(shared, expected), policy=policy)
        for check in expected["checks"]:
            where = f"{folder.name} at {check['at']} ({check['why']})"
            verdict = verifier.verify_quote(quote, collateral=collateral, at=datetime.fromtimestamp(check["at"], UTC))
            failed = [found.id for found in verdict.failed]
            assert set(failed) <= set(reasons()), where
            if check["class"] != "valid":
                assert verdict.status is not auditor.VerdictStatus.VERIFIED, where
                assert failed, where
                refused += 1
            elif failed and excused(failed):
                assert verdict.status is not auditor.VerdictStatus.VERIFIED, where
                excepted += 1
            else:
                assert auditor.VerdictStatus.VERIFIED is verdict.status, (where, failed)
                assert INTEL_STATUS[check["tcb_status"]] == verdict.tcb_status, where
                verified += 1

    assert (60, 251, 88) == (verified, refused, excepted)


def test_cases_without_collateral(shared):
    """A quote for which there is no collateral is undetermined, never verified."""
    policy = auditor.load_policy(POLICY.encode())
    seen = 0
    for folder in folders(shared):
        if (folder / "collateral.json").exists():
            continue
        verdict = auditor.verify_quote(
            (folder / "quote.bin").read_bytes(), collateral=None, anchor=auditor.TrustAnchor.intel(), policy=policy,
            at=datetime(2026, 11, 1, tzinfo=UTC),
        )  # fmt: skip
        assert auditor.VerdictStatus.UNDETERMINED is verdict.status, folder.name
        seen += 1

    assert 2 == seen


@pytest.mark.parametrize("name", SAMPLE)
def test_the_command_says_the_same(shared, tmp_path, name):
    """`glasscase verify` as a process agrees with the API, by exit code, status and failed checks."""
    folder = shared / "corpus" / name
    expected = json.loads((folder / "expected.json").read_text())
    (tmp_path / "policy.toml").write_text(POLICY)
    check = expected["checks"][0]
    command = [
        sys.executable, "-m", "glasscase", "verify", str(folder / "quote.bin"), "--collateral",
        str(folder / "collateral.json"), "--policy", str(tmp_path / "policy.toml"), "--at", str(check["at"]), "--json",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    value = json.loads(done.stdout)
    verdict = auditor.verify_quote(
        (folder / "quote.bin").read_bytes(), collateral=auditor.load_collateral(folder / "collateral.json"),
        anchor=anchor_of(shared, expected), policy=auditor.load_policy(POLICY.encode()),
        at=datetime.fromtimestamp(check["at"], UTC),
    )  # fmt: skip

    assert {"verified": 0, "failed": 2, "undetermined": 3}[value["status"]] == done.returncode
    assert verdict.to_json() == value
    assert bool(value["failed"]) == (done.returncode != 0)
    assert ("glasscase: hint: " in done.stderr) == (done.returncode != 0)
