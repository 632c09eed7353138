"""Intel's own quote verification library judges the simulator: what our core accepts, it accepts with the same status.

The library is the one inside the wheel of the `intel` extra; its four attestation calls take the root from the caller, so it
can be asked about simulated platforms. It is a second opinion from code that nobody here wrote.
"""

import base64
import ctypes
import importlib.util
import json
import os
import random
import re
from pathlib import Path

import pytest

from glasscase.core import dcap
from glasscase.errors import FormatError

STATUS = {
    0: "UpToDate",
    45: "OutOfDate",
    47: "ConfigurationNeeded",
    48: "OutOfDateConfigurationNeeded",
    82: "SWHardeningNeeded",
    83: "ConfigurationAndSWHardeningNeeded",
}


@pytest.fixture(scope="module")
def library():
    """Return the library, loaded as the Intel engine does it: lazily and without giving its symbols to others."""
    package = importlib.util.find_spec("trustflow")
    if package is None:
        pytest.skip("the wheel of the intel extra is not installed")
    (path,) = Path(next(iter(package.submodule_search_locations))).glob("attestation/verification/*.so")
    return ctypes.CDLL(str(path), mode=os.RTLD_LAZY | os.RTLD_LOCAL)


def pem(der):
    text = base64.b64encode(der).decode("ascii")
    lines = "\n".join(text[start : start + 64] for start in range(0, len(text), 64))
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n".encode()


def intel_status(library, exhibit):
    """Return the TCB status that the library gives, None if one of its four calls refuses."""
    root, at = pem(exhibit.root), ctypes.byref(ctypes.c_int64(exhibit.at))
    given = {name: text.encode() for name, text in exhibit.collateral.items()}
    chain = exhibit.quote[exhibit.quote.index(b"-----BEGIN") :].rstrip(b"\0")
    leaf = re.match(rb"-----BEGIN.*?-----END CERTIFICATE-----\n", chain, re.DOTALL)[0]
    crls = (ctypes.c_char_p * 2)(given["root_ca_crl"], given["pck_crl"])
    results = (
        library.sgxAttestationVerifyPCKCertificate(chain, crls, root, at),
        library.sgxAttestationVerifyTCBInfo(
            given["tcb_info"], given["tcb_info_issuer_chain"], given["root_ca_crl"], root, at
        ),
        library.sgxAttestationVerifyEnclaveIdentity(
            given["qe_identity"], given["qe_identity_issuer_chain"], given["root_ca_crl"], root, at
        ),
        library.sgxAttestationVerifyQuote(
            exhibit.quote, len(exhibit.quote), leaf, given["pck_crl"], given["tcb_info"], given["qe_identity"]
        ),
    )
    return STATUS.get(results[3]) if results[:3] == (0, 0, 0) else None


def core_status(exhibit):
    """Return the TCB status that the core gives, None if the quote is not genuine."""
    try:
        anchor = dcap.Anchor([exhibit.root], key=dcap.certificate_key(exhibit.root), insecure=True)
    except FormatError:
        return None
    verdict = dcap.verify(exhibit.quote, collateral=dcap.PreparedCollateral(exhibit.collateral, anchor), at=exhibit.at)
    return verdict.tcb_status if verdict.genuine else None


NOT_FOR_INTEL = {
    "chain-ca-pck-root": "it takes the first certificate for the leaf",
    "chain-root-ca-pck": "it takes the first certificate for the leaf",
    "tcb-info-spaced": "it writes JSON anew before it checks the signature",
    "qe-identity-spaced": "it writes JSON anew before it checks the signature",
}


def test_honest_variations(library, kit):
    """Intel's library finds every honest variation genuine, with the status that the kit names."""
    wanted = {name: item.status for name, item in kit.variations.items() if name not in NOT_FOR_INTEL}

    assert wanted == {name: intel_status(library, kit.varied(name)) for name in wanted}
    assert {None} == {intel_status(library, kit.varied(name)) for name in NOT_FOR_INTEL}


def accepted_by_us_alone(library, kit, seeds):
    """Return the seeds whose exhibit our core accepts and Intel's library refuses or rates otherwise, and how many agree."""
    from mutations import mutate

    found, agreed = [], 0
    for seed in seeds:
        chosen = random.Random(seed)
        scene = kit.scene()
        what = mutate(scene, chosen)
        try:
            exhibit = scene.render()
            texts = [
                json.dumps(json.loads(exhibit.collateral[n]), separators=(",", ":"))
                for n in ("tcb_info", "qe_identity")
            ]
        except ValueError:
            continue
        ours = core_status(exhibit)
        if ours is None or texts != [exhibit.collateral[name].strip() for name in ("tcb_info", "qe_identity")]:
            continue
        theirs = intel_status(library, exhibit)
        agreed += theirs == ours
        if theirs != ours:
            found.append((seed, what, ours, theirs))
    return found, agreed


def test_what_we_accept_intel_accepts(library, kit):
    """Random changes, signed again: our acceptance never stands alone."""
    found, agreed = accepted_by_us_alone(library, kit, range(250))

    assert [] == found
    assert agreed >= 40


@pytest.mark.long
def test_what_we_accept_intel_accepts_long(library, kit):
    """5,000 more random changes."""
    found, agreed = accepted_by_us_alone(library, kit, range(1000, 6000))

    assert [] == found
    assert agreed >= 800


@pytest.mark.long
def test_where_we_are_stricter(library, kit):
    """The faults that Intel's library accepts are those of the written list; our core refuses every one of them."""
    written = Path(__file__).with_name("accepted_by_intel.txt").read_text(encoding="utf-8").splitlines()
    found = []
    for name in kit.faults:
        exhibit = kit.exhibit(name)
        try:
            status = intel_status(library, exhibit)
        except (KeyError, ValueError, TypeError):  # an absent object or no certificate at all: it cannot even be asked
            continue
        if status is not None:
            found.append(name)

            assert core_status(exhibit) is None, name
    assert written == found
