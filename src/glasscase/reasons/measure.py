"""Ids of the area `measure`: recomputing MRENCLAVE and comparing two measurements."""

from glasscase.reasons.model import Reason

REASONS: tuple[Reason, ...] = ()
