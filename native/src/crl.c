#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "x509.h"

static const uint8_t OID_CRL_NUMBER[3] = {0x55, 0x1d, 0x14};
static const uint8_t OID_AUTHORITY_KEY_ID[3] = {0x55, 0x1d, 0x23};
static const uint8_t OID_REASON[3] = {0x55, 0x1d, 0x15};

enum {
    SMALLEST_ENTRY = 20,   /* bytes: sequence, serial of one byte, UTCTime */
    REASON_LAST = 10,      /* aACompromise */
    REASON_REMOVE = 8      /* removeFromCRL belongs to delta CRLs only */
};

static glass_serial serial_of(glass_slice magnitude)
{
    glass_serial serial = {{0, 0, 0}};
    uint8_t padded[24] = {0};
    memcpy(padded + (24 - magnitude.len), magnitude.at, magnitude.len);
    memcpy(serial.word, padded, sizeof padded);
    return serial;
}

static bool oid_is(glass_slice oid, const uint8_t expected[3])
{
    return oid.len == 3 && memcmp(oid.at, expected, 3) == 0;
}

/* Entry extensions: a reason code and nothing else. */
GLASS_MUST_USE static glass_status entry_extensions(glass_cursor *entry)
{
    glass_cursor list;
    glass_extension extension;
    uint32_t reason = 0;
    GLASS_TRY(glass_der_next(entry, GLASS_DER_SEQUENCE, &list));
    GLASS_TRY(glass_x509_extension(&list, &extension));
    glass_cursor value = glass_cursor_of(extension.value.at, extension.value.len);
    GLASS_TRY(glass_der_small(&value, GLASS_DER_ENUMERATED, REASON_LAST, &reason));
    bool good = oid_is(extension.oid, OID_REASON) && !extension.critical && reason != REASON_REMOVE &&
                glass_der_done(&value) && glass_der_done(&list);
    return good ? GLASS_OK : GLASS_ERR_FORMAT;
}

GLASS_MUST_USE static glass_status revoked_entry(glass_crl *crl, glass_cursor *list)
{
    glass_cursor entry;
    glass_slice serial;
    int64_t date = 0;
    GLASS_TRY(glass_der_next(list, GLASS_DER_SEQUENCE, &entry));
    GLASS_TRY(glass_der_unsigned(&entry, &serial));
    if (serial.len > GLASS_SERIAL_MAX) {
        return GLASS_ERR_FORMAT;
    }
    crl->revoked[crl->revoked_count] = serial_of(serial);
    crl->revoked_count++;
    GLASS_TRY(glass_der_time(&entry, &date));
    if (!glass_der_done(&entry)) {
        GLASS_TRY(entry_extensions(&entry));
    }
    return glass_der_done(&entry) ? GLASS_OK : GLASS_ERR_FORMAT;
}

/* The table is sized from the bytes that are really there, not from a number in them. */
GLASS_MUST_USE static glass_status revoked_list(glass_crl *crl, glass_cursor *tbs)
{
    glass_cursor list;
    GLASS_TRY(glass_der_next(tbs, GLASS_DER_SEQUENCE, &list));
    size_t room = glass_cursor_left(&list) / SMALLEST_ENTRY + 1;
    if (room > GLASS_CRL_ENTRIES_MAX) {
        return GLASS_ERR_LIMIT;
    }
    if (glass_der_done(&list)) { /* RFC 5280 5.1.2.6: absent instead of empty */
        return GLASS_ERR_FORMAT;
    }
    crl->revoked = calloc(room, sizeof *crl->revoked);
    if (crl->revoked == NULL) {
        return GLASS_ERR_MEMORY;
    }
    while (!glass_der_done(&list)) {
        if (crl->revoked_count == room) {
            return GLASS_ERR_FORMAT;
        }
        GLASS_TRY(revoked_entry(crl, &list));
    }
    return GLASS_OK;
}

GLASS_MUST_USE static glass_status read_number(glass_crl *crl, glass_slice value)
{
    glass_cursor cur = glass_cursor_of(value.at, value.len);
    glass_slice magnitude;
    GLASS_TRY(glass_der_unsigned(&cur, &magnitude));
    if (magnitude.len > sizeof crl->number || !glass_der_done(&cur)) {
        return GLASS_ERR_FORMAT;
    }
    memcpy(crl->number + (sizeof crl->number - magnitude.len), magnitude.at, magnitude.len);
    return GLASS_OK;
}

/* Exactly a CRL number and an authority key id, not critical: so no delta CRL and no issuing distribution point. */
GLASS_MUST_USE static glass_status crl_extensions(glass_crl *crl, glass_cursor list)
{
    bool number = false;
    bool authority = false;
    while (!glass_der_done(&list)) {
        glass_extension extension;
        glass_status status = GLASS_ERR_FORMAT;
        GLASS_TRY(glass_x509_extension(&list, &extension));
        if (oid_is(extension.oid, OID_CRL_NUMBER) && !number && !extension.critical) {
            number = true;
            status = read_number(crl, extension.value);
        } else if (oid_is(extension.oid, OID_AUTHORITY_KEY_ID) && !authority && !extension.critical) {
            authority = true;
            status = glass_x509_key_id(&crl->authority_key_id, extension.value);
        }
        crl->bad_extension = crl->bad_extension || status != GLASS_OK;
    }
    crl->bad_extension = crl->bad_extension || !number || !authority;
    return GLASS_OK;
}

GLASS_MUST_USE static glass_status to_be_signed(glass_crl *crl)
{
    glass_cursor outer = glass_cursor_of(crl->tbs.at, crl->tbs.len);
    glass_cursor tbs;
    glass_cursor wrapped;
    glass_cursor list;
    uint32_t version = 0;
    GLASS_TRY(glass_der_next(&outer, GLASS_DER_SEQUENCE, &tbs));
    GLASS_TRY(glass_der_small(&tbs, GLASS_DER_INTEGER, 1, &version));
    if (version != 1) { /* v2 */
        return GLASS_ERR_FORMAT;
    }
    GLASS_TRY(glass_x509_algorithm(&tbs));
    GLASS_TRY(glass_der_raw(&tbs, GLASS_DER_SEQUENCE, &crl->issuer));
    GLASS_TRY(glass_der_time(&tbs, &crl->this_update));
    GLASS_TRY(glass_der_time(&tbs, &crl->next_update));
    if (glass_der_peek(&tbs, GLASS_DER_SEQUENCE)) {
        GLASS_TRY(revoked_list(crl, &tbs));
    }
    if (glass_der_done(&tbs)) {
        crl->bad_extension = true; /* number and key id are mandatory */
        return GLASS_OK;
    }
    GLASS_TRY(glass_der_next(&tbs, GLASS_DER_CONTEXT_0, &wrapped));
    GLASS_TRY(glass_der_next(&wrapped, GLASS_DER_SEQUENCE, &list));
    if (!glass_der_done(&wrapped) || !glass_der_done(&tbs)) {
        return GLASS_ERR_FORMAT;
    }
    return crl_extensions(crl, list);
}

glass_status glass_crl_read(glass_crl *crl, const uint8_t *der, size_t len)
{
    glass_cursor cur = glass_cursor_of(der, len);
    glass_cursor parts;
    memset(crl, 0, sizeof *crl);
    GLASS_TRY(glass_der_check(der, len));
    GLASS_TRY(glass_der_next(&cur, GLASS_DER_SEQUENCE, &parts));
    GLASS_TRY(glass_der_raw(&parts, GLASS_DER_SEQUENCE, &crl->tbs));
    GLASS_TRY(glass_x509_algorithm(&parts));
    GLASS_TRY(glass_x509_signature(&parts, crl->signature));
    if (!glass_der_done(&parts) || !glass_der_done(&cur)) {
        return GLASS_ERR_FORMAT;
    }
    return to_be_signed(crl);
}

void glass_crl_clear(glass_crl *crl)
{
    free(crl->revoked);
    crl->revoked = NULL;
    crl->revoked_count = 0;
}

bool glass_crl_lists(const glass_crl *crl, glass_slice serial)
{
    if (serial.len == 0 || serial.len > GLASS_SERIAL_MAX) {
        return true; /* nothing of this size can be looked up, so it is not known to be good */
    }
    glass_serial wanted = serial_of(serial);
    for (size_t i = 0; i < crl->revoked_count; i++) {
        const glass_serial *entry = &crl->revoked[i];
        if (entry->word[0] == wanted.word[0] && entry->word[1] == wanted.word[1] && entry->word[2] == wanted.word[2]) {
            return true;
        }
    }
    return false;
}
