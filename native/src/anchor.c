#include <stdlib.h>
#include <string.h>

#include "collateral.h"
#include "internal.h"

/* A root by the rules: right name, self-issued, self-signed, allowed to sign certificates and CRLs, with the pinned key. */
GLASS_MUST_USE static glass_status check_root(const glass_ctx *ctx, const glass_anchor *anchor, const glass_cert *cert)
{
    bool named = cert->role == GLASS_ROLE_ROOT || (anchor->insecure && cert->role == GLASS_ROLE_SIMULATED_ROOT);
    bool self = glass_slice_equal(cert->issuer, cert->subject) &&
                glass_slice_equal(cert->authority_key_id, cert->subject_key_id);
    bool allowed = cert->ca && cert->path_length != 0 && cert->key_usage == GLASS_KEY_USAGE_CA && !cert->bad_extension &&
                   cert->sgx.at == NULL;
    bool pinned = memcmp(cert->key, anchor->key, sizeof cert->key) == 0;
    const glass_cert *first = &anchor->certs[0];
    bool alike = glass_slice_equal(cert->subject, first->subject) &&
                 glass_slice_equal(cert->subject_key_id, first->subject_key_id);
    if (!named || !self || !allowed || !pinned || !alike) {
        return GLASS_ERR_FORMAT;
    }
    return glass_point_verifies(ctx, anchor->pkey, cert->tbs, cert->signature) ? GLASS_OK : GLASS_ERR_FORMAT;
}

/* id = SHA-256(insecure || key || SHA-256 of each certificate). */
GLASS_MUST_USE static glass_status identify(const glass_ctx *ctx, glass_anchor *anchor)
{
    uint8_t text[1 + 65 + 32 * GLASS_ROOTS_MAX] = {0};
    unsigned written = 0;
    text[0] = anchor->insecure ? 1 : 0;
    memcpy(text + 1, anchor->key, 65);
    for (size_t i = 0; i < anchor->count; i++) {
        GLASS_TRY(glass_sha256(ctx, text + 66 + 32 * i, anchor->der[i], anchor->certs[i].der.len));
    }
    GLASS_TRY(glass_sha256(ctx, anchor->id, text, 66 + 32 * anchor->count));
    if (EVP_Digest(anchor->key, 65, anchor->root_key_id, &written, ctx->sha384, NULL) != 1 || written != 48) {
        return GLASS_ERR_LIBCRYPTO;
    }
    return GLASS_OK;
}

GLASS_MUST_USE static glass_status fill(const glass_ctx *ctx, glass_anchor *anchor, const uint8_t *const *der, const size_t *der_len, size_t count)
{
    anchor->pkey = glass_point_new(ctx, anchor->key);
    if (anchor->pkey == NULL) {
        return GLASS_ERR_FORMAT;
    }
    for (size_t i = 0; i < count; i++) {
        if (der[i] == NULL || der_len[i] == 0 || der_len[i] > GLASS_CERT_MAX) {
            return GLASS_ERR_FORMAT;
        }
        anchor->der[i] = malloc(der_len[i]);
        if (anchor->der[i] == NULL) {
            return GLASS_ERR_MEMORY;
        }
        anchor->count = i + 1;
        memcpy(anchor->der[i], der[i], der_len[i]);
        GLASS_TRY(glass_cert_read(&anchor->certs[i], anchor->der[i], der_len[i]));
        GLASS_TRY(check_root(ctx, anchor, &anchor->certs[i]));
    }
    return identify(ctx, anchor);
}

glass_status glass_anchor_new(const glass_ctx *ctx, glass_anchor **out, const uint8_t *const *der, const size_t *der_len, size_t count, const uint8_t pinned_key[65], int insecure)
{
    if (ctx == NULL || out == NULL || der == NULL || der_len == NULL || pinned_key == NULL || count == 0 ||
        count > GLASS_ROOTS_MAX) { /* an empty trust store is an error, never "nothing to check" */
        return GLASS_ERR_ARGUMENT;
    }
    *out = NULL;
    glass_anchor *anchor = calloc(1, sizeof *anchor);
    if (anchor == NULL) {
        return GLASS_ERR_MEMORY;
    }
    anchor->insecure = insecure != 0;
    memcpy(anchor->key, pinned_key, sizeof anchor->key);
    glass_status status = fill(ctx, anchor, der, der_len, count);
    if (status != GLASS_OK) {
        glass_anchor_free(anchor);
        return status == GLASS_ERR_TRUNCATED || status == GLASS_ERR_LIMIT ? GLASS_ERR_FORMAT : status;
    }
    *out = anchor;
    return GLASS_OK;
}

bool glass_anchor_signed(const glass_ctx *ctx, const glass_anchor *anchor, const glass_cert *cert)
{
    for (size_t i = 0; i < anchor->known_count; i++) {
        if (cert->der.len == anchor->known_len[i] && memcmp(cert->der.at, anchor->known[i], cert->der.len) == 0) {
            return true;
        }
    }
    return glass_point_verifies(ctx, anchor->pkey, cert->tbs, cert->signature);
}

glass_status glass_anchor_know(const glass_ctx *ctx, glass_anchor *anchor, const uint8_t *der, size_t der_len)
{
    glass_cert cert;
    if (ctx == NULL || anchor == NULL || der == NULL) {
        return GLASS_ERR_ARGUMENT;
    }
    if (anchor->known_count == GLASS_KNOWN_MAX) {
        return GLASS_ERR_LIMIT;
    }
    GLASS_TRY(glass_cert_read(&cert, der, der_len));
    if (!glass_point_verifies(ctx, anchor->pkey, cert.tbs, cert.signature)) {
        return GLASS_ERR_AUTH;
    }
    uint8_t *copy = malloc(der_len);
    if (copy == NULL) {
        return GLASS_ERR_MEMORY;
    }
    memcpy(copy, der, der_len);
    anchor->known[anchor->known_count] = copy;
    anchor->known_len[anchor->known_count] = der_len;
    anchor->known_count++;
    return GLASS_OK;
}

void glass_anchor_free(glass_anchor *anchor)
{
    if (anchor == NULL) {
        return;
    }
    for (size_t i = 0; i < GLASS_ROOTS_MAX; i++) {
        free(anchor->der[i]);
    }
    for (size_t i = 0; i < anchor->known_count; i++) {
        free(anchor->known[i]);
    }
    EVP_PKEY_free(anchor->pkey);
    free(anchor);
}

bool glass_anchor_accepts(const glass_anchor *anchor, const glass_cert *cert)
{
    for (size_t i = 0; i < anchor->count; i++) {
        if (glass_slice_equal(anchor->certs[i].der, cert->der)) {
            return true;
        }
    }
    return false;
}

glass_status glass_pem_certificate(uint8_t *der, size_t capacity, size_t *der_len, const uint8_t *pem, size_t pem_len)
{
    if (der == NULL || der_len == NULL || pem == NULL) {
        return GLASS_ERR_ARGUMENT;
    }
    *der_len = 0;
    glass_cursor cur = glass_cursor_of(pem, pem_len);
    size_t size = 0;
    GLASS_TRY(glass_pem_block(&cur, "CERTIFICATE", der, capacity, &size));
    if (glass_cursor_left(&cur) != 0) {
        return GLASS_ERR_FORMAT;
    }
    *der_len = size;
    return GLASS_OK;
}

glass_status glass_certificate_key(uint8_t key[65], const uint8_t *der, size_t der_len)
{
    glass_cert cert;
    if (key == NULL || der == NULL) {
        return GLASS_ERR_ARGUMENT;
    }
    memset(key, 0, 65);
    GLASS_TRY(glass_cert_read(&cert, der, der_len));
    memcpy(key, cert.key, 65);
    return GLASS_OK;
}
