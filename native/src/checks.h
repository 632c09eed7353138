/* The named checks of the verifier in their fixed order: the one list that the enum, the names and the verdict come from.
 * src/glasscase/reasons/dcap.py says of each what it means; a test compares the two orders. */
#ifndef GLASS_CHECKS_H
#define GLASS_CHECKS_H

/* X(identifier, "area.subject.fault") */
#define GLASS_CHECKS_OF_SIGNER(X, PREFIX, prefix)                     \
    X(PREFIX##_BAD_EXTENSION, prefix ".bad_extension")                \
    X(PREFIX##_BAD_CONSTRAINTS, prefix ".bad_constraints")            \
    X(PREFIX##_BAD_KEY_USAGE, prefix ".bad_key_usage")                \
    X(PREFIX##_BAD_ISSUER, prefix ".bad_issuer")                      \
    X(PREFIX##_BAD_KEY_ID, prefix ".bad_key_id")                      \
    X(PREFIX##_BAD_SIGNATURE, prefix ".bad_signature")                \
    X(PREFIX##_REVOKED, prefix ".revoked")                            \
    X(PREFIX##_NOT_YET_VALID, prefix ".not_yet_valid")                \
    X(PREFIX##_EXPIRED, prefix ".expired")

#define GLASS_CHECKS_OF_CHAIN(X, PREFIX, prefix)                      \
    X(PREFIX##_MISSING, prefix ".missing")                            \
    X(PREFIX##_MALFORMED, prefix ".malformed")                        \
    X(PREFIX##_BAD_ROLES, prefix ".bad_roles")                        \
    X(PREFIX##_UNTRUSTED, prefix ".untrusted")                        \
    X(PREFIX##_NOT_YET_VALID, prefix ".not_yet_valid")                \
    X(PREFIX##_EXPIRED, prefix ".expired")

#define GLASS_CHECKS_OF_CRL(X, PREFIX, prefix)                        \
    X(PREFIX##_MISSING, prefix ".missing")                            \
    X(PREFIX##_MALFORMED, prefix ".malformed")                        \
    X(PREFIX##_BAD_EXTENSION, prefix ".bad_extension")                \
    X(PREFIX##_BAD_ISSUER, prefix ".bad_issuer")                      \
    X(PREFIX##_BAD_KEY_ID, prefix ".bad_key_id")                      \
    X(PREFIX##_BAD_SIGNATURE, prefix ".bad_signature")                \
    X(PREFIX##_NOT_YET_VALID, prefix ".not_yet_valid")                \
    X(PREFIX##_EXPIRED, prefix ".expired")

#define GLASS_CHECKS_OF_DOCUMENT(X, PREFIX, prefix)                   \
    X(PREFIX##_MISSING, prefix ".missing")                            \
    X(PREFIX##_MALFORMED, prefix ".malformed")                        \
    X(PREFIX##_BAD_SIGNATURE, prefix ".bad_signature")                \
    X(PREFIX##_NOT_YET_VALID, prefix ".not_yet_valid")                \
    X(PREFIX##_EXPIRED, prefix ".expired")

#define GLASS_CHECKS(X)                                               \
    X(QUOTE_BYTES_OVERSIZE, "quote.bytes.oversize")                   \
    X(QUOTE_BYTES_TRUNCATED, "quote.bytes.truncated")                 \
    X(QUOTE_VERSION_UNSUPPORTED, "quote.version.unsupported")         \
    X(QUOTE_KEY_TYPE_UNSUPPORTED, "quote.key_type.unsupported")       \
    X(QUOTE_TEE_UNKNOWN, "quote.tee.unknown")                         \
    X(QUOTE_TEE_UNSUPPORTED, "quote.tee.unsupported")                 \
    X(QUOTE_HEADER_RESERVED, "quote.header.reserved")                 \
    X(QUOTE_VENDOR_UNKNOWN, "quote.vendor.unknown")                   \
    X(QUOTE_BODY_MISMATCH, "quote.body.mismatch")                     \
    X(QUOTE_BYTES_TRAILING, "quote.bytes.trailing")                   \
    X(QUOTE_AUTH_NESTED, "quote.auth.nested")                         \
    X(QUOTE_AUTH_TRAILING, "quote.auth.trailing")                     \
    X(QUOTE_QE_AUTH_OVERSIZE, "quote.qe_auth.oversize")               \
    X(QUOTE_CERTIFICATION_UNSUPPORTED, "quote.certification.unsupported") \
    X(QUOTE_REPORT_RESERVED, "quote.report.reserved")                 \
    X(QUOTE_QE_REPORT_RESERVED, "quote.qe_report.reserved")           \
    X(PCK_CHAIN_MALFORMED, "pck.chain.malformed")                     \
    X(PCK_CHAIN_BAD_ROLES, "pck.chain.bad_roles")                     \
    X(ROOT_CERTIFICATE_UNKNOWN, "root.certificate.unknown")           \
    X(ROOT_KEY_MISMATCH, "root.key.mismatch")                         \
    X(ROOT_CERTIFICATE_REVOKED, "root.certificate.revoked")           \
    X(ROOT_CERTIFICATE_NOT_YET_VALID, "root.certificate.not_yet_valid") \
    X(ROOT_CERTIFICATE_EXPIRED, "root.certificate.expired")           \
    GLASS_CHECKS_OF_SIGNER(X, PCK_CA, "pck.ca")                       \
    GLASS_CHECKS_OF_SIGNER(X, PCK_LEAF, "pck.leaf")                   \
    X(PCK_SGX_MISSING, "pck.sgx.missing")                             \
    X(PCK_SGX_MALFORMED, "pck.sgx.malformed")                         \
    X(PCK_SGX_BAD_TYPE, "pck.sgx.bad_type")                           \
    X(PCK_SGX_CA_MISMATCH, "pck.sgx.ca_mismatch")                     \
    GLASS_CHECKS_OF_CRL(X, CRL_ROOT, "crl.root")                      \
    GLASS_CHECKS_OF_CHAIN(X, CRL_CHAIN, "crl.chain")                  \
    GLASS_CHECKS_OF_SIGNER(X, CRL_CA, "crl.ca")                       \
    X(CRL_CA_MISMATCH, "crl.ca.mismatch")                             \
    GLASS_CHECKS_OF_CRL(X, CRL_PCK, "crl.pck")                        \
    GLASS_CHECKS_OF_CHAIN(X, TCBINFO_CHAIN, "tcbinfo.chain")          \
    GLASS_CHECKS_OF_SIGNER(X, TCBINFO_SIGNER, "tcbinfo.signer")       \
    GLASS_CHECKS_OF_DOCUMENT(X, TCBINFO_DOCUMENT, "tcbinfo.document") \
    X(TCBINFO_VERSION_UNSUPPORTED, "tcbinfo.version.unsupported")     \
    X(TCBINFO_TYPE_UNSUPPORTED, "tcbinfo.type.unsupported")           \
    X(TCBINFO_LEVELS_MALFORMED, "tcbinfo.levels.malformed")           \
    X(TCBINFO_ID_MISMATCH, "tcbinfo.id.mismatch")                     \
    X(TCBINFO_FMSPC_MISMATCH, "tcbinfo.fmspc.mismatch")               \
    X(TCBINFO_PCEID_MISMATCH, "tcbinfo.pceid.mismatch")               \
    GLASS_CHECKS_OF_CHAIN(X, QE_CHAIN, "qe.chain")                    \
    GLASS_CHECKS_OF_SIGNER(X, QE_SIGNER, "qe.signer")                 \
    GLASS_CHECKS_OF_DOCUMENT(X, QE_DOCUMENT, "qe.document")           \
    X(QE_VERSION_UNSUPPORTED, "qe.version.unsupported")               \
    X(QE_LEVELS_MALFORMED, "qe.levels.malformed")                     \
    X(QE_ID_MISMATCH, "qe.id.mismatch")                               \
    X(QE_REPORT_BAD_SIGNATURE, "qe.report.bad_signature")             \
    X(QE_REPORT_BAD_BINDING, "qe.report.bad_binding")                 \
    X(QE_REPORT_BAD_TAIL, "qe.report.bad_tail")                       \
    X(QE_MISCSELECT_MISMATCH, "qe.miscselect.mismatch")               \
    X(QE_ATTRIBUTES_MISMATCH, "qe.attributes.mismatch")               \
    X(QE_MRSIGNER_MISMATCH, "qe.mrsigner.mismatch")                   \
    X(QE_ISVPRODID_MISMATCH, "qe.isvprodid.mismatch")                 \
    X(QE_SVN_UNSUPPORTED, "qe.svn.unsupported")                       \
    X(QE_SVN_REVOKED, "qe.svn.revoked")                               \
    X(QUOTE_KEY_OFF_CURVE, "quote.key.off_curve")                     \
    X(QUOTE_BODY_BAD_SIGNATURE, "quote.body.bad_signature")           \
    X(PLATFORM_TCB_UNSUPPORTED, "platform.tcb.unsupported")           \
    X(PLATFORM_TCB_REVOKED, "platform.tcb.revoked")

#define GLASS_CHECK_ENUM(identifier, name) GLASS_CHECK_##identifier,
typedef enum glass_check_id { GLASS_CHECKS(GLASS_CHECK_ENUM) GLASS_CHECK_COUNT } glass_check_id;
#undef GLASS_CHECK_ENUM

#endif
