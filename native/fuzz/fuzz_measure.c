/* A measurement driven by hostile calls: any order of runs, any offset, count and length. */
#include <stdlib.h>
#include <string.h>

#include "glass_measure.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static uint64_t take(const uint8_t **at, size_t *left)
{
    uint64_t value = 0;
    size_t now = *left < 8 ? *left : 8;
    memcpy(&value, *at, now);
    *at += now;
    *left -= now;
    return value;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    glass_ctx *ctx = NULL;
    glass_measure *measure = NULL;
    if (glass_ctx_new(&ctx) != GLASS_OK) {
        abort();
    }
    uint64_t size = take(&data, &len) % (1ULL << 24);
    glass_status status = glass_measure_new(ctx, &measure, 4, size);
    if ((status == GLASS_OK) != (measure != NULL)) {
        abort();
    }
    while (measure != NULL && len >= 16) {
        uint64_t offset = take(&data, &len);
        uint64_t count = take(&data, &len);
        switch (count & 3) {
        case 0:
            status = glass_measure_add(measure, offset, count >> 2, 0x207);
            break;
        case 1:
            status = glass_measure_extend_zero(measure, offset, count >> 2, 0x203);
            break;
        case 2:
            status = glass_measure_extend(measure, offset, 0x201, data, len);
            break;
        default:
            status = GLASS_ERR_ARGUMENT;
            break;
        }
        if (status == GLASS_OK && offset > size) {
            abort();
        }
    }
    uint8_t digest[32];
    if ((glass_measure_final(measure, digest) == GLASS_OK) != (measure != NULL)) {
        abort();
    }
    glass_measure_free(measure);
    glass_ctx_free(ctx);
    return 0;
}
