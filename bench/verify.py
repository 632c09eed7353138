"""How fast a real SGX quote is verified, against dcap-qvl and Intel's library in the same process, in interleaved rounds.

cold: quote and collateral from bytes, seven ECDSA verifications (those of Intel's own CA and signing certificates are done
once, when the anchor is made). prepared: collateral seen before, three. warm: the PCK chain and the
QE report of its platform too, as in every further quote of one machine: one. Results of signatures are remembered, never verdicts.
Medians; every round runs each contender once, in turn. Needs the corpus (GLASSCASE_SHARED or ../shared).
"""

import argparse
import hashlib
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import dcap_qvl
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from glasscase import auditor
from glasscase.collateral.model import parse_collateral, signed_tcb_info
from glasscase.core import dcap
from glasscase.core import intel as intel_core
from glasscase.evidence.attestation import Attestation, Claims, Instance, Session
from glasscase.evidence.format import to_json
from glasscase.evidence.model import Evidence
from glasscase.ratls.cert import make_certificate, spki_digest
from glasscase.sgx.reportdata import claims_report_data
from glasscase.sim.platform import SimPlatform
from glasscase.sim.quoting import report_body
from glasscase.verify import intel

CASE = "sgx3-00a067110000-f8b810-2506"  # 4,600 bytes, not a debug enclave: dcap-qvl accepts it
COLD_LIMIT = 1.05  # times dcap-qvl's time
WARM_LIMIT = 1 / 4
WARM_LIMIT_ECDSA = 160 / 56  # times one ECDSA verification: 0.16 ms where that takes 56 us
PROCESS_LIMIT = 8.0  # times the start of bare python3, for a quote
EVIDENCE_LIMIT = 10.0  # the same for evidence with its certificate
POLICY = b"""version = 1
[measurement]
insecure_any = true
[platform]
accept = ["ConfigurationAndSWHardeningNeeded"]
advisories = ["any"]
[freshness]
collateral_max_age = "36500d"
crl_max_age = "36500d"
evidence_max_age = "off"
"""


class Contenders:
    """The same quote and collateral for everyone. Each method is one verification from the named state."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.quote = (folder / "quote.bin").read_bytes()
        self.items = json.loads((folder / "collateral.json").read_text())
        checks = json.loads((folder / "expected.json").read_text())["checks"]
        self.at = next(check["at"] for check in checks if check["class"] == "valid")
        self.anchor = auditor.TrustAnchor.intel()
        self.prepared = dcap.PreparedCollateral(self.items, self.anchor.core)
        self.collateral = auditor.load_collateral((folder / "collateral.json").read_bytes())
        self.verifier = auditor.Verifier(anchor=self.anchor, policy=auditor.load_policy(POLICY))
        self.when = datetime.fromtimestamp(self.at, UTC)
        self.peer_parts = self._peer_parts()
        self.peer_collateral = dcap_qvl.QuoteCollateralV3(**self.peer_parts)
        parts = dcap.parse_quote(self.quote)
        self._key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\4" + parts.attestation_key)
        self._digest = hashlib.sha256(parts.signed_bytes).digest()
        r, s = (int.from_bytes(half, "big") for half in (parts.signature[:32], parts.signature[32:]))
        self._signature = encode_dss_signature(r, s)
        found = intel.found()
        self.library = intel_core.load(found) if found else None

    def _peer_parts(self) -> dict[str, object]:
        documents = {}
        for key, name in (("tcb_info", "tcbInfo"), ("qe_identity", "enclaveIdentity")):
            body, signature = re.fullmatch(rf'\{{"{name}":(.*),"signature":"([0-9a-f]+)"\}}', self.items[key]).groups()
            documents |= {key: body, f"{key}_signature": bytes.fromhex(signature)}
        chains = {key: value for key, value in self.items.items() if key.endswith("issuer_chain")}
        crls = {key: bytes.fromhex(self.items[key]) for key in ("root_ca_crl", "pck_crl")}
        return {**documents, **chains, **crls}

    def forget(self) -> None:
        """Empty the cache of signatures: before cold and prepared, outside the measured time."""
        dcap._signature_cache.cache_clear()
        dcap._signature_cache()

    def cold(self) -> bool:
        prepared = dcap.PreparedCollateral(self.items, self.anchor.core)
        return dcap.verify(self.quote, collateral=prepared, at=self.at).genuine

    def collateral_seen(self) -> bool:
        return dcap.verify(self.quote, collateral=self.prepared, at=self.at).genuine

    def warm(self) -> bool:
        return dcap.verify(self.quote, collateral=self.prepared, at=self.at).genuine

    def warm_all_texts(self) -> bool:
        return len(dcap.verify(self.quote, collateral=self.prepared, at=self.at).checks) > 100

    def warm_with_policy(self) -> bool:
        verdict = self.verifier.verify_quote(self.quote, collateral=self.collateral, at=self.when)
        return verdict.status is auditor.VerdictStatus.VERIFIED

    def ecdsa(self) -> bool:
        """One P-256 verification by a key that is at hand: what no verifier can do without."""
        self._key.verify(self._signature, self._digest, ec.ECDSA(Prehashed(hashes.SHA256())))
        return True

    def peer(self) -> bool:
        return bool(dcap_qvl.verify(self.quote, self.peer_collateral, self.at).status)

    def peer_with_collateral(self) -> bool:
        return bool(dcap_qvl.verify(self.quote, dcap_qvl.QuoteCollateralV3(**self.peer_parts), self.at).status)

    def intel(self) -> bool:
        answer = intel_core.ask(self.library, self.quote, self.items, at=self.at, supplemental=True)
        return answer["returned"] == 0


def medians(work: dict[str, Callable[[], bool]], rounds: int, forget: Callable[[], None]) -> dict[str, float]:
    """Return the median of each in microseconds; raises RuntimeError if one does not accept the quote."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds + 3):
        for name, run in work.items():
            run()  # everybody's code is in the processor's caches
            if name in ("glasscase cold", "glasscase prepared"):
                forget()
            start = time.perf_counter()
            good = run()
            times[name].append(time.perf_counter() - start)
            if not good:
                raise RuntimeError(f"{name} does not accept the quote")
    return {name: statistics.median(values[3:]) * 1e6 for name, values in times.items()}


def many(c: Contenders, count: int, threads: int) -> float:
    """Return verifications a second of one call for `count` quotes."""
    jobs = [(c.quote, c.prepared)] * count
    start = time.perf_counter()
    if not all(verdict.genuine for verdict in dcap.verify_many(jobs, at=c.at, threads=threads)):
        raise RuntimeError("a quote of the batch was not accepted")
    return count / (time.perf_counter() - start)


def growth(c: Contenders, count: int) -> int:
    """Return by how many kB the largest resident size grew over `count` verifications, after as many to settle."""
    for _ in range(2000):
        c.forget()
        c.collateral_seen()
        c.warm_all_texts()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(count):
        c.warm()
    for _ in range(count // 50):
        c.forget()
        c.cold()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before


def write_evidence(folder: Path) -> list[str]:
    """Write evidence of a simulated enclave, with certificate and collateral, and return the arguments that verify it."""
    platform = SimPlatform.open(folder / "platform")
    at, key = 1764000000, ec.generate_private_key(ec.SECP256R1())
    collateral = platform.collateral(at=at)
    beacon = hashlib.sha256(signed_tcb_info(collateral["tcb_info"])).digest()
    instance = Instance(bytes(16), 1, bytes(1216), bytes(32)).to_bytes()
    session = Session(1, at, at + 3600, ("localhost",), beacon=beacon).to_bytes()
    claims = Claims(spki_digest(key.public_key()), instance, session).to_bytes()
    mrenclave = bytes.fromhex("1c" * 32)
    quote = platform.quote(report_body(mrenclave=mrenclave, mrsigner=bytes(32), report_data=claims_report_data(claims)))
    certificate = make_certificate(
        key, claims, quote, name="app", not_before=at, not_after=at + 3600, san=("localhost",)
    )
    evidence = Evidence(
        attestation=Attestation(quote, claims, certificate), bundle_id=bytes(32), created_at=at,
        collateral=parse_collateral(json.dumps(collateral).encode()),
    )  # fmt: skip
    (folder / "evidence.json").write_bytes(to_json(evidence))
    (folder / "root.pem").write_text(platform.root_pem)
    (folder / "enclave.toml").write_text(f'version = 1\n[measurement]\nmrenclave = "{mrenclave.hex()}"\n')
    return [str(folder / "evidence.json"), "--policy", str(folder / "enclave.toml"), "--insecure-anchor",
            str(folder / "root.pem"), "--at", str(at + 60)]  # fmt: skip


def as_new_process(c: Contenders, runs: int) -> dict[str, float]:
    """Return the median processor seconds of `glasscase verify` and of bare python3 as new processes, interleaved."""
    with tempfile.TemporaryDirectory() as work:
        policy = Path(work) / "policy.toml"
        policy.write_bytes(POLICY)
        verify = [str(Path(sys.executable).with_name("glasscase")), "verify"]
        commands = {
            "bare python3, s": [sys.executable, "-c", ""],
            "glasscase verify QUOTE, new process, s": [
                *verify, str(c.folder / "quote.bin"), "--collateral", str(c.folder / "collateral.json"), "--policy",
                str(policy), "--at", str(c.at),
            ],
            "glasscase verify EVIDENCE, new process, s": [*verify, *write_evidence(Path(work))],
        }  # fmt: skip
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(runs):
            for name, argv in commands.items():
                before = resource.getrusage(resource.RUSAGE_CHILDREN)
                subprocess.run(argv, check=True, capture_output=True)
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                times[name].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {name: statistics.median(values) for name, values in times.items()}


def main(arguments: list[str]) -> int:
    """Print the table; exit 1 if a limit is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, no memory run")
    options = parser.parse_args(arguments)
    shared = Path(os.environ.get("GLASSCASE_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not (shared / "corpus" / CASE).is_dir():
        print("no corpus here (set GLASSCASE_SHARED): nothing is measured", file=sys.stderr)
        return 0
    c = Contenders(shared / "corpus" / CASE)
    rounds = 60 if options.quick else 300
    rows = medians(
        {
            "dcap-qvl": c.peer,
            "dcap-qvl + its collateral object": c.peer_with_collateral,
            "glasscase cold": c.cold,
            "glasscase prepared": c.collateral_seen,
            "glasscase warm": c.warm,
            "glasscase warm, all texts": c.warm_all_texts,
            "glasscase warm, with policy": c.warm_with_policy,
            "one ECDSA verification": c.ecdsa,
        },
        rounds,
        c.forget,
    )
    if c.library is not None:
        rows |= medians({"intel tee_verify_quote": c.intel}, 20 if options.quick else 60, c.forget)
    peer = rows["dcap-qvl"]
    processes = as_new_process(c, 5 if options.quick else 15)
    bare, quote, evidence = processes.values()
    extra = {
        "verify_many, 1 thread, a second": many(c, 2000, 1),
        "verify_many, 2 threads, a second": many(c, 2000, 2),
        **processes,
        "QUOTE, times bare python3": quote / bare,
        "EVIDENCE, times bare python3": evidence / bare,
    }
    if not options.quick:
        extra["growth over 100,000 verifications, kB"] = growth(c, 100_000)
    limits = {
        f"cold <= {COLD_LIMIT} x dcap-qvl": rows["glasscase cold"] / rows["dcap-qvl + its collateral object"]
        <= COLD_LIMIT,
        "warm >= 4 x as fast as dcap-qvl": rows["glasscase warm"] / peer <= WARM_LIMIT,
        "warm with policy >= 4 x as fast as dcap-qvl": rows["glasscase warm, with policy"] / peer <= WARM_LIMIT,
        f"warm with policy <= {WARM_LIMIT_ECDSA:.2f} x one ECDSA verification": rows["glasscase warm, with policy"]
        / rows["one ECDSA verification"]
        <= WARM_LIMIT_ECDSA,
        f"verify QUOTE <= {PROCESS_LIMIT} x bare python3": quote / bare <= PROCESS_LIMIT,
        f"verify EVIDENCE <= {EVIDENCE_LIMIT} x bare python3": evidence / bare <= EVIDENCE_LIMIT,
    }
    if options.json:
        print(json.dumps({"microseconds": rows, "other": extra, "limits": limits}, indent=2))
    else:
        for name, value in rows.items():
            print(f"{name:<42} {value:9.1f} us   {peer / value:6.2f} x dcap-qvl")
        for name, value in extra.items():
            print(f"{name:<42} {value:9.3f}")
        for name, kept in limits.items():
            print(f"{'kept ' if kept else 'ABOVE'} {name}")
    return 0 if all(limits.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
