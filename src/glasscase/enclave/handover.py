"""What the enclave program hands to the application: secrets, quotes and encrypted files. Read by glasscase.runtime.

Invariants: handed over once, in memory only; nothing of it is in the environment, in argv or in a text form.
Source: docs/provisioning.md, "What the application gets".
"""

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from glasscase.errors import UsageError


@dataclass(frozen=True, repr=False)
class Handover:
    """secrets: name to text or bytes. quote: 64-byte report data to quote. open_file: package path to an open file."""

    secrets: Mapping[str, str | bytes]
    quote: Callable[[bytes], bytes]
    open_file: Callable[[str], io.RawIOBase]


_handed: list[Handover] = []


def hand_over(handover: Handover) -> None:
    """Give the application what it may use; a second call is refused."""
    if _handed:
        raise UsageError("enclave.runtime.taken", "the application has been given its secrets already")
    _handed.append(handover)


def handed() -> Handover:
    """Return what was handed over; raises UsageError("enclave.runtime.absent") outside a provisioned enclave."""
    if not _handed:
        raise UsageError("enclave.runtime.absent", "there are no secrets here: this is not a provisioned enclave")
    return _handed[0]


class Secrets(Mapping[str, str | bytes]):
    """The owner's secrets, looked up when they are asked for; its text form shows none."""

    def __getitem__(self, name: str) -> str | bytes:
        """Return one secret."""
        return handed().secrets[name]

    def __iter__(self) -> Iterator[str]:
        """Return the names."""
        return iter(handed().secrets)

    def __len__(self) -> int:
        """Return the number of secrets."""
        return len(handed().secrets)

    def __repr__(self) -> str:
        """Return a text without any secret or name."""
        return "<secrets of the enclave>"
