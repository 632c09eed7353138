"""Ids of the verifier above the C core, in the fixed order of the verdict, then those of the policy file.

Invariants: the checks (kinds proof and basis) stand in the order in which a verdict shows them, after those of
glasscase.reasons.dcap.
"""

from glasscase.reasons.model import Reason

_POLICY = "docs/policy.md"
_MEASUREMENT = "docs/policy.md, measurement"
_ENCLAVE = "Intel SDM vol. 3D, ATTRIBUTES and SIGSTRUCT; docs/policy.md, enclave"
_PLATFORM = "docs/policy.md, platform"
_FRESHNESS = "docs/policy.md, freshness"
_INSTANCE = "docs/policy.md, instance"
_STATEMENTS = "docs/policy.md, statements"
_BINDING = "docs/evidence-format.md, what the quote binds"
_ENGINE = "docs/policy.md, engines"
_NO_SECRETS = "do not send secrets; ask the operator which release is running"
_REFETCH = "fresh data: glasscase collateral fetch --for FILE -o collateral.json, or judge as of that day with --at"
_UPDATE = (
    "operator: update BIOS and microcode, renew the PCK certificate, collect new evidence; auditor: docs/policy.md"
)
_COLLECT = "collect the evidence again: glasscase evidence NAME -o evidence.json"

REASONS: tuple[Reason, ...] = (
    Reason("policy.identity.unset", "basis", "no policy says which enclave is meant", _POLICY,
           "write one: glasscase policy BUNDLE -o policy.toml, then verify with --policy policy.toml"),
    Reason("engine.intel.unavailable", "basis", "Intel's quote verification library cannot judge this", _ENGINE,
           "install Intel's libsgx-dcap-quote-verify or, with Python 3.11, the extra glasscase[intel], "
           "or use --engine native (the only one under another root)"),
    Reason("engine.intel.failed", "basis", "Intel's library crashed, hung or gave an answer that is not known", _ENGINE,
           "try again, update the library, or use --engine native"),
    Reason("engine.verdict.differs", "basis", "the engines do not agree about this quote", _ENGINE,
           "keep the files and report them; rely on neither answer"),
    Reason("policy.bundle.missing", "basis", "the policy asks for a bundle and none was given", _MEASUREMENT,
           "give the bundle: --bundle BUNDLE"),
    Reason("policy.bundle.damaged", "proof", "the bundle is not what its index says", _MEASUREMENT,
           "get the bundle again from the code provider"),
    Reason("policy.mrenclave.mismatch", "proof", "the enclave does not run this bundle", _MEASUREMENT, _NO_SECRETS),
    Reason("policy.mrenclave.unlisted", "proof", "the enclave's MRENCLAVE is not in the policy", _MEASUREMENT, _NO_SECRETS),
    Reason("policy.bundle_id.mismatch", "proof", "the bundle is another one than the policy names", _MEASUREMENT,
           "get the bundle that the policy means from the code provider"),
    Reason("policy.mrsigner.mismatch", "proof", "the enclave was signed by another key than the policy names", _MEASUREMENT,
           _NO_SECRETS),
    Reason("policy.isv_prod_id.mismatch", "proof", "the enclave is another product of its signer", _MEASUREMENT, _NO_SECRETS),
    Reason("policy.isv_svn.low", "proof", "the enclave is an older release than the policy allows", _MEASUREMENT,
           "ask the operator to run the current release"),
    Reason("enclave.debug.set", "proof", "the enclave runs in debug mode: the operator can read its memory", _ENCLAVE,
           "run it without sgx.debug; only tests may accept it (insecure_debug)"),
    Reason("enclave.flags.unexpected", "proof", "the attribute flags are not exactly INIT and MODE64 (AEX-notify may be set)",
           _ENCLAVE, "ask the operator how the enclave was launched"),
    Reason("enclave.kss.nonzero", "proof",
           "CONFIGID, CONFIGSVN, ISVEXTPRODID or ISVFAMILYID is not zero: the launcher configured the enclave", _ENCLAVE,
           "ask the operator how the enclave was launched"),
    Reason("enclave.signer.mismatch", "proof", "MRSIGNER is not the signer of the bundle's app.sig", _ENCLAVE, _NO_SECRETS),
    Reason("enclave.product.mismatch", "proof", "ISVPRODID or ISVSVN is not what the bundle says", _ENCLAVE, _NO_SECRETS),
    Reason("enclave.xfrm.mismatch", "proof", "XFRM under its mask is not what the bundle says", _ENCLAVE, _NO_SECRETS),
    Reason("enclave.miscselect.mismatch", "proof", "MISCSELECT under its mask is not what the bundle says", _ENCLAVE,
           _NO_SECRETS),
    Reason("platform.tcb.out_of_date", "proof", "Intel no longer counts this platform as up to date", _PLATFORM, _UPDATE),
    Reason("platform.tcb.configuration_needed", "proof", "the platform needs another configuration to be up to date",
           _PLATFORM, _UPDATE),
    Reason("platform.tcb.sw_hardening_needed", "proof", "the platform is safe only for code with extra mitigations",
           _PLATFORM, _UPDATE),
    Reason("platform.advisory.unlisted", "proof", "a security advisory applies that the policy does not list", _PLATFORM,
           "read the advisory; if it does not matter here, list it in [platform] advisories"),
    Reason("platform.identity.unlisted", "proof", "the platform is not one that the policy names", _PLATFORM,
           "ask the operator on which machine the enclave runs"),
    Reason("collateral.tcbinfo.stale", "basis", "the TCB info is older than the policy allows", _FRESHNESS, _REFETCH),
    Reason("collateral.qeidentity.stale", "basis", "the QE identity is older than the policy allows", _FRESHNESS, _REFETCH),
    Reason("collateral.pckcrl.stale", "basis", "the PCK CRL is older than the policy allows", _FRESHNESS, _REFETCH),
    Reason("collateral.evaluation.low", "basis", "the collateral belongs to an older TCB evaluation than the policy allows",
           _PLATFORM, _REFETCH),
    Reason("binding.claims.malformed", "proof", "the claims are not of the one form", _BINDING, _COLLECT),
    Reason("binding.report_data.mismatch", "proof", "the quote does not bind these claims", _BINDING,
           "do not send anything: the claims are not the enclave's; " + _COLLECT),
    Reason("binding.certificate.mismatch", "proof", "the certificate does not carry this quote and these claims", _BINDING,
           "do not connect: the certificate is not the enclave's; " + _COLLECT),
    Reason("binding.request.mismatch", "proof", "the certificate request is not by the key that the claims name", _BINDING,
           "do not sign the request; " + _COLLECT),
    Reason("freshness.nonce.missing", "proof", "the policy asks for a nonce and none was given", _FRESHNESS,
           "collect evidence with a nonce of yours and verify with the same --nonce HEX"),
    Reason("freshness.nonce.mismatch", "proof", "the claims do not hold the verifier's nonce", _FRESHNESS,
           "collect evidence with this nonce: glasscase evidence NAME --nonce HEX"),
    Reason("freshness.unproven", "proof", "nothing proves when the quote was made", _FRESHNESS,
           "use a nonce or evidence with a beacon; or write evidence_max_age = \"off\" in the policy"),
    Reason("freshness.evidence.old", "proof", "the evidence is older than the policy allows", _FRESHNESS, _COLLECT),
    Reason("freshness.session.outside", "proof", "the claims of the session are not valid now", _FRESHNESS,
           "check the clock of this machine; else the enclave has not renewed its claims"),
    Reason("instance.provision.missing", "proof", "the enclave does not say that it has been provisioned", _INSTANCE,
           "wait until it is provisioned, then collect the evidence again"),
    Reason("instance.envelope.unlisted", "proof", "the enclave was provisioned with an envelope that the policy does not name",
           _INSTANCE, "ask the owners which envelope they sealed"),
    Reason("instance.envelope.mismatch", "proof", "the envelope or receipt in the evidence is not the enclave's", _INSTANCE,
           _COLLECT),
    Reason("instance.owner.missing", "proof", "an owner that the policy names has not signed the envelope", _INSTANCE,
           "ask the owners who has provisioned this enclave"),
    Reason("statements.threshold.unmet", "proof", "too few of the policy's keys vouch for this measurement", _STATEMENTS,
           "give the auditors' statements: --statement FILE"),
    Reason("policy.file.malformed", "format", "the policy file is not of the one form", _POLICY,
           "docs/policy.md names every key; unknown keys and other types are refused"),
    Reason("policy.identity.incomplete", "format", "the policy does not name an enclave", _MEASUREMENT,
           "set bundle, mrenclave, or mrsigner with isv_prod_id and isv_svn_min"),
    Reason("policy.identity.any", "state", "the policy accepts any enclave, so nothing may be sent to it", _MEASUREMENT,
           "name the enclave in [measurement] instead of insecure_any"),
    Reason("policy.argument.wrong", "usage", "an argument of the verifier has the wrong type or form", _POLICY,
           "at is an aware datetime; nonce is 32 bytes; keys are 32 bytes"),
    Reason("anchor.root.malformed", "format", "the anchor is not exactly one root certificate in PEM",
           "docs/policy.md, anchors", "give one self-signed P-256 certificate in PEM"),
    Reason("verdict.status.unmet", "state", "the verdict is not verified", _POLICY, "look at the checks that failed"),
    Reason("verdict.claims.absent", "state", "the verdict rests on a quote alone, so there are no claims", _BINDING,
           "verify evidence instead of a raw quote"),
)  # fmt: skip
