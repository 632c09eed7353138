"""The independent verifier is itself right: on genuine quotes it agrees with Intel's answer, on every fault it refuses."""

import json

import pytest

AT = 1764000000
STATUS = {
    "OK": "UpToDate",
    "SW_HARDENING_NEEDED": "SWHardeningNeeded",
    "CONFIG_NEEDED": "ConfigurationNeeded",
    "CONFIG_AND_SW_HARDENING_NEEDED": "ConfigurationAndSWHardeningNeeded",
    "OUT_OF_DATE": "OutOfDate",
    "OUT_OF_DATE_CONFIG_NEEDED": "OutOfDateConfigurationNeeded",
}


def stricter(name, expected, check):
    """Return why the rules refuse what Intel accepts, or None: these are the written exceptions."""
    if expected["facts"]["tee"] != "SGX":
        return "only SGX quotes are judged"
    if expected["facts"]["tcb_info_version"] == 2:
        return "TCB info version 2 is retired"
    if check["at"] == min(end for _, end in expected["windows"].values()):
        return "the second of expiry is expired"
    if name == "odd-trailing-plat":
        return "a byte behind the quote"
    return None


def test_corpus(shared, anchors):
    """Every case and instant of the corpus: accepted exactly where Intel's answer is valid and no exception is written."""
    from verify_oracle import judge

    accepted = refused = 0
    for path in sorted((shared / "corpus").glob("*/expected.json")):
        expected = json.loads(path.read_text())
        beside = path.with_name("collateral.json")
        collateral = json.loads(beside.read_text()) if beside.exists() else {}
        quote = path.with_name("quote.bin").read_bytes()
        for check in expected.get("checks", []):
            roots, simulated = anchors[expected["root"]]
            answer = judge(quote, collateral, roots=roots, at=check["at"], simulated=simulated)
            wanted = check["class"] == "valid" and not stricter(path.parent.name, expected, check)

            assert wanted == answer.accepted, (path.parent.name, check["why"], answer)
            assert (STATUS[check["tcb_status"]] if wanted else None) == answer.tcb_status
            accepted += wanted
            refused += not wanted

    assert accepted >= 50
    assert refused >= 300


def judged(exhibit):
    from verify_oracle import judge

    return judge(exhibit.quote, exhibit.collateral, roots=[exhibit.root], at=exhibit.at, simulated=True)


def test_honest_platform(kit):
    """The unchanged simulator is accepted as UpToDate, under its own root and as simulated only."""
    from verify_oracle import judge

    honest = kit.exhibit()
    as_real = judge(honest.quote, honest.collateral, roots=[honest.root], at=honest.at, simulated=False)

    assert "UpToDate" == judged(honest).tcb_status
    assert not as_real.accepted


def test_honest_variations(kit):
    """Every form that the rules allow is accepted with its status."""
    wanted = {name: item.status for name, item in kit.variations.items()}

    assert wanted == {name: judged(kit.varied(name)).tcb_status for name in wanted}


def test_every_fault_is_refused(kit):
    """Each fault of the kit alone makes the quote unacceptable."""
    assert [] == [name for name in kit.faults if judged(kit.exhibit(name)).accepted]


@pytest.mark.parametrize("seed", range(2))
def test_pairs_are_refused(kit, seed):
    """Two faults never cancel each other."""
    assert [] == [(a, b) for a, b in kit.pairs(40, seed=seed) if judged(kit.exhibit(a, b)).accepted]
