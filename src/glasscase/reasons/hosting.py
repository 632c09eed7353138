"""Ids of the area `hosting`."""

from glasscase.reasons.model import Reason

REASONS: tuple[Reason, ...] = ()
