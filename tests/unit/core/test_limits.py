"""The verifier under a memory limit: sizes that the input claims allocate nothing."""

import subprocess
import sys

SCRIPT = """
import resource, struct
from glasscase.core import dcap
from glasscase.errors import FormatError
from glasscase.verify.roots import INTEL_ROOT_KEY, INTEL_ROOTS
anchor = dcap.Anchor([dcap.certificate_der(pem) for pem in INTEL_ROOTS], key=INTEL_ROOT_KEY, insecure=False)
used = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (used + (32 << 20),) * 2)
header = struct.pack("<HHIHH", 3, 2, 0, 9, 14) + bytes.fromhex("939a7233f79c4ca9940a0db3957f0607") + bytes(20)
huge = b"\\xff\\xff\\xff\\xff"
quotes = [header[:20], header + bytes(384) + huge, header + bytes(384) + struct.pack("<I", 582) + bytes(576) + b"\\xff\\xff" + huge,
          header + bytes(384) + struct.pack("<I", 584) + bytes(578) + b"\\5\\0" + huge]
der = [b"\\x30\\x83\\xff\\xff\\xff" + bytes(64), b"\\x30\\x84\\xff\\xff\\xff\\xff", b"\\x30\\x80" * 50000]
text = ["[" * 100000, '{"tcbInfo":' + "[" * 100000, '{"tcbInfo":{"tcbLevels":[' + "{}," * 100000]
for quote in quotes:
    try:
        dcap.parse_quote(quote)
        raise SystemExit("parsed")
    except FormatError:
        pass
    for crl, json in zip(der, text):
        items = dict.fromkeys(dcap.ITEMS, json) | {"root_ca_crl": crl, "pck_crl": crl.hex()}
        verdict = dcap.verify(quote, collateral=dcap.PreparedCollateral(items, anchor), at=1764000000)
        if verdict.genuine or not verdict.failed:
            raise SystemExit("accepted")
print("refused")
"""


def test_claimed_sizes_allocate_nothing():
    """Length fields of 4 GiB and deep nesting are refused with 32 MiB to spare."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)

    assert ("refused\n", "") == (done.stdout, done.stderr)
