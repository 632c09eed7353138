#include <string.h>

#include "internal.h"
#include "x509.h"

/* 1.2.840.113741.1.13.1, under which every entry of the extension lies. */
static const uint8_t SGX_ARC[9] = {0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01};

enum { COMPONENTS = 16 };

/* One entry: SEQUENCE { OID arc.`last`, value }; `parts` is left before the value. `arc_len` bytes follow the SGX arc. */
GLASS_MUST_USE static glass_status entry(glass_cursor *cur, const uint8_t *arc, size_t arc_len, glass_cursor *parts)
{
    glass_slice oid;
    GLASS_TRY(glass_der_next(cur, GLASS_DER_SEQUENCE, parts));
    GLASS_TRY(glass_der_slice(parts, GLASS_DER_OID, &oid));
    bool same = oid.len == sizeof SGX_ARC + arc_len && memcmp(oid.at, SGX_ARC, sizeof SGX_ARC) == 0 &&
                memcmp(oid.at + sizeof SGX_ARC, arc, arc_len) == 0;
    return same ? GLASS_OK : GLASS_ERR_FORMAT;
}

GLASS_MUST_USE static glass_status octets(glass_cursor *cur, const uint8_t *arc, size_t arc_len, uint8_t *out, size_t len)
{
    glass_cursor parts;
    glass_slice value;
    GLASS_TRY(entry(cur, arc, arc_len, &parts));
    GLASS_TRY(glass_der_slice(&parts, GLASS_DER_OCTET_STRING, &value));
    if (value.len != len || !glass_der_done(&parts)) {
        return GLASS_ERR_FORMAT;
    }
    memcpy(out, value.at, len);
    return GLASS_OK;
}

/* .2: sixteen component SVNs, PCESVN, CPUSVN, each under its own number, in order. */
GLASS_MUST_USE static glass_status tcb(glass_pck_facts *facts, glass_cursor *cur)
{
    glass_cursor parts;
    glass_cursor list;
    const uint8_t two[1] = {2};
    GLASS_TRY(entry(cur, two, 1, &parts));
    GLASS_TRY(glass_der_next(&parts, GLASS_DER_SEQUENCE, &list));
    for (uint8_t i = 1; i <= COMPONENTS + 1; i++) {
        const uint8_t arc[2] = {2, i};
        glass_cursor value;
        uint32_t svn = 0;
        GLASS_TRY(entry(&list, arc, 2, &value));
        GLASS_TRY(glass_der_small(&value, GLASS_DER_INTEGER, i <= COMPONENTS ? UINT8_MAX : UINT16_MAX, &svn));
        if (!glass_der_done(&value)) {
            return GLASS_ERR_FORMAT;
        }
        if (i <= COMPONENTS) {
            facts->component_svn[i - 1] = (uint8_t)svn;
        } else {
            facts->pcesvn = (uint16_t)svn;
        }
    }
    const uint8_t cpusvn[2] = {2, COMPONENTS + 2};
    GLASS_TRY(octets(&list, cpusvn, 2, facts->cpusvn, 16));
    facts->cpusvn_differs = memcmp(facts->cpusvn, facts->component_svn, 16) != 0;
    return glass_der_done(&list) && glass_der_done(&parts) ? GLASS_OK : GLASS_ERR_FORMAT;
}

/* .7: three booleans. */
GLASS_MUST_USE static glass_status configuration(glass_pck_facts *facts, glass_cursor *cur)
{
    glass_cursor parts;
    glass_cursor list;
    const uint8_t seven[1] = {7};
    uint8_t *flags[3] = {&facts->dynamic_platform, &facts->cached_keys, &facts->smt_enabled};
    GLASS_TRY(entry(cur, seven, 1, &parts));
    GLASS_TRY(glass_der_next(&parts, GLASS_DER_SEQUENCE, &list));
    for (uint8_t i = 1; i <= 3; i++) {
        const uint8_t arc[2] = {7, i};
        glass_cursor value;
        bool flag = false;
        GLASS_TRY(entry(&list, arc, 2, &value));
        GLASS_TRY(glass_der_boolean(&value, &flag));
        if (!glass_der_done(&value)) {
            return GLASS_ERR_FORMAT;
        }
        *flags[i - 1] = flag ? 1 : 0;
    }
    return glass_der_done(&list) && glass_der_done(&parts) ? GLASS_OK : GLASS_ERR_FORMAT;
}

GLASS_MUST_USE static glass_status sgx_type(uint32_t *type, glass_cursor *cur)
{
    glass_cursor parts;
    const uint8_t five[1] = {5};
    GLASS_TRY(entry(cur, five, 1, &parts));
    GLASS_TRY(glass_der_small(&parts, GLASS_DER_ENUMERATED, INT32_MAX, type));
    return glass_der_done(&parts) ? GLASS_OK : GLASS_ERR_FORMAT;
}

GLASS_MUST_USE static glass_status entries_of(glass_pck_facts *facts, unsigned *entries, uint32_t *type, glass_slice extension)
{
    glass_cursor cur = glass_cursor_of(extension.at, extension.len);
    glass_cursor list;
    const uint8_t arcs[6] = {1, 2, 3, 4, 5, 6};
    GLASS_TRY(glass_der_next(&cur, GLASS_DER_SEQUENCE, &list));
    GLASS_TRY(octets(&list, &arcs[0], 1, facts->ppid, 16));
    GLASS_TRY(tcb(facts, &list));
    GLASS_TRY(octets(&list, &arcs[2], 1, facts->pceid, 2));
    GLASS_TRY(octets(&list, &arcs[3], 1, facts->fmspc, 6));
    GLASS_TRY(sgx_type(type, &list));
    *entries = 5;
    if (!glass_der_done(&list)) {
        GLASS_TRY(octets(&list, &arcs[5], 1, facts->platform_instance_id, 16));
        GLASS_TRY(configuration(facts, &list));
        *entries = 7;
    }
    return glass_der_done(&list) && glass_der_done(&cur) ? GLASS_OK : GLASS_ERR_FORMAT;
}

glass_pck_fault glass_pck_read(glass_pck_facts *facts, unsigned *entries, glass_slice extension)
{
    uint32_t type = 0;
    memset(facts, 0, sizeof *facts);
    *entries = 0;
    facts->dynamic_platform = 2;
    facts->cached_keys = 2;
    facts->smt_enabled = 2;
    if (glass_der_check(extension.at, extension.len) != GLASS_OK ||
        entries_of(facts, entries, &type, extension) != GLASS_OK) {
        memset(facts, 0, sizeof *facts);
        *entries = 0;
        return GLASS_PCK_MALFORMED;
    }
    facts->sgx_type = type <= 2 ? (uint8_t)type : UINT8_MAX;
    return type <= 2 ? GLASS_PCK_GOOD : GLASS_PCK_BAD_TYPE;
}
