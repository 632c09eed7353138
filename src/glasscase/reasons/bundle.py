"""Ids of the area `bundle`."""

from glasscase.reasons.model import Reason

REASONS: tuple[Reason, ...] = ()
