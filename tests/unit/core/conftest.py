"""The simulator's fault kit and the core that judges it."""

import pytest

from glasscase.core import dcap


@pytest.fixture(scope="session")
def judge():
    """Return a function that gives the core's verdict on an exhibit."""

    def verdict(exhibit):
        anchor = dcap.Anchor([exhibit.root], key=dcap.certificate_key(exhibit.root), insecure=True)
        return dcap.verify(exhibit.quote, collateral=dcap.PreparedCollateral(exhibit.collateral, anchor), at=exhibit.at)

    return verdict
