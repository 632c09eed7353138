#include <string.h>

#include "documents.h"
#include "internal.h"

/* The members of fixed form, in one table: name, place and size. */
typedef struct hex_member {
    const char *name;
    uint8_t *out;
    size_t len;
} hex_member;

enum { HEX_MEMBERS = 5, OTHER_MEMBERS = 7 };

/* The SVN of one level; nothing of the identity is needed for it. */
GLASS_MUST_USE static glass_status level_tcb(glass_tcb_level *level, glass_json *json, const void *of)
{
    (void)of;
    glass_slice key;
    bool more = false;
    bool found = false;
    GLASS_TRY(glass_json_object(json));
    GLASS_TRY(glass_json_key(json, &key, &more));
    while (more) {
        uint64_t value = 0;
        if (glass_slice_is(key, "isvsvn")) {
            GLASS_TRY(glass_json_uint(json, UINT16_MAX, &value));
            level->svn = (uint16_t)value;
            found = true;
        } else {
            GLASS_TRY(glass_json_skip(json));
        }
        GLASS_TRY(glass_json_key(json, &key, &more));
    }
    return found ? GLASS_OK : GLASS_ERR_FORMAT;
}

/* The status names of QE levels; the hardening ones are none of them. */
static bool qe_status(glass_tcb_status status)
{
    return status == GLASS_TCB_UP_TO_DATE || status == GLASS_TCB_CONFIGURATION_NEEDED || status == GLASS_TCB_OUT_OF_DATE ||
           status == GLASS_TCB_OUT_OF_DATE_CONFIGURATION_NEEDED || status == GLASS_TCB_REVOKED;
}

/* Known statuses only, and from the highest SVN down. */
GLASS_MUST_USE static glass_status check_levels(const glass_levels *levels)
{
    for (size_t i = 0; i < levels->count; i++) {
        if (!qe_status(levels->level[i].status)) {
            return GLASS_ERR_FORMAT;
        }
        /* Intel takes the first that fits: only this order leaves no choice */
        if (i > 0 && levels->level[i - 1].svn <= levels->level[i].svn) {
            return GLASS_ERR_FORMAT;
        }
    }
    return levels->count > 0 ? GLASS_OK : GLASS_ERR_FORMAT;
}

/* One member that is not plain hexadecimal. `*seen` counts those that must be there. */
GLASS_MUST_USE static glass_status other_member(glass_qe_identity *identity, glass_json *json, glass_slice key, unsigned *seen, glass_slice *levels)
{
    uint64_t value = 0;
    (*seen)++;
    if (glass_slice_is(key, "id")) {
        return glass_json_string(json, &identity->id_text);
    }
    if (glass_slice_is(key, "version")) {
        return glass_json_uint(json, UINT32_MAX, &identity->version);
    }
    if (glass_slice_is(key, "issueDate")) {
        return glass_json_time(json, &identity->issued);
    }
    if (glass_slice_is(key, "nextUpdate")) {
        return glass_json_time(json, &identity->next_update);
    }
    if (glass_slice_is(key, "tcbEvaluationDataNumber")) {
        GLASS_TRY(glass_json_uint(json, UINT32_MAX, &value));
        identity->evaluation = (uint32_t)value;
        return GLASS_OK;
    }
    if (glass_slice_is(key, "isvprodid")) {
        GLASS_TRY(glass_json_uint(json, UINT16_MAX, &value));
        identity->isvprodid = (uint16_t)value;
        return GLASS_OK;
    }
    if (glass_slice_is(key, "tcbLevels")) {
        return glass_json_span(json, levels);
    }
    (*seen)--;
    return glass_json_skip(json);
}

GLASS_MUST_USE static glass_status members(glass_qe_identity *identity, glass_json *json, glass_slice *levels)
{
    const hex_member hex[HEX_MEMBERS] = {
        {"miscselect", identity->miscselect, sizeof identity->miscselect},
        {"miscselectMask", identity->miscselect_mask, sizeof identity->miscselect_mask},
        {"attributes", identity->attributes, sizeof identity->attributes},
        {"attributesMask", identity->attributes_mask, sizeof identity->attributes_mask},
        {"mrsigner", identity->mrsigner, sizeof identity->mrsigner},
    };
    unsigned hex_seen = 0;
    unsigned other_seen = 0;
    glass_slice key;
    bool more = false;
    GLASS_TRY(glass_json_object(json));
    GLASS_TRY(glass_json_key(json, &key, &more));
    while (more) {
        size_t i = 0;
        while (i < HEX_MEMBERS && !glass_slice_is(key, hex[i].name)) {
            i++;
        }
        if (i < HEX_MEMBERS) {
            GLASS_TRY(glass_json_hex(json, hex[i].out, hex[i].len));
            hex_seen++;
        } else {
            GLASS_TRY(other_member(identity, json, key, &other_seen, levels));
        }
        GLASS_TRY(glass_json_key(json, &key, &more));
    }
    GLASS_TRY(glass_json_close(json));
    /* no key comes twice, so the counts say that each was there */
    return hex_seen == HEX_MEMBERS && other_seen == OTHER_MEMBERS ? GLASS_OK : GLASS_ERR_FORMAT;
}

glass_status glass_qe_identity_read(glass_qe_identity *identity, glass_slice object)
{
    glass_json json;
    glass_slice levels = {NULL, 0};
    memset(identity, 0, sizeof *identity);
    glass_json_open(&json, object.at, object.len);
    GLASS_TRY(members(identity, &json, &levels));
    if (glass_slice_is(identity->id_text, "QE")) {
        identity->id = GLASS_ID_QE;
    }
    glass_status status = glass_levels_read(&identity->levels, levels, level_tcb, NULL);
    status = status == GLASS_OK ? check_levels(&identity->levels) : status;
    if (status == GLASS_ERR_MEMORY) {
        return status;
    }
    identity->levels_good = status == GLASS_OK;
    return GLASS_OK;
}
