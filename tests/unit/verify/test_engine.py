"""A second engine can only make a verdict worse, and an engine that is missing or strange is no verdict."""

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from glasscase import auditor
from glasscase.errors import CannotVerify
from glasscase.verify.catalog import OWN

TESTS = Path(__file__).resolve().parents[2]


class Unavailable(CannotVerify):
    def __init__(self, message):
        super().__init__("engine.intel.unavailable", message)


def fake(monkeypatch, answer):
    """Put a module in the place of the adapter; answer: a function of the keyword arguments."""
    seen = []

    def judge(quote, collateral, **facts):
        seen.append((quote, collateral, facts))
        return answer()

    monkeypatch.setitem(sys.modules, "glasscase.verify.intel", SimpleNamespace(judge=judge, Unavailable=Unavailable))
    return seen


def raising(error):
    def answer():
        raise error

    return answer


@pytest.mark.parametrize(("answer", "failed"), [
    (lambda: SimpleNamespace(differences=()), []),
    (lambda: SimpleNamespace(differences=("status: OutOfDate",)), ["engine.verdict.differs"]),
    (raising(Unavailable("not there")), ["engine.intel.unavailable"]),
    (raising(CannotVerify("engine.intel.failed", "crashed")), ["engine.intel.failed"]),
], ids=["agrees", "differs", "missing", "failed"])  # fmt: skip
@pytest.mark.parametrize("engine", ["intel", "both"])
def test_each_answer_of_the_second_engine(lab, monkeypatch, engine, answer, failed):
    """Agreement leaves the verdict, everything else takes it away; the adapter gets the core's verdict and the anchor."""
    seen = fake(monkeypatch, answer)
    evidence = lab.evidence()
    verdict = lab.judge(evidence, engine=engine)
    status = "undetermined" if failed else "verified"

    assert (failed, status, engine) == (lab.failed(verdict), verdict.status.value, verdict.engine)
    assert 1 == len(seen) and evidence.quote == seen[0][0]
    assert verdict.core is seen[0][2]["core"] and lab.at + 60 == seen[0][2]["at_unix"]


def test_agreement_cannot_mend_a_failure(lab, monkeypatch):
    """A verdict that fails by a rule stays failed when the other engine is content."""
    fake(monkeypatch, lambda: SimpleNamespace(differences=()))
    verdict = lab.judge(policy=lab.named(mrenclave=(bytes(32),)), engine="both")

    assert ["policy.mrenclave.unlisted"] == lab.failed(verdict)
    assert auditor.VerdictStatus.FAILED is verdict.status


def test_what_the_core_cannot_read_is_not_asked(lab, monkeypatch):
    """The strict reading comes first: garbage and missing collateral never reach foreign code."""
    seen = fake(monkeypatch, lambda: SimpleNamespace(differences=()))
    whole = lab.collateral()
    parts = [replace(whole, pck_crl=b""), replace(whole, pck_crl_issuer_chain=""), replace(whole, root_ca_crl=b"")]
    for quote, collateral in ((b"garbage", whole), *((lab.quote(bytes(64)), part) for part in (None, *parts))):
        verdict = auditor.verify_quote(
            quote, collateral=collateral, anchor=lab.anchor, policy=lab.named(), at=lab.time_at(lab.at), engine="both"
        )
        assert verdict.status is not auditor.VerdictStatus.VERIFIED

    assert [] == seen


def test_a_configured_library_reaches_the_adapter(lab, monkeypatch):
    """The path is handed over as it is; without one the adapter looks for itself."""
    seen = fake(monkeypatch, lambda: SimpleNamespace(differences=()))
    lab.judge(engine="both", intel_library="/opt/lib.so")
    lab.judge(engine="both")

    assert ["/opt/lib.so", None] == [facts["library"] for _, _, facts in seen]


def test_native_alone_asks_nobody(lab, monkeypatch):
    """Without --engine the adapter is not even imported."""
    seen = fake(monkeypatch, lambda: SimpleNamespace(differences=("never",)))

    assert [] == lab.failed(lab.judge()) == seen


def test_every_check_of_ours_is_named_in_a_test():
    """No check of the verifier above the core is without a test that names it."""
    text = "".join(path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py"))

    assert [] == [name for name in OWN if f'"{name}"' not in text]
