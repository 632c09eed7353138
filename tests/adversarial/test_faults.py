"""Every named fault is refused by the check that it names; no two faults cancel each other."""

from pathlib import Path

import pytest

from glasscase.core import dcap
from glasscase.errors import FormatError
from glasscase.sim import fault_table

ROOT = Path(__file__).resolve().parents[2]

# Checks that no fault of the kit can make the FIRST failure, with the reason.
NOT_FIRST = {
    "quote.tee.unsupported": "TDX quotes come from the corpus",
    "root.key.mismatch": "a root with another key is another certificate, which fails before",
    **{
        f"{area}.chain.{fault}": "needs two accepted roots with different windows, which only Intel has"
        for area in ("crl", "tcbinfo", "qe")
        for fault in ("not_yet_valid", "expired")
    },
}


def test_honest_platform_is_genuine(core, kit):
    """Without a fault every check passes and the status is UpToDate."""
    verdict = core(kit.exhibit())

    assert () == verdict.failed
    assert verdict.genuine
    assert "UpToDate" == verdict.tcb_status


def test_honest_variations_are_genuine(core, kit):
    """Every form that the rules allow is accepted, with the status that Intel's rules give it."""
    found = {name: core(kit.varied(name)) for name in kit.variations}

    assert {} == {name: verdict.failed for name, verdict in found.items() if not verdict.genuine}
    assert {name: item.status for name, item in kit.variations.items()} == {n: v.tcb_status for n, v in found.items()}


def test_kit_is_large_and_names_known_checks(kit):
    """There are hundreds of faults, and each names a check of the core."""
    assert len(kit.faults) >= 700
    assert set() == {fault.check for fault in kit.faults.values()} - set(dcap.CHECKS)


def test_each_fault_fails_its_check_first(core, kit):
    """The first failed check, in the fixed order, is the one that the fault names; nothing is genuine."""
    wrong = {}
    for name, fault in kit.faults.items():
        verdict = core(kit.exhibit(name))
        if verdict.genuine or verdict.failed[0] != fault.check:
            wrong[name] = (fault.check, verdict.failed[:3])

    assert {} == wrong


def test_each_check_has_a_fault(kit):
    """Every check of the core is the first failure of some fault; what cannot be is listed with its reason."""
    assert set(dcap.CHECKS) == {fault.check for fault in kit.faults.values()} | set(NOT_FIRST)


def is_accepted(core, exhibit):
    """Return whether the core takes an exhibit; a root that it does not trust at all is refused too."""
    try:
        return core(exhibit).genuine
    except FormatError as error:
        return error.reason != "core.root.malformed"


@pytest.mark.parametrize("seed", range(4))
def test_pairs_of_faults_are_refused(core, kit, seed):
    """Seeded pairs: never genuine (V5: one defect must not hide or undo another)."""
    assert [] == [names for names in kit.pairs(75, seed=seed) if is_accepted(core, kit.exhibit(*names))]


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 110))
def test_three_thousand_pairs_are_refused(core, kit, seed):
    """3,000 seeded pairs in ten parts."""
    assert [] == [names for names in kit.pairs(300, seed=seed) if is_accepted(core, kit.exhibit(*names))]


def test_fault_table_equals_the_kit():
    """docs/faults.md is what the kit says."""
    assert fault_table.document() == (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
