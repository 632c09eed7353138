"""Ids of the area `bundle`: projects, bundles and what they are made from."""

from glasscase.reasons.model import Reason

_FORMAT = "docs/bundle-format.md"

REASONS: tuple[Reason, ...] = (
    Reason("bundle.config.malformed", "format", "enclave.cbor, the measured configuration, breaks a rule of its format",
           _FORMAT, "look at the field that the message names; build again from the project"),
    Reason("bundle.project.malformed", "usage", "glasscase.toml breaks a rule of its format", _FORMAT,
           "look at the field that the message names"),
    Reason("bundle.runtime.malformed", "format", "the pin of a runtime is not what such a file must hold", _FORMAT,
           "import the runtime again"),
    Reason("bundle.runtime.mismatch", "format", "a file of the runtime is not the one that is pinned", _FORMAT,
           "import the runtime again under another name, or get the original files"),
    Reason("bundle.runtime.unknown", "usage", "there is no runtime of that name", _FORMAT, "glasscase runtime import PATH"),
)  # fmt: skip
