"""Which engine judges a quote: the C core always, Intel's own library beside it if it was asked for.

Invariants: the core's strict reading comes first; Intel's library can only make a result worse; an engine that is missing or
strange makes the verdict undetermined, never falls back to the other.
Source: docs/policy.md, "Engines".
"""

import importlib
from typing import TYPE_CHECKING, Any

from glasscase.collateral.model import ITEMS
from glasscase.errors import Error, UsageError
from glasscase.verify.check import FAIL, NOT_REACHED, Finding
from glasscase.verify.rules import DOES_NOT_APPLY, judge

if TYPE_CHECKING:
    from glasscase.collateral.model import Collateral
    from glasscase.core.dcap import CoreVerdict
    from glasscase.verify.anchor import TrustAnchor

NATIVE = "native"
INTEL = "intel"
BOTH = "both"
ENGINES = (NATIVE, INTEL, BOTH)

_IDS = ("engine.intel.unavailable", "engine.intel.failed", "engine.verdict.differs")
_NOT_ASKED: dict[str, Finding] = dict.fromkeys(_IDS, DOES_NOT_APPLY)


def check_engine(engine: Any) -> str:
    """Return the engine's name; raises UsageError("policy.argument.wrong") for another."""
    if engine not in ENGINES:
        raise UsageError("policy.argument.wrong", f"engine is {', '.join(ENGINES)}, not {str(engine)[:40]!r}")
    return str(engine)


def engine_findings(
    engine: str, quote: bytes, collateral: "Collateral | None", core: "CoreVerdict", *, anchor: "TrustAnchor", at_unix: int,
    library: str | None,
) -> dict[str, Finding]:  # fmt: skip
    """Return the findings engine.*: what Intel's library says of a quote that the core has judged.

    library: a path, where it is not the installed one.
    """
    if engine == NATIVE:
        return _NOT_ASKED
    if core.tcb_status is None or collateral is None or len(collateral.items()) < len(ITEMS):
        return {_IDS[0]: DOES_NOT_APPLY, _IDS[1]: DOES_NOT_APPLY, _IDS[2]: (NOT_REACHED, "the core refused first", "")}
    try:
        intel = importlib.import_module("glasscase.verify.intel")
    except ModuleNotFoundError:
        return _unavailable("no adapter for Intel's library is in this version")
    try:
        answer = intel.judge(quote, collateral, core=core, anchor=anchor, at_unix=at_unix, library=library)
    except intel.Unavailable as error:
        return _unavailable(error.message)
    except Error as error:
        return {
            _IDS[0]: judge(True, "loaded", "a library"),
            _IDS[1]: (FAIL, error.message, "an answer"),
            _IDS[2]: (NOT_REACHED, "", ""),
        }
    return {
        _IDS[0]: judge(True, "loaded", "a library"),
        _IDS[1]: judge(True, "answered", "an answer"),
        _IDS[2]: judge(not answer.differences, "; ".join(answer.differences) or "agrees", "the same answer from both"),
    }


def _unavailable(why: str) -> dict[str, Finding]:
    return {
        _IDS[0]: (FAIL, why, "Intel's quote verification library"),
        _IDS[1]: (NOT_REACHED, "", ""),
        _IDS[2]: (NOT_REACHED, "", ""),
    }
