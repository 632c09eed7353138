/* Random access to one message. Ciphertext is always read into private memory first and decrypted from there, because
 * the file may be changed by somebody else between two looks at it. What the cache holds is verified plaintext. */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "stream_internal.h"

#define CACHE_SLOTS 64                   /* chunks: 1 MiB */
#define LEAVES_OF_CHUNK (CHUNK / DIGEST) /* 512 leaves, of 8 MiB, in one chunk of the leaf list */
#define PIECES_OF_CHUNK (LEAVES_OF_CHUNK / PIECE_CHUNKS)

struct slot {
    uint8_t *bytes;
    size_t len;
    uint64_t chunk;
    uint64_t used;
};

/* What one reading thread needs; `leaves` is one decrypted chunk of the leaf list, of which the pieces in `checked` have
 * been compared with the piece digests since it was decrypted. */
struct reader_lane {
    struct reader_lane *next;
    EVP_CIPHER_CTX *cipher;
    EVP_MD_CTX *md;
    uint8_t *sealed; /* BATCH * SEALED */
    uint8_t *bounce; /* CHUNK */
    uint8_t *leaves; /* CHUNK, or NULL */
    size_t leaves_len;
    uint64_t leaves_chunk;
    unsigned int checked;
};

struct glass_reader {
    glass_stream *stream;
    int fd;
    uint64_t size;
    glass_reader *leaves; /* NULL: no leaf check */
    uint8_t *pieces;
    pthread_mutex_t lock; /* all below */
    struct reader_lane *idle;
    struct slot slots[CACHE_SLOTS];
    uint64_t clock;
    glass_status dead;
    glass_stream_stat failure;
};

static void lane_free(struct reader_lane *lane)
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
    lane->leaves = reader->leaves == NULL ? NULL : malloc(CHUNK);
    if (lane->md == NULL || lane->sealed == NULL || lane->bounce == NULL ||
        (reader->leaves != NULL && lane->leaves == NULL)) {
        return GLASS_ERR_MEMORY;
    }
    return glass_cipher_new(reader->stream->ctx, &lane->cipher, reader->stream->secret, 0);
}

GLASS_MUST_USE static glass_status lane_take(glass_reader *reader, struct reader_lane **out)
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
        lane_free(*out);
        *out = NULL;
    }
    return status;
}

static void lane_give(glass_reader *reader, struct reader_lane *lane)
{
    if (lane == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&reader->lock);
    lane->next = reader->idle;
    reader->idle = lane;
    (void)pthread_mutex_unlock(&reader->lock);
}

static size_t chunk_len(const glass_reader *reader, uint64_t chunk)
{
    uint64_t left = reader->size - chunk * CHUNK;
    return left < CHUNK ? (size_t)left : CHUNK;
}

/* Decrypt `count` <= BATCH chunks from `first` to `dst`, which is wiped on failure; no leaf check. */
GLASS_MUST_USE static glass_status open_chunks(const glass_reader *reader, struct reader_lane *lane,
                                               glass_stream_stat *stat, uint64_t first, uint64_t count, uint8_t *dst)
{
    size_t plain = (size_t)(count - 1) * CHUNK + chunk_len(reader, first + count - 1);
    size_t sealed = plain + (size_t)count * TAG;
    size_t got = 0;
    GLASS_TRY(glass_read_at(stat, reader->fd, lane->sealed, sealed, reader->stream->header_len + first * SEALED, &got));
    if (got != sealed) {
        return glass_fail(stat, GLASS_ERR_TRUNCATED, GLASS_STREAM_TRUNCATED);
    }
    for (uint64_t i = 0; i < count; i++) {
        glass_status status = glass_chunk_open(lane->cipher, reader->stream->secret, first + i, dst + i * CHUNK,
                                               lane->sealed + i * SEALED, chunk_len(reader, first + i));
        if (status != GLASS_OK) {
            OPENSSL_cleanse(dst, plain);
            return status == GLASS_ERR_AUTH ? glass_fail_chunk(stat, first + i) : status;
        }
    }
    return GLASS_OK;
}

/* The leaf of a chunk, out of a piece of the leaf list that was just compared with its digest in private memory. */
GLASS_MUST_USE static glass_status leaf_of(const glass_reader *reader, struct reader_lane *lane,
                                           glass_stream_stat *stat, uint64_t chunk, const uint8_t **leaf)
{
    uint64_t list_chunk = chunk / LEAVES_OF_CHUNK;
    size_t index = (size_t)(chunk % LEAVES_OF_CHUNK);
    size_t piece = index / PIECE_CHUNKS;
    if (lane->leaves_len == 0 || lane->leaves_chunk != list_chunk) {
        struct reader_lane *own = NULL;
        lane->leaves_len = 0;
        lane->checked = 0;
        GLASS_TRY(lane_take(reader->leaves, &own));
        glass_status status = open_chunks(reader->leaves, own, stat, list_chunk, 1, lane->leaves);
        lane_give(reader->leaves, own);
        GLASS_TRY(status);
        lane->leaves_chunk = list_chunk;
        lane->leaves_len = chunk_len(reader->leaves, list_chunk);
    }
    if ((lane->checked >> piece & 1U) == 0) {
        uint8_t digest[DIGEST];
        size_t start = piece * PIECE_CHUNKS * DIGEST;
        size_t len = lane->leaves_len - start < PIECE_CHUNKS * DIGEST ? lane->leaves_len - start : PIECE_CHUNKS * DIGEST;
        GLASS_TRY(glass_hash(reader->stream->ctx, lane->md, digest, lane->leaves + start, len));
        if (!glass_equal(digest, reader->pieces + (list_chunk * PIECES_OF_CHUNK + piece) * DIGEST, DIGEST)) {
            stat->chunk = chunk;
            return glass_fail(stat, GLASS_ERR_AUTH, GLASS_STREAM_LEAF);
        }
        lane->checked |= 1U << piece;
    }
    *leaf = lane->leaves + index * DIGEST;
    return GLASS_OK;
}

GLASS_MUST_USE static glass_status check_leaves(const glass_reader *reader, struct reader_lane *lane,
                                                glass_stream_stat *stat, uint64_t first, uint64_t count,
                                                const uint8_t *plain)
{
    for (uint64_t i = 0; i < count && first + i < (reader->size + CHUNK - 1) / CHUNK; i++) {
        uint8_t digest[DIGEST];
        const uint8_t *leaf = NULL;
        GLASS_TRY(leaf_of(reader, lane, stat, first + i, &leaf));
        GLASS_TRY(glass_hash(reader->stream->ctx, lane->md, digest, plain + i * CHUNK, chunk_len(reader, first + i)));
        if (!glass_equal(digest, leaf, DIGEST)) {
            stat->chunk = first + i;
            return glass_fail(stat, GLASS_ERR_AUTH, GLASS_STREAM_LEAF);
        }
    }
    return GLASS_OK;
}

/* As open_chunks, with the leaf check if there is a leaf list. */
GLASS_MUST_USE static glass_status read_chunks(const glass_reader *reader, struct reader_lane *lane,
                                               glass_stream_stat *stat, uint64_t first, uint64_t count, uint8_t *dst)
{
    GLASS_TRY(open_chunks(reader, lane, stat, first, count, dst));
    if (reader->leaves == NULL) {
        return GLASS_OK;
    }
    glass_status status = check_leaves(reader, lane, stat, first, count, dst);
    if (status != GLASS_OK) {
        OPENSSL_cleanse(dst, (size_t)(count - 1) * CHUNK + chunk_len(reader, first + count - 1));
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
    GLASS_TRY(lane_take(work->reader, &lane));
    glass_status status = range_batch(work, lane, stat, unit);
    lane_give(work->reader, lane);
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
    glass_status status = lane_take(reader, &lane);
    if (status == GLASS_OK) {
        status = read_all(reader, lane, stat, dst, part, offset, threads);
    }
    lane_give(reader, lane);
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
        return glass_fail_errno(stat, errno);
    }
    if (!S_ISREG(facts.st_mode)) {
        return glass_fail(stat, GLASS_ERR_ARGUMENT, GLASS_STREAM_USAGE);
    }
    if (facts.st_size < 0 || (uint64_t)facts.st_size < reader->stream->header_len) {
        return glass_fail(stat, GLASS_ERR_TRUNCATED, GLASS_STREAM_TRUNCATED);
    }
    GLASS_TRY(glass_payload_size(reader->stream, stat, &reader->size,
                                 (uint64_t)facts.st_size - reader->stream->header_len));
    GLASS_TRY(lane_take(reader, &lane));
    glass_status status = open_chunks(reader, lane, stat, reader->size / CHUNK, 1, lane->bounce);
    lane_give(reader, lane);
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
        lane_free(lane);
    }
    for (size_t i = 0; i < CACHE_SLOTS; i++) {
        if (reader->slots[i].bytes != NULL) {
            OPENSSL_cleanse(reader->slots[i].bytes, CHUNK);
            free(reader->slots[i].bytes);
        }
    }
    glass_reader_free(reader->leaves);
    free(reader->pieces);
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

/* Hash the whole leaf list, one chunk of it after the other, to piece digests and those to the content digest. */
GLASS_MUST_USE static glass_status hash_list(const glass_reader *list, struct reader_lane *lane,
                                             glass_stream_stat *stat, uint8_t *pieces, size_t pieces_len,
                                             const uint8_t digest[32])
{
    uint8_t all[DIGEST];
    size_t step = PIECE_CHUNKS * DIGEST;
    for (uint64_t chunk = 0; chunk * CHUNK < list->size; chunk++) {
        size_t len = chunk_len(list, chunk);
        GLASS_TRY(open_chunks(list, lane, stat, chunk, 1, lane->bounce));
        for (size_t done = 0; done < len; done += step) {
            uint8_t *piece = pieces + (chunk * PIECES_OF_CHUNK + done / step) * DIGEST;
            size_t part = len - done < step ? len - done : step;
            GLASS_TRY(glass_hash(list->stream->ctx, lane->md, piece, lane->bounce + done, part));
        }
    }
    GLASS_TRY(glass_sha256(list->stream->ctx, all, pieces, pieces_len));
    return glass_equal(all, digest, DIGEST) ? GLASS_OK : glass_fail(stat, GLASS_ERR_AUTH, GLASS_STREAM_LEAF);
}

glass_status glass_reader_set_leaves(glass_reader *reader, glass_stream_stat *stat, glass_reader *leaves,
                                     const uint8_t digest[32])
{
    struct reader_lane *lane = NULL;
    if (reader == NULL || stat == NULL || leaves == NULL || digest == NULL || reader->leaves != NULL) {
        glass_reader_free(leaves);
        return GLASS_ERR_ARGUMENT;
    }
    uint64_t chunks = reader->size / CHUNK + (reader->size % CHUNK != 0);
    size_t pieces = (size_t)(reader->size / PIECE + (reader->size % PIECE != 0));
    if (leaves->size != chunks * DIGEST) {
        glass_reader_free(leaves);
        return glass_fail(stat, GLASS_ERR_AUTH, GLASS_STREAM_LEAF);
    }
    uint8_t *digests = calloc(pieces + 1, DIGEST);
    glass_status status = digests == NULL ? GLASS_ERR_MEMORY : lane_take(leaves, &lane);
    if (status == GLASS_OK) {
        status = hash_list(leaves, lane, stat, digests, pieces * DIGEST, digest);
    }
    lane_give(leaves, lane);
    if (status != GLASS_OK) {
        free(digests);
        glass_reader_free(leaves);
        return stat->fault != GLASS_STREAM_FINE ? status : glass_fail(stat, status, GLASS_STREAM_CRYPTO);
    }
    while (reader->idle != NULL) { /* lanes made before have no room for leaves */
        struct reader_lane *old = reader->idle;
        reader->idle = old->next;
        lane_free(old);
    }
    for (size_t i = 0; i < CACHE_SLOTS; i++) {
        reader->slots[i].used = 0;
    }
    reader->pieces = digests;
    reader->leaves = leaves;
    return GLASS_OK;
}
