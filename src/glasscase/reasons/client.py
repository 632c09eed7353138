"""Ids of the area `client`."""

from glasscase.reasons.model import Reason

REASONS: tuple[Reason, ...] = ()
