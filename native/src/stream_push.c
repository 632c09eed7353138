/* Messages in memory and in parts: for pipes, for small files, and as the simplest form of the format. */
#include <stdlib.h>

#include "stream_internal.h"

/* After a failure the stream keeps answering the same. */
GLASS_MUST_USE static glass_status push_failed(glass_stream *stream, glass_stream_stat *stat, glass_status status)
{
    stream->state = STREAM_FAILED;
    if (stat->fault == GLASS_STREAM_FINE) {
        stat->fault = status == GLASS_ERR_MEMORY ? GLASS_STREAM_NOMEM : GLASS_STREAM_CRYPTO;
    }
    stream->failure = *stat;
    if (stream->tail != NULL) {
        OPENSSL_cleanse(stream->tail, SEALED);
    }
    return status;
}

GLASS_MUST_USE static glass_status push_start(glass_stream *stream)
{
    stream->tail = malloc(SEALED);
    if (stream->tail == NULL) {
        return GLASS_ERR_MEMORY;
    }
    GLASS_TRY(glass_cipher_new(stream->ctx, &stream->cipher, stream->secret, stream->writing));
    stream->state = STREAM_PUSHING;
    return GLASS_OK;
}

static size_t unit_of(const glass_stream *stream)
{
    return stream->writing ? CHUNK : SEALED;
}

size_t glass_stream_push_bound(const glass_stream *stream, size_t in_len)
{
    if (stream == NULL || in_len > SIZE_MAX / 4) {
        return SIZE_MAX;
    }
    size_t chunks = (in_len + stream->tail_len) / unit_of(stream);
    if (!stream->writing) {
        return chunks * CHUNK;
    }
    return chunks * SEALED + (stream->state == STREAM_FRESH ? GLASS_STREAM_HEADER : 0);
}

/* One whole chunk or the last one: `len` bytes of input at `in`. */
GLASS_MUST_USE static glass_status push_chunk(glass_stream *stream, glass_stream_stat *stat, uint8_t *out,
                                              size_t *out_len, const uint8_t *in, size_t len)
{
    size_t plain = stream->writing ? len : len - TAG;
    if (stream->bytes + plain > SIZE_MAX_PLAIN) {
        return glass_fail(stat, GLASS_ERR_LIMIT, GLASS_STREAM_SIZE);
    }
    if (stream->size != SIZE_UNKNOWN && stream->bytes + plain > stream->size) {
        return glass_fail(stat, stream->writing ? GLASS_ERR_CHANGED : GLASS_ERR_FORMAT,
                          stream->writing ? GLASS_STREAM_SIZE : GLASS_STREAM_TRAILING);
    }
    if (stream->writing) {
        GLASS_TRY(glass_chunk_seal(stream->cipher, stream->secret, stream->next, out + *out_len, in, plain));
        *out_len += plain + TAG;
    } else {
        glass_status status = glass_chunk_open(stream->cipher, stream->secret, stream->next, out + *out_len, in, plain);
        if (status != GLASS_OK) {
            return status == GLASS_ERR_AUTH ? glass_fail_chunk(stat, stream->next) : status;
        }
        *out_len += plain;
    }
    stream->next++;
    stream->bytes += plain;
    glass_progress(stat, plain);
    return GLASS_OK;
}

GLASS_MUST_USE static glass_status push_all(glass_stream *stream, glass_stream_stat *stat, uint8_t *out,
                                            size_t *out_len, const uint8_t *in, size_t in_len)
{
    size_t unit = unit_of(stream);
    if (stream->tail_len > 0) {
        size_t part = unit - stream->tail_len < in_len ? unit - stream->tail_len : in_len;
        if (part > 0) {
            memcpy(stream->tail + stream->tail_len, in, part);
        }
        stream->tail_len += part;
        in += part;
        in_len -= part;
        if (stream->tail_len == unit) {
            stream->tail_len = 0;
            GLASS_TRY(push_chunk(stream, stat, out, out_len, stream->tail, unit));
        }
    }
    for (; in_len >= unit; in += unit, in_len -= unit) {
        GLASS_TRY(push_chunk(stream, stat, out, out_len, in, unit));
    }
    if (in_len > 0) {
        memcpy(stream->tail + stream->tail_len, in, in_len);
        stream->tail_len += in_len;
    }
    return GLASS_OK;
}

/* Ready for more input? A blob's or manifest's content must be known whole, so it cannot be pushed. */
GLASS_MUST_USE static glass_status push_ready(glass_stream *stream, glass_stream_stat *stat)
{
    if (stream->state == STREAM_FAILED && stream->failure.fault != GLASS_STREAM_FINE) {
        stat->chunk = stream->failure.chunk;
        return glass_fail(stat, GLASS_ERR_STATE, stream->failure.fault);
    }
    if (stream->state == STREAM_DONE || stream->state == STREAM_FAILED ||
        (stream->writing && stream->kind != GLASS_STREAM_FILE)) {
        return glass_fail(stat, GLASS_ERR_STATE, GLASS_STREAM_USAGE);
    }
    if (stream->state == STREAM_FRESH) {
        glass_status status = push_start(stream);
        return status == GLASS_OK ? GLASS_OK : push_failed(stream, stat, status);
    }
    return GLASS_OK;
}

glass_status glass_stream_push(glass_stream *stream, glass_stream_stat *stat, uint8_t *out, size_t out_cap,
                               size_t *out_len, const uint8_t *in, size_t in_len)
{
    if (stream == NULL || stat == NULL || out_len == NULL || (in == NULL && in_len != 0)) {
        return GLASS_ERR_ARGUMENT;
    }
    *out_len = 0;
    int fresh = stream->state == STREAM_FRESH;
    size_t bound = glass_stream_push_bound(stream, in_len);
    if (out_cap < bound || (out == NULL && bound != 0)) {
        return glass_fail(stat, GLASS_ERR_ARGUMENT, GLASS_STREAM_USAGE);
    }
    GLASS_TRY(push_ready(stream, stat));
    if (fresh && stream->writing) {
        memcpy(out, stream->header, GLASS_STREAM_HEADER);
        *out_len = GLASS_STREAM_HEADER;
    }
    glass_status status = push_all(stream, stat, out, out_len, in, in_len);
    stat->bytes = stream->bytes;
    return status == GLASS_OK ? GLASS_OK : push_failed(stream, stat, status);
}

GLASS_MUST_USE static glass_status finish(glass_stream *stream, glass_stream_stat *stat, uint8_t *out, size_t *out_len)
{
    if (!stream->writing && stream->tail_len < TAG) {
        return glass_fail(stat, GLASS_ERR_TRUNCATED, GLASS_STREAM_TRUNCATED);
    }
    GLASS_TRY(push_chunk(stream, stat, out, out_len, stream->tail, stream->tail_len));
    if (stream->size != SIZE_UNKNOWN && stream->bytes != stream->size) {
        *out_len = 0;
        return glass_fail(stat, stream->writing ? GLASS_ERR_CHANGED : GLASS_ERR_TRUNCATED,
                          stream->writing ? GLASS_STREAM_SIZE : GLASS_STREAM_TRUNCATED);
    }
    return GLASS_OK;
}

glass_status glass_stream_finish(glass_stream *stream, glass_stream_stat *stat, uint8_t *out, size_t out_cap,
                                 size_t *out_len)
{
    if (stream == NULL || stat == NULL || out_len == NULL || out == NULL) {
        return GLASS_ERR_ARGUMENT;
    }
    *out_len = 0;
    if (out_cap < GLASS_STREAM_HEADER + SEALED) {
        return glass_fail(stat, GLASS_ERR_ARGUMENT, GLASS_STREAM_USAGE);
    }
    int fresh = stream->state == STREAM_FRESH;
    GLASS_TRY(push_ready(stream, stat));
    if (fresh && stream->writing) {
        memcpy(out, stream->header, GLASS_STREAM_HEADER);
        *out_len = GLASS_STREAM_HEADER;
    }
    glass_status status = finish(stream, stat, out, out_len);
    stat->bytes = stream->bytes;
    if (status != GLASS_OK) {
        return push_failed(stream, stat, status);
    }
    stream->state = STREAM_DONE;
    return GLASS_OK;
}

glass_status glass_content_digest(const glass_ctx *ctx, uint8_t digest[32], const uint8_t *data, size_t data_len)
{
    uint8_t leaves[PIECE_CHUNKS * DIGEST];
    uint8_t piece[DIGEST];
    if (ctx == NULL || digest == NULL || (data == NULL && data_len != 0)) {
        return GLASS_ERR_ARGUMENT;
    }
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    EVP_MD_CTX *all = EVP_MD_CTX_new();
    unsigned int written = 0;
    glass_status status = md == NULL || all == NULL ? GLASS_ERR_MEMORY
                          : EVP_DigestInit_ex2(all, ctx->sha256, NULL) == 1 ? GLASS_OK : GLASS_ERR_LIBCRYPTO;
    for (size_t done = 0; status == GLASS_OK && done < data_len; done += PIECE) {
        size_t part = data_len - done < PIECE ? data_len - done : PIECE;
        status = glass_hash_leaves(ctx, md, leaves, data + done, part);
        if (status == GLASS_OK) {
            status = glass_hash(ctx, md, piece, leaves, (part + CHUNK - 1) / CHUNK * DIGEST);
        }
        if (status == GLASS_OK && EVP_DigestUpdate(all, piece, DIGEST) != 1) {
            status = GLASS_ERR_LIBCRYPTO;
        }
    }
    if (status == GLASS_OK && (EVP_DigestFinal_ex(all, digest, &written) != 1 || written != DIGEST)) {
        status = GLASS_ERR_LIBCRYPTO;
    }
    EVP_MD_CTX_free(all);
    EVP_MD_CTX_free(md);
    return status;
}

/* The content is the one that key and salt were derived from. */
GLASS_MUST_USE static glass_status check_content(const glass_stream *stream, glass_stream_stat *stat,
                                                 const uint8_t *data, size_t data_len)
{
    uint8_t digest[DIGEST];
    if (stream->size != SIZE_UNKNOWN && stream->size != data_len) {
        return glass_fail(stat, GLASS_ERR_CHANGED, GLASS_STREAM_SIZE);
    }
    if (stream->kind == GLASS_STREAM_FILE) {
        return GLASS_OK;
    }
    if (stream->kind == GLASS_STREAM_MANIFEST) {
        GLASS_TRY(glass_sha256(stream->ctx, digest, data, data_len));
    } else {
        GLASS_TRY(glass_content_digest(stream->ctx, digest, data, data_len));
    }
    return glass_equal(digest, stream->digest, DIGEST) ? GLASS_OK
                                                       : glass_fail(stat, GLASS_ERR_CHANGED, GLASS_STREAM_CHANGED);
}

GLASS_MUST_USE static glass_status run_whole(glass_stream *stream, glass_stream_stat *stat, uint8_t *out,
                                             size_t *out_len, const uint8_t *data, size_t data_len)
{
    size_t unit = unit_of(stream);
    while (data_len >= unit) {
        if (glass_cancelled(stat)) {
            return glass_fail(stat, GLASS_ERR_CANCELLED, GLASS_STREAM_CANCEL);
        }
        GLASS_TRY(push_chunk(stream, stat, out, out_len, data, unit));
        data += unit;
        data_len -= unit;
    }
    return push_chunk(stream, stat, out, out_len, data, data_len);
}

glass_status glass_stream_encrypt(glass_stream *stream, glass_stream_stat *stat, uint8_t *out, size_t out_cap,
                                  size_t *out_len, const uint8_t *data, size_t data_len)
{
    static const uint8_t nothing = 0;
    if (stream == NULL || stat == NULL || out == NULL || out_len == NULL || (data == NULL && data_len != 0)) {
        return GLASS_ERR_ARGUMENT;
    }
    *out_len = 0;
    if (!stream->writing || stream->state != STREAM_FRESH) {
        return glass_fail(stat, GLASS_ERR_STATE, GLASS_STREAM_USAGE);
    }
    if (data_len > SIZE_MAX_PLAIN || out_cap < GLASS_STREAM_HEADER + glass_payload_len(data_len)) {
        return glass_fail(stat, GLASS_ERR_ARGUMENT, GLASS_STREAM_USAGE);
    }
    stream->state = STREAM_FAILED; /* until all is well: a stream writes once */
    GLASS_TRY(check_content(stream, stat, data, data_len));
    GLASS_TRY(glass_cipher_new(stream->ctx, &stream->cipher, stream->secret, 1));
    memcpy(out, stream->header, GLASS_STREAM_HEADER);
    *out_len = GLASS_STREAM_HEADER;
    glass_status status = run_whole(stream, stat, out, out_len, data != NULL ? data : &nothing, data_len);
    if (status != GLASS_OK) {
        *out_len = 0;
        return status;
    }
    stat->bytes = data_len;
    stream->state = STREAM_DONE;
    return GLASS_OK;
}

glass_status glass_stream_decrypt(glass_stream *stream, glass_stream_stat *stat, uint8_t *out, size_t out_cap,
                                  size_t *out_len, uint8_t *digest, const uint8_t *data, size_t data_len)
{
    if (stream == NULL || stat == NULL || out_len == NULL || (data == NULL && data_len != 0)) {
        return GLASS_ERR_ARGUMENT;
    }
    *out_len = 0;
    if (stream->writing || stream->state != STREAM_FRESH) {
        return glass_fail(stat, GLASS_ERR_STATE, GLASS_STREAM_USAGE);
    }
    stream->state = STREAM_FAILED;
    uint64_t size = 0;
    GLASS_TRY(glass_payload_size(stream, stat, &size, data_len));
    if (out == NULL || out_cap < size) {
        return glass_fail(stat, GLASS_ERR_ARGUMENT, GLASS_STREAM_USAGE);
    }
    GLASS_TRY(glass_cipher_new(stream->ctx, &stream->cipher, stream->secret, 0));
    glass_status status = run_whole(stream, stat, out, out_len, data, data_len);
    if (status == GLASS_OK && digest != NULL) {
        status = glass_content_digest(stream->ctx, digest, out, *out_len);
    }
    if (status != GLASS_OK) {
        OPENSSL_cleanse(out, *out_len);
        *out_len = 0;
        return status;
    }
    stat->bytes = size;
    stream->state = STREAM_DONE;
    return GLASS_OK;
}
