"""Ids of the area `enclave`: the program inside."""

from glasscase.reasons.model import Reason

_PROVISIONING = "docs/provisioning.md"

REASONS: tuple[Reason, ...] = (
    Reason("enclave.argument.wrong", "usage", "the enclave program got an argument that it does not take", _PROVISIONING,
           "start it with glasscase run"),
    Reason("enclave.instance.malformed", "format", "instance.json is not of the one form", _PROVISIONING,
           "start the enclave with glasscase run, which writes the file"),
    Reason("enclave.device.failed", "storage", "the attestation device gave no answer for what was asked", _PROVISIONING,
           "glasscase doctor; on hardware look at aesmd and the quote provider"),
)  # fmt: skip
