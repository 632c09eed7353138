"""Ids of the area `verify`."""

from glasscase.reasons.model import Reason

REASONS: tuple[Reason, ...] = ()
