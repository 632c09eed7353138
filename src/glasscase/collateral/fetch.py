"""Collateral from Intel's service or a caching service (PCCS): seven objects for one platform, verified before they are kept.

Invariants: this module and glasscase.collateral.http are the only ones of the verifier that open sockets, and only when
fetch_collateral is called; what comes back has passed the core's checks of every signature, role and window.
Source: Intel SGX and TDX Provisioning Certification Service API v4; docs/evidence-format.md, "Fetching collateral".
"""

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from glasscase.codec import strictjson
from glasscase.codec.printable import url_without_login
from glasscase.collateral.http import DEADLINE_S, Client
from glasscase.collateral.model import (
    CRL_MAX,
    DOCUMENT_MAX,
    Collateral,
    crl_der,
    signed_tcb_info,
    signed_value,
)
from glasscase.collateral.store import Marks, Store
from glasscase.core import dcap
from glasscase.core.facts import PckFacts
from glasscase.errors import CannotVerify, FormatError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

INTEL = "intel"
INTEL_BASE = "https://api.trustedservices.intel.com/sgx/certification/v4"
INTEL_ROOT_CRL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
PCCS_PATH = "/sgx/certification/v4"
UPDATES = ("standard", "early")

_TCB_CHAIN = ("TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain")
_QE_CHAIN = ("SGX-Enclave-Identity-Issuer-Chain",)
_CRL_CHAIN = ("SGX-PCK-CRL-Issuer-Chain",)
# the core's checks that are about the platform's state, not about what the server sent
_ABOUT_COLLATERAL = (
    "crl.",
    "tcbinfo.",
    "qe.chain.",
    "qe.signer.",
    "qe.document.",
    "qe.version.",
    "qe.levels.",
    "qe.id.",
)


def fetch_collateral(
    quote: bytes,
    *,
    anchor: dcap.Anchor,
    at: int,
    source: str = INTEL,
    update: str = "standard",
    store: Store | None = None,
    deadline_s: float = DEADLINE_S,
) -> Collateral:
    """Return fresh collateral for the platform of a quote.

    at: unix seconds, the verifier's clock. source: "intel" or the base URL of a PCCS. store: keeps it, and refuses what is
    older than was seen before. Raises CannotVerify with an id of the area collateral; nothing is kept then.
    """
    if update not in UPDATES:
        raise UsageError("collateral.url.malformed", f"update is standard or early, not {update!r}")
    base, root_crl = _base(source)
    pck = _platform(quote)
    with Client(deadline_s=deadline_s) as client:
        crl = client.get(f"{base}/pckcrl?ca={pck.ca}&encoding=der", limit=2 * CRL_MAX, chain_headers=_CRL_CHAIN)
        info = client.get(
            f"{base}/tcb?fmspc={pck.fmspc.hex()}&update={update}", limit=DOCUMENT_MAX, chain_headers=_TCB_CHAIN
        )
        identity = client.get(f"{base}/qe/identity?update={update}", limit=DOCUMENT_MAX, chain_headers=_QE_CHAIN)
        root = client.get(root_crl, limit=2 * CRL_MAX)
    fields = {
        "root_ca_crl": _from_server(lambda: crl_der(root.body), root_crl),
        "pck_crl": _from_server(lambda: crl_der(crl.body), "pckcrl"),
        "pck_crl_issuer_chain": crl.chain,
        "tcb_info": _from_server(lambda: _document(info.body, "tcbInfo"), "tcb"),
        "tcb_info_issuer_chain": info.chain,
        "qe_identity": _from_server(lambda: _document(identity.body, "enclaveIdentity"), "qe/identity"),
        "qe_identity_issuer_chain": identity.chain,
        "source": source if source == INTEL else base,
        "fetched_at": at,
    }
    collateral: Collateral = _from_server(lambda: Collateral(**fields), base)
    core = require_signed(collateral, quote, anchor=anchor, at=at)
    if store is not None:
        store.keep(collateral, Marks.of(core, fmspc=pck.fmspc, ca=pck.ca, update=update))
    return collateral


def require_signed(collateral: Collateral, quote: bytes, *, anchor: dcap.Anchor, at: int) -> dcap.CoreVerdict:
    """Return the core's verdict if everything that Intel signs is signed, current and of this platform.

    Raises CannotVerify("collateral.source.unsigned") with the first check that did not pass, and also if TCB info and QE
    identity are of different TCB evaluations: a cache has mixed two epochs.
    """
    core = dcap.verify(quote, collateral=dcap.PreparedCollateral(collateral.items(), anchor), at=at)
    for check in core.checks:
        if check.id.startswith(_ABOUT_COLLATERAL) and check.outcome not in ("pass", "not_applicable"):
            text = f"{check.id}: {check.observed or check.outcome}, expected {check.expected}"
            raise CannotVerify(
                "collateral.source.unsigned", f"the collateral from {collateral.source} is refused: {text}"
            )
    if core.tcb_info_evaluation != core.qe_identity_evaluation:
        raise CannotVerify(
            "collateral.source.unsigned",
            f"the collateral from {collateral.source} mixes TCB evaluations {core.tcb_info_evaluation} and "
            f"{core.qe_identity_evaluation}",
        )
    return core


def _base(source: str) -> tuple[str, str]:
    """Return the base URL of the service and the URL of the root CRL."""
    if source == INTEL:
        return INTEL_BASE, INTEL_ROOT_CRL
    try:
        parts = urlsplit(source)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query and not parts.fragment
        valid = valid and parts.username is None and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid or not source.isascii() or not source.isprintable() or " " in source:
        raise UsageError(
            "collateral.url.malformed",
            f"{url_without_login(source)[:120]!r} is neither intel nor an http or https URL",
            hint="--source intel, or for example --source https://localhost:8081",
        )
    base = source.rstrip("/") if parts.path.strip("/") else f"{parts.scheme}://{parts.netloc}{PCCS_PATH}"
    return base, f"{base}/rootcacrl"


def _platform(quote: bytes) -> PckFacts:
    try:
        pck = dcap.parse_quote(quote).pck
    except FormatError as error:
        raise CannotVerify("collateral.platform.unknown", f"the quote cannot be read: {error.message}") from None
    if pck is None:
        raise CannotVerify("collateral.platform.unknown", "the quote carries no readable PCK certificate")
    return pck


def _document(body: bytes, key: str) -> str:
    """Return the served document as text, if it has the outer form; its content is the core's business."""
    if key == "tcbInfo":
        signed_tcb_info(body)
    else:
        signed_value(body, key)
    strictjson.parse(body, max_bytes=DOCUMENT_MAX, what=key)
    return body.decode("utf-8")


def _from_server(read: "Callable[[], Any]", what: str) -> Any:
    try:
        return read()
    except FormatError as error:
        raise CannotVerify("collateral.source.malformed", f"{what}: {error.message}") from None
