#include "glass_ratls.h"

#include <string.h>

#include "internal.h"
#include "x509.h"

typedef enum extension_kind { EXT_CONSTRAINTS, EXT_NAMES, EXT_EVIDENCE, EXT_COUNT } extension_kind;

static const struct {
    uint8_t oid[6];
    uint8_t len;
    bool critical;
} EXTENSIONS[EXT_COUNT] = {
    [EXT_CONSTRAINTS] = {{0x55, 0x1d, 0x13}, 3, true},
    [EXT_NAMES] = {{0x55, 0x1d, 0x11}, 3, false},
    [EXT_EVIDENCE] = {{0x67, 0x81, 0x05, 0x05, 0x04, 0x09}, 6, false},
};

/* A certificate while it is read. */
typedef struct reading {
    const uint8_t *der;
    glass_slice tbs; /* the signed bytes, with header */
    uint8_t key[65];
    uint8_t signature[64];
    glass_slice common_name;
    glass_slice spki;
    glass_slice extension[EXT_COUNT]; /* at NULL: absent */
    int64_t not_before;
    int64_t not_after;
} reading;

static glass_span span_of(const reading *r, glass_slice part)
{
    return (glass_span){(uint32_t)(part.at - r->der), (uint32_t)part.len};
}

/* A Name that is one common name in UTF-8; `*raw` is the whole Name. */
GLASS_MUST_USE static glass_status name(glass_cursor *cur, glass_slice *raw, glass_slice *common_name)
{
    glass_cursor parts;
    GLASS_TRY(glass_der_raw(cur, GLASS_DER_SEQUENCE, raw));
    glass_cursor again = glass_cursor_of(raw->at, raw->len);
    GLASS_TRY(glass_der_next(&again, GLASS_DER_SEQUENCE, &parts));
    GLASS_TRY(glass_x509_relative_name(&parts, GLASS_X509_COMMON_NAME, common_name));
    return glass_der_done(&parts) ? GLASS_OK : GLASS_ERR_FORMAT;
}

/* Not a CA, and no path length: an empty sequence. */
GLASS_MUST_USE static glass_status check_constraints(glass_slice value)
{
    glass_cursor cur = glass_cursor_of(value.at, value.len);
    glass_cursor parts;
    GLASS_TRY(glass_der_next(&cur, GLASS_DER_SEQUENCE, &parts));
    return glass_der_done(&parts) && glass_der_done(&cur) ? GLASS_OK : GLASS_ERR_FORMAT;
}

GLASS_MUST_USE static glass_status extensions(reading *r, glass_cursor list)
{
    while (!glass_der_done(&list)) {
        glass_extension found;
        size_t kind = 0;
        GLASS_TRY(glass_x509_extension(&list, &found));
        while (kind < EXT_COUNT && !(found.oid.len == EXTENSIONS[kind].len &&
                                     memcmp(found.oid.at, EXTENSIONS[kind].oid, EXTENSIONS[kind].len) == 0)) {
            kind++;
        }
        if (kind == EXT_COUNT || r->extension[kind].at != NULL || found.critical != EXTENSIONS[kind].critical) {
            return GLASS_ERR_FORMAT;
        }
        r->extension[kind] = found.value;
    }
    for (size_t i = 0; i < EXT_COUNT; i++) {
        if (r->extension[i].at == NULL) {
            return GLASS_ERR_FORMAT;
        }
    }
    glass_slice names = r->extension[EXT_NAMES];
    GLASS_TRY(glass_der_check(names.at, names.len));
    return check_constraints(r->extension[EXT_CONSTRAINTS]);
}

GLASS_MUST_USE static glass_status names_dates_key(reading *r, glass_cursor *tbs)
{
    glass_cursor dates;
    glass_slice issuer;
    glass_slice subject;
    GLASS_TRY(name(tbs, &issuer, &r->common_name));
    GLASS_TRY(glass_der_next(tbs, GLASS_DER_SEQUENCE, &dates));
    GLASS_TRY(glass_der_time(&dates, &r->not_before));
    GLASS_TRY(glass_der_time(&dates, &r->not_after));
    if (!glass_der_done(&dates)) {
        return GLASS_ERR_FORMAT;
    }
    GLASS_TRY(name(tbs, &subject, &r->common_name));
    if (!glass_slice_equal(issuer, subject)) {
        return GLASS_ERR_FORMAT;
    }
    return glass_x509_p256_key(tbs, r->key, &r->spki);
}

GLASS_MUST_USE static glass_status to_be_signed(reading *r)
{
    glass_cursor outer = glass_cursor_of(r->tbs.at, r->tbs.len);
    glass_cursor tbs;
    glass_cursor wrapped;
    glass_cursor list;
    GLASS_TRY(glass_der_next(&outer, GLASS_DER_SEQUENCE, &tbs));
    GLASS_TRY(glass_x509_version_3(&tbs));
    glass_slice serial;
    GLASS_TRY(glass_x509_serial(&tbs, &serial));
    GLASS_TRY(glass_x509_algorithm(&tbs));
    GLASS_TRY(names_dates_key(r, &tbs));
    GLASS_TRY(glass_der_next(&tbs, GLASS_DER_CONTEXT_3, &wrapped));
    GLASS_TRY(glass_der_next(&wrapped, GLASS_DER_SEQUENCE, &list));
    if (!glass_der_done(&wrapped) || !glass_der_done(&tbs)) {
        return GLASS_ERR_FORMAT;
    }
    return extensions(r, list);
}

GLASS_MUST_USE static glass_status read_whole(reading *r, const uint8_t *der, size_t len)
{
    glass_cursor cur = glass_cursor_of(der, len);
    glass_cursor parts;
    GLASS_TRY(glass_der_check(der, len));
    GLASS_TRY(glass_der_next(&cur, GLASS_DER_SEQUENCE, &parts));
    GLASS_TRY(glass_der_raw(&parts, GLASS_DER_SEQUENCE, &r->tbs));
    GLASS_TRY(glass_x509_algorithm(&parts));
    GLASS_TRY(glass_x509_signature(&parts, r->signature));
    if (!glass_der_done(&parts) || !glass_der_done(&cur)) {
        return GLASS_ERR_FORMAT;
    }
    return to_be_signed(r);
}

glass_status glass_ratls_read(const glass_ctx *ctx, glass_ratls_certificate *out, const uint8_t *der, size_t der_len)
{
    if (ctx == NULL || out == NULL || (der == NULL && der_len != 0)) {
        return GLASS_ERR_ARGUMENT;
    }
    memset(out, 0, sizeof *out);
    if (der_len > GLASS_RATLS_MAX) {
        return GLASS_ERR_LIMIT;
    }
    reading r = {.der = der};
    if (read_whole(&r, der, der_len) != GLASS_OK) {
        return GLASS_ERR_FORMAT;
    }
    EVP_PKEY *key = glass_point_new(ctx, r.key);
    if (key == NULL) {
        return GLASS_ERR_FORMAT;
    }
    bool self_signed = glass_point_verifies(ctx, key, r.tbs, r.signature);
    EVP_PKEY_free(key);
    uint8_t digest[32];
    GLASS_TRY(glass_sha256(ctx, digest, r.spki.at, r.spki.len));
    memcpy(out->spki_sha256, digest, sizeof digest);
    out->evidence = span_of(&r, r.extension[EXT_EVIDENCE]);
    out->names = span_of(&r, r.extension[EXT_NAMES]);
    out->common_name = span_of(&r, r.common_name);
    out->not_before = r.not_before;
    out->not_after = r.not_after;
    out->self_signed = self_signed ? 1 : 0;
    return GLASS_OK;
}
