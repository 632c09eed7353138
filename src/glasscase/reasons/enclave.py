"""Ids of the area `enclave`."""

from glasscase.reasons.model import Reason

REASONS: tuple[Reason, ...] = ()
