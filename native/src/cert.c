#include <string.h>

#include "internal.h"
#include "x509.h"

/* SEQUENCE { OID ecdsa-with-SHA256 }, no parameters (RFC 5758 3.2). */
static const uint8_t ECDSA_SHA256[12] = {0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02};
/* SubjectPublicKeyInfo of P-256 up to and with the byte 04 of an uncompressed point. */
static const uint8_t SPKI_P256[27] = {0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
                                      0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04};

typedef enum extension_kind {
    EXT_AUTHORITY_KEY_ID,
    EXT_CRL_POINTS,
    EXT_SUBJECT_KEY_ID,
    EXT_KEY_USAGE,
    EXT_CONSTRAINTS,
    EXT_SGX,
    EXT_COUNT
} extension_kind;

static const struct {
    uint8_t oid[9];
    uint8_t len;
    bool critical;
} EXTENSIONS[EXT_COUNT] = {
    [EXT_AUTHORITY_KEY_ID] = {{0x55, 0x1d, 0x23}, 3, false},
    [EXT_CRL_POINTS] = {{0x55, 0x1d, 0x1f}, 3, false},
    [EXT_SUBJECT_KEY_ID] = {{0x55, 0x1d, 0x0e}, 3, false},
    [EXT_KEY_USAGE] = {{0x55, 0x1d, 0x0f}, 3, true},
    [EXT_CONSTRAINTS] = {{0x55, 0x1d, 0x13}, 3, true},
    [EXT_SGX] = {{0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01}, 9, false},
};

static const struct {
    const char *common_name;
    glass_role role;
} ROLES[] = {
    {"Intel SGX Root CA", GLASS_ROLE_ROOT},
    {"SIMULATED SGX Root CA", GLASS_ROLE_SIMULATED_ROOT},
    {"Intel SGX PCK Processor CA", GLASS_ROLE_PROCESSOR_CA},
    {"Intel SGX PCK Platform CA", GLASS_ROLE_PLATFORM_CA},
    {"Intel SGX PCK Certificate", GLASS_ROLE_PCK},
    {"Intel SGX TCB Signing", GLASS_ROLE_TCB_SIGNER},
};

const char *glass_role_name(glass_role role)
{
    for (size_t i = 0; i < sizeof ROLES / sizeof ROLES[0]; i++) {
        if (ROLES[i].role == role) {
            return ROLES[i].common_name;
        }
    }
    return "another name";
}

glass_status glass_x509_algorithm(glass_cursor *cur)
{
    const uint8_t *bytes = NULL;
    GLASS_TRY(glass_cursor_take(cur, &bytes, sizeof ECDSA_SHA256));
    return memcmp(bytes, ECDSA_SHA256, sizeof ECDSA_SHA256) == 0 ? GLASS_OK : GLASS_ERR_FORMAT;
}

glass_status glass_x509_signature(glass_cursor *cur, uint8_t raw[64])
{
    glass_slice bits;
    memset(raw, 0, 64);
    GLASS_TRY(glass_der_slice(cur, GLASS_DER_BIT_STRING, &bits));
    if (bits.len < 1 || bits.at[0] != 0) {
        return GLASS_ERR_FORMAT;
    }
    return glass_der_signature(raw, bits.at + 1, bits.len - 1);
}

glass_status glass_x509_version_3(glass_cursor *cur)
{
    glass_cursor wrapped;
    uint32_t version = 0;
    GLASS_TRY(glass_der_next(cur, GLASS_DER_CONTEXT_0, &wrapped));
    GLASS_TRY(glass_der_small(&wrapped, GLASS_DER_INTEGER, 2, &version));
    return version == 2 && glass_der_done(&wrapped) ? GLASS_OK : GLASS_ERR_FORMAT;
}

glass_status glass_x509_serial(glass_cursor *cur, glass_slice *magnitude)
{
    GLASS_TRY(glass_der_unsigned(cur, magnitude));
    bool zero = magnitude->len == 1 && magnitude->at[0] == 0;
    return magnitude->len <= GLASS_SERIAL_MAX && !zero ? GLASS_OK : GLASS_ERR_FORMAT;
}

glass_status glass_x509_p256_key(glass_cursor *cur, uint8_t key[65], glass_slice *spki)
{
    const uint8_t *bytes = NULL;
    memset(key, 0, 65);
    *spki = (glass_slice){NULL, 0};
    GLASS_TRY(glass_cursor_take(cur, &bytes, sizeof SPKI_P256 + 64));
    if (memcmp(bytes, SPKI_P256, sizeof SPKI_P256) != 0) {
        return GLASS_ERR_FORMAT;
    }
    memcpy(key, bytes + sizeof SPKI_P256 - 1, 65);
    *spki = (glass_slice){bytes, sizeof SPKI_P256 + 64};
    return GLASS_OK;
}

glass_status glass_x509_relative_name(glass_cursor *cur, uint8_t attribute, glass_slice *value)
{
    glass_cursor set;
    glass_cursor pair;
    glass_slice oid;
    *value = (glass_slice){NULL, 0};
    GLASS_TRY(glass_der_next(cur, GLASS_DER_SET, &set));
    GLASS_TRY(glass_der_next(&set, GLASS_DER_SEQUENCE, &pair));
    GLASS_TRY(glass_der_slice(&pair, GLASS_DER_OID, &oid));
    if (oid.len != 3 || oid.at[0] != 0x55 || oid.at[1] != 0x04 || oid.at[2] != attribute) {
        return GLASS_ERR_FORMAT;
    }
    bool utf8 = glass_der_peek(&pair, GLASS_DER_UTF8_STRING);
    GLASS_TRY(glass_der_slice(&pair, utf8 ? GLASS_DER_UTF8_STRING : GLASS_DER_PRINTABLE_STRING, value));
    return glass_der_done(&pair) && glass_der_done(&set) ? GLASS_OK : GLASS_ERR_FORMAT;
}

/* A Name of exactly the five parts that Intel uses, in its order; the four after the common name are fixed. */
GLASS_MUST_USE static glass_status name(glass_cursor *cur, glass_slice *raw, glass_slice *common_name)
{
    static const struct {
        uint8_t attribute;
        const char *value;
    } fixed[4] = {{10, "Intel Corporation"}, {7, "Santa Clara"}, {8, "CA"}, {6, "US"}};
    glass_cursor parts;
    *common_name = (glass_slice){NULL, 0};
    GLASS_TRY(glass_der_raw(cur, GLASS_DER_SEQUENCE, raw));
    glass_cursor again = glass_cursor_of(raw->at, raw->len);
    GLASS_TRY(glass_der_next(&again, GLASS_DER_SEQUENCE, &parts));
    GLASS_TRY(glass_x509_relative_name(&parts, GLASS_X509_COMMON_NAME, common_name));
    for (size_t i = 0; i < 4; i++) {
        glass_slice value;
        GLASS_TRY(glass_x509_relative_name(&parts, fixed[i].attribute, &value));
        if (!glass_slice_is(value, fixed[i].value)) {
            return GLASS_ERR_FORMAT;
        }
    }
    return glass_der_done(&parts) ? GLASS_OK : GLASS_ERR_FORMAT;
}

glass_status glass_x509_extension(glass_cursor *cur, glass_extension *out)
{
    glass_cursor parts;
    memset(out, 0, sizeof *out);
    GLASS_TRY(glass_der_next(cur, GLASS_DER_SEQUENCE, &parts));
    GLASS_TRY(glass_der_slice(&parts, GLASS_DER_OID, &out->oid));
    if (glass_der_peek(&parts, GLASS_DER_BOOLEAN)) {
        GLASS_TRY(glass_der_boolean(&parts, &out->critical));
        if (!out->critical) { /* FALSE is the default and is not written in DER */
            return GLASS_ERR_FORMAT;
        }
    }
    GLASS_TRY(glass_der_slice(&parts, GLASS_DER_OCTET_STRING, &out->value));
    return glass_der_done(&parts) ? GLASS_OK : GLASS_ERR_FORMAT;
}

glass_status glass_x509_key_id(glass_slice *out, glass_slice extension)
{
    glass_cursor cur = glass_cursor_of(extension.at, extension.len);
    glass_cursor parts;
    *out = (glass_slice){NULL, 0};
    GLASS_TRY(glass_der_next(&cur, GLASS_DER_SEQUENCE, &parts));
    GLASS_TRY(glass_der_slice(&parts, GLASS_DER_IMPLICIT_0, out));
    bool good = out->len >= 1 && out->len <= GLASS_KEY_ID_MAX && glass_der_done(&parts) && glass_der_done(&cur);
    return good ? GLASS_OK : GLASS_ERR_FORMAT;
}

GLASS_MUST_USE static glass_status read_subject_key_id(glass_cert *cert, glass_slice value)
{
    glass_cursor cur = glass_cursor_of(value.at, value.len);
    GLASS_TRY(glass_der_slice(&cur, GLASS_DER_OCTET_STRING, &cert->subject_key_id));
    bool good = cert->subject_key_id.len >= 1 && cert->subject_key_id.len <= GLASS_KEY_ID_MAX && glass_der_done(&cur);
    return good ? GLASS_OK : GLASS_ERR_FORMAT;
}

GLASS_MUST_USE static glass_status read_key_usage(glass_cert *cert, glass_slice value)
{
    glass_cursor cur = glass_cursor_of(value.at, value.len);
    glass_slice bits;
    GLASS_TRY(glass_der_slice(&cur, GLASS_DER_BIT_STRING, &bits));
    /* one byte of bits, and in DER no trailing zero bit: the lowest bit that is used must be set */
    if (!glass_der_done(&cur) || bits.len != 2 || bits.at[0] > 7 || (bits.at[1] >> bits.at[0] & 1) == 0) {
        return GLASS_ERR_FORMAT;
    }
    cert->key_usage = bits.at[1];
    return GLASS_OK;
}

GLASS_MUST_USE static glass_status read_constraints(glass_cert *cert, glass_slice value)
{
    glass_cursor cur = glass_cursor_of(value.at, value.len);
    glass_cursor parts;
    uint32_t length = 0;
    GLASS_TRY(glass_der_next(&cur, GLASS_DER_SEQUENCE, &parts));
    if (glass_der_peek(&parts, GLASS_DER_BOOLEAN)) {
        GLASS_TRY(glass_der_boolean(&parts, &cert->ca));
        if (!cert->ca) {
            return GLASS_ERR_FORMAT;
        }
    }
    if (glass_der_peek(&parts, GLASS_DER_INTEGER)) {
        GLASS_TRY(glass_der_small(&parts, GLASS_DER_INTEGER, 255, &length));
        cert->path_length = (int)length;
    }
    return glass_der_done(&parts) && glass_der_done(&cur) ? GLASS_OK : GLASS_ERR_FORMAT;
}

GLASS_MUST_USE static glass_status read_extension(glass_cert *cert, extension_kind kind, glass_slice value)
{
    if (kind != EXT_SGX) { /* that one is judged by itself: pck.sgx.malformed */
        GLASS_TRY(glass_der_check(value.at, value.len));
    }
    switch (kind) {
    case EXT_AUTHORITY_KEY_ID:
        return glass_x509_key_id(&cert->authority_key_id, value);
    case EXT_SUBJECT_KEY_ID:
        return read_subject_key_id(cert, value);
    case EXT_KEY_USAGE:
        return read_key_usage(cert, value);
    case EXT_CONSTRAINTS:
        return read_constraints(cert, value);
    case EXT_SGX:
        cert->sgx = value;
        return GLASS_OK;
    case EXT_CRL_POINTS: /* must be there and well formed; nothing is fetched by it */
    case EXT_COUNT:
        break;
    }
    return GLASS_OK;
}

/* Every extension is one of the table, once, with its criticality; all but the SGX one are there. Else `bad_extension`. */
GLASS_MUST_USE static glass_status extensions(glass_cert *cert, glass_cursor list)
{
    unsigned seen = 0;
    while (!glass_der_done(&list)) {
        glass_extension extension;
        unsigned kind = 0;
        GLASS_TRY(glass_x509_extension(&list, &extension));
        while (kind < EXT_COUNT && !(extension.oid.len == EXTENSIONS[kind].len &&
                                     memcmp(extension.oid.at, EXTENSIONS[kind].oid, EXTENSIONS[kind].len) == 0)) {
            kind++;
        }
        if (kind == EXT_COUNT || (seen >> kind & 1U) != 0 || extension.critical != EXTENSIONS[kind].critical) {
            cert->bad_extension = true;
            continue;
        }
        seen |= 1U << kind;
        if (read_extension(cert, (extension_kind)kind, extension.value) != GLASS_OK) {
            cert->bad_extension = true;
        }
    }
    unsigned needed = (1U << EXT_SGX) - 1U;
    cert->bad_extension = cert->bad_extension || (seen & needed) != needed;
    return GLASS_OK;
}

GLASS_MUST_USE static glass_status validity_and_key(glass_cert *cert, glass_cursor *tbs)
{
    glass_cursor dates;
    glass_slice ignored;
    GLASS_TRY(name(tbs, &cert->issuer, &ignored));
    GLASS_TRY(glass_der_next(tbs, GLASS_DER_SEQUENCE, &dates));
    GLASS_TRY(glass_der_time(&dates, &cert->not_before));
    GLASS_TRY(glass_der_time(&dates, &cert->not_after));
    if (!glass_der_done(&dates)) {
        return GLASS_ERR_FORMAT;
    }
    GLASS_TRY(name(tbs, &cert->subject, &cert->common_name));
    return glass_x509_p256_key(tbs, cert->key, &ignored);
}

GLASS_MUST_USE static glass_status to_be_signed(glass_cert *cert)
{
    glass_cursor outer = glass_cursor_of(cert->tbs.at, cert->tbs.len);
    glass_cursor tbs;
    glass_cursor wrapped;
    glass_cursor list;
    GLASS_TRY(glass_der_next(&outer, GLASS_DER_SEQUENCE, &tbs));
    GLASS_TRY(glass_x509_version_3(&tbs));
    GLASS_TRY(glass_x509_serial(&tbs, &cert->serial));
    GLASS_TRY(glass_x509_algorithm(&tbs));
    GLASS_TRY(validity_and_key(cert, &tbs));
    GLASS_TRY(glass_der_next(&tbs, GLASS_DER_CONTEXT_3, &wrapped));
    GLASS_TRY(glass_der_next(&wrapped, GLASS_DER_SEQUENCE, &list));
    if (!glass_der_done(&wrapped) || !glass_der_done(&tbs)) {
        return GLASS_ERR_FORMAT;
    }
    return extensions(cert, list);
}

glass_status glass_cert_read(glass_cert *cert, const uint8_t *der, size_t len)
{
    glass_cursor cur = glass_cursor_of(der, len);
    glass_cursor parts;
    memset(cert, 0, sizeof *cert);
    cert->path_length = -1;
    if (len > GLASS_CERT_MAX) {
        return GLASS_ERR_LIMIT;
    }
    GLASS_TRY(glass_der_check(der, len));
    cert->der = (glass_slice){der, len};
    GLASS_TRY(glass_der_next(&cur, GLASS_DER_SEQUENCE, &parts));
    GLASS_TRY(glass_der_raw(&parts, GLASS_DER_SEQUENCE, &cert->tbs));
    GLASS_TRY(glass_x509_algorithm(&parts)); /* the same constant as inside, so the two are equal */
    GLASS_TRY(glass_x509_signature(&parts, cert->signature));
    if (!glass_der_done(&parts) || !glass_der_done(&cur)) {
        return GLASS_ERR_FORMAT;
    }
    GLASS_TRY(to_be_signed(cert));
    for (size_t i = 0; i < sizeof ROLES / sizeof ROLES[0]; i++) {
        if (glass_slice_is(cert->common_name, ROLES[i].common_name)) {
            cert->role = ROLES[i].role;
        }
    }
    return GLASS_OK;
}
