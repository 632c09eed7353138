/* Random access to one message. Ciphertext is always read into private memory first and decrypted from there, because
 * the file may be changed by somebody else between two looks at it. What the cache holds is verified plaintext. */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "stream_reader.h"

void glass_lane_free(struct reader_lane *lane)
{
    if (lane == NULL) {
        return;
    }
    EVP_CIPHER_CTX_free(lane->cipher);
    EVP_MD_CTX_free(lane->md);
    if (lane->bounce != NULL) {
        OPENSSL_cleanse(lane->bounce, CHUNK);
    }
    free(lane->sealed);
    free(lane->bounce);
    free(lane->leaves);
    free(lane);
}

GLASS_MUST_USE static glass_status lane_new(const glass_reader *reader, struct reader_lane **out)
{
    struct reader_lane *lane = calloc(1, sizeof *lane);
    *out = lane;
    if (lane == NULL) {
        return GLASS_ERR_MEMORY;
    }
    lane->md = EVP_MD_CTX_new();
    lane->sealed = malloc(BATCH * SEALED);
    lane->bounce = malloc(CHUNK);
    int list = reader->leaves != NULL && reader->kept == NULL;
    lane->leaves = list ? malloc(CHUNK) : NULL;
    if (lane->md == NULL || lane->sealed == NULL || lane->bounce == NULL || (list && lane->leaves == NULL)) {
        return GLASS_ERR_MEMORY;
    }
    return glass_cipher_new(reader->stream->ctx, &lane->cipher, reader->stream->secret, 0);
}

glass_status glass_lane_take(glass_reader *reader, struct reader_lane **out)
{
    (void)pthread_mutex_lock(&reader->lock);
    struct reader_lane *lane = reader->idle;
    if (lane != NULL) {
        reader->idle = lane->next;
    }
    (void)pthread_mutex_unlock(&reader->lock);
    *out = lane;
    if (lane != NULL) {
        return GLASS_OK;
    }
    glass_status status = lane_new(reader, out);
    if (status != GLASS_OK) {
        glass_lane_free(*out);
        *out = NULL;
    }
    return status;
}

void glass_lane_give(glass_reader *reader, struct reader_lane *lane)
{
    if (lane == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&reader->lock);
    lane->next = reader->idle;
    reader->idle = lane;
    (void)pthread_mutex_unlock(&reader->lock);
}

size_t glass_chunk_len(const glass_reader *reader, uint64_t chunk)
{
    uint64_t left = reader->size - chunk * CHUNK;
    return left < CHUNK ? (size_t)left : CHUNK;
}

glass_status glass_open_chunks(const glass_reader *reader, struct reader_lane *lane, glass_stream_stat *stat,
                               uint64_t first, uint64_t count, uint8_t *dst)
{
    size_t plain = (size_t)(count - 1) * CHUNK + glass_chunk_len(reader, first + count - 1);
    size_t sealed = plain + (size_t)count * TAG;
    size_t got = 0;
    GLASS_TRY(glass_read_at(stat, reader->fd, lane->sealed, sealed, reader->stream->header_len + first * SEALED, &got));
    if (got != sealed) {
        return glass_fail(stat, GLASS_ERR_TRUNCATED, GLASS_STREAM_TRUNCATED);
    }
    for (uint64_t i = 0; i < count; i++) {
        glass_status status = glass_chunk_open(lane->cipher, reader->stream->secret, first + i, dst + i * CHUNK,
                                               lane->sealed + i * SEALED, glass_chunk_len(reader, first + i));
        if (status != GLASS_OK) {
            OPENSSL_cleanse(dst, plain);
            return status == GLASS_ERR_AUTH ? glass_fail_chunk(stat, first + i) : status;
        }
    }
    return GLASS_OK;
}

/* As open_chunks, with the leaf check if there is a leaf list. */
GLASS_MUST_USE static glass_status read_chunks(const glass_reader *reader, struct reader_lane *lane,
                                               glass_stream_stat *stat, uint64_t first, uint64_t count, uint8_t *dst)
{
    GLASS_TRY(glass_open_chunks(reader, lane, stat, first, count, dst));
    if (reader->leaves == NULL) {
        return GLASS_OK;
    }
    glass_status status = glass_check_leaves(reader, lane, stat, first, count, dst);
    if (status != GLASS_OK) {
        OPENSSL_cleanse(dst, (size_t)(count - 1) * CHUNK + glass_chunk_len(reader, first + count - 1));
    }
    return status;
}

static int cache_copy(glass_reader *reader, uint64_t chunk, size_t skip, uint8_t *dst, size_t len)
{
    int found = 0;
    (void)pthread_mutex_lock(&reader->lock);
    for (size_t i = 0; i < CACHE_SLOTS && !found; i++) {
        struct slot *slot = &reader->slots[i];
        if (slot->bytes != NULL && slot->used != 0 && slot->chunk == chunk) {
            memcpy(dst, slot->bytes + skip, len);
            slot->used = ++reader->clock;
            found = 1;
        }
    }
    (void)pthread_mutex_unlock(&reader->lock);
    return found;
}

/* Put the lane's bounce buffer, a verified chunk, into the oldest slot and give the lane the slot's buffer. */
static void cache_put(glass_reader *reader, struct reader_lane *lane, uint64_t chunk)
{
    (void)pthread_mutex_lock(&reader->lock);
    struct slot *oldest = &reader->slots[0];
    for (size_t i = 0; i < CACHE_SLOTS; i++) {
        if (reader->slots[i].used < oldest->used) {
            oldest = &reader->slots[i];
        }
    }
    if (oldest->bytes == NULL) {
        oldest->bytes = malloc(CHUNK);
    }
    if (oldest->bytes != NULL) {
        uint8_t *swap = oldest->bytes;
        oldest->bytes = lane->bounce;
        lane->bounce = swap;
        oldest->chunk = chunk;
        oldest->used = ++reader->clock;
    }
    (void)pthread_mutex_unlock(&reader->lock);
}

/* A part of one chunk, through the cache. */
GLASS_MUST_USE static glass_status read_part(glass_reader *reader, struct reader_lane *lane, glass_stream_stat *stat,
                                             uint64_t offset, uint8_t *dst, size_t len)
{
    uint64_t chunk = offset / CHUNK;
    size_t skip = (size_t)(offset % CHUNK);
    if (cache_copy(reader, chunk, skip, dst, len)) {
        return GLASS_OK;
    }
    GLASS_TRY(read_chunks(reader, lane, stat, chunk, 1, lane->bounce));
    memcpy(dst, lane->bounce + skip, len);
    cache_put(reader, lane, chunk);
    return GLASS_OK;
}

struct range_work {
    glass_reader *reader;
    uint64_t first;
    uint64_t count;
    uint8_t *dst;
};

GLASS_MUST_USE static glass_status range_batch(const struct range_work *work, struct reader_lane *lane,
                                               glass_stream_stat *stat, uint64_t unit)
{
    uint64_t start = unit * BATCH;
    uint64_t count = work->count - start < BATCH ? work->count - start : BATCH;
    return read_chunks(work->reader, lane, stat, work->first + start, count, work->dst + start * CHUNK);
}

GLASS_MUST_USE static glass_status range_unit(glass_job *job, glass_lane *unused, glass_stream_stat *stat,
                                              uint64_t unit)
{
    const struct range_work *work = job->work;
    struct reader_lane *lane = NULL;
    (void)unused;
    GLASS_TRY(glass_lane_take(work->reader, &lane));
    glass_status status = range_batch(work, lane, stat, unit);
    glass_lane_give(work->reader, lane);
    glass_progress(job->stat, BATCH * CHUNK);
    return status;
}

/* Whole chunks straight to their place. */
GLASS_MUST_USE static glass_status read_range(const struct range_work *work, struct reader_lane *lane,
                                              glass_stream_stat *stat, int threads)
{
    uint64_t units = (work->count + BATCH - 1) / BATCH;
    if (threads > 1 && units > 1) {
        glass_job job = {.ctx = work->reader->stream->ctx, .in_len = 1, .units = units, .stat = stat,
                         .unit = range_unit, .work = work};
        return glass_job_run(&job, threads);
    }
    for (uint64_t unit = 0; unit < units; unit++) {
        if (glass_cancelled(stat)) {
            return glass_fail(stat, GLASS_ERR_CANCELLED, GLASS_STREAM_CANCEL);
        }
        GLASS_TRY(range_batch(work, lane, stat, unit));
    }
    return GLASS_OK;
}

GLASS_MUST_USE static glass_status read_all(glass_reader *reader, struct reader_lane *lane, glass_stream_stat *stat,
                                            uint8_t *dst, size_t len, uint64_t offset, int threads)
{
    size_t skip = (size_t)(offset % CHUNK);
    if (skip != 0) {
        size_t part = CHUNK - skip < len ? CHUNK - skip : len;
        GLASS_TRY(read_part(reader, lane, stat, offset, dst, part));
        dst += part;
        offset += part;
        len -= part;
    }
    struct range_work work = {.reader = reader, .first = offset / CHUNK, .count = len / CHUNK, .dst = dst};
    if (work.count > 0) {
        GLASS_TRY(read_range(&work, lane, stat, threads));
    }
    size_t rest = len % CHUNK;
    return rest == 0 ? GLASS_OK : read_part(reader, lane, stat, offset + len - rest, dst + len - rest, rest);
}

/* A forged or missing chunk ends the reader; a disk error or a cancel does not. */
static void bury(glass_reader *reader, glass_status status, const glass_stream_stat *stat)
{
    if (status != GLASS_ERR_AUTH && status != GLASS_ERR_TRUNCATED) {
        return;
    }
    (void)pthread_mutex_lock(&reader->lock);
    if (reader->dead == GLASS_OK) {
        reader->dead = status;
        reader->failure = *stat;
    }
    for (size_t i = 0; i < CACHE_SLOTS; i++) {
        reader->slots[i].used = 0;
    }
    (void)pthread_mutex_unlock(&reader->lock);
}

GLASS_MUST_USE static glass_status alive(glass_reader *reader, glass_stream_stat *stat)
{
    (void)pthread_mutex_lock(&reader->lock);
    glass_status status = reader->dead;
    if (status != GLASS_OK) {
        stat->fault = reader->failure.fault;
        stat->chunk = reader->failure.chunk;
    }
    (void)pthread_mutex_unlock(&reader->lock);
    return status;
}

glass_status glass_reader_pread(glass_reader *reader, glass_stream_stat *stat, uint8_t *dst, size_t *got, size_t len,
                                uint64_t offset, int threads)
{
    if (got != NULL) {
        *got = 0;
    }
    if (reader == NULL || stat == NULL || got == NULL || threads < 1 || (dst == NULL && len != 0)) {
        return GLASS_ERR_ARGUMENT;
    }
    GLASS_TRY(alive(reader, stat));
    if (offset >= reader->size || len == 0) {
        return GLASS_OK;
    }
    size_t part = reader->size - offset < len ? (size_t)(reader->size - offset) : len;
    struct reader_lane *lane = NULL;
    glass_status status = glass_lane_take(reader, &lane);
    if (status == GLASS_OK) {
        status = read_all(reader, lane, stat, dst, part, offset, threads);
    }
    glass_lane_give(reader, lane);
    if (status != GLASS_OK) {
        OPENSSL_cleanse(dst, len);
        if (stat->fault == GLASS_STREAM_FINE) {
            stat->fault = status == GLASS_ERR_MEMORY ? GLASS_STREAM_NOMEM : GLASS_STREAM_CRYPTO;
        }
        bury(reader, status, stat);
        return status;
    }
    *got = part;
    stat->bytes = part;
    return GLASS_OK;
}

/* The size that the file's length says, made sure of by the tag of the last chunk. */
GLASS_MUST_USE static glass_status check_size(glass_reader *reader, glass_stream_stat *stat)
{
    struct stat facts;
    struct reader_lane *lane = NULL;
    if (fstat(reader->fd, &facts) != 0) {
        return glass_fail_input(stat, errno);
    }
    if (!S_ISREG(facts.st_mode)) {
        return glass_fail(stat, GLASS_ERR_ARGUMENT, GLASS_STREAM_USAGE);
    }
    if (facts.st_size < 0 || (uint64_t)facts.st_size < reader->stream->header_len) {
        return glass_fail(stat, GLASS_ERR_TRUNCATED, GLASS_STREAM_TRUNCATED);
    }
    GLASS_TRY(glass_payload_size(reader->stream, stat, &reader->size,
                                 (uint64_t)facts.st_size - reader->stream->header_len));
    GLASS_TRY(glass_lane_take(reader, &lane));
    glass_status status = glass_open_chunks(reader, lane, stat, reader->size / CHUNK, 1, lane->bounce);
    glass_lane_give(reader, lane);
    return status;
}

GLASS_MUST_USE static glass_status reader_open(const glass_ctx *ctx, glass_reader **out, glass_stream_stat *stat,
                                               glass_stream *stream, int fd)
{
    (void)ctx;
    glass_reader *reader = calloc(1, sizeof *reader);
    if (reader == NULL || pthread_mutex_init(&reader->lock, NULL) != 0) {
        free(reader);
        glass_stream_free(stream);
        return glass_fail(stat, GLASS_ERR_MEMORY, GLASS_STREAM_NOMEM);
    }
    reader->stream = stream;
    reader->fd = fd;
    glass_status status = check_size(reader, stat);
    if (status != GLASS_OK) {
        glass_reader_free(reader);
        return status;
    }
    *out = reader;
    return GLASS_OK;
}

GLASS_MUST_USE static glass_status read_header(glass_stream_stat *stat, int fd, uint8_t *header, size_t len)
{
    size_t got = 0;
    GLASS_TRY(glass_read_at(stat, fd, header, len, 0, &got));
    return got == len ? GLASS_OK : glass_fail(stat, GLASS_ERR_TRUNCATED, GLASS_STREAM_TRUNCATED);
}

glass_status glass_reader_new(const glass_ctx *ctx, glass_reader **out, glass_stream_stat *stat, const glass_key *key,
                              int fd, const uint8_t *expect, const uint8_t *context, size_t context_len)
{
    uint8_t header[GLASS_STREAM_HEADER];
    glass_stream *stream = NULL;
    if (out == NULL) {
        return GLASS_ERR_ARGUMENT;
    }
    *out = NULL;
    if (ctx == NULL || stat == NULL || key == NULL || (context == NULL && context_len != 0)) {
        return GLASS_ERR_ARGUMENT;
    }
    GLASS_TRY(read_header(stat, fd, header, sizeof header));
    if (expect != NULL && !glass_equal(header, expect, sizeof header)) {
        return glass_fail(stat, GLASS_ERR_AUTH, GLASS_STREAM_HEADER_DIFFERS);
    }
    GLASS_TRY(glass_stream_accept(ctx, &stream, stat, key, header, context, context_len));
    return reader_open(ctx, out, stat, stream, fd);
}

glass_status glass_reader_new_bare(const glass_ctx *ctx, glass_reader **out, glass_stream_stat *stat,
                                   const glass_key *key, int fd, const uint8_t *context, size_t context_len)
{
    uint8_t header[GLASS_STREAM_BARE_HEADER];
    glass_stream *stream = NULL;
    if (out == NULL) {
        return GLASS_ERR_ARGUMENT;
    }
    *out = NULL;
    if (ctx == NULL || stat == NULL || key == NULL || (context == NULL && context_len != 0)) {
        return GLASS_ERR_ARGUMENT;
    }
    GLASS_TRY(read_header(stat, fd, header, sizeof header));
    GLASS_TRY(glass_stream_accept_bare(ctx, &stream, stat, key, header, context, context_len));
    return reader_open(ctx, out, stat, stream, fd);
}

void glass_reader_free(glass_reader *reader)
{
    if (reader == NULL) {
        return;
    }
    while (reader->idle != NULL) {
        struct reader_lane *lane = reader->idle;
        reader->idle = lane->next;
        glass_lane_free(lane);
    }
    for (size_t i = 0; i < CACHE_SLOTS; i++) {
        if (reader->slots[i].bytes != NULL) {
            OPENSSL_cleanse(reader->slots[i].bytes, CHUNK);
            free(reader->slots[i].bytes);
        }
    }
    glass_reader_free(reader->leaves);
    free(reader->pieces);
    free(reader->kept);
    glass_stream_free(reader->stream);
    (void)pthread_mutex_destroy(&reader->lock);
    free(reader);
}

uint64_t glass_reader_size(const glass_reader *reader)
{
    return reader == NULL ? 0 : reader->size;
}

glass_status glass_reader_facts(const glass_reader *reader, glass_stream_facts *out)
{
    return reader == NULL ? GLASS_ERR_ARGUMENT : glass_stream_facts_of(reader->stream, out);
}
