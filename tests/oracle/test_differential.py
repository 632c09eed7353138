"""The C core and the independent verifier say the same of everything: accepted or not, and with which TCB status."""

import json
import random

import pytest

from glasscase.core import dcap
from glasscase.errors import FormatError


def core_answer(quote, collateral, *, roots, at, simulated):
    """Return (accepted, status) of the C core; a root that cannot be an anchor accepts nothing."""
    try:
        anchor = dcap.Anchor(roots, key=dcap.certificate_key(roots[0]), insecure=simulated)
    except FormatError:
        return False, None
    verdict = dcap.verify(quote, collateral=dcap.PreparedCollateral(collateral, anchor), at=at)
    return verdict.genuine, verdict.tcb_status if verdict.genuine else None


def oracle_answer(*arguments, **named):
    from verify_oracle import judge

    answer = judge(*arguments, **named)
    return answer.accepted, answer.tcb_status


def both(exhibit):
    named = {"roots": [exhibit.root], "at": exhibit.at, "simulated": True}
    return tuple(answer(exhibit.quote, exhibit.collateral, **named) for answer in (core_answer, oracle_answer))


def test_corpus(shared, anchors):
    """Genuine quotes of every case at every instant."""
    seen = 0
    for path in sorted((shared / "corpus").glob("*/expected.json")):
        expected = json.loads(path.read_text())
        beside = path.with_name("collateral.json")
        collateral = json.loads(beside.read_text()) if beside.exists() else {}
        collateral.pop("pck_certificate_chain", None)
        quote = path.with_name("quote.bin").read_bytes()
        for check in expected.get("checks", []):
            roots, simulated = anchors[expected["root"]]
            named = {"roots": roots, "at": check["at"], "simulated": simulated}

            assert oracle_answer(quote, collateral, **named) == core_answer(quote, collateral, **named), (
                path.parent.name
            )
            seen += 1

    assert seen >= 390


def test_pairs_of_faults(kit):
    """Seeded pairs of faults of the kit (single ones are refused by both, in their own tests)."""
    for names in kit.pairs(60, seed=9):
        core, oracle = both(kit.exhibit(*names))

        assert oracle == core, names


def disagreements(kit, seeds):
    """Return (seed, what was changed, core, oracle) where the two differ, and how many were accepted by both."""
    from mutations import mutate

    found, accepted = [], 0
    for seed in seeds:
        chosen = random.Random(seed)
        scene = kit.scene()
        if chosen.random() < 0.4:
            kit.variations[chosen.choice(sorted(kit.variations))].apply(scene)
        what = [mutate(scene, chosen) for _ in range(chosen.choice((1, 1, 1, 2, 3)))]
        try:
            exhibit = scene.render()
        except ValueError:  # a change of JSON that an earlier change made unreadable
            continue
        core, oracle = both(exhibit)
        accepted += core[0]
        if core != oracle:
            found.append((seed, what, core, oracle))
    return found, accepted


def test_random_mutations(kit):
    """Random changes of bytes, DER trees and JSON values, signed again: both agree on each, and both accept some."""
    found, accepted = disagreements(kit, range(300))

    assert [] == found
    assert accepted >= 40


@pytest.mark.long
@pytest.mark.parametrize("part", range(10))
def test_many_random_mutations(kit, part):
    """20,000 more."""
    found, accepted = disagreements(kit, range(1000 + 2000 * part, 3000 + 2000 * part))

    assert [] == found
    assert accepted >= 300
