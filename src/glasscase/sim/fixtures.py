"""Pytest fixtures of the fault kit: `pytest_plugins = ["glasscase.sim.fixtures"]` in a conftest.py.

Invariants: each test session has its own random root; nothing is read from or written to the user's directories.
Source: docs/simulator.md, "The fault kit".
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from glasscase.sim import faults
from glasscase.sim.fault_model import Fault
from glasscase.sim.faults_evidence import claims as honest_claims
from glasscase.sim.faults_evidence import report_data
from glasscase.sim.platform import SimPlatform
from glasscase.sim.quoting import report_body
from glasscase.sim.scene import Exhibit, Scene
from glasscase.sim.variations import Variation, all_variations

AT = 1764000000  # 2025-11-24T16:00:00Z, when the collateral of the kit is issued
MRENCLAVE = bytes.fromhex("1c" * 32)
MRSIGNER = bytes.fromhex("2d" * 32)
POLICY = f"""version = 1
[measurement]
mrenclave = ["{MRENCLAVE.hex()}"]
mrsigner = "{MRSIGNER.hex()}"
isv_prod_id = 1
isv_svn_min = 1
[freshness]
evidence_max_age = "off"
"""


@dataclass(frozen=True)
class Kit:
    """The faults over one platform. at: unix seconds.

    claims: what the honest enclave says; body: the report body (384 bytes) of every quote, which binds them.
    """

    platform: SimPlatform
    at: int
    claims: bytes
    body: bytes

    @property
    def faults(self) -> Mapping[str, Fault]:
        """Return every fault of quote, collateral and time; Fault.check is the id of the first check that must fail."""
        return faults.all_faults()

    @property
    def evidence_faults(self) -> Mapping[str, Fault]:
        """Return every fault behind a genuine quote, for a verifier that is given claims and the policy POLICY."""
        return faults.evidence_faults()

    @property
    def variations(self) -> Mapping[str, Variation]:
        """Return every honest case by name; Variation.status is the TCB status that must be found."""
        return all_variations()

    def varied(self, name: str) -> Exhibit:
        """Return one honest case."""
        scene = self.scene()
        self.variations[name].apply(scene)
        return scene.render()

    def scene(self) -> Scene:
        """Return an honest scene to be changed by hand."""
        return self.platform.scene(body=self.body, at=self.at)

    def exhibit(self, *names: str) -> Exhibit:
        """Return quote, collateral, root and time with the named faults in it; without a name, the honest ones."""
        chosen = ({**self.faults, **self.evidence_faults}[name] for name in names)
        return faults.exhibit(self.platform, *chosen, body=self.body, at=self.at, claims=self.claims)

    def pairs(self, count: int, *, seed: int) -> Iterator[tuple[str, str]]:
        """Give names of `count` pairs of faults; the same seed gives the same pairs."""
        return ((first.name, second.name) for first, second in faults.pairs(count, seed=seed))


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """Return the fault kit over a new simulated platform."""
    claims = honest_claims(at=AT)
    body = report_body(
        mrenclave=MRENCLAVE, mrsigner=MRSIGNER, isv_prod_id=1, isv_svn=1, report_data=report_data(claims)
    )
    return Kit(SimPlatform.open(tmp_path_factory.mktemp("simulator")), AT, claims, body)
