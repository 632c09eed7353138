/* A verdict from the inside. */
#ifndef GLASS_VERDICT_H
#define GLASS_VERDICT_H

#include "platform.h"

struct glass_verdict {
    glass_findings findings;
    glass_facts facts;
    uint8_t *advisory;       /* owned: NUL-terminated ids in a row */
    size_t advisory_used;
};

/* glass_verdict_add_advisories adds those of `level` that are not there yet. */
GLASS_MUST_USE glass_status glass_verdict_add_advisories(glass_verdict *verdict, const glass_levels *levels, const glass_tcb_level *level);

#endif
