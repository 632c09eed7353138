"""All check ids and reason ids in one table: `glasscase explain`, docs/checks.md and the tests read it.

Invariants: the order of the areas and within an area is fixed; it is the order of docs/checks.md.
"""

import importlib
from functools import cache

from glasscase.reasons.model import Reason

AREAS = (
    "dcap", "verify", "collateral", "evidence", "measure", "gramine", "sgx", "stream", "package", "seal", "lock",
    "bundle", "enclave", "hosting", "client", "statements", "ledger", "sim", "codec", "fs", "core", "cli",
)  # fmt: skip


@cache
def reasons() -> dict[str, Reason]:
    """Return every reason by id, in the order of the table. Raises ValueError if an id occurs twice."""
    table: dict[str, Reason] = {}
    for area in AREAS:
        for reason in importlib.import_module(f"glasscase.reasons.{area}").REASONS:
            if reason.id in table:
                raise ValueError(f"the reason {reason.id} stands twice in the table")
            table[reason.id] = reason
    return table
