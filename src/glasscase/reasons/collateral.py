"""Ids of the area `collateral`."""

from glasscase.reasons.model import Reason

REASONS: tuple[Reason, ...] = ()
