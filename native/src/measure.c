#include "glass_measure.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

enum {
    PAGE = 4096,
    RECORD = 64,                                             /* bytes of one hashed record */
    CHUNK = 256,                                             /* bytes of one EEXTEND */
    PAGE_RECORDS = RECORD + PAGE / CHUNK * (RECORD + CHUNK), /* 5184: EADD and EEXTEND of one page */
    BATCH_PAGES = 3,
    BATCH = BATCH_PAGES * PAGE_RECORDS, /* 15,552 bytes an update: fits the first cache; an update a record costs half */
    BATCH_RECORDS = BATCH / RECORD
};

struct glass_measure {
    EVP_MD_CTX *hash;
    uint64_t size;
    int finished;
    uint8_t batch[BATCH];
};

static void put_u64le(uint8_t *at, uint64_t value)
{
    uint64_t little = htole64(value);
    memcpy(at, &little, sizeof little);
}

static void put_u32le(uint8_t *at, uint32_t value)
{
    uint32_t little = htole32(value);
    memcpy(at, &little, sizeof little);
}

/* The first eight bytes of a record name it; the names are padded with zeros. */
static void put_name(uint8_t *record, const char *name)
{
    memset(record, 0, RECORD);
    memcpy(record, name, strlen(name));
}

GLASS_MUST_USE static glass_status update(glass_measure *measure, const uint8_t *data, size_t len)
{
    if (EVP_DigestUpdate(measure->hash, data, len) != 1) {
        measure->finished = 1;
        return GLASS_ERR_LIBCRYPTO;
    }
    return GLASS_OK;
}

GLASS_MUST_USE static glass_status check_run(const glass_measure *measure, uint64_t offset, uint64_t pages)
{
    if (measure == NULL) {
        return GLASS_ERR_ARGUMENT;
    }
    if (measure->finished) {
        return GLASS_ERR_STATE;
    }
    if (offset % PAGE != 0 || offset > measure->size || pages > (measure->size - offset) / PAGE) {
        return GLASS_ERR_ARGUMENT;
    }
    return GLASS_OK;
}

glass_status glass_measure_new(const glass_ctx *ctx, glass_measure **out, uint32_t ssa_pages, uint64_t size)
{
    if (out == NULL) {
        return GLASS_ERR_ARGUMENT;
    }
    *out = NULL;
    if (ctx == NULL || size == 0 || size % PAGE != 0) {
        return GLASS_ERR_ARGUMENT;
    }
    glass_measure *measure = malloc(sizeof *measure);
    if (measure == NULL) {
        return GLASS_ERR_MEMORY;
    }
    measure->size = size;
    measure->finished = 0;
    measure->hash = EVP_MD_CTX_new();
    if (measure->hash == NULL || EVP_DigestInit_ex2(measure->hash, ctx->sha256, NULL) != 1) {
        glass_measure_free(measure);
        return GLASS_ERR_LIBCRYPTO;
    }
    uint8_t record[RECORD];
    put_name(record, "ECREATE");
    put_u32le(record + 8, ssa_pages);
    put_u64le(record + 12, size);
    glass_status status = update(measure, record, sizeof record);
    if (status != GLASS_OK) {
        glass_measure_free(measure);
        return status;
    }
    *out = measure;
    return GLASS_OK;
}

void glass_measure_free(glass_measure *measure)
{
    if (measure == NULL) {
        return;
    }
    EVP_MD_CTX_free(measure->hash);
    free(measure);
}

static void put_eadd(uint8_t *record, uint64_t offset, uint64_t flags)
{
    put_name(record, "EADD");
    put_u64le(record + 8, offset);
    put_u64le(record + 16, flags);
}

/* Write the records of one page; `content` NULL means zeros. */
static void put_page(uint8_t *records, uint64_t offset, uint64_t flags, const uint8_t *content)
{
    put_eadd(records, offset, flags);
    records += RECORD;
    for (size_t at = 0; at < PAGE; at += CHUNK) {
        put_name(records, "EEXTEND");
        put_u64le(records + 8, offset + at);
        records += RECORD;
        if (content != NULL) {
            memcpy(records, content + at, CHUNK);
        } else {
            memset(records, 0, CHUNK);
        }
        records += CHUNK;
    }
}

GLASS_MUST_USE static glass_status extend(glass_measure *measure, uint64_t offset, uint64_t pages, uint64_t flags,
                                          const uint8_t *content)
{
    GLASS_TRY(check_run(measure, offset, pages));
    while (pages > 0) {
        size_t now = pages < BATCH_PAGES ? (size_t)pages : BATCH_PAGES;
        for (size_t i = 0; i < now; i++) {
            put_page(measure->batch + i * PAGE_RECORDS, offset, flags, content);
            offset += PAGE;
            content = content == NULL ? NULL : content + PAGE;
        }
        GLASS_TRY(update(measure, measure->batch, now * PAGE_RECORDS));
        pages -= now;
    }
    return GLASS_OK;
}

glass_status glass_measure_add(glass_measure *measure, uint64_t offset, uint64_t pages, uint64_t flags)
{
    GLASS_TRY(check_run(measure, offset, pages));
    size_t filled = pages < BATCH_RECORDS ? (size_t)pages : BATCH_RECORDS;
    for (size_t i = 0; i < filled; i++) {
        put_eadd(measure->batch + i * RECORD, offset, flags);
    }
    while (pages > 0) {          /* within the run only the offset differs from record to record */
        size_t now = pages < filled ? (size_t)pages : filled;
        for (size_t i = 0; i < now; i++) {
            put_u64le(measure->batch + i * RECORD + 8, offset);
            offset += PAGE;
        }
        GLASS_TRY(update(measure, measure->batch, now * RECORD));
        pages -= now;
    }
    return GLASS_OK;
}

glass_status glass_measure_extend(glass_measure *measure, uint64_t offset, uint64_t flags, const uint8_t *content,
                                  size_t content_len)
{
    if (content == NULL || content_len % PAGE != 0) {
        return GLASS_ERR_ARGUMENT;
    }
    return extend(measure, offset, content_len / PAGE, flags, content);
}

glass_status glass_measure_extend_zero(glass_measure *measure, uint64_t offset, uint64_t pages, uint64_t flags)
{
    return extend(measure, offset, pages, flags, NULL);
}

glass_status glass_measure_final(glass_measure *measure, uint8_t out[32])
{
    if (out == NULL) {
        return GLASS_ERR_ARGUMENT;
    }
    memset(out, 0, 32);
    if (measure == NULL) {
        return GLASS_ERR_ARGUMENT;
    }
    if (measure->finished) {
        return GLASS_ERR_STATE;
    }
    measure->finished = 1;
    unsigned int written = 0;
    uint8_t digest[EVP_MAX_MD_SIZE];
    if (EVP_DigestFinal_ex(measure->hash, digest, &written) != 1 || written != 32) {
        return GLASS_ERR_LIBCRYPTO;
    }
    memcpy(out, digest, 32);
    return GLASS_OK;
}
