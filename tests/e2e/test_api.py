"""The Python of README.md on evidence of a running instance."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from glasscase import auditor, provider
from glasscase.errors import UsageError

pytestmark = pytest.mark.xdist_group("e2e")


@pytest.fixture
def known(shell, serving):
    """Return what a provider has: policy, evidence from before it was provisioned, anchor, and the keys to seal with."""
    place = Path(shell.directory)
    policy = auditor.load_policy(place / "policy.toml")
    evidence = auditor.load_evidence(place / "main.json")
    anchor = auditor.TrustAnchor.insecure_root((place / "root.pem").read_bytes())
    owner = load_pem_private_key((place / "keys/owner").read_bytes(), None).private_bytes_raw()
    keys = {"package_key": (place / "keys/package.key").read_bytes(), "owner": owner}
    return place / "app.bundle", evidence, {"policy": policy, "anchor": anchor, "at": datetime.now(UTC)}, keys


def test_secrets_are_sealed_with_public_names_alone(known):
    """check_bundle gives what a policy with bundle_id and seal ask for."""
    bundle, evidence, trust, keys = known
    checked = provider.check_bundle(bundle).require_sound()
    enclave = auditor.verify_evidence(evidence, measurement=checked, **trust).require()
    sealed = provider.seal({"threshold": "70"}, to=enclave, at=trust["at"], **keys)

    assert (16, 32, True) == (len(sealed.id), len(sealed.digest), sealed.complete)
    assert provider.measure(bundle) == checked.measurement == enclave.measurement


def test_a_measurement_alone_says_not_whose_bundle(known):
    """Under a policy that names a bundle it is no verdict; sealing without a bundle says in Python's words what to give."""
    bundle, evidence, trust, keys = known
    measurement = provider.measure(bundle)
    verdict = auditor.verify_evidence(evidence, measurement=measurement, **trust)
    text = trust["policy"].text.decode()
    line = next(line for line in text.splitlines() if line.startswith("bundle_id"))
    loose = {**trust, "policy": auditor.load_policy(text.replace(line, "").encode())}
    enclave = auditor.verify_evidence(evidence, measurement=measurement, **loose).require()
    with pytest.raises(UsageError) as caught:
        provider.seal({}, to=enclave, at=trust["at"], **keys)

    assert ["policy.bundle.missing"] == [check.id for check in verdict.failed]
    assert "seal.bundle.missing" == caught.value.reason
    assert "provider.check_bundle(BUNDLE)" in caught.value.hint
