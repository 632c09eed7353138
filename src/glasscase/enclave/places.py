"""Where things are: fixed paths inside Gramine, paths from argv on the simulator (Gramine discards argv).

Invariants: a word that is unknown, given twice or without a value is refused, so a path is never guessed.
Source: docs/provisioning.md, "Instance files".
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from glasscase.errors import UsageError

_OPTIONS = ("--simulated-root", "--attestation", "--instance", "--blobs", "--run", "--models")


@dataclass(frozen=True)
class Places:
    """root: the root directory that the bundle's paths are relative to, "" inside Gramine."""

    root: str = ""
    attestation: str = "/dev/attestation"
    instance: str = "/instance"
    blobs: str = "/blobs"
    run: str = "/run/glasscase"
    models: str = "/models"
    persist: str = "/persist"

    @property
    def config(self) -> str:
        """Return the path of enclave.cbor."""
        return f"{self.root}/opt/glasscase/enclave.cbor"

    @property
    def clear_app(self) -> str:
        """Return the directory of an application that is not encrypted."""
        return f"{self.root}/app"

    @property
    def app(self) -> str:
        """Return the directory of the decrypted application."""
        return f"{self.run}/app"


def places(arguments: Sequence[str]) -> Places:
    """Return the places that the words after the program's name say.

    Raises UsageError("enclave.argument.wrong").
    """
    words = list(arguments)
    found: dict[str, str] = {}
    while words:
        option = words.pop(0)
        if option not in _OPTIONS or option in found or not words:
            raise UsageError(
                "enclave.argument.wrong", f"the argument {option!r} is unknown, repeated or without a value"
            )
        found[option] = os.path.abspath(words.pop(0))
    if not found:
        return Places()
    missing = set(_OPTIONS) - set(found) - {"--models"}
    if missing:
        raise UsageError("enclave.argument.wrong", f"the argument {min(missing)} is missing")
    return Places(
        root=found["--simulated-root"],
        attestation=found["--attestation"],
        instance=found["--instance"],
        blobs=found["--blobs"],
        run=found["--run"],
        models=found.get("--models", os.path.join(found["--run"], "models")),
        persist=os.path.join(found["--instance"], "persist"),
    )
