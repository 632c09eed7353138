"""Ids of the checks of the C core, in its fixed order: quote, PCK chain, CRLs, TCB info, QE identity, platform.

Invariants: the order is that of native/src/checks.h; a test compares the two. Groups that repeat for several certificates
or documents are made by the functions below, as the macros there make them.
"""

from glasscase.reasons.model import Reason

_QUOTE = "Intel SGX ECDSA quote format"
_PROFILE = "Intel SGX PCK certificate and CRL profile; RFC 5280"
_TCB = "Intel PCS API v4, TCB info"
_QE = "Intel PCS API v4, enclave identity"
_STATUS = "Intel DCAP, convergence of TCB and QE status"
_EVIDENCE = "the quote is damaged or not genuine: ask the operator for a new one, trust nothing that rests on this one"
_COLLATERAL = "fetch the collateral again: glasscase collateral fetch --for QUOTE -o collateral.json"
_FORGED = "do not trust this input; fetch the collateral again from Intel and ask the operator for new evidence"
_TIME = "check the time given with --at or the clock; fetch fresh collateral"


def _signer(prefix: str, what: str, remedy: str) -> tuple[Reason, ...]:
    """Return the checks of one certificate below the root."""
    rows = (
        ("bad_extension", f"{what} has an unknown, repeated, missing, malformed or wrongly critical extension"),
        ("bad_constraints", f"{what} has not the basic constraints of its role"),
        ("bad_key_usage", f"{what} has not the key usage of its role"),
        ("bad_issuer", f"the issuer named in {what} is not the subject of the certificate above it"),
        ("bad_key_id", f"the authority key id of {what} is not the subject key id of the certificate above it"),
        ("bad_signature", f"the signature of {what} does not hold under the key above it"),
        ("revoked", f"{what} is on the CRL of its issuer"),
        ("not_yet_valid", f"{what} is not valid yet at the time of the verification"),
        ("expired", f"{what} is not valid any more at the time of the verification"),
    )
    return tuple(Reason(f"{prefix}.{fault}", "proof", message, _PROFILE, remedy) for fault, message in rows)


def _chain(prefix: str, what: str) -> tuple[Reason, ...]:
    """Return the checks of one issuer chain: exactly two certificates, the second a root that the anchor accepts."""
    rows = (
        ("missing", "basis", f"the {what} was not given"),
        ("malformed", "basis", f"the {what} is not exactly two certificates in the exact PEM and DER form"),
        ("bad_roles", "basis", f"the {what} does not hold the certificate of the right name and a root"),
        ("untrusted", "proof", f"the root in the {what} is not byte for byte one that the anchor accepts"),
        ("not_yet_valid", "proof", f"the root in the {what} is not valid yet at the time of the verification"),
        ("expired", "proof", f"the root in the {what} is not valid any more at the time of the verification"),
    )
    return tuple(Reason(f"{prefix}.{fault}", kind, message, _PROFILE, _COLLATERAL) for fault, kind, message in rows)


def _crl(prefix: str, what: str) -> tuple[Reason, ...]:
    """Return the checks of one CRL."""
    rows = (
        ("missing", "basis", f"the {what} was not given"),
        ("malformed", "basis", f"the {what} is not a strict DER version 2 CRL with both dates"),
        ("bad_extension", "basis", f"the {what} has not exactly a CRL number and an authority key id"),
        ("bad_issuer", "basis", f"the {what} was issued by another authority than the one it is used for"),
        ("bad_key_id", "basis", f"the authority key id of the {what} is not the key id of its issuer"),
        ("bad_signature", "proof", f"the signature of the {what} does not hold under the key of its issuer"),
        ("not_yet_valid", "basis", f"the {what} was issued after the time of the verification"),
        ("expired", "basis", f"the next update of the {what} is not after the time of the verification"),
    )
    return tuple(Reason(f"{prefix}.{fault}", kind, message, _PROFILE, _COLLATERAL) for fault, kind, message in rows)


def _document(prefix: str, what: str, source: str) -> tuple[Reason, ...]:
    """Return the checks of one signed JSON document."""
    rows = (
        ("missing", "basis", f"the {what} was not given"),
        ("malformed", "basis", f"the {what} is not strict JSON of the form that Intel signs"),
        ("bad_signature", "proof", f"the signature of the {what} does not hold over its verbatim bytes"),
        ("not_yet_valid", "basis", f"the {what} was issued after the time of the verification"),
        ("expired", "basis", f"the next update of the {what} is not after the time of the verification"),
    )
    return tuple(Reason(f"{prefix}.{fault}", kind, message, source, _COLLATERAL) for fault, kind, message in rows)


def _rows(source: str, remedy: str, *rows: tuple[str, str, str]) -> tuple[Reason, ...]:
    """Return single checks (id, kind, message) that share source and remedy."""
    return tuple(Reason(id_, kind, message, source, remedy) for id_, kind, message in rows)


REASONS: tuple[Reason, ...] = (
    *_rows(_QUOTE, _EVIDENCE,
        ("quote.bytes.oversize", "proof", "the quote is longer than 64 KiB"),
        ("quote.bytes.truncated", "proof", "the quote ends inside a field"),
        ("quote.version.unsupported", "proof", "the quote has another version than 3, 4 or 5"),
        ("quote.key_type.unsupported", "proof", "the attestation key is not ECDSA P-256"),
        ("quote.tee.unknown", "proof", "the TEE type is neither SGX nor TDX"),
    ),
    Reason("quote.tee.unsupported", "basis", "the quote is of a TDX guest; only SGX quotes are judged", _QUOTE,
           "glasscase inspect shows it; use another verifier for TDX"),
    *_rows(_QUOTE, _EVIDENCE,
        ("quote.header.reserved", "proof", "reserved bytes of the header are not zero"),
        ("quote.vendor.unknown", "proof", "the vendor of the quoting enclave is not Intel"),
        ("quote.body.mismatch", "proof", "type and size of the body do not go with the TEE type"),
        ("quote.bytes.trailing", "proof", "bytes follow the signature data"),
        ("quote.auth.nested", "proof", "the QE certification data of a version 4 or 5 quote has the wrong type or size"),
        ("quote.auth.trailing", "proof", "bytes follow the certification data"),
        ("quote.qe_auth.oversize", "proof", "the QE authentication data is longer than 1 KiB"),
    ),
    Reason("quote.certification.unsupported", "basis",
           "the quote carries no PEM certificate chain (certification data type other than 5)", _QUOTE,
           "configure the platform's quote provider so that quotes carry the PCK certificate chain"),
    *_rows(_QUOTE, _EVIDENCE,
        ("quote.report.reserved", "proof", "reserved bytes of the enclave report are not zero"),
        ("quote.qe_report.reserved", "proof", "reserved bytes of the QE report are not zero"),
    ),
    *_rows(_PROFILE, _EVIDENCE,
        ("pck.chain.malformed", "proof", "the chain in the quote is not exactly three certificates in exact form"),
        ("pck.chain.bad_roles", "proof", "the chain is not one root, one PCK CA and one PCK certificate by name"),
        ("root.certificate.unknown", "proof", "the root in the quote is not byte for byte one that the anchor accepts"),
        ("root.key.mismatch", "proof", "the root in the quote has another key than the pinned one"),
        ("root.certificate.revoked", "proof", "the root is on its own CRL"),
        ("root.certificate.not_yet_valid", "proof", "the root is not valid yet at the time of the verification"),
        ("root.certificate.expired", "proof", "the root is not valid any more at the time of the verification"),
    ),
    *_signer("pck.ca", "the PCK CA certificate", _EVIDENCE),
    *_signer("pck.leaf", "the PCK certificate", _EVIDENCE),
    *_rows(_PROFILE, _EVIDENCE,
        ("pck.sgx.missing", "proof", "the PCK certificate has no SGX extension"),
        ("pck.sgx.malformed", "proof", "the SGX extension is not exactly the entries of Intel's profile in their form"),
        ("pck.sgx.bad_type", "proof", "the SGX type in the PCK certificate is not a known one"),
        ("pck.sgx.ca_mismatch", "proof", "the number of entries of the SGX extension does not go with the issuing CA"),
    ),
    *_crl("crl.root", "root CA CRL"),
    *_chain("crl.chain", "issuer chain of the PCK CRL"),
    *_signer("crl.ca", "the CA certificate of the PCK CRL", _COLLATERAL),
    Reason("crl.ca.mismatch", "basis", "the CA of the PCK CRL is not the CA that issued the PCK certificate", _PROFILE,
           "fetch the PCK CRL of the right CA (processor or platform): glasscase collateral fetch --for QUOTE"),
    *_crl("crl.pck", "PCK CRL"),
    *_chain("tcbinfo.chain", "issuer chain of the TCB info"),
    *_signer("tcbinfo.signer", "the signing certificate of the TCB info", _FORGED),
    *_document("tcbinfo.document", "TCB info", _TCB),
    *_rows(_TCB, _COLLATERAL,
        ("tcbinfo.version.unsupported", "basis", "the TCB info is not version 3; Intel has retired version 2"),
        ("tcbinfo.type.unsupported", "basis", "the TCB info has another tcbType than 0"),
        ("tcbinfo.levels.malformed", "basis", "the TCB levels are empty, repeated, not of 16 components, or of unknown status or date"),
        ("tcbinfo.id.mismatch", "basis", "the TCB info is for another TEE than the quote"),
        ("tcbinfo.fmspc.mismatch", "basis", "the TCB info is for another FMSPC than the PCK certificate"),
        ("tcbinfo.pceid.mismatch", "basis", "the TCB info is for another PCEID than the PCK certificate"),
    ),
    *_chain("qe.chain", "issuer chain of the QE identity"),
    *_signer("qe.signer", "the signing certificate of the QE identity", _FORGED),
    *_document("qe.document", "QE identity", _QE),
    *_rows(_QE, _COLLATERAL,
        ("qe.version.unsupported", "basis", "the QE identity is not version 2"),
        ("qe.levels.malformed", "basis", "the levels of the QE identity are empty, not strictly descending, or of unknown status or date"),
        ("qe.id.mismatch", "basis", "the identity is for another enclave than the quoting enclave of this quote"),
    ),
    *_rows(_QUOTE, _EVIDENCE,
        ("qe.report.bad_signature", "proof", "the signature of the QE report does not hold under the PCK key"),
        ("qe.report.bad_binding", "proof", "the QE report does not carry the hash of attestation key and QE data"),
        ("qe.report.bad_tail", "proof", "the last 32 bytes of the QE report data are not zero"),
        ("qe.miscselect.mismatch", "proof", "MISCSELECT of the QE under its mask is not what Intel names"),
        ("qe.attributes.mismatch", "proof", "the attributes of the QE under their mask are not what Intel names"),
        ("qe.mrsigner.mismatch", "proof", "the signer of the QE is not the one that Intel names"),
        ("qe.isvprodid.mismatch", "proof", "the product id of the QE is not the one that Intel names"),
    ),
    *_rows(_STATUS, "operator: install the current Intel SGX architectural enclaves and collect new evidence",
        ("qe.svn.unsupported", "proof", "no level of the QE identity is as low as the SVN of the QE"),
        ("qe.svn.revoked", "proof", "Intel has revoked the SVN of the QE"),
    ),
    *_rows(_QUOTE, _EVIDENCE,
        ("quote.key.off_curve", "proof", "the attestation key is not a point of P-256"),
        ("quote.body.bad_signature", "proof", "the signature of the quote does not hold under the attestation key"),
    ),
    *_rows(_STATUS, "operator: update BIOS and microcode, renew the PCK certificate and collect new evidence",
        ("platform.tcb.unsupported", "proof", "no TCB level is as low as the SVNs of the PCK certificate"),
        ("platform.tcb.revoked", "proof", "Intel has revoked the TCB level of this platform"),
    ),
)  # fmt: skip
