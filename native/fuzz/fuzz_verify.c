/* Eight length-prefixed parts as quote and collateral: nothing that a stranger made is genuine under Intel's root.
 * The root comes as the ninth part; without a usable one a fixed anchor of the project's own is not needed: nothing is judged. */
#include <string.h>

#include "fuzz.h"
#include "glass_verify.h"

enum { PARTS = 9 };

/* The next part: two length bytes, then that many bytes, or what is left. */
static size_t next_part(const uint8_t **data, size_t *size, const uint8_t **part)
{
    size_t len = 0;
    if (*size >= 2) {
        len = (size_t)((*data)[0] | (*data)[1] << 8);
        *data += 2;
        *size -= 2;
    }
    len = len < *size ? len : *size;
    *part = *data;
    *data += len;
    *size -= len;
    return len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const glass_ctx *ctx = fuzz_context();
    const uint8_t *part[PARTS];
    size_t len[PARTS];
    uint8_t key[65];
    for (size_t i = 0; i < PARTS; i++) {
        len[i] = next_part(&data, &size, &part[i]);
    }
    glass_anchor *anchor = NULL;
    glass_collateral *collateral = NULL;
    glass_verdict *verdict = NULL;
    if (len[8] > 0 && glass_certificate_key(key, part[8], len[8]) == GLASS_OK &&
        glass_anchor_new(ctx, &anchor, &part[8], &len[8], 1, key, 1) == GLASS_OK) {
        FUZZ_MUST(glass_collateral_new(&collateral) == GLASS_OK);
        for (int i = 0; i < 7; i++) {
            FUZZ_MUST(glass_collateral_set(collateral, (glass_item)i, part[i], len[i]) == GLASS_OK);
        }
        FUZZ_MUST(glass_collateral_prepare(ctx, collateral, anchor) == GLASS_OK);
        FUZZ_MUST(glass_verify(ctx, &verdict, part[7], len[7], collateral, anchor, NULL, 1750334171) == GLASS_OK);
        char observed[256];
        char expected[16];
        for (uint32_t i = 0; i < glass_check_count(); i++) {
            FUZZ_MUST(glass_verdict_text(verdict, i, observed, sizeof observed, expected, sizeof expected) == GLASS_OK);
        }
    }
    glass_verdict_free(verdict);
    glass_collateral_free(collateral);
    glass_anchor_free(anchor);
    return 0;
}
