"""A verified enclave without a process: keys and claims made as inside, quoted by a simulated platform."""

import json
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from glasscase import auditor
from glasscase.collateral.model import parse_collateral
from glasscase.config.enclave import EnclaveConfig, GramineOptions, ServerOptions
from glasscase.enclave.keys import InstanceKeys
from glasscase.enclave.provision import Provisioner
from glasscase.evidence.attestation import Attestation, Claims, Session
from glasscase.evidence.model import Evidence
from glasscase.ratls.cert import make_certificate, make_request, spki_digest
from glasscase.seal import cose
from glasscase.seal.files import open_package
from glasscase.sgx.report import ReportBody
from glasscase.sgx.reportdata import claims_report_data
from glasscase.sim.platform import SimPlatform
from glasscase.sim.quoting import report_body

AT = 1_800_000_000
MRENCLAVE, MRSIGNER, BUNDLE_ID = b"M" * 32, b"S" * 32, b"B" * 32
SEEDS = tuple(bytes([n]) * 32 for n in (1, 2, 3))
OWNERS = tuple(sorted(cose.public_key(seed) for seed in SEEDS))


def aware(unix_s):
    return datetime.fromtimestamp(unix_s, UTC)


class Bench:
    """One enclave instance, its bundle, and how a verifier comes to trust it."""

    def __init__(self, platform, *, blobs="", **config):
        self.platform = platform
        self.keys = InstanceKeys()
        self.tls = ec.generate_private_key(ec.SECP256R1())
        server = ServerOptions(**config.pop("server", {}))
        values = {
            "name": "hello", "entry": "demo:app", "interface": "asgi", "health": None, "encrypt": False,
            "models": "digest", "build_epoch": 1_700_000_000, "owners": OWNERS, "threshold": 1, "package": None,
            "commitment": None, "gramine": GramineOptions("simulator", "512M", 32, 1, 3), "server": server,
        }  # fmt: skip
        self.config = EnclaveConfig(**{**values, **config})
        self.blobs = blobs
        self.bundle = self.checked()
        self.session = Session(1, AT - 60, AT + 3600, ("localhost",))

    def checked(self, **changes):
        common = {"isv_prod_id": 1, "isv_svn": 3, "xfrm": 0xE7, "xfrm_mask": 0xFFFFFFFFFFFFFF1B, "misc_select": 0}
        measurement = SimpleNamespace(mrenclave=MRENCLAVE, areas=(), **common)
        fields = {
            "measurement": measurement, "bundle": SimpleNamespace(id=BUNDLE_ID, path=self.blobs.removesuffix("/blobs")),
            "sigstruct": SimpleNamespace(mrenclave=MRENCLAVE, mrsigner=MRSIGNER, misc_mask=0xFFFFFFFF, **common),
            "insecure": (), "problems": (), "config": self.config,
        }  # fmt: skip
        bundle = SimpleNamespace(**{**fields, **changes})
        bundle.require_sound = lambda: bundle
        return bundle

    def evidence(self, **changes):
        session = Session(**{**vars(self.session), **changes})
        claims = Claims(spki_digest(self.tls.public_key()), self.keys.instance, session.to_bytes()).to_bytes()
        body = report_body(
            report_data=claims_report_data(claims), mrenclave=MRENCLAVE, mrsigner=MRSIGNER, isv_prod_id=1, isv_svn=3
        )
        quote = self.platform.quote(body)
        der = make_certificate(
            self.tls, claims, quote, name="hello", not_before=session.nbf, not_after=session.exp, san=session.san
        )
        request = make_request(self.tls, name="hello", san=session.san)
        collateral = parse_collateral(json.dumps(self.platform.collateral(at=AT)).encode())
        return Evidence(
            attestation=Attestation(quote, claims, der, request), collateral=collateral, bundle_id=BUNDLE_ID,
            created_at=AT, insecure=(),
        )  # fmt: skip

    @property
    def anchor(self):
        return auditor.TrustAnchor.insecure_root(self.platform.root_pem.encode())

    def policy(self, **changes):
        values = {"bundle": True, "bundle_id": BUNDLE_ID, "platforms": ("any-intel",), "evidence_max_age_s": None}
        return auditor.Policy(**{**values, **changes})

    def verified(self, *, policy=None, claims=None):
        verdict = auditor.verify_evidence(
            self.evidence(**(claims or {})), anchor=self.anchor, policy=policy or self.policy(), at=aware(AT),
            measurement=self.bundle,
        )  # fmt: skip
        return verdict.require()

    def provisioner(self):
        report = ReportBody(
            cpu_svn=bytes(16), misc_select=0, isv_ext_prod_id=bytes(16), attributes_flags=5, xfrm=3, mrenclave=MRENCLAVE,
            mrsigner=MRSIGNER, config_id=bytes(64), isv_prod_id=1, isv_svn=3, config_svn=0, isv_family_id=bytes(16),
            report_data=bytes(64),
        )  # fmt: skip

        def opened(contents):
            return open_package(
                self.blobs, header=self.config.package, commitment=self.config.commitment, key=contents.package_key,
                model_keys=dict(contents.model_keys),
            )  # fmt: skip

        return Provisioner(
            self.config, report, self.keys, clock=lambda: AT + 10, open_package=opened if self.config.encrypt else None,
            live_spki_sha256=lambda: spki_digest(self.tls.public_key()),
            can_serve=lambda _: True,
        )  # fmt: skip


@pytest.fixture(scope="session")
def sim_platform(tmp_path_factory):
    """Return one simulated platform."""
    return SimPlatform.open(tmp_path_factory.mktemp("bench"))


@pytest.fixture
def bench(sim_platform):
    """Return a function that makes a bench."""
    return lambda **options: Bench(sim_platform, **options)
