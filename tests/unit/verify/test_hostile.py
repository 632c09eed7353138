"""Hostile quotes, collateral and evidence give a verdict or a FormatError, and are never verified by accident."""

import json
import random
import threading
from dataclasses import replace

import pytest

from glasscase import auditor
from glasscase.collateral.model import ITEMS, Collateral
from glasscase.errors import FormatError
from glasscase.evidence.format import parse_evidence, to_json

VERIFIED = auditor.VerdictStatus.VERIFIED


def mutations(good, count, seed):
    """Give `good` with a changed, removed, inserted or repeated piece, `count` times."""
    source = random.Random(seed)
    for _ in range(count):
        at = source.randrange(len(good))
        size = source.choice((1, 1, 1, 2, 16, 300))
        piece = source.choice((b"", source.randbytes(size), good[at : at + size] * 2, bytes(size), b"\xff" * size))
        changed = good[:at] + piece + good[at + source.choice((0, size)) :]
        if changed != good:
            yield changed


def test_no_changed_quote_is_verified(lab):
    """A quote that differs in any way is not verified, and nothing raises."""
    verifier = auditor.Verifier(anchor=lab.anchor, policy=lab.named(evidence_max_age_s=None))
    collateral = lab.collateral()
    for quote in mutations(lab.quote(bytes(64)), 400, seed=1):
        verdict = verifier.verify_quote(quote, collateral=collateral, at=lab.time_at(lab.at + 1))
        assert VERIFIED is not verdict.status
        assert verdict.failed
        assert json.dumps(verdict.to_json())


@pytest.mark.parametrize("name", ITEMS)
def test_no_changed_collateral_is_verified(lab, name):
    """The same for each of the seven objects; text stays text."""
    quote, good = lab.quote(bytes(64)), lab.collateral()
    value = getattr(good, name)
    raw = value if isinstance(value, bytes) else value.encode()
    for changed in mutations(raw, 60, seed=name):
        item = changed if isinstance(value, bytes) else changed.decode("utf-8", "replace")
        if item == value:
            continue
        verdict = auditor.verify_quote(
            quote, collateral=Collateral(**{**vars(good), name: item}), anchor=lab.anchor,
            policy=lab.named(evidence_max_age_s=None), at=lab.time_at(lab.at + 1),
        )  # fmt: skip
        if verdict.status is VERIFIED:
            # only bytes outside what is signed: white space in the document around it, the line end after a PEM chain
            if name in ("tcb_info", "qe_identity"):
                assert json.loads(item) == json.loads(value)
            else:
                assert name.endswith("_chain") and item + "\n" == value


@pytest.mark.parametrize(
    "item", ["\ud800", "\0", "x" * 65536, "\u0661" * 100, "{" * 50000, "-----BEGIN CERTIFICATE-----" * 9]
)
def test_odd_text_in_collateral_does_not_raise(lab, item):
    """Lone surrogates, zero bytes and deep nesting in a Collateral made in code still give a verdict."""
    for name in ITEMS[2:]:
        verdict = auditor.verify_quote(
            lab.quote(bytes(64)), collateral=Collateral(**{**vars(lab.collateral()), name: item}), anchor=lab.anchor,
            policy=lab.named(), at=lab.time_at(lab.at + 1),
        )  # fmt: skip
        assert VERIFIED is not verdict.status


def test_no_changed_evidence_is_verified_as_something_else(lab):
    """Evidence in either form that was changed is refused, not verified, or means exactly the same to the verifier."""
    evidence = lab.evidence()
    wanted = lab.judge(evidence).to_json()
    for form, count in ((evidence.to_cbor(), 150), (to_json(evidence), 150)):
        for changed in mutations(form, count, seed=count):
            try:
                found = parse_evidence(changed)
            except FormatError:
                continue
            verdict = lab.judge(found)
            if verdict.status is VERIFIED:
                assert wanted == verdict.to_json()


def test_parts_of_two_honest_machines_do_not_mix(lab, tmp_path_factory):
    """A quote of one enclave with claims, certificate or collateral of another is not verified."""
    mine, other = lab.evidence(), lab.evidence(claims=lab.claims(nonce=b"o" * 32))
    for part in ("quote", "claims", "certificate"):
        attestation = replace(mine.attestation, **{part: getattr(other.attestation, part)})
        assert VERIFIED is not lab.judge(replace(mine, attestation=attestation)).status


def test_one_verifier_in_many_threads(lab):
    """Threads that share a verifier, and more collateral than it keeps, get the verdicts that they would get alone."""
    verifier = auditor.Verifier(anchor=lab.anchor, policy=lab.named(evidence_max_age_s=None))
    quotes = {True: lab.quote(bytes(64)), False: lab.quote(bytes(64))[:-1]}
    base = lab.collateral()
    wrong = []

    def work(number):
        for turn in range(40):
            good = (number + turn) % 2 == 0
            collateral = replace(base, source=str(turn))
            verdict = verifier.verify_quote(quotes[good], collateral=collateral, at=lab.time_at(lab.at + 1))
            if (verdict.status is VERIFIED) != good:
                wrong.append((number, turn))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [] == wrong
