"""Ids of the area `sgx`."""

from glasscase.reasons.model import Reason

REASONS: tuple[Reason, ...] = ()
