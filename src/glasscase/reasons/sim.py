"""Ids of the area `sim`: the simulator."""

from glasscase.reasons.model import Reason

_RULE = "docs/simulator.md"

REASONS: tuple[Reason, ...] = (
    Reason("sim.platform.damaged", "format", "the simulator's directory is not complete or does not belong together", _RULE,
           "move the directory away; the next run makes a new one with another root"),
)  # fmt: skip
