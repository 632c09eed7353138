#include <string.h>

#include "documents.h"
#include "internal.h"

enum { COMPONENTS = 16 };

/* Which members of an object were there; the reader has refused repeats. */
enum {
    HAS_ID = 1 << 0,
    HAS_VERSION = 1 << 1,
    HAS_ISSUED = 1 << 2,
    HAS_NEXT_UPDATE = 1 << 3,
    HAS_FMSPC = 1 << 4,
    HAS_PCEID = 1 << 5,
    HAS_TCB_TYPE = 1 << 6,
    HAS_EVALUATION = 1 << 7,
    HAS_LEVELS = 1 << 8,
    HAS_TDX = 1 << 9
};
static const unsigned HAS_ALL_V2 = HAS_VERSION | HAS_ISSUED | HAS_NEXT_UPDATE | HAS_FMSPC | HAS_PCEID | HAS_TCB_TYPE |
                                   HAS_EVALUATION | HAS_LEVELS;

/* [{"svn": n, ...}, ...] of exactly 16; category and type are names for people. */
GLASS_MUST_USE static glass_status components(uint8_t svn[COMPONENTS], glass_json *json)
{
    size_t count = 0;
    GLASS_TRY(glass_json_array(json));
    for (;;) {
        bool more = false;
        bool found = false;
        glass_slice key;
        GLASS_TRY(glass_json_element(json, &more));
        if (!more) {
            return count == COMPONENTS ? GLASS_OK : GLASS_ERR_FORMAT;
        }
        if (count == COMPONENTS) {
            return GLASS_ERR_FORMAT;
        }
        GLASS_TRY(glass_json_object(json));
        GLASS_TRY(glass_json_key(json, &key, &more));
        while (more) {
            uint64_t value = 0;
            if (glass_slice_is(key, "svn")) {
                GLASS_TRY(glass_json_uint(json, UINT8_MAX, &value));
                svn[count] = (uint8_t)value;
                found = true;
            } else if (glass_slice_is(key, "category") || glass_slice_is(key, "type")) {
                glass_slice name;
                GLASS_TRY(glass_json_string(json, &name));
            } else {
                GLASS_TRY(glass_json_skip(json));
            }
            GLASS_TRY(glass_json_key(json, &key, &more));
        }
        if (!found) {
            return GLASS_ERR_FORMAT;
        }
        count++;
    }
}

/* The number of a version 2 key sgxtcbcomp01svn to sgxtcbcomp16svn, 0 for another key. */
static size_t numbered_component(glass_slice key)
{
    if (key.len != 15 || memcmp(key.at, "sgxtcbcomp", 10) != 0 || memcmp(key.at + 12, "svn", 3) != 0 ||
        key.at[10] < '0' || key.at[10] > '1' || key.at[11] < '0' || key.at[11] > '9') {
        return 0;
    }
    size_t number = (size_t)(key.at[10] - '0') * 10 + (size_t)(key.at[11] - '0');
    return number <= COMPONENTS ? number : 0;
}

/* The SVNs of one level of `of`, a glass_tcb_info. */
GLASS_MUST_USE static glass_status level_tcb(glass_tcb_level *level, glass_json *json, const void *of)
{
    const glass_tcb_info *info = of;
    uint64_t value = 0;
    unsigned numbered = 0;
    bool listed = false;
    bool pcesvn = false;
    bool tdx = false;
    glass_slice key;
    bool more = false;
    GLASS_TRY(glass_json_object(json));
    GLASS_TRY(glass_json_key(json, &key, &more));
    while (more) {
        size_t number = info->version == 2 ? numbered_component(key) : 0;
        if (glass_slice_is(key, "pcesvn")) {
            GLASS_TRY(glass_json_uint(json, UINT16_MAX, &value));
            level->svn = (uint16_t)value;
            pcesvn = true;
        } else if (number != 0) {
            GLASS_TRY(glass_json_uint(json, UINT8_MAX, &value));
            level->component_svn[number - 1] = (uint8_t)value;
            numbered++;
        } else if (info->version == 3 && glass_slice_is(key, "sgxtcbcomponents")) {
            GLASS_TRY(components(level->component_svn, json));
            listed = true;
        } else {
            tdx = tdx || glass_slice_is(key, "tdxtcbcomponents");
            GLASS_TRY(glass_json_skip(json));
        }
        GLASS_TRY(glass_json_key(json, &key, &more));
    }
    bool complete = info->version == 2 ? numbered == COMPONENTS : listed;
    return complete && pcesvn && !(tdx && info->id == GLASS_ID_SGX) ? GLASS_OK : GLASS_ERR_FORMAT;
}

/* The value of one member; `*has` gets its bit, `*levels` the span of the levels, read when version and id are known. */
GLASS_MUST_USE static glass_status member(glass_tcb_info *info, glass_json *json, glass_slice key, unsigned *has, glass_slice *levels)
{
    uint64_t value = 0;
    if (glass_slice_is(key, "id")) {
        *has |= HAS_ID;
        return glass_json_string(json, &info->id_text);
    }
    if (glass_slice_is(key, "version")) {
        *has |= HAS_VERSION;
        return glass_json_uint(json, UINT32_MAX, &info->version);
    }
    if (glass_slice_is(key, "issueDate")) {
        *has |= HAS_ISSUED;
        return glass_json_time(json, &info->issued);
    }
    if (glass_slice_is(key, "nextUpdate")) {
        *has |= HAS_NEXT_UPDATE;
        return glass_json_time(json, &info->next_update);
    }
    if (glass_slice_is(key, "fmspc")) {
        *has |= HAS_FMSPC;
        return glass_json_hex(json, info->fmspc, sizeof info->fmspc);
    }
    if (glass_slice_is(key, "pceId")) {
        *has |= HAS_PCEID;
        return glass_json_hex(json, info->pceid, sizeof info->pceid);
    }
    if (glass_slice_is(key, "tcbType")) {
        *has |= HAS_TCB_TYPE;
        return glass_json_uint(json, UINT32_MAX, &info->tcb_type);
    }
    if (glass_slice_is(key, "tcbEvaluationDataNumber")) {
        *has |= HAS_EVALUATION;
        GLASS_TRY(glass_json_uint(json, UINT32_MAX, &value));
        info->evaluation = (uint32_t)value;
        return GLASS_OK;
    }
    if (glass_slice_is(key, "tcbLevels")) {
        *has |= HAS_LEVELS;
        return glass_json_span(json, levels);
    }
    if (glass_slice_is(key, "tdxModule") || glass_slice_is(key, "tdxModuleIdentities")) {
        *has |= HAS_TDX;
    }
    return glass_json_skip(json);
}

glass_status glass_tcb_info_read(glass_tcb_info *info, glass_slice object)
{
    glass_json json;
    glass_slice key;
    glass_slice levels = {NULL, 0};
    unsigned has = 0;
    bool more = false;
    memset(info, 0, sizeof *info);
    glass_json_open(&json, object.at, object.len);
    GLASS_TRY(glass_json_object(&json));
    GLASS_TRY(glass_json_key(&json, &key, &more));
    while (more) {
        GLASS_TRY(member(info, &json, key, &has, &levels));
        GLASS_TRY(glass_json_key(&json, &key, &more));
    }
    GLASS_TRY(glass_json_close(&json));
    bool identified = (has & HAS_ID) != 0;
    if ((has & HAS_ALL_V2) != HAS_ALL_V2 || (info->version == 3 && !identified)) {
        return GLASS_ERR_FORMAT;
    }
    if (info->version == 2 || glass_slice_is(info->id_text, "SGX")) {
        info->id = GLASS_ID_SGX;
    } else if (glass_slice_is(info->id_text, "TDX")) {
        info->id = GLASS_ID_TDX;
    }
    if (info->id == GLASS_ID_SGX && (has & HAS_TDX) != 0) {
        return GLASS_ERR_FORMAT;
    }
    if (info->version == 2 || info->version == 3) {
        glass_status status = glass_levels_read(&info->levels, levels, level_tcb, info);
        if (status == GLASS_OK && info->id != GLASS_ID_TDX) { /* TDX levels may differ in components that are not read here */
            status = glass_levels_sort(&info->levels);
        }
        if (status == GLASS_ERR_MEMORY) {
            return status;
        }
        info->levels_good = status == GLASS_OK;
    }
    return GLASS_OK;
}
