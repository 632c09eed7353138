"""Ids of the area `evidence`."""

from glasscase.reasons.model import Reason

REASONS: tuple[Reason, ...] = ()
