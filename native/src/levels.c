#include <stdlib.h>
#include <string.h>

#include "documents.h"
#include "internal.h"

static const struct {
    const char *name;
    glass_tcb_status status;
} STATUSES[] = {
    {"UpToDate", GLASS_TCB_UP_TO_DATE},
    {"SWHardeningNeeded", GLASS_TCB_SW_HARDENING_NEEDED},
    {"ConfigurationNeeded", GLASS_TCB_CONFIGURATION_NEEDED},
    {"ConfigurationAndSWHardeningNeeded", GLASS_TCB_CONFIGURATION_AND_SW_HARDENING_NEEDED},
    {"OutOfDate", GLASS_TCB_OUT_OF_DATE},
    {"OutOfDateConfigurationNeeded", GLASS_TCB_OUT_OF_DATE_CONFIGURATION_NEEDED},
    {"Revoked", GLASS_TCB_REVOKED},
};

glass_tcb_status glass_tcb_status_of(glass_slice name)
{
    for (size_t i = 0; i < sizeof STATUSES / sizeof STATUSES[0]; i++) {
        if (glass_slice_is(name, STATUSES[i].name)) {
            return STATUSES[i].status;
        }
    }
    return GLASS_TCB_UNKNOWN;
}

const char *glass_tcb_status_name(glass_tcb_status status)
{
    for (size_t i = 0; i < sizeof STATUSES / sizeof STATUSES[0]; i++) {
        if (STATUSES[i].status == status) {
            return STATUSES[i].name;
        }
    }
    return "unknown";
}

glass_status glass_signed_object_read(glass_signed_object *out, glass_slice document, const char *name)
{
    glass_json json;
    bool object = false;
    bool signature = false;
    memset(out, 0, sizeof *out);
    if (document.len > GLASS_DOCUMENT_MAX) {
        return GLASS_ERR_LIMIT;
    }
    glass_json_open(&json, document.at, document.len);
    GLASS_TRY(glass_json_object(&json));
    for (;;) {
        glass_slice key;
        bool more = false;
        GLASS_TRY(glass_json_key(&json, &key, &more));
        if (!more) {
            break;
        }
        if (glass_slice_is(key, name)) {
            GLASS_TRY(glass_json_outline(&json, &out->bytes));
            object = true;
        } else if (glass_slice_is(key, "signature")) {
            GLASS_TRY(glass_json_hex(&json, out->signature, sizeof out->signature));
            signature = true;
        } else {
            return GLASS_ERR_FORMAT; /* what is not signed must not be there */
        }
    }
    GLASS_TRY(glass_json_close(&json));
    return object && signature ? GLASS_OK : GLASS_ERR_FORMAT;
}

void glass_levels_clear(glass_levels *levels)
{
    free(levels->level);
    free(levels->advisory);
    memset(levels, 0, sizeof *levels);
}

/* Make room for one more element of `size` bytes; grows by doubling up to `max` elements. */
GLASS_MUST_USE static glass_status grow(void **table, size_t *room, size_t count, size_t size, size_t max)
{
    if (count < *room) {
        return GLASS_OK;
    }
    if (count >= max) {
        return GLASS_ERR_LIMIT;
    }
    size_t wanted = *room == 0 ? 32 : *room * 2;
    void *bigger = realloc(*table, wanted * size);
    if (bigger == NULL) {
        return GLASS_ERR_MEMORY;
    }
    *table = bigger;
    *room = wanted;
    return GLASS_OK;
}

glass_status glass_levels_add(glass_levels *levels, glass_tcb_level **out)
{
    void *table = levels->level;
    *out = NULL;
    glass_status status = grow(&table, &levels->level_room, levels->count, sizeof *levels->level, GLASS_LEVELS_MAX);
    levels->level = table;
    GLASS_TRY(status);
    *out = &levels->level[levels->count];
    memset(*out, 0, sizeof **out);
    levels->count++;
    return GLASS_OK;
}

/* An array of advisory ids for `level`. */
GLASS_MUST_USE static glass_status read_advisories(glass_levels *levels, glass_tcb_level *level, glass_json *json)
{
    level->first_advisory = (uint32_t)levels->advisory_count;
    GLASS_TRY(glass_json_array(json));
    for (;;) {
        bool more = false;
        glass_slice text;
        GLASS_TRY(glass_json_element(json, &more));
        if (!more) {
            return GLASS_OK;
        }
        GLASS_TRY(glass_json_string(json, &text));
        if (text.len == 0 || text.len > GLASS_ADVISORY_SIZE) {
            return GLASS_ERR_FORMAT;
        }
        void *table = levels->advisory;
        glass_status status = grow(&table, &levels->advisory_room, levels->advisory_count, sizeof *levels->advisory,
                                   GLASS_ADVISORIES_MAX);
        levels->advisory = table;
        GLASS_TRY(status);
        levels->advisory[levels->advisory_count] = text;
        levels->advisory_count++;
        level->advisory_count++;
    }
}

GLASS_MUST_USE static glass_status one_level(glass_levels *levels, glass_json *json, glass_tcb_reader *read_tcb, const void *of)
{
    glass_tcb_level *level = NULL;
    bool tcb = false;
    bool date = false;
    glass_slice key;
    bool more = false;
    GLASS_TRY(glass_levels_add(levels, &level));
    GLASS_TRY(glass_json_object(json));
    GLASS_TRY(glass_json_key(json, &key, &more));
    while (more) {
        glass_slice text;
        if (glass_slice_is(key, "tcb")) {
            GLASS_TRY(read_tcb(level, json, of));
            tcb = true;
        } else if (glass_slice_is(key, "tcbDate")) {
            GLASS_TRY(glass_json_time(json, &level->date));
            date = true;
        } else if (glass_slice_is(key, "tcbStatus")) {
            GLASS_TRY(glass_json_string(json, &text));
            level->status = glass_tcb_status_of(text);
        } else if (glass_slice_is(key, "advisoryIDs")) {
            GLASS_TRY(read_advisories(levels, level, json));
        } else {
            GLASS_TRY(glass_json_skip(json));
        }
        GLASS_TRY(glass_json_key(json, &key, &more));
    }
    return tcb && date && level->status != GLASS_TCB_UNKNOWN ? GLASS_OK : GLASS_ERR_FORMAT;
}

glass_status glass_levels_read(glass_levels *levels, glass_slice array, glass_tcb_reader *read_tcb, const void *of)
{
    glass_json json;
    bool more = false;
    glass_json_open(&json, array.at, array.len);
    GLASS_TRY(glass_json_array(&json));
    GLASS_TRY(glass_json_element(&json, &more));
    while (more) {
        GLASS_TRY(one_level(levels, &json, read_tcb, of));
        GLASS_TRY(glass_json_element(&json, &more));
    }
    return glass_json_close(&json);
}

static int compare(const glass_tcb_level *a, const glass_tcb_level *b)
{
    int order = memcmp(a->component_svn, b->component_svn, sizeof a->component_svn);
    return order != 0 ? order : (int)a->svn - (int)b->svn;
}

static int highest_first(const void *a, const void *b)
{
    return compare(b, a);
}

glass_status glass_levels_sort(glass_levels *levels)
{
    if (levels->count == 0) {
        return GLASS_ERR_FORMAT;
    }
    qsort(levels->level, levels->count, sizeof *levels->level, highest_first);
    for (size_t i = 1; i < levels->count; i++) {
        if (compare(&levels->level[i - 1], &levels->level[i]) == 0) {
            return GLASS_ERR_FORMAT;
        }
    }
    return GLASS_OK;
}
