"""Ids of the area `gramine`."""

from glasscase.reasons.model import Reason

REASONS: tuple[Reason, ...] = ()
