"""This machine's clock as the time of a verdict, and the two signs that it is wrong.

Invariants: a time that was given with --at is taken as it is; a clock that is behind what Intel has signed decides nothing.
Source: docs/policy.md, "Freshness".
"""

import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from glasscase.errors import CannotVerify

if TYPE_CHECKING:
    from glasscase.verify.verdict import Verdict

RELEASED = 1795478400  # 2026-11-24T00:00:00Z: this version did not exist before


def clock_time() -> datetime:
    """Return now; a clock from before this version was made is warned of."""
    now = datetime.fromtimestamp(int(time.time()), UTC)
    if now.timestamp() < RELEASED:
        sys.stderr.write(
            f"glasscase: warning: this machine's clock says {now:%Y-%m-%d}, before this version was made: is it right?\n"
        )
    return now


def refuse_behind(verdict: "Verdict") -> None:
    """Return unless the verdict's time is before the newest date of issue of its signed collateral.

    Raises CannotVerify("cli.clock.behind"): then the clock is wrong, and neither windows nor ages mean anything.
    """
    from glasscase.verify.rules import signed_issue, when

    newest = max(signed_issue(verdict.core, "tcbinfo") or 0, signed_issue(verdict.core, "qe") or 0)
    if newest > verdict.at.timestamp():
        raise CannotVerify(
            "cli.clock.behind",
            f"clock behind collateral: this machine says {when(int(verdict.at.timestamp()))}, "
            f"the collateral was signed at {when(newest)}",
            hint="correct the clock of this machine; --at says which time is meant",
        )
