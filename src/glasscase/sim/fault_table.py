"""docs/faults.md from the fault kit: `./dev docs` writes it, a test compares it."""

import sys
from collections.abc import Mapping

from glasscase.sim import faults
from glasscase.sim.fault_model import Fault

HEAD = """# Faults

Every named fault of the fault kit (docs/simulator.md) under the first check of docs/checks.md that it makes fail, in the order
of the kit. This file is made from the kit (`./dev docs`); a test fails when the two differ, and another runs each of them.
"""


def document() -> str:
    """Return the text of docs/faults.md."""
    return "\n".join(
        [
            HEAD,
            *_table("Quote, collateral and time: the quote is not genuine, or nobody can know", faults.all_faults()),
            *_table("Behind a genuine quote: not the wanted enclave, platform or claims", faults.evidence_faults()),
        ]
    )


def _table(title: str, kit: Mapping[str, Fault]) -> list[str]:
    by_check: dict[str, list[str]] = {}
    for fault in kit.values():
        by_check.setdefault(fault.check, []).append(f"`{fault.name}`")
    rows = [f"| `{check}` | {', '.join(names)} |" for check, names in by_check.items()]
    return [f"## {title}", "", f"{len(kit)} faults.", "", "| check | faults |", "| --- | --- |", *rows, ""]


if __name__ == "__main__":
    sys.stdout.write(document())
