"""The cases of the corpus and the anchors that they name."""

import json
from pathlib import Path

import pytest

from glasscase.core import dcap
from glasscase.verify.roots import INTEL_ROOT_KEY, INTEL_ROOTS


class Case:
    """One folder of the corpus."""

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        self.quote = (folder / "quote.bin").read_bytes()
        self.expected = json.loads((folder / "expected.json").read_text())
        path = folder / "collateral.json"
        self.items = json.loads(path.read_text()) if path.exists() else {}
        self.items.pop("pck_certificate_chain", None)
        self.facts = self.expected["facts"]
        root = self.expected["root"]
        if root.startswith("intel-"):
            self.anchor = dcap.Anchor(
                [dcap.certificate_der(pem) for pem in INTEL_ROOTS], key=INTEL_ROOT_KEY, insecure=False
            )
        else:
            der = dcap.certificate_der((folder.parent / "roots" / f"{root}.pem").read_bytes())
            self.anchor = dcap.Anchor([der], key=dcap.certificate_key(der), insecure=True)
        self.collateral = dcap.PreparedCollateral(self.items, self.anchor)

    def verify(self, at: int) -> dcap.CoreVerdict:
        return dcap.verify(self.quote, collateral=self.collateral, at=at)


@pytest.fixture(scope="session")
def cases(shared):
    """Return every case by name."""
    folders = sorted(path.parent for path in (shared / "corpus").glob("*/expected.json"))
    return {folder.name: Case(folder) for folder in folders}


@pytest.fixture(scope="session")
def sgx_cases(cases):
    """Return the SGX cases by name."""
    return {name: case for name, case in cases.items() if case.facts["tee"] == "SGX"}


@pytest.fixture(scope="session")
def good(cases):
    """Return a case that is valid, and an instant at which it is."""
    case = cases["sgx3-00a067110000-f8b810-2506"]
    return case, next(check["at"] for check in case.expected["checks"] if check["class"] == "valid")
