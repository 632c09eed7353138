"""Ids of the area `sim`."""

from glasscase.reasons.model import Reason

REASONS: tuple[Reason, ...] = ()
