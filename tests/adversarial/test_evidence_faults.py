"""Behind a genuine quote: every wrong enclave, platform, report data and claim fails the check that the kit names."""

import json
from datetime import UTC, datetime

import pytest

from glasscase import auditor
from glasscase.collateral.model import parse_collateral
from glasscase.errors import FormatError, VerificationError
from glasscase.evidence.attestation import Attestation
from glasscase.evidence.model import Evidence
from glasscase.reasons.table import reasons
from glasscase.sim.fixtures import POLICY


@pytest.fixture(scope="module")
def judged(kit):
    """Return a function exhibit -> Verdict on its evidence under the kit's policy."""
    policy = auditor.load_policy(POLICY.encode())
    anchor = auditor.TrustAnchor.insecure_root(kit.platform.root_pem.encode())

    def judge(exhibit):
        evidence = Evidence(
            attestation=Attestation(quote=exhibit.quote, claims=exhibit.claims),
            bundle_id=bytes(32),
            created_at=exhibit.at,
            collateral=parse_collateral(json.dumps(exhibit.collateral).encode()),
        )
        return auditor.verify_evidence(
            evidence, anchor=anchor, policy=policy, at=datetime.fromtimestamp(exhibit.at, UTC)
        )

    return judge


def test_honest_evidence_is_verified(judged, kit):
    """Without a fault the policy is met and the verdict says SIMULATED root only."""
    verdict = judged(kit.exhibit())

    assert [] == [check.id for check in verdict.failed]
    assert "verified" == verdict.status.value
    assert verdict.simulated


def test_each_fault_fails_its_check(judged, kit):
    """Each fault leaves the core content, fails exactly its own check first, and yields nothing to seal to."""
    wrong = {}
    for name, fault in kit.evidence_faults.items():
        verdict = judged(kit.exhibit(name))
        failed = [check.id for check in verdict.failed]
        if not verdict.core.genuine or failed[:1] != [fault.check]:
            wrong[name] = (fault.check, failed, verdict.core.failed)
        with pytest.raises(VerificationError):
            verdict.require()
        status = "undetermined" if reasons()[fault.check].kind == "basis" else "failed"
        if status != verdict.status.value:
            wrong[name] = (status, verdict.status.value)

    assert {} == wrong
    assert len(kit.evidence_faults) >= 65


def test_core_faults_are_not_verified(judged, kit):
    """A choice of the core's faults through the whole verifier: never verified, whatever else holds."""
    judged_ones = 0
    for name in list(kit.faults)[::23]:
        try:
            verdict = judged(kit.exhibit(name))
        except FormatError:  # the file readers refuse an object that is absent or above its limit
            continue
        judged_ones += 1

        assert "verified" != verdict.status.value, name
    assert judged_ones >= 25
