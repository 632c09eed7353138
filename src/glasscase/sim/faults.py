"""The fault kit: named defects of everything a verifier looks at, each with the check that must fail first.

Invariants: names are unique; every fault, and every pair of faults, makes a quote that must not be accepted.
Source: docs/simulator.md, "The fault kit"; docs/checks.md.
"""

import random
from collections.abc import Iterable, Iterator
from functools import cache

from glasscase.sim import faults_certificates, faults_crls, faults_documents, faults_evidence, faults_pck, faults_quotes
from glasscase.sim.fault_model import Fault
from glasscase.sim.platform import SimPlatform
from glasscase.sim.scene import Exhibit

_GROUPS = (faults_quotes, faults_certificates, faults_pck, faults_crls, faults_documents)


@cache
def all_faults() -> dict[str, Fault]:
    """Return every fault of quote, collateral and time by name: the quote is not genuine, or nobody can know."""
    return _by_name(fault for group in _GROUPS for fault in group.faults())


@cache
def evidence_faults() -> dict[str, Fault]:
    """Return every fault behind a genuine quote by name: it is not the enclave, platform or claims that are wanted."""
    return _by_name(faults_evidence.faults())


def exhibit(platform: SimPlatform, *faults: Fault, body: bytes, at: int, claims: bytes = b"") -> Exhibit:
    """Return what a verifier gets when these faults, in this order, are in a quote over `body` (384 bytes) at `at`."""
    scene = platform.scene(body=body, at=at)
    scene.claims = claims
    for fault in faults:
        fault.apply(scene)
    return scene.render()


def pairs(count: int, *, seed: int) -> Iterator[tuple[Fault, Fault]]:
    """Give `count` pairs of different faults; the same seed gives the same pairs."""
    chosen = random.Random(seed)  # noqa: S311 - repeatable choice of tests, no secret
    known = list(all_faults().values())
    for _ in range(count):
        first, second = chosen.sample(known, 2)
        yield first, second


def _by_name(faults: Iterable[Fault]) -> dict[str, Fault]:
    found: dict[str, Fault] = {}
    for fault in faults:
        if fault.name in found:
            raise ValueError(f"the fault {fault.name} stands twice in the kit")
        found[fault.name] = fault
    return found
