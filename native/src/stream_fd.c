/* Regular files, whole messages, with threads. A unit of work is one piece (1 MiB): one read, one write. Smaller writes make two
 * threads wait for each other more often, because a file takes one writer at a time. */
#include <errno.h>
#include <stdlib.h>

#include "stream_internal.h"

struct file_work {
    glass_stream *stream;
    int in;
    int out; /* -1: nothing is written */
    uint64_t in_off;  /* of the first byte of plaintext or of the first chunk */
    uint64_t out_off;
    uint64_t size;    /* plaintext */
    const uint8_t *expect; /* piece digests that the input must have, or NULL */
    uint8_t *pieces;       /* piece digests that are computed, or NULL */
    uint8_t *leaves;
};

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* A buffer for `cap` bytes, less if the message is smaller: small files need no large memory. */
static size_t buffer_len(uint64_t need, size_t cap)
{
    return need < cap ? (size_t)need + 1 : cap;
}

static uint64_t piece_count(uint64_t size)
{
    return size / PIECE + (size % PIECE != 0);
}

static uint64_t leaf_count(uint64_t size)
{
    return size / CHUNK + (size % CHUNK != 0);
}

/* Read plaintext of the input that must be there: the file was this long a moment ago. */
GLASS_MUST_USE static glass_status read_plain(const struct file_work *work, glass_stream_stat *stat, uint8_t *out,
                                              size_t len, uint64_t position)
{
    size_t got = 0;
    GLASS_TRY(glass_read_at(stat, work->in, out, len, work->in_off + position, &got));
    return got == len ? GLASS_OK : glass_fail(stat, GLASS_ERR_CHANGED, GLASS_STREAM_CHANGED);
}

GLASS_MUST_USE static glass_status hash_piece(const glass_ctx *ctx, glass_lane *lane, uint8_t piece[32],
                                              uint8_t *leaves, const uint8_t *data, size_t len)
{
    uint8_t own[PIECE_CHUNKS * DIGEST];
    uint8_t *where = leaves != NULL ? leaves : own;
    GLASS_TRY(glass_hash_leaves(ctx, lane->md, where, data, len));
    return glass_hash(ctx, lane->md, piece, where, (size_t)leaf_count(len) * DIGEST);
}

/* Encrypt the chunks from `first` to before `end`, whose plaintext of `len` bytes is in lane->in, and write them; the header stands
 * before the first. */
GLASS_MUST_USE static glass_status seal_piece(const struct file_work *work, glass_lane *lane, glass_stream_stat *stat,
                                              uint64_t first, uint64_t end, size_t len)
{
    size_t filled = 0;
    if (first == 0) {
        memcpy(lane->out, work->stream->header, GLASS_STREAM_HEADER);
        filled = GLASS_STREAM_HEADER;
    }
    for (uint64_t chunk = first; chunk < end; chunk++) {
        size_t done = (size_t)(chunk - first) * CHUNK;
        size_t part = len - done < CHUNK ? len - done : CHUNK;
        GLASS_TRY(glass_chunk_seal(lane->cipher, work->stream->secret, chunk, lane->out + filled, lane->in + done, part));
        filled += part + TAG;
    }
    uint64_t where = first == 0 ? work->out_off : work->out_off + GLASS_STREAM_HEADER + first * SEALED;
    return glass_write_at(stat, work->out, lane->out, filled, where);
}

GLASS_MUST_USE static glass_status encrypt_unit(glass_job *job, glass_lane *lane, glass_stream_stat *stat,
                                                uint64_t unit)
{
    const struct file_work *work = job->work;
    uint64_t first = unit * PIECE_CHUNKS;
    uint64_t start = unit * PIECE;
    size_t len = (size_t)min_u64(PIECE, work->size - start);
    GLASS_TRY(read_plain(work, stat, lane->in, len, start));
    if (work->expect != NULL && len > 0) { /* the whole piece is compared before any of it is encrypted */
        uint8_t piece[DIGEST];
        GLASS_TRY(hash_piece(job->ctx, lane, piece, NULL, lane->in, len));
        if (!glass_equal(piece, work->expect + unit * DIGEST, DIGEST)) {
            return glass_fail(stat, GLASS_ERR_CHANGED, GLASS_STREAM_CHANGED);
        }
    }
    GLASS_TRY(seal_piece(work, lane, stat, first, min_u64(first + PIECE_CHUNKS, work->size / CHUNK + 1), len));
    glass_progress(job->stat, len);
    return GLASS_OK;
}

/* Decrypt the chunks from `first` to before `end` into lane->out; `*len` bytes. */
GLASS_MUST_USE static glass_status open_piece(const struct file_work *work, glass_lane *lane, glass_stream_stat *stat,
                                              uint64_t first, uint64_t end, size_t *len)
{
    uint64_t start = first * CHUNK;
    size_t plain = (size_t)(min_u64(end * CHUNK, work->size) - start);
    size_t sealed = plain + (size_t)(end - first) * TAG;
    size_t got = 0;
    *len = 0;
    GLASS_TRY(glass_read_at(stat, work->in, lane->in, sealed, work->in_off + first * SEALED, &got));
    if (got != sealed) {
        return glass_fail(stat, GLASS_ERR_TRUNCATED, GLASS_STREAM_TRUNCATED);
    }
    for (uint64_t chunk = first; chunk < end; chunk++) {
        size_t done = (size_t)(chunk - first) * CHUNK;
        size_t part = plain - done < CHUNK ? plain - done : CHUNK;
        glass_status status = glass_chunk_open(lane->cipher, work->stream->secret, chunk, lane->out + done,
                                               lane->in + (chunk - first) * SEALED, part);
        if (status != GLASS_OK) {
            OPENSSL_cleanse(lane->out, lane->out_len);
            return status == GLASS_ERR_AUTH ? glass_fail_chunk(stat, chunk) : status;
        }
    }
    *len = plain;
    return GLASS_OK;
}

GLASS_MUST_USE static glass_status decrypt_unit(glass_job *job, glass_lane *lane, glass_stream_stat *stat,
                                                uint64_t unit)
{
    const struct file_work *work = job->work;
    uint64_t first = unit * PIECE_CHUNKS;
    size_t len = 0;
    GLASS_TRY(open_piece(work, lane, stat, first, min_u64(first + PIECE_CHUNKS, work->size / CHUNK + 1), &len));
    if (work->pieces != NULL && len > 0) {
        GLASS_TRY(hash_piece(job->ctx, lane, work->pieces + unit * DIGEST, NULL, lane->out, len));
    }
    if (work->out >= 0 && len > 0) {
        GLASS_TRY(glass_write_at(stat, work->out, lane->out, len, work->out_off + unit * PIECE));
    }
    glass_progress(job->stat, len);
    return GLASS_OK;
}

GLASS_MUST_USE static glass_status digest_unit(glass_job *job, glass_lane *lane, glass_stream_stat *stat,
                                               uint64_t unit)
{
    const struct file_work *work = job->work;
    size_t len = (size_t)min_u64(PIECE, work->size - unit * PIECE);
    uint8_t *leaves = work->leaves == NULL ? NULL : work->leaves + unit * PIECE_CHUNKS * DIGEST;
    GLASS_TRY(read_plain(work, stat, lane->in, len, unit * PIECE));
    GLASS_TRY(hash_piece(job->ctx, lane, work->pieces + unit * DIGEST, leaves, lane->in, len));
    glass_progress(job->stat, len);
    return GLASS_OK;
}

GLASS_MUST_USE static glass_status regular(glass_stream_stat *stat, int fd, struct stat *facts)
{
    if (fstat(fd, facts) != 0) {
        return glass_fail_input(stat, errno);
    }
    return S_ISREG(facts->st_mode) ? GLASS_OK : glass_fail(stat, GLASS_ERR_ARGUMENT, GLASS_STREAM_USAGE);
}

/* Nothing stands behind the length that the file has: those of the kernel state one that they do not have. */
GLASS_MUST_USE static glass_status check_end(glass_stream_stat *stat, int fd, uint64_t end)
{
    uint8_t more = 0;
    size_t got = 0;
    GLASS_TRY(glass_read_at(stat, fd, &more, 1, end, &got));
    return got == 0 ? GLASS_OK : glass_fail(stat, GLASS_ERR_CHANGED, GLASS_STREAM_CHANGED);
}

/* The input is as long as stated, and after the work it is the same file as before. */
GLASS_MUST_USE static glass_status run_on_file(glass_job *job, int threads, int in, uint64_t offset, uint64_t size)
{
    struct stat before;
    GLASS_TRY(regular(job->stat, in, &before));
    if (before.st_size < 0 || (uint64_t)before.st_size < offset || (uint64_t)before.st_size - offset != size) {
        return glass_fail(job->stat, GLASS_ERR_CHANGED, GLASS_STREAM_SIZE);
    }
    GLASS_TRY(glass_job_run(job, threads));
    GLASS_TRY(check_end(job->stat, in, offset + size));
    return glass_unchanged(job->stat, in, &before, 1);
}

/* The pieces are those of the digest that key and salt came from. */
GLASS_MUST_USE static glass_status check_pieces(const glass_stream *stream, glass_stream_stat *stat,
                                                const uint8_t *pieces, size_t pieces_len)
{
    uint8_t digest[DIGEST];
    if (stream->kind == GLASS_STREAM_FILE) {
        return pieces == NULL ? GLASS_OK : glass_fail(stat, GLASS_ERR_ARGUMENT, GLASS_STREAM_USAGE);
    }
    if (stream->kind != GLASS_STREAM_BLOB || pieces_len != piece_count(stream->size) * DIGEST ||
        (pieces == NULL && pieces_len != 0)) {
        return glass_fail(stat, GLASS_ERR_ARGUMENT, GLASS_STREAM_USAGE);
    }
    GLASS_TRY(glass_sha256(stream->ctx, digest, pieces, pieces_len));
    return glass_equal(digest, stream->digest, DIGEST) ? GLASS_OK
                                                       : glass_fail(stat, GLASS_ERR_CHANGED, GLASS_STREAM_CHANGED);
}

glass_status glass_stream_encrypt_fd(glass_stream *stream, glass_stream_stat *stat, int in, uint64_t in_off, int out,
                                     uint64_t out_off, const uint8_t *pieces, size_t pieces_len, int threads)
{
    if (stream == NULL || stat == NULL || threads < 1) {
        return GLASS_ERR_ARGUMENT;
    }
    if (!stream->writing || stream->state != STREAM_FRESH) {
        return glass_fail(stat, GLASS_ERR_STATE, GLASS_STREAM_USAGE);
    }
    stream->state = STREAM_FAILED; /* until all is well: a stream writes once */
    if (stream->size == SIZE_UNKNOWN) {
        return glass_fail(stat, GLASS_ERR_ARGUMENT, GLASS_STREAM_USAGE);
    }
    GLASS_TRY(check_pieces(stream, stat, pieces, pieces_len));
    int blob = stream->kind == GLASS_STREAM_BLOB;
    static const uint8_t nothing = 0;
    const struct file_work work = {.stream = stream, .in = in, .out = out, .in_off = in_off,
                                   .out_off = out_off, .size = stream->size,
                                   .expect = blob ? (pieces != NULL ? pieces : &nothing) : NULL};
    glass_job job = {.ctx = stream->ctx, .secret = stream->secret, .writing = 1,
                     .in_len = buffer_len(stream->size, PIECE),
                     .out_len = buffer_len(GLASS_STREAM_HEADER + glass_payload_len(stream->size), SEALED_PIECE),
                     .units = stream->size / PIECE + 1, .stat = stat, .unit = encrypt_unit, .work = &work};
    GLASS_TRY(run_on_file(&job, threads, in, in_off, stream->size));
    stat->bytes = stream->size;
    stream->state = STREAM_DONE;
    return GLASS_OK;
}

GLASS_MUST_USE static glass_status decrypt_file(glass_stream *stream, glass_stream_stat *stat, uint8_t *digest,
                                                uint8_t *pieces, const struct file_work *base, int threads)
{
    struct file_work work = *base;
    work.pieces = pieces;
    glass_job job = {.ctx = stream->ctx, .secret = stream->secret, .writing = 0,
                     .in_len = buffer_len(glass_payload_len(work.size), SEALED_PIECE),
                     .out_len = buffer_len(work.size, PIECE), .units = work.size / PIECE + 1, .stat = stat,
                     .unit = decrypt_unit, .work = &work};
    GLASS_TRY(glass_job_run(&job, threads));
    stat->bytes = work.size;
    return digest == NULL ? GLASS_OK
                          : glass_sha256(stream->ctx, digest, pieces, (size_t)piece_count(work.size) * DIGEST);
}

glass_status glass_stream_decrypt_fd(glass_stream *stream, glass_stream_stat *stat, uint8_t *digest, int in,
                                     uint64_t in_off, int out, uint64_t out_off, int threads)
{
    struct stat facts;
    uint8_t *pieces = NULL;
    if (stream == NULL || stat == NULL || threads < 1) {
        return GLASS_ERR_ARGUMENT;
    }
    if (stream->writing || stream->state != STREAM_FRESH) {
        return glass_fail(stat, GLASS_ERR_STATE, GLASS_STREAM_USAGE);
    }
    stream->state = STREAM_FAILED;
    GLASS_TRY(regular(stat, in, &facts));
    uint64_t start = in_off + stream->header_len;
    if (facts.st_size < 0 || (uint64_t)facts.st_size < start || start < in_off) {
        return glass_fail(stat, GLASS_ERR_TRUNCATED, GLASS_STREAM_TRUNCATED);
    }
    struct file_work work = {.stream = stream, .in = in, .out = out, .in_off = start, .out_off = out_off};
    GLASS_TRY(glass_payload_size(stream, stat, &work.size, (uint64_t)facts.st_size - start));
    if (digest != NULL) {
        pieces = calloc((size_t)piece_count(work.size) + 1, DIGEST);
        if (pieces == NULL) {
            return glass_fail(stat, GLASS_ERR_MEMORY, GLASS_STREAM_NOMEM);
        }
    }
    glass_status status = decrypt_file(stream, stat, digest, pieces, &work, threads);
    free(pieces);
    if (status == GLASS_OK) {
        status = glass_unchanged(stat, in, &facts, 0);
    }
    if (status == GLASS_OK) {
        stream->state = STREAM_DONE;
    }
    return status;
}

glass_status glass_content_digest_fd(const glass_ctx *ctx, glass_stream_stat *stat, uint8_t digest[32], uint8_t *pieces,
                                     size_t pieces_len, uint8_t *leaves, size_t leaves_len, int in, uint64_t offset,
                                     uint64_t size, int threads)
{
    if (ctx == NULL || stat == NULL || digest == NULL || threads < 1) {
        return GLASS_ERR_ARGUMENT;
    }
    if (size > SIZE_MAX_PLAIN || pieces_len != piece_count(size) * DIGEST || (pieces == NULL && pieces_len != 0) ||
        (leaves != NULL && leaves_len != leaf_count(size) * DIGEST)) {
        return glass_fail(stat, GLASS_ERR_ARGUMENT, GLASS_STREAM_USAGE);
    }
    const struct file_work work = {.in = in, .out = -1, .in_off = offset, .size = size, .pieces = pieces,
                                   .leaves = leaves};
    glass_job job = {.ctx = ctx, .in_len = buffer_len(size, PIECE), .units = piece_count(size), .stat = stat, .unit = digest_unit,
                     .work = &work};
    GLASS_TRY(run_on_file(&job, threads, in, offset, size));
    stat->bytes = size;
    return glass_sha256(ctx, digest, pieces, pieces_len);
}
