#include "platform.h"

#include "internal.h"

enum { COMPONENTS = 16 };

/* All sixteen components and PCESVN, each compared by itself. */
static bool reaches(const glass_pck_facts *pck, const glass_tcb_level *level)
{
    for (size_t i = 0; i < COMPONENTS; i++) {
        if (pck->component_svn[i] < level->component_svn[i]) {
            return false;
        }
    }
    return pck->pcesvn >= level->svn;
}

const glass_tcb_level *glass_platform_level(const glass_levels *levels, const glass_pck_facts *pck)
{
    for (size_t i = 0; i < levels->count; i++) {
        if (reaches(pck, &levels->level[i])) {
            return &levels->level[i];
        }
    }
    return NULL;
}

const glass_tcb_level *glass_qe_level(const glass_levels *levels, uint16_t isvsvn)
{
    for (size_t i = 0; i < levels->count; i++) {
        if (isvsvn >= levels->level[i].svn) {
            return &levels->level[i];
        }
    }
    return NULL;
}

const glass_tcb_level *glass_wanted_level(const glass_levels *levels)
{
    for (size_t i = levels->count; i > 0; i--) {
        if (levels->level[i - 1].status == GLASS_TCB_UP_TO_DATE) {
            return &levels->level[i - 1];
        }
    }
    return levels->count > 0 ? &levels->level[0] : NULL;
}

glass_tcb_status glass_qe_status_of(const glass_tcb_level *level)
{
    if (level->status == GLASS_TCB_UP_TO_DATE || level->status == GLASS_TCB_REVOKED) {
        return level->status;
    }
    return GLASS_TCB_OUT_OF_DATE;
}

glass_tcb_status glass_converge(glass_tcb_status platform, glass_tcb_status qe)
{
    if (platform == GLASS_TCB_UNKNOWN || qe == GLASS_TCB_UNKNOWN) {
        return GLASS_TCB_UNKNOWN;
    }
    if (platform == GLASS_TCB_REVOKED || qe == GLASS_TCB_REVOKED) {
        return GLASS_TCB_REVOKED;
    }
    if (qe == GLASS_TCB_UP_TO_DATE) {
        return platform;
    }
    switch (platform) { /* the QE is out of date */
    case GLASS_TCB_UP_TO_DATE:
    case GLASS_TCB_SW_HARDENING_NEEDED:
    case GLASS_TCB_OUT_OF_DATE:
        return GLASS_TCB_OUT_OF_DATE;
    case GLASS_TCB_CONFIGURATION_NEEDED:
    case GLASS_TCB_CONFIGURATION_AND_SW_HARDENING_NEEDED:
    case GLASS_TCB_OUT_OF_DATE_CONFIGURATION_NEEDED:
        return GLASS_TCB_OUT_OF_DATE_CONFIGURATION_NEEDED;
    case GLASS_TCB_UNKNOWN:
    case GLASS_TCB_REVOKED:
        break;
    }
    return GLASS_TCB_REVOKED; /* not reached; the worst there is */
}
