"""Intel's library against the core: the whole corpus status by status, and every way in which it can be strange."""

import json
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from glasscase import auditor
from glasscase.core import dcap
from glasscase.errors import CannotVerify
from glasscase.reasons.stricter import LAST_SECOND
from glasscase.verify import intel
from glasscase.verify.anchor import TrustAnchor

CASE = "sgx3-00a067110000-f8b810-2506"
POLICY = b"""
version = 1
[measurement]
insecure_any = true
[platform]
accept = [
    "UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded", "OutOfDate",
    "OutOfDateConfigurationNeeded",
]
advisories = ["any"]
[freshness]
collateral_max_age = "36500d"
crl_max_age = "36500d"
evidence_max_age = "off"
"""
ASK_ALL = """
import json, sys
from glasscase.core import intel
question = json.load(sys.stdin)
library = next(filter(None, map(intel.load, question["candidates"])))
json.dump([intel.ask(library, bytes.fromhex(q), i, at=at, supplemental=False) for q, i, at in question["all"]], sys.stdout)
"""


@pytest.fixture(scope="module")
def library():
    """Return the library that was found; skip, saying so, where there is none."""
    found = intel.found()
    if found is None:
        pytest.skip("Intel's library is not here: the engine is not compared (install the extra glasscase[intel])")
    return found


@pytest.fixture(scope="module")
def case(shared):
    """Return (quote, collateral, prepared collateral, valid instant) of one genuine case."""
    folder = shared / "corpus" / CASE
    collateral = auditor.load_collateral((folder / "collateral.json").read_bytes())
    checks = json.loads((folder / "expected.json").read_text())["checks"]
    at = next(check["at"] for check in checks if check["class"] == "valid")
    prepared = dcap.PreparedCollateral(collateral.items(), TrustAnchor.intel().core)
    return (folder / "quote.bin").read_bytes(), collateral, prepared, at


@pytest.fixture(scope="module")
def judge(case):
    """Return a function that asks the library at a path about the genuine case."""
    quote, collateral, prepared, at = case
    core = dcap.verify(quote, collateral=prepared, at=at)
    assert core.genuine

    def ask(path=None):
        return intel.judge(quote, collateral, core=core, anchor=TrustAnchor.intel(), at_unix=at, library=path)

    return ask


def test_whole_corpus_status_by_status(shared, library):
    """What the core calls genuine Intel's library accepts with the same status and nothing expired; what it refuses the core refuses."""
    rows = []
    for path in sorted((shared / "corpus").glob("sgx3-*/expected.json")) + sorted(
        (shared / "corpus").glob("*-plat/expected.json")
    ):
        expected = json.loads(path.read_text())
        if not expected["root"].startswith("intel-"):
            continue
        collateral = auditor.load_collateral(path.with_name("collateral.json").read_bytes())
        prepared = dcap.PreparedCollateral(collateral.items(), TrustAnchor.intel().core)
        items = {k: v.hex() if isinstance(v, bytes) else v for k, v in collateral.items().items()}
        quote = path.with_name("quote.bin").read_bytes()
        rows += [
            (path.parent.name, check, dcap.verify(quote, collateral=prepared, at=check["at"]), quote, items)
            for check in expected["checks"]
        ]
    question = {
        "candidates": intel.candidates(),
        "all": [(quote.hex(), items, check["at"]) for _, check, _, quote, items in rows],
    }
    done = subprocess.run(
        [sys.executable, "-c", ASK_ALL], input=json.dumps(question), capture_output=True, text=True, check=True
    )
    genuine = refused = 0
    for (name, check, core, _, _), answer in zip(rows, json.loads(done.stdout), strict=True):
        assert answer["status"] == "ok"
        says = intel.RESULTS.get(answer["result"]) if answer["returned"] == 0 else None
        if core.genuine:
            assert (core.tcb_status, 0) == (says, answer["expiration_status"]), (name, check["why"])
            genuine += 1
        if says in (None, "invalid signature", "unspecified", "Revoked"):
            assert not core.genuine, (name, check["why"])
            refused += 1

    assert genuine >= 60
    assert refused >= 60


def test_facts_agree_through_the_worker(library, judge):
    """Status, dates, numbers, ids and advisories of a genuine quote are the same in both engines."""
    answer = judge()

    assert answer.differences == ()
    assert (0, "ConfigurationAndSWHardeningNeeded", False) == (answer.returned, answer.result, answer.expired)


@pytest.mark.parametrize("engine", ["intel", "both"])
def test_verify_quote_with_the_engine(library, case, engine):
    """verify_quote asks the library, and its checks pass."""
    quote, collateral, _, at = case
    verdict = auditor.verify_quote(
        quote,
        collateral=collateral,
        anchor=TrustAnchor.intel(),
        policy=auditor.load_policy(POLICY),
        at=datetime.fromtimestamp(at, UTC),
        engine=engine,
    )
    outcomes = {check.id: check.outcome for check in verdict.checks if check.id.startswith("engine.")}

    assert {"pass"} == set(outcomes.values())
    assert "engine.verdict.differs" in outcomes


def test_expiry_that_only_the_core_refuses_is_no_difference(library, case):
    """At the last second the core fails a check; Intel's flag does not matter then."""
    quote, collateral, prepared, at = case
    end = dcap.verify(quote, collateral=prepared, at=at).earliest_expiration
    core = dcap.verify(quote, collateral=prepared, at=end)
    answer = intel.judge(quote, collateral, core=core, anchor=TrustAnchor.intel(), at_unix=end)

    assert core.failed[0].endswith(LAST_SECOND.check)
    assert answer.expired
    assert answer.differences == ()


FAKE = """
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifndef SIZE
#define SIZE 496
#endif
#ifndef RETURN
#define RETURN 0
#endif
#ifndef RESULT
#define RESULT 0xA008
#endif
#ifndef EXPIRED
#define EXPIRED 0
#endif
#ifndef MAJOR
#define MAJOR 3
#endif
uint32_t tee_get_supplemental_data_version_and_size(const uint8_t *q, uint32_t n, uint32_t *v, uint32_t *s)
{
    *v = 0x00020003;
    *s = SIZE;
    return 0;
}
uint32_t tee_verify_quote(const uint8_t *q, uint32_t n, const uint8_t *c, int64_t at, uint32_t *e, uint32_t *r, void *x, void *d)
{
    ACTION;
    *e = EXPIRED;
    *r = RESULT;
    if (d != NULL) {
        uint8_t *data;
        memcpy(&data, (uint8_t *)d + 8, 8);
        data[0] = MAJOR;
        data[2] = 2;
    }
    return RETURN;
}
"""


@pytest.fixture
def fake(tmp_path):
    """Return a function that compiles a library with Intel's two entry points that behaves as told."""

    def build(**defines):
        source, target = tmp_path / "fake.c", tmp_path / "libfake.so"
        source.write_text(FAKE)
        flags = [f"-D{name}={value}" for name, value in {"ACTION": "(void)0", **defines}.items()]
        subprocess.run(["cc", "-w", "-shared", "-fPIC", *flags, str(source), "-o", str(target)], check=True)
        return str(target)

    return build


@pytest.mark.parametrize(
    ("defines", "says"),
    [
        ({"ACTION": "abort()"}, "ended with"),
        ({"ACTION": "*(volatile int *)0 = 1"}, "ended with"),
        ({"ACTION": "_exit(0)"}, "no readable answer"),
        ({"ACTION": 'puts("{}"); fflush(stdout)'}, "no readable answer"),
        ({"RESULT": "0xA00B"}, "unknown result"),
        ({"RESULT": "0x1"}, "unknown result"),
        ({"RETURN": "0x1"}, "unknown code"),
        ({"RETURN": "0xF001"}, "unknown code"),
        ({"MAJOR": "4"}, "version that is not known"),
        ({"SIZE": "488"}, "version that is not known"),
        ({"SIZE": "100000"}, "version that is not known"),
    ],
)
def test_a_strange_library_is_no_answer(judge, fake, defines, says):
    """A crash, garbage, an unknown code or an unknown structure: engine.intel.failed, never an answer."""
    with pytest.raises(CannotVerify) as caught:
        judge(fake(**defines))

    assert "engine.intel.failed" == caught.value.reason
    assert says in caught.value.message


def test_a_hang_ends(judge, fake, monkeypatch):
    """A library that never answers is stopped after the time-out."""
    monkeypatch.setattr(intel, "TIMEOUT_S", 2)
    with pytest.raises(CannotVerify) as caught:
        judge(fake(ACTION="for (;;) sleep(1)"))

    assert "engine.intel.failed" == caught.value.reason


def test_memory_is_limited(judge, fake):
    """A library that takes all memory gets none beyond the limit; here it then gives a code of its own."""
    hog = "for (int i = 0; i < 64; i++) { if (malloc(1 << 26) == NULL) { *e = 0; return 0xE003; } }"

    assert judge(fake(ACTION=hog)).returned == 0xE003


@pytest.mark.parametrize(
    ("defines", "differs"),
    [
        ({"RETURN": "0xE021"}, "refuses with 0xe021"),
        ({"RESULT": "0"}, "status: Intel UpToDate"),
        ({"RESULT": "0xA002"}, "status: Intel OutOfDate"),
        ({"RESULT": "0xA004"}, "status: Intel invalid signature"),
        ({"EXPIRED": "1"}, "expired: Intel True"),
        ({}, "PPID: Intel 00000000"),
    ],
)
def test_another_answer_is_a_difference(judge, fake, defines, differs):
    """Refusal, another status, expiry, other facts: each is named."""
    assert any(differs in difference for difference in judge(fake(**defines)).differences)


def test_no_library_is_unavailable(judge, tmp_path):
    """A missing file, a file that is no library, a library without the entry points: engine.intel.unavailable."""
    text, other = tmp_path / "text.so", tmp_path / "other.so"
    text.write_text("no library")
    subprocess.run(["cc", "-shared", "-o", str(other), "-x", "c", "/dev/null"], check=True)
    for path in (tmp_path / "missing.so", text, other):
        with pytest.raises(intel.Unavailable) as caught:
            judge(str(path))
        assert "engine.intel.unavailable" == caught.value.reason


def test_a_simulated_anchor_is_not_intels(case):
    """With another root than Intel's the library has nothing to say."""

    class Simulated:
        simulated = True

    quote, collateral, prepared, at = case
    with pytest.raises(intel.Unavailable):
        intel.judge(
            quote, collateral, core=dcap.verify(quote, collateral=prepared, at=at), anchor=Simulated(), at_unix=at
        )


def test_the_worker_sees_no_environment(judge, fake, monkeypatch, tmp_path):
    """LD_PRELOAD and the like of the caller do not reach the library."""
    seen = tmp_path / "seen"
    monkeypatch.setenv("GLASSCASE_CANARY", "1")
    with pytest.raises(CannotVerify):
        judge(
            fake(
                ACTION=f'FILE *f = fopen("{seen}", "w"); fputs(getenv("GLASSCASE_CANARY") ? "yes" : "no", f); fclose(f); abort()'
            )
        )

    assert "no" == seen.read_text()
