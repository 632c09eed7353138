"""Ids of the area `stream`."""

from glasscase.reasons.model import Reason

REASONS: tuple[Reason, ...] = ()
