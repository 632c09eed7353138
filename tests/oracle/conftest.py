"""The independent verifier lies beside its tests; it is no part of the product."""

import base64
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def anchors(shared):
    """Return name -> (DER of the accepted roots, whether they are no real Intel root) for the corpus."""

    def der(name):
        text = (shared / "corpus" / "roots" / f"{name}.pem").read_text()
        return base64.b64decode("".join(text.split("-----")[2].split()))

    intel = ([der("intel-2033"), der("intel-2049")], False)
    return {
        "intel-2033": intel,
        "intel-2049": intel,
        "qvl-sample-2019": ([der("qvl-sample-2019")], True),
        "qvl-sample-2021": ([der("qvl-sample-2021")], True),
    }
