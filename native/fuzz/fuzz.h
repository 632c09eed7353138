/* What the fuzz targets share: one context for the life of the process, and a check that stops it. */
#ifndef GLASS_FUZZ_H
#define GLASS_FUZZ_H

#include <stdint.h>
#include <stdlib.h>

#include "glass_ctx.h"
#include "glass_status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_MUST(condition) \
    do {                     \
        if (!(condition)) {  \
            abort();         \
        }                    \
    } while (0)

static inline const glass_ctx *fuzz_context(void)
{
    static glass_ctx *ctx = NULL;
    if (ctx == NULL) {
        FUZZ_MUST(glass_ctx_new(&ctx) == GLASS_OK);
    }
    return ctx;
}

#endif
