"""Ids of the area `measure`."""

from glasscase.reasons.model import Reason

REASONS: tuple[Reason, ...] = ()
