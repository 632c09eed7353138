/* The certificate that an enclave shows in TLS: self-signed, its evidence in one extension. Nothing here says that the
 * evidence is true, or that it speaks for this key. */
#ifndef GLASS_RATLS_H
#define GLASS_RATLS_H

#include "glass_quote.h"

/* cffi: begin */
enum glass_ratls_limit { GLASS_RATLS_MAX = 131072 };

/* Spans lie in the DER that was read. */
typedef struct glass_ratls_certificate {
    glass_span evidence;         /* content of the extension 2.23.133.5.4.9 */
    glass_span names;            /* content of the extension subjectAltName */
    glass_span common_name;      /* of subject and issuer, which are the same bytes */
    int64_t not_before;          /* unix seconds */
    int64_t not_after;
    uint8_t spki_sha256[32];     /* of the SubjectPublicKeyInfo, DER */
    uint32_t self_signed;        /* 1: the signature holds under the certificate's own key */
} glass_ratls_certificate;

/* glass_ratls_read reads exactly `der_len` bytes as an X.509 version 3 certificate with a P-256 key, ECDSA with SHA-256, one
 * common name, and exactly the extensions basicConstraints (critical, no CA), subjectAltName and evidence.
 * It returns GLASS_ERR_LIMIT above GLASS_RATLS_MAX bytes and GLASS_ERR_FORMAT for anything else. */
GLASS_MUST_USE glass_status glass_ratls_read(const glass_ctx *ctx, glass_ratls_certificate *out, const uint8_t *der, size_t der_len);
/* cffi: end */

#endif
