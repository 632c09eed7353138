"""A laboratory on the simulator: an enclave's keys, claims and certificate, and evidence that is good unless told otherwise."""

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from glasscase import auditor
from glasscase.collateral.model import parse_collateral, signed_tcb_info
from glasscase.evidence.attestation import Attestation, Claims, Instance, Session
from glasscase.evidence.model import Evidence
from glasscase.ratls.cert import make_certificate, spki_digest
from glasscase.sgx.reportdata import claims_report_data
from glasscase.sim.platform import SimPlatform
from glasscase.sim.quoting import report_body

AT = 1764000000  # 2025-11-24T16:00:00Z
MRENCLAVE = bytes.fromhex("1c" * 32)
MRSIGNER = bytes.fromhex("2d" * 32)
HOUR = 3600
DAY = 24 * HOUR


def time_at(unix_s):
    return datetime.fromtimestamp(unix_s, UTC)


def checked_bundle(**changes):
    """Return what check_bundle returns for the laboratory's enclave."""
    signature = SimpleNamespace(
        mrenclave=MRENCLAVE, mrsigner=MRSIGNER, isv_prod_id=1, isv_svn=3, xfrm=0xE7, xfrm_mask=0xFFFFFFFFFFFFFF1B,
        misc_select=0, misc_mask=0xFFFFFFFF,
    )  # fmt: skip
    measurement = SimpleNamespace(
        mrenclave=MRENCLAVE, isv_prod_id=1, isv_svn=3, xfrm=0xE7, xfrm_mask=0xFFFFFFFFFFFFFF1B, misc_select=0, areas=()
    )
    fields = {
        "measurement": measurement, "bundle": SimpleNamespace(id=b"b" * 32), "sigstruct": signature, "insecure": (),
        "problems": (),
    }  # fmt: skip
    return SimpleNamespace(**{**fields, **changes})


@dataclass(frozen=True)
class Lab:
    """One simulated platform and one enclave on it."""

    platform: SimPlatform
    key: ec.EllipticCurvePrivateKey
    at = AT
    mrenclave = MRENCLAVE
    mrsigner = MRSIGNER

    @property
    def anchor(self):
        return auditor.TrustAnchor.insecure_root(self.platform.root_pem.encode())

    @staticmethod
    def named(**changes):
        """Return the default policy that names the laboratory's enclave."""
        return auditor.Policy(**{"mrenclave": (MRENCLAVE,), "platforms": ("any-intel",), **changes})

    @staticmethod
    def failed(verdict):
        """Return the ids of the failed checks."""
        return [check.id for check in verdict.failed]

    bundle = staticmethod(checked_bundle)
    time_at = staticmethod(time_at)

    def collateral(self, at=AT):
        import json

        return parse_collateral(json.dumps(self.platform.collateral(at=at)).encode())

    def quote(self, report_data, **facts):
        wanted = {"mrenclave": MRENCLAVE, "mrsigner": MRSIGNER, "isv_prod_id": 1, "isv_svn": 3, **facts}
        return self.platform.quote(report_body(report_data=report_data, **wanted))

    def claims(self, *, nonce=None, beacon_at=AT, nbf=AT - HOUR, exp=AT + 10 * HOUR, prov=None, receipt_key=bytes(32)):
        beacon = None
        if beacon_at is not None:
            beacon = hashlib.sha256(signed_tcb_info(self.platform.collateral(at=beacon_at)["tcb_info"])).digest()
        instance = Instance(b"i" * 16, 1, b"s" * 1216, receipt_key)
        session = Session(1, nbf, exp, ("localhost",), beacon=beacon, prov=prov)
        return Claims(spki_digest(self.key.public_key()), instance.to_bytes(), session.to_bytes(), nonce)

    def evidence(self, *, claims=None, at=AT, certificate=True, collateral=True, facts=None, **changes):
        """Return evidence; changes: fields of Evidence or, under `attestation`, of Attestation."""
        made = claims if claims is not None else self.claims()
        encoded = made.to_bytes()
        quote = self.quote(claims_report_data(encoded), **(facts or {}))
        session = made.session_facts()
        der = None
        if certificate:
            der = make_certificate(
                self.key, encoded, quote, name="app", not_before=session.nbf, not_after=session.exp, san=session.san
            )
        attestation = replace(Attestation(quote, encoded, der), **changes.pop("attestation", {}))
        fields = {"bundle_id": bytes(32), "created_at": at, "insecure": ("simulated",), **changes}
        return Evidence(attestation=attestation, collateral=self.collateral(at) if collateral else None, **fields)

    def judge(self, evidence=None, *, policy=None, at=AT + 60, anchor=None, **arguments):
        return auditor.verify_evidence(
            evidence if evidence is not None else self.evidence(),
            anchor=anchor or self.anchor,
            policy=policy if policy is not None else self.named(),
            at=time_at(at),
            **arguments,
        )


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """Return the laboratory; its root is random in each session."""
    platform = SimPlatform.open(tmp_path_factory.mktemp("lab"))
    return Lab(platform, ec.generate_private_key(ec.SECP256R1()))
