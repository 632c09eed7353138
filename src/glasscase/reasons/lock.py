"""Ids of the area `lock`."""

from glasscase.reasons.model import Reason

REASONS: tuple[Reason, ...] = ()
