"""docs/failures.md holds what `glasscase verify` really prints when it does not say VERIFIED, with the exit codes.

`python -m tests.unit.verify.test_failures > docs/failures.md` writes it again.
"""

import json
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from glasscase.bundle.check import check_bundle
from glasscase.evidence.format import to_json
from glasscase.sim.platform import SimPlatform
from tests.unit.bundle.conftest import Workshop
from tests.unit.verify.conftest import AT, DAY, HOUR, Lab, time_at

DOCUMENT = Path(__file__).parents[3] / "docs" / "failures.md"
HEAD = """# When it does not say VERIFIED

What this page does not show: every reason there is; [checks.md](checks.md) lists them, `glasscase explain ID` prints one. Below are the
failures that people meet most, as `verify` prints them, stdout first, then stderr, then the exit code: 2 = failed, do not trust; 3 = no
verdict, find out. They ran on the simulator (hence SIMULATED) with a bundle of the tests; a test runs them again and compares this page.
The policy of all of them, `audit.toml`:

```
{policy}```
"""
POLICY = """version = 1
[measurement]
bundle = true
bundle_id = "{bundle_id}"
[platform]
platforms = ["any-intel"]
[freshness]
evidence_max_age = "30d"
"""
TAIL = """## Which failure decides

All checks run as far as their inputs allow, and all are shown (`--checks`). A failed *proof* (bytes, signatures, revocation, certificate
windows, measurement, evidence age, platform) makes the verdict FAILED, exit 2, even beside a failed *basis* (collateral missing, outside
its window or older than the policy), which alone leaves it UNDETERMINED, exit 3. So old collateral gives 3 while the evidence itself is as
young as the policy wants, as above. Under the default `evidence_max_age = "24h"` the same file is too old itself, and no fresh collateral
mends that: the last example, exit 2. What helps is new evidence, or `--at` with the day on which it was made. Collateral that Intel's own
dates have ended (after 30 days) leaves a quote that cannot be judged at all; then its age is not asked, and the exit code is 3 again.
"""
MOMENT = "2025-11-24T16:01:00Z"
LATER = "2025-12-04T16:01:00Z"


def other_code(files):
    """The evidence is of an enclave that runs another release than this bundle."""
    return ["other.json"], MOMENT


def stale_collateral(files):
    """The evidence is ten days old and carries the collateral of its day; the policy allows collateral of seven days."""
    return ["run.json"], LATER


def platform_out_of_date(files):
    """Intel has published new TCB data, in which this platform's microcode is below what is needed."""
    return ["run.json", "--collateral", "new-tcb.json"], MOMENT


def old_evidence(files):
    """The same as the second, under a policy with the default `evidence_max_age`, 24 hours (`strict.toml`)."""
    return ["run.json"], LATER


CASES = {  # what is wrong: exit code, decisive id, policy
    other_code: (2, "policy.mrenclave.mismatch", "audit.toml"),
    stale_collateral: (3, "collateral.tcbinfo.stale", "audit.toml"),
    platform_out_of_date: (2, "platform.tcb.out_of_date", "audit.toml"),
    old_evidence: (2, "freshness.evidence.old", "strict.toml"),
}


def recovered(platform, at):
    """Return collateral in which the platform's level is OutOfDate and a higher one is UpToDate."""
    scene = platform.scene(body=bytes(384), at=at)
    raised, own = (json.loads(json.dumps(scene.tcb_info["tcbLevels"][0])) for _ in range(2))
    raised["tcb"]["sgxtcbcomponents"][0]["svn"] += 1
    own |= {"tcbStatus": "OutOfDate", "tcbDate": "2025-08-13T00:00:00Z", "advisoryIDs": ["INTEL-SA-01192"]}
    evaluation = scene.tcb_info["tcbEvaluationDataNumber"] + 1
    scene.tcb_info = {**scene.tcb_info, "tcbLevels": [raised, own], "tcbEvaluationDataNumber": evaluation}
    scene.qe_identity = {**scene.qe_identity, "tcbEvaluationDataNumber": evaluation}
    return scene.render().collateral


@cache
def scene_of(root):
    """Make the files of all cases in a directory and return the text of the policy."""
    shop = Workshop(root)
    shop.build("app.bundle")
    checked = check_bundle(root / "app.bundle")
    lab = Lab(SimPlatform.open(root / "platform"), ec.generate_private_key(ec.SECP256R1()))
    facts = {
        "mrenclave": checked.measurement.mrenclave,
        "isv_prod_id": checked.measurement.isv_prod_id,
        "isv_svn": checked.measurement.isv_svn,
        "misc_select": checked.measurement.misc_select,
        "xfrm": checked.measurement.xfrm,
    }
    claims = lab.claims(nbf=AT - HOUR, exp=AT + 10 * HOUR)
    (root / "run.json").write_bytes(to_json(lab.evidence(claims=claims, facts=facts)))
    other = facts | {"mrenclave": bytes.fromhex("40b2" + "5e" * 28 + "77d1")}
    (root / "other.json").write_bytes(to_json(lab.evidence(claims=claims, facts=other)))
    (root / "new-tcb.json").write_text(json.dumps(recovered(lab.platform, AT)))
    (root / "root.pem").write_text(lab.platform.root_pem)
    text = POLICY.format(bundle_id=checked.bundle.id.hex())
    (root / "audit.toml").write_text(text)
    (root / "strict.toml").write_text(text.replace('[freshness]\nevidence_max_age = "30d"\n', ""))
    return text


def transcript(case, root):
    """Return what is typed and printed, and the exit code."""
    arguments, moment = case(root)
    words = ["verify", *arguments, "--bundle", "app.bundle", "--policy", CASES[case][2], "--insecure-anchor", "root.pem",
             "--at", moment]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "glasscase", *words], cwd=root, capture_output=True, text=True, check=False
    )
    typed = f"$ glasscase {' '.join(words)} ; echo $?\n"
    return f"{typed}{done.stdout}{done.stderr}{done.returncode}\n", done.returncode


def section(case, text):
    return f"## {case.__name__.replace('_', ' ').capitalize()}\n\n{case.__doc__}\n\n```\n{text}```\n"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Return the directory with the files of all cases."""
    return tmp_path_factory.mktemp("failures")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_transcript(case, root):
    """The id and exit code are those of the table, a hint says what to do, and the page holds these very lines."""
    policy = scene_of(root)
    text, code = transcript(case, root)
    wanted, name, _ = CASES[case]
    errors = [line for line in text.splitlines() if line.startswith("glasscase: error: ")]

    assert time_at(AT + 60).strftime("%Y-%m-%dT%H:%M:%SZ") == MOMENT
    assert time_at(AT + 60 + 10 * DAY).strftime("%Y-%m-%dT%H:%M:%SZ") == LATER
    assert wanted == code
    assert 1 == len(errors)
    assert errors[0].endswith(f"[{name}]")
    assert "glasscase: hint: " in text
    page = DOCUMENT.read_text(encoding="utf-8")
    assert section(case, text) in page
    assert HEAD.format(policy=policy) in page
    assert TAIL in page


def test_collateral_beyond_its_own_dates_is_no_verdict(root):
    """83 days later nothing can be judged, so the age of the evidence is not asked: exit 3, as the page says."""
    scene_of(root)
    for policy in ("audit.toml", "strict.toml"):
        words = [
            "verify",
            "run.json",
            "--bundle",
            "app.bundle",
            "--policy",
            policy,
            "--insecure-anchor",
            "root.pem",
            "--json",
        ]
        done = subprocess.run(
            [sys.executable, "-m", "glasscase", *words, "--at", str(AT + 83 * DAY)], cwd=root, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        value = json.loads(done.stdout)

        assert (3, "undetermined") == (done.returncode, value["status"])
        assert {"tcbinfo.document.expired", "collateral.tcbinfo.stale"} <= set(value["failed"])
        assert not [name for name in value["failed"] if name.startswith("freshness.")]


def page():
    """Return the whole document."""
    with tempfile.TemporaryDirectory() as work:
        root = Path(work)
        head = HEAD.format(policy=scene_of(root))
        return "\n".join([head, *(section(case, transcript(case, root)[0]) for case in CASES), TAIL])


if __name__ == "__main__":
    sys.stdout.write(page())
