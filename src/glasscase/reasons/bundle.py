"""Ids of the area `bundle`: projects, bundles and what they are made from."""

from glasscase.reasons.model import Reason

_FORMAT = "docs/bundle-format.md"

REASONS: tuple[Reason, ...] = (
    Reason("bundle.config.malformed", "format", "enclave.cbor, the measured configuration, breaks a rule of its format",
           _FORMAT, "look at the field that the message names; build again from the project"),
    Reason("bundle.project.malformed", "usage", "glasscase.toml breaks a rule of its format", _FORMAT,
           "look at the field that the message names"),
)  # fmt: skip
