"""Pytest fixtures of the fault kit: `pytest_plugins = ["glasscase.sim.fixtures"]` in a conftest.py.

Invariants: each test session has its own random root; nothing is read from or written to the user's directories.
Source: docs/simulator.md, "The fault kit".
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from glasscase.sim import faults
from glasscase.sim.fault_model import Fault
from glasscase.sim.platform import SimPlatform
from glasscase.sim.quoting import report_body
from glasscase.sim.scene import Exhibit, Scene

AT = 1764000000  # 2025-11-24T16:00:00Z, when the collateral of the kit is issued
MRENCLAVE = bytes.fromhex("1c" * 32)
MRSIGNER = bytes.fromhex("2d" * 32)


@dataclass(frozen=True)
class Kit:
    """The faults over one platform. body: the report body (384 bytes) of every quote; at: unix seconds."""

    platform: SimPlatform
    body: bytes
    at: int

    @property
    def faults(self) -> Mapping[str, Fault]:
        """Return every fault by name; Fault.check is the id of the first check that must fail."""
        return faults.all_faults()

    def scene(self) -> Scene:
        """Return an honest scene to be changed by hand."""
        return self.platform.scene(body=self.body, at=self.at)

    def exhibit(self, *names: str) -> Exhibit:
        """Return quote, collateral, root and time with the named faults in it; without a name, the honest ones."""
        chosen = (self.faults[name] for name in names)
        return faults.exhibit(self.platform, *chosen, body=self.body, at=self.at)

    def pairs(self, count: int, *, seed: int) -> Iterator[tuple[str, str]]:
        """Give names of `count` pairs of faults; the same seed gives the same pairs."""
        return ((first.name, second.name) for first, second in faults.pairs(count, seed=seed))


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """Return the fault kit over a new simulated platform."""
    platform = SimPlatform.open(tmp_path_factory.mktemp("simulator"))
    return Kit(platform, report_body(mrenclave=MRENCLAVE, mrsigner=MRSIGNER, isv_prod_id=1, isv_svn=1), AT)
