"""How fast a real SGX quote is verified, against dcap-qvl and Intel's library in the same process, in interleaved rounds.

cold: quote and collateral from bytes, seven ECDSA verifications (those of Intel's own CA and signing certificates are done
once, when the anchor is made). prepared: collateral seen before, three. warm: the PCK chain and the
QE report of its platform too, as in every further quote of one machine: one. Results of signatures are remembered, never verdicts.
Medians; every round runs each contender once, in turn. Needs the corpus (GLASSCASE_SHARED or ../shared).
"""

import argparse
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

from glasscase import auditor
from glasscase.core import dcap
from glasscase.core import intel as intel_core
from glasscase.verify import intel

CASE = "sgx3-00a067110000-f8b810-2506"  # 4,600 bytes, not a debug enclave: dcap-qvl accepts it
COLD_LIMIT = 1.05  # times dcap-qvl's time
WARM_LIMIT = 1 / 4
PROCESS_LIMIT = 8.0  # times the start of bare python3
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


def as_new_process(c: Contenders, runs: int) -> tuple[float, float]:
    """Return the median seconds of `glasscase verify` and of bare python3, interleaved."""
    own, bare = [], []
    with tempfile.TemporaryDirectory() as work:
        policy = Path(work) / "policy.toml"
        policy.write_bytes(POLICY)
        command = [str(Path(sys.executable).with_name("glasscase")), "verify", str(c.folder / "quote.bin"), "--collateral",
                   str(c.folder / "collateral.json"), "--policy", str(policy), "--at", str(c.at)]  # fmt: skip
        for _ in range(runs):
            for times, argv in ((own, command), (bare, [sys.executable, "-c", ""])):
                start = time.perf_counter()
                subprocess.run(argv, check=True, capture_output=True)
                times.append(time.perf_counter() - start)
    return statistics.median(own), statistics.median(bare)


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
        },
        rounds,
        c.forget,
    )
    if c.library is not None:
        rows |= medians({"intel tee_verify_quote": c.intel}, 20 if options.quick else 60, c.forget)
    peer = rows["dcap-qvl"]
    own, bare = as_new_process(c, 5 if options.quick else 15)
    extra = {
        "verify_many, 1 thread, a second": many(c, 2000, 1),
        "verify_many, 2 threads, a second": many(c, 2000, 2),
        "glasscase verify, new process, s": own,
        "bare python3, s": bare,
    }
    if not options.quick:
        extra["growth over 100,000 verifications, kB"] = growth(c, 100_000)
    limits = {
        f"cold <= {COLD_LIMIT} x dcap-qvl": rows["glasscase cold"] / rows["dcap-qvl + its collateral object"]
        <= COLD_LIMIT,
        "warm >= 4 x as fast as dcap-qvl": rows["glasscase warm"] / peer <= WARM_LIMIT,
        f"new process <= {PROCESS_LIMIT} x bare python3": own / bare <= PROCESS_LIMIT,
    }
    if options.json:
        print(json.dumps({"microseconds": rows, "other": extra, "limits": limits}, indent=2))
    else:
        for name, value in rows.items():
            print(f"{name:<36} {value:9.1f} us   {peer / value:6.2f} x dcap-qvl")
        for name, value in extra.items():
            print(f"{name:<36} {value:9.3f}")
        for name, kept in limits.items():
            print(f"{'kept ' if kept else 'ABOVE'} {name}")
    return 0 if all(limits.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
