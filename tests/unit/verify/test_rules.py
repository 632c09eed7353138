"""Each rule about the enclave, its platform and the age of collateral has a case that passes and one that fails."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from glasscase import auditor
from glasscase.errors import VerificationError
from glasscase.verify.policy import STATUSES
from glasscase.verify.rules import collateral_findings

FLAGS = 0x5  # INIT | MODE64


def test_identity_by_list_signer_product_and_floor(lab):
    """All that the policy sets must hold."""
    other = bytes(32)
    signer = {"mrenclave": (), "mrsigner": lab.mrsigner, "isv_prod_id": 1, "isv_svn_min": 3}
    cases = (
        ({}, []),
        ({"mrenclave": (other, lab.mrenclave)}, []),
        ({"mrenclave": (other,)}, ["policy.mrenclave.unlisted"]),
        (signer, []),
        ({**signer, "mrsigner": other}, ["policy.mrsigner.mismatch"]),
        ({**signer, "isv_prod_id": 2}, ["policy.isv_prod_id.mismatch"]),
        ({**signer, "isv_svn_min": 4}, ["policy.isv_svn.low"]),
        ({**signer, "isv_svn_min": 2}, []),
        ({"mrsigner": other, "mrenclave": (lab.mrenclave,)}, ["policy.mrsigner.mismatch"]),
    )
    for fields, expected in cases:
        assert expected == lab.failed(lab.judge(policy=lab.named(**fields))), fields


def test_bundle_true_needs_the_bundle_and_its_measurement(lab):
    """Without a bundle there is no verdict; another one fails; whose it is stands apart."""
    policy = lab.named(mrenclave=(), bundle=True)
    missing = lab.judge(policy=policy)
    other = lab.bundle(
        measurement=SimpleNamespace(**{**vars(lab.bundle().measurement), "mrenclave": bytes(32)}), sigstruct=None
    )

    assert (auditor.VerdictStatus.UNDETERMINED, ["policy.bundle.missing"]) == (missing.status, lab.failed(missing))
    good = lab.judge(policy=policy, measurement=lab.bundle())
    assert [] == lab.failed(good)
    assert "bundle.provenance" in good.not_checked
    assert lab.bundle().bundle.id == good.require().bundle_id
    assert ["policy.mrenclave.mismatch"] == lab.failed(lab.judge(policy=policy, measurement=other))
    assert ["policy.mrenclave.mismatch"] == lab.failed(lab.judge(measurement=other))
    assert [] == lab.failed(lab.judge(policy=policy, measurement=lab.bundle().measurement))


def test_bundle_id_names_whose_bundle(lab):
    """A bundle with another id, or a bare measurement that has none, does not satisfy bundle_id."""
    mine = lab.named(mrenclave=(), bundle=True, bundle_id=b"b" * 32)
    other = lab.named(mrenclave=(), bundle=True, bundle_id=b"c" * 32)
    good = lab.judge(policy=mine, measurement=lab.bundle())

    assert [] == lab.failed(good)
    assert "bundle.provenance" not in good.not_checked
    assert ["policy.bundle_id.mismatch"] == lab.failed(lab.judge(policy=other, measurement=lab.bundle()))
    assert ["policy.bundle.missing"] == lab.failed(lab.judge(policy=mine, measurement=lab.bundle().measurement))


def test_a_damaged_bundle_fails(lab):
    """A bundle with problems, or whose app.sig signs another measurement, proves nothing."""
    problem = SimpleNamespace(id="bundle.file.changed", text="'x' differs")
    signature = SimpleNamespace(**{**vars(lab.bundle().sigstruct), "mrenclave": bytes(32)})
    for damaged in (lab.bundle(problems=(problem,)), lab.bundle(sigstruct=signature)):
        assert ["policy.bundle.damaged"] == lab.failed(lab.judge(measurement=damaged))


@pytest.mark.parametrize(("field", "value", "expected"), [
    ("mrsigner", bytes(32), "enclave.signer.mismatch"),
    ("isv_prod_id", 2, "enclave.product.mismatch"),
    ("isv_svn", 2, "enclave.product.mismatch"),
    ("isv_svn", 4, "enclave.product.mismatch"),
    ("xfrm", 0xE6, None),
    ("xfrm", 0x1E7, "enclave.xfrm.mismatch"),
    ("misc_select", 1, "enclave.miscselect.mismatch"),
])  # fmt: skip
def test_what_is_not_measured_must_equal_app_sig(lab, field, value, expected):
    """MRSIGNER, product, SVN, XFRM and MISCSELECT under their masks equal the bundle's signature."""
    signature = SimpleNamespace(**{**vars(lab.bundle().sigstruct), field: value})
    if expected is None:
        signature.xfrm_mask = 0xFFFFFFFFFFFFFFFE & signature.xfrm_mask
    verdict = lab.judge(measurement=lab.bundle(sigstruct=signature))

    assert ([expected] if expected else []) == lab.failed(verdict)


def test_an_unsigned_bundle_is_said_to_be_one(lab):
    """Without app.sig the signer is not compared, and the verdict says so."""
    verdict = lab.judge(measurement=lab.bundle(sigstruct=None))

    assert [] == lab.failed(verdict)
    assert "bundle.signature" in verdict.not_checked


@pytest.mark.parametrize(("facts", "policy", "expected"), [
    ({"attributes_flags": FLAGS}, {}, []),
    ({"attributes_flags": FLAGS | 0x400}, {}, []),
    ({"attributes_flags": FLAGS | 0x2}, {}, ["enclave.debug.set"]),
    ({"attributes_flags": FLAGS | 0x2}, {"insecure_debug": True}, []),
    ({"attributes_flags": FLAGS | 0x10}, {}, ["enclave.flags.unexpected"]),
    ({"attributes_flags": FLAGS | 0x20}, {"insecure_debug": True}, ["enclave.flags.unexpected"]),
    ({"attributes_flags": FLAGS | 0x80}, {}, ["enclave.flags.unexpected"]),
    ({"attributes_flags": FLAGS | 1 << 63}, {}, ["enclave.flags.unexpected"]),
    ({"attributes_flags": 0x1}, {}, ["enclave.flags.unexpected"]),
    ({"attributes_flags": 0x4}, {}, ["enclave.flags.unexpected"]),
    ({"config_id": b"\1" + bytes(63)}, {}, ["enclave.kss.nonzero"]),
    ({"config_svn": 1}, {}, ["enclave.kss.nonzero"]),
    ({"isv_ext_prod_id": bytes(15) + b"\1"}, {}, ["enclave.kss.nonzero"]),
    ({"isv_family_id": bytes(15) + b"\1"}, {}, ["enclave.kss.nonzero"]),
])  # fmt: skip
def test_how_the_enclave_was_started(lab, facts, policy, expected):
    """FLAGS are exactly INIT and MODE64 with AEX-notify at most; nothing was configured at launch; debug needs the option."""
    verdict = lab.judge(lab.evidence(facts=facts), policy=lab.named(**policy))

    assert expected == lab.failed(verdict)
    assert ("debug" in verdict.insecure) == bool(policy)


def test_the_ages_of_collateral(lab):
    """TCB info and QE identity have one age, the PCK CRL another; the last second counts as young enough."""
    day = 86400
    policy = lab.named(evidence_max_age_s=None)

    assert [] == lab.failed(lab.judge(policy=policy, at=lab.at + 7 * day))
    late = lab.judge(policy=policy, at=lab.at + 7 * day + 1)
    assert ["collateral.tcbinfo.stale", "collateral.qeidentity.stale"] == lab.failed(late)
    assert auditor.VerdictStatus.UNDETERMINED is late.status
    crl = lab.judge(policy=lab.named(evidence_max_age_s=None, crl_max_age_s=day), at=lab.at + day + 1)
    assert ["collateral.pckcrl.stale"] == lab.failed(crl)


def test_the_clock_behind_the_collateral_gives_no_verdict(lab):
    """Before the collateral was issued nothing can be decided."""
    verdict = lab.judge(at=lab.at - 1, policy=lab.named(evidence_max_age_s=None))

    assert auditor.VerdictStatus.UNDETERMINED is verdict.status
    assert "tcbinfo.document.not_yet_valid" in lab.failed(verdict)


def test_the_evaluation_floor(lab):
    """Collateral of an older TCB evaluation than the policy's floor gives no verdict."""
    number = lab.judge().core.tcb_info_evaluation
    low = lab.judge(policy=lab.named(tcb_evaluation_min=number + 1))

    assert [] == lab.failed(lab.judge(policy=lab.named(tcb_evaluation_min=number)))
    assert (auditor.VerdictStatus.UNDETERMINED, ["collateral.evaluation.low"]) == (low.status, lab.failed(low))


def test_an_evaluation_number_of_zero_is_one(lab):
    """Documents of evaluation 0 are judged like any other; only one that could not be read is not looked at."""
    core = lab.judge().core
    for window, floor, outcome in (
        (core.window, 0, "pass"),
        (core.window, 1, "fail"),
        (lambda _: None, 0, "not_reached"),
    ):
        zero = SimpleNamespace(window=window, tcb_info_evaluation=0, qe_identity_evaluation=0)
        found = collateral_findings(lab.named(tcb_evaluation_min=floor), zero, lab.at)
        assert outcome == found["collateral.evaluation.low"][0]


def test_the_platform_must_be_named(lab):
    """PPID or platform instance id satisfy the list; any-intel and the empty list are said to check nothing."""
    own = lab.judge().require().platform_ids

    assert 2 == len(own)
    for name in own:
        verdict = lab.judge(policy=lab.named(platforms=("0f" * 16, name)))
        assert [] == lab.failed(verdict)
        assert "platform.any" not in verdict.not_checked
    assert ["platform.identity.unlisted"] == lab.failed(lab.judge(policy=lab.named(platforms=("0f" * 16,))))
    for open_list in (("any-intel",), ()):
        policy = lab.named(platforms=open_list)
        assert "platform.any" in lab.judge(policy=policy).not_checked
        assert bool(open_list) == policy.names_platforms


def real(shared, case):
    import json

    folder = shared / "corpus" / case
    expected = json.loads((folder / "expected.json").read_text())
    return (
        (folder / "quote.bin").read_bytes(), auditor.load_collateral(folder / "collateral.json"),
        expected["checks"][0]["at"],
    )  # fmt: skip


OLD = "sgx3-00606a000000-b7ab1c-2412"  # OutOfDate, six advisories


def judged(shared, lab, case=OLD, **fields):
    quote, collateral, at = real(shared, case)
    policy = auditor.Policy(**{"insecure_any": True, "evidence_max_age_s": None, "collateral_max_age_s": 10**9,
                               "crl_max_age_s": 10**9, **fields})  # fmt: skip
    return auditor.verify_quote(
        quote, collateral=collateral, anchor=auditor.TrustAnchor.intel(), policy=policy, at=lab.time_at(at)
    )


def test_a_status_below_up_to_date_needs_acceptance_and_every_advisory(shared, lab):
    """An out-of-date platform is refused with its shortfall; accepting it needs the status and each advisory."""
    refused = judged(shared, lab)
    observed = {check.id: check.observed for check in refused.failed}

    assert ["platform.tcb.out_of_date", "platform.advisory.unlisted"] == lab.failed(refused)
    assert (
        "SGX TCB component" in observed["platform.tcb.out_of_date"] and "needs" in observed["platform.tcb.out_of_date"]
    )
    accept = ("UpToDate", "OutOfDate")
    listed = refused.advisories
    assert len(listed) > 1
    assert [] == lab.failed(judged(shared, lab, accept=accept, advisories=listed))
    assert ["platform.advisory.unlisted"] == lab.failed(judged(shared, lab, accept=accept, advisories=listed[1:]))
    assert ["platform.advisory.unlisted"] == lab.failed(judged(shared, lab, accept=accept))
    anything = judged(shared, lab, accept=accept, advisories=("any",))
    assert [] == lab.failed(anything)
    assert "platform.advisories" in anything.not_checked


@pytest.mark.parametrize(("case", "status", "check"), [
    (OLD, "OutOfDate", "platform.tcb.out_of_date"),
    ("sgx3-00606a000000-c81a90-2407", "SWHardeningNeeded", "platform.tcb.sw_hardening_needed"),
    ("sgx3-00a067110000-f8b810-2505", "ConfigurationAndSWHardeningNeeded", "platform.tcb.configuration_needed"),
])  # fmt: skip
def test_each_status_has_its_check(shared, lab, case, status, check):
    """A status is accepted only by its own name; accepting every other one does not help."""
    others = tuple(name for name in STATUSES if name != status)
    assert [check] == lab.failed(judged(shared, lab, case, accept=others, advisories=("any",)))
    accepted = judged(shared, lab, case, accept=(status,), advisories=("any",))
    assert ([], status) == (lab.failed(accepted), accepted.tcb_status)


def test_insecure_any_verifies_but_yields_nothing(shared, lab):
    """Under insecure_any a genuine quote is verified, and require() refuses."""
    verdict = judged(shared, lab, accept=("UpToDate", "OutOfDate"), advisories=("any",))

    assert auditor.VerdictStatus.VERIFIED is verdict.status
    assert "any" in verdict.insecure and "identity.any" in verdict.not_checked
    with pytest.raises(VerificationError) as caught:
        verdict.require()
    assert "policy.identity.any" == caught.value.reason
    with pytest.raises(TypeError):
        auditor.VerifiedEnclave._of(verdict)


def test_relaxations_of_the_bundle_stand_in_the_verdict(lab):
    """What the bundle's bytes say is insecure is listed; the evidence's own list is not."""
    verdict = lab.judge(replace(lab.evidence(), insecure=("lies",)), measurement=lab.bundle(insecure=("host-python",)))

    assert ("anchor", "host-python") == verdict.insecure
