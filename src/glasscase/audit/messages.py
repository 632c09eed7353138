"""Our own files described for people: evidence, claims, envelopes, receipts, bundles, statements, policies, manifests.

Invariants: what is sealed stays sealed; text from outside is returned as it is and escaped where it is shown.
Source: docs/evidence-format.md, docs/provisioning.md, docs/bundle-format.md.
"""

from typing import Any

from glasscase.audit.quotes import describe_quote
from glasscase.audit.untrusted import length, table
from glasscase.codec import cbor
from glasscase.codec.version import require_version
from glasscase.collateral.model import Collateral, parse_collateral
from glasscase.errors import FormatError
from glasscase.evidence.attestation import Attestation, Claims, instance_digest
from glasscase.evidence.model import EVIDENCE_CBOR_MAX, Evidence

_TAG_SIGN1, _TAG_SIGN = 0xD2, 0xD8


def describe_cbor(content: bytes) -> dict[str, Any]:
    """Return what one of our CBOR files says."""
    if content[0] == _TAG_SIGN:
        return _envelope(content)
    if content[0] == _TAG_SIGN1:
        return _receipt(content)
    value = cbor.decode(content, max_bytes=EVIDENCE_CBOR_MAX, what="file")
    kind = value.get("type")
    if kind == "glasscase-evidence":
        return describe_evidence(Evidence.from_cbor(content))
    if kind == "glasscase-attestation":
        return {"kind": "attestation", **_attestation(Attestation.from_bytes(content))}
    if kind == "glasscase-enclave":
        return _configuration(content)
    if kind == "glasscase-cosign":
        require_version(value.get("v"), "co-signing request")
        to = value.get("to")
        return {"kind": "cosign-request", "to": to.hex() if isinstance(to, bytes) else None}
    if "pubkey-hash" in value:
        return {"kind": "claims", **describe_claims(content)}
    raise FormatError("inspect.kind.unknown", "the CBOR is no file that is known here", hint="glasscase version")


def describe_evidence(evidence: Evidence) -> dict[str, Any]:
    """Return what evidence says; the host's copies are marked as such."""
    return {
        "kind": "evidence",
        "id": evidence.evidence_id.hex(),
        **_attestation(evidence.attestation),
        "host_says": {
            "bundle_id": evidence.bundle_id.hex(),
            "created_at": evidence.created_at,
            "nonce": evidence.nonce.hex() if evidence.nonce else None,
            "insecure": list(evidence.insecure),
        },
        "collateral": _collateral(evidence.collateral) if evidence.collateral else None,
    }


def describe_claims(claims: bytes) -> dict[str, Any]:
    """Return what a claims buffer says."""
    facts = Claims.from_bytes(claims)
    instance, session = facts.instance_facts(), facts.session_facts()
    return {
        "tls_spki_sha256": facts.spki_sha256.hex(),
        "nonce": facts.nonce.hex() if facts.nonce else None,
        "instance": instance.instance_id.hex(),
        "instance_digest": instance_digest(facts.instance).hex(),
        "suite": instance.suite,
        "receipt_key": instance.receipt_key.hex(),
        "seq": session.seq,
        "nbf": session.nbf,
        "exp": session.exp,
        "san": list(session.san),
        "beacon": session.beacon.hex() if session.beacon else None,
        "provisioned": session.prov.hex() if session.prov else None,
    }


def describe_collateral(content: bytes) -> dict[str, Any]:
    """Return what a collateral file says."""
    return {"kind": "collateral", **_collateral(parse_collateral(content))}


def describe_signed_document(value: dict[str, Any]) -> dict[str, Any]:
    """Return what a served TCB info or enclave identity says."""
    name = "tcbInfo" if "tcbInfo" in value else "enclaveIdentity"
    body = table(value, name)
    wanted = ("id", "version", "issueDate", "nextUpdate", "fmspc", "pceId", "tcbEvaluationDataNumber", "isvprodid")
    kind = "tcb-info" if name == "tcbInfo" else "enclave-identity"
    return {"kind": kind, **{key: body[key] for key in wanted if key in body}, "levels": length(body.get("tcbLevels"))}


def describe_statement(content: bytes) -> dict[str, Any]:
    """Return what a DSSE statement says; its signatures are not checked."""
    from glasscase.statements.dsse import read_dsse
    from glasscase.statements.intoto import Statement

    signed = read_dsse(content)
    statement = Statement.from_bytes(signed.payload)
    return {
        "kind": "statement",
        "signed": True,
        "signatures": len(signed.signatures),
        "predicate_type": statement.predicate_type,
        "mrenclave": statement.mrenclave.hex() if statement.mrenclave else None,
        "bundle_id": statement.bundle_id.hex() if statement.bundle_id else None,
        "predicate": statement.predicate,
    }


def describe_index(index: Any, bundle_id: bytes) -> dict[str, Any]:
    """Return what a bundle's index says."""
    return {
        "kind": "bundle",
        "name": index.name,
        "bundle_id": bundle_id.hex(),
        "mrenclave": index.mrenclave.hex(),
        "runtime": f"{index.runtime.name} {index.runtime.version}",
        "enclave_size": index.enclave_size,
        "encrypted": index.encrypted,
        "files": len(index.files),
        "bytes": sum(file.size for file in index.files),
        "insecure": list(index.insecure),
    }


def describe_policy(policy: Any) -> dict[str, Any]:
    """Return what a policy says, each field by its name."""
    return {"kind": "policy", **{name: _plain(value) for name, value in vars(policy).items()}}


def describe_manifest(content: bytes) -> dict[str, Any]:
    """Return what a Gramine manifest says."""
    from glasscase.gramine.manifest import parse_manifest

    value = parse_manifest(content)
    sgx = table(value, "sgx")
    allowed = sgx.get("allowed_files")
    return {
        "kind": "manifest",
        "entrypoint": table(value, "libos").get("entrypoint") or table(value, "loader").get("entrypoint"),
        "enclave_size": sgx.get("enclave_size"),
        "max_threads": sgx.get("max_threads"),
        "debug": sgx.get("debug", False),
        "edmm": sgx.get("edmm_enable", False),
        "remote_attestation": sgx.get("remote_attestation"),
        "isv_prod_id": sgx.get("isvprodid"),
        "isv_svn": sgx.get("isvsvn"),
        "trusted_files": length(sgx.get("trusted_files")),
        "allowed_files": [str(uri) for uri in allowed] if isinstance(allowed, list) else None,
    }


def _attestation(attestation: Attestation) -> dict[str, Any]:
    provision = attestation.provision
    return {
        "quote": describe_quote(attestation.quote),
        "claims": describe_claims(attestation.claims),
        "certificate": attestation.certificate is not None,
        "request": attestation.request is not None,
        "provision": _envelope(provision.envelope) if provision else None,
    }


def _collateral(collateral: Collateral) -> dict[str, Any]:
    return {"source": collateral.source, "fetched_at": collateral.fetched_at, "items": collateral_items(collateral)}


def collateral_items(collateral: Collateral) -> list[dict[str, Any]]:
    """Return name, date of issue and next update (unix seconds) of each object that the core can read; nothing is trusted."""
    from glasscase.core import dcap
    from glasscase.verify.anchor import TrustAnchor

    core = dcap.verify(b"", collateral=dcap.PreparedCollateral(collateral.items(), TrustAnchor.intel().core), at=1)
    numbers = {
        "root_ca_crl": ("number", core.root_ca_crl_number),
        "pck_crl": ("number", core.pck_crl_number),
        "tcb_info": ("evaluation", core.tcb_info_evaluation),
        "qe_identity": ("evaluation", core.qe_identity_evaluation),
    }
    found = []
    for name, window in core.windows.items():
        if name in ("root", "pck_ca", "pck_leaf"):
            continue
        item: dict[str, Any] = {"name": name, "issued": window.start, "next_update": window.end}
        if name in numbers and numbers[name][1] is not None:
            item[numbers[name][0]] = numbers[name][1]
        found.append(item)
    return found


def _configuration(content: bytes) -> dict[str, Any]:
    from glasscase.config.enclave import EnclaveConfig

    config = EnclaveConfig.from_bytes(content)
    return {
        "kind": "enclave-configuration",
        "name": config.name,
        "entry": config.entry,
        "owners": [owner.hex() for owner in config.owners],
        "threshold": config.threshold,
        "encrypt": config.encrypt,
        "insecure": list(config.insecure),
    }


def _envelope(content: bytes) -> dict[str, Any]:
    from glasscase.seal.envelope import read_envelope

    envelope = read_envelope(content)
    context = envelope.context
    return {
        "kind": "envelope",
        "digest": envelope.digest.hex(),
        "id": context.id.hex(),
        "mrenclave": context.mrenclave.hex(),
        "instance": context.instance.hex(),
        "package": context.package.hex(),
        "owners": [owner.hex() for owner in context.owners],
        "isv_svn": context.isv_svn,
        "issued_at": context.issued_at,
        "not_after": context.not_after,
    }


def _receipt(content: bytes) -> dict[str, Any]:
    """Read the receipt under the key that it names itself: what it says, not who said it."""
    from glasscase.seal.receipt import read_receipt

    value = cbor.decode(content, max_bytes=1 << 20, what="receipt", tags=frozenset({18}), cose=True)
    header = cbor.decode(value.value[0], max_bytes=1024, what="receipt", cose=True) if _is_sign1(value) else {}
    key = header.get(4) if isinstance(header, dict) else None
    if not isinstance(key, bytes) or len(key) != 32:
        raise FormatError("inspect.kind.unknown", "the COSE message is no receipt", hint="receipts come from provision")
    receipt = read_receipt(content, receipt_key=key)
    return {"kind": "receipt", "receipt_key": key.hex(), **{name: _plain(item) for name, item in vars(receipt).items()}}


def _is_sign1(value: Any) -> bool:
    return isinstance(getattr(value, "value", None), list) and bool(value.value) and isinstance(value.value[0], bytes)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
