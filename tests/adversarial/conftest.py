"""The C core judging exhibits of the fault kit."""

import pytest

from glasscase.core import dcap


@pytest.fixture(scope="session")
def core():
    """Return a function exhibit -> CoreVerdict under the exhibit's own root."""
    anchors = {}

    def judge(exhibit):
        if exhibit.root not in anchors:
            anchors[exhibit.root] = dcap.Anchor([exhibit.root], key=dcap.certificate_key(exhibit.root), insecure=True)
        prepared = dcap.PreparedCollateral(exhibit.collateral, anchors[exhibit.root])
        return dcap.verify(exhibit.quote, collateral=prepared, at=exhibit.at)

    return judge
