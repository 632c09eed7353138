"""Ids of the area `statements`."""

from glasscase.reasons.model import Reason

REASONS: tuple[Reason, ...] = ()
