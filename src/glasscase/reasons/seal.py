"""Ids of the area `seal`."""

from glasscase.reasons.model import Reason

REASONS: tuple[Reason, ...] = ()
