"""The 64 bytes that an enclave puts into its report, for claims and for quotes that an application asks for.

Invariants: the second half is all zero for claims and never all zero for an application, so one cannot pass as the other.
Source: docs/evidence-format.md, "What the quote binds".
"""

import hashlib

from glasscase.codec.labels import label

REPORT_DATA_SIZE = 64  # bytes


def claims_report_data(claims: bytes) -> bytes:
    """Return SHA-256(claims) || 32 zero bytes. claims: the exact bytes that travel with the quote."""
    return hashlib.sha256(claims).digest() + bytes(32)


def app_report_data(instance_digest: bytes, data: bytes) -> bytes:
    """Return SHA-256(label "app-quote" || instance digest || data) || SHA-256(label "app-quote").

    instance_digest: 32 bytes, so that an application's quote names the enclave instance that made it.
    """
    name = label("app-quote")
    return hashlib.sha256(name + instance_digest + data).digest() + hashlib.sha256(name).digest()
