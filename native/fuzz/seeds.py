"""Write seeds for the fuzz targets: seeds.py DIRECTORY. What an honest and some faulty simulated platforms hand out.

The simulator has its own encoders, so nothing here comes from the readers that are fuzzed.
"""

import hashlib
import re
import sys
import tempfile
from base64 import b64decode
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from glasscase.evidence.attestation import Claims, Instance, Session
from glasscase.ratls.cert import make_certificate, spki_digest
from glasscase.sim import faults
from glasscase.sim.platform import SimPlatform
from glasscase.sim.quoting import REPORT_BODY_SIZE

AT = 1764000000
ITEMS = (
    "root_ca_crl", "pck_crl", "pck_crl_issuer_chain", "tcb_info", "tcb_info_issuer_chain", "qe_identity",
    "qe_identity_issuer_chain",
)  # fmt: skip
SGX_OID = bytes.fromhex("06092a864886f84d010d01")


def ratls_certificate() -> bytes:
    """Return the certificate of an enclave that waits."""
    key = ec.generate_private_key(ec.SECP256R1())
    instance = Instance(bytes(16), 1, bytes(1216), bytes(32)).to_bytes()
    session = Session(1, AT, AT + 3600, ("localhost", "127.0.0.1")).to_bytes()
    claims = Claims(spki_digest(key.public_key()), instance, session).to_bytes()
    san = ("localhost", "127.0.0.1")
    return make_certificate(key, claims, b"quote", name="app", not_before=AT, not_after=AT + 3600, san=san)


def main(target: Path) -> None:
    """Write one file for each distinct part of each exhibit."""

    def put(name: str, data: bytes) -> None:
        folder = target / f"fuzz_{name}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)

    put("ratls", ratls_certificate())
    with tempfile.TemporaryDirectory() as work:
        platform = SimPlatform.open(Path(work) / "platform")
        for chosen in ((), *((fault,) for fault in list(faults.all_faults().values())[::5])):
            exhibit = faults.exhibit(platform, *chosen, body=bytes(REPORT_BODY_SIZE), at=AT)
            texts = {name: exhibit.collateral.get(name, "").encode("utf-8", "surrogateescape") for name in ITEMS}
            put("quote", exhibit.quote)
            put("pem", exhibit.quote[exhibit.quote.find(b"-----BEGIN") :])
            put("tcbinfo", texts["tcb_info"])
            put("qeidentity", texts["qe_identity"])
            for name in ("root_ca_crl", "pck_crl"):
                if re.fullmatch(rb"([0-9a-f]{2})+", texts[name]):
                    put("crl", bytes.fromhex(texts[name].decode()))
            for body in re.findall(rb"-----BEGIN CERTIFICATE-----\n([A-Za-z0-9+/=\n]+)-----END", exhibit.quote):
                der = b64decode(body)
                put("cert", der)
                at = der.find(SGX_OID) + len(SGX_OID)
                if at > len(SGX_OID) and der[at : at + 2] == b"\x04\x82":
                    put("pck", der[at + 4 : at + 4 + int.from_bytes(der[at + 2 : at + 4], "big")])
            parts = [*texts.values(), exhibit.quote, exhibit.root]
            if all(len(part) < 65536 for part in parts):
                put("verify", b"".join(len(part).to_bytes(2, "little") + part for part in parts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
