/* The header: 72 bytes of prefix, the salt and the commitment; writing it, accepting it, and what packages derive. */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "stream_internal.h"

#define PREFIX_LEN 72
#define SALT_OFF 72
#define SALT_LEN 24
#define COMMITMENT_OFF 96
#define SUITE_COBBLESTONE_256 2

static const uint8_t MAGIC[8] = {0x89, 'G', 'L', 'A', 'S', 'S', '\r', '\n'};
static const uint8_t ZERO_ID[16] = {0};
static const char ALGORITHM[] = "c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM"; /* with its zero byte */
static const char OUR_CONTEXT[] = "glasscase/v1";                                  /* with its zero byte */

void glass_prefix_put(uint8_t prefix[72], int kind, const uint8_t package_id[16], const uint8_t blob_id[16],
                      uint64_t size, const uint8_t key_id[16])
{
    memset(prefix, 0, PREFIX_LEN);
    memcpy(prefix, MAGIC, sizeof MAGIC);
    prefix[8] = 1;
    prefix[9] = SUITE_COBBLESTONE_256;
    prefix[10] = (uint8_t)kind;
    prefix[13] = PREFIX_LEN; /* big-endian, 2 bytes */
    memcpy(prefix + 16, package_id, 16);
    memcpy(prefix + 32, blob_id, 16);
    put_u64(prefix + 48, size);
    memcpy(prefix + 56, key_id, 16);
}

glass_status glass_message_secret(const glass_ctx *ctx, uint8_t secret[76], const uint8_t key[32],
                                  const uint8_t salt[24], const uint8_t *prefix, const uint8_t *context,
                                  size_t context_len)
{
    uint8_t info[sizeof ALGORITHM + SALT_LEN + sizeof OUR_CONTEXT + PREFIX_LEN + 4 + GLASS_STREAM_BARE_CONTEXT_MAX];
    size_t limit = prefix != NULL ? GLASS_STREAM_CONTEXT_MAX : GLASS_STREAM_BARE_CONTEXT_MAX;
    if (context_len > limit || (context == NULL && context_len != 0)) {
        return GLASS_ERR_LIMIT;
    }
    size_t len = sizeof ALGORITHM;
    memcpy(info, ALGORITHM, len);
    memcpy(info + len, salt, SALT_LEN);
    len += SALT_LEN;
    if (prefix != NULL) {
        memcpy(info + len, OUR_CONTEXT, sizeof OUR_CONTEXT);
        len += sizeof OUR_CONTEXT;
        memcpy(info + len, prefix, PREFIX_LEN);
        len += PREFIX_LEN;
        for (int i = 0; i < 4; i++) {
            info[len++] = (uint8_t)(context_len >> (24 - 8 * i) & 0xff);
        }
    }
    if (context_len != 0) {
        memcpy(info + len, context, context_len);
        len += context_len;
    }
    return glass_expand(ctx, secret, SECRET_LEN, key, info, len);
}

GLASS_MUST_USE static glass_status stream_new(const glass_ctx *ctx, glass_stream **out, int writing)
{
    glass_stream *stream = calloc(1, sizeof *stream);
    if (stream == NULL) {
        return GLASS_ERR_MEMORY;
    }
    stream->ctx = ctx;
    stream->writing = writing;
    stream->header_len = GLASS_STREAM_HEADER;
    stream->size = SIZE_UNKNOWN;
    stream->state = STREAM_FRESH;
    *out = stream;
    return GLASS_OK;
}

void glass_stream_free(glass_stream *stream)
{
    if (stream == NULL) {
        return;
    }
    EVP_CIPHER_CTX_free(stream->cipher);
    if (stream->tail != NULL) {
        OPENSSL_cleanse(stream->tail, SEALED);
        free(stream->tail);
    }
    OPENSSL_cleanse(stream, sizeof *stream);
    free(stream);
}

/* Complete header and secret of a stream that writes, from its prefix and salt. */
GLASS_MUST_USE static glass_status stream_seal_header(glass_stream *stream, const uint8_t key[32],
                                                      const uint8_t *context, size_t context_len)
{
    GLASS_TRY(glass_message_secret(stream->ctx, stream->secret, key, stream->header + SALT_OFF, stream->header,
                                   context, context_len));
    memcpy(stream->header + COMMITMENT_OFF, stream->secret + SECRET_COMMITMENT, 32);
    return GLASS_OK;
}

GLASS_MUST_USE static glass_status draw(uint8_t *out, size_t len)
{
    while (len > 0) {
        ssize_t got = getrandom(out, len, 0);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return GLASS_ERR_LIBCRYPTO;
        }
        out += got;
        len -= (size_t)got;
    }
    return GLASS_OK;
}

GLASS_MUST_USE static glass_status fill_file(glass_stream *stream, const glass_key *key, uint64_t size,
                                             const uint8_t *context, size_t context_len)
{
    uint8_t id[16];
    uint8_t random[16 + SALT_LEN]; /* blob id and salt */
    GLASS_TRY(glass_name_of_key(stream->ctx, id, key->bytes));
    GLASS_TRY(draw(random, sizeof random));
    glass_prefix_put(stream->header, GLASS_STREAM_FILE, ZERO_ID, random, size, id);
    memcpy(stream->header + SALT_OFF, random + 16, SALT_LEN);
    stream->kind = GLASS_STREAM_FILE;
    stream->size = size;
    return stream_seal_header(stream, key->bytes, context, context_len);
}

glass_status glass_stream_create(const glass_ctx *ctx, glass_stream **out, const glass_key *key, uint64_t size,
                                 const uint8_t *context, size_t context_len)
{
    if (out == NULL) {
        return GLASS_ERR_ARGUMENT;
    }
    *out = NULL;
    if (ctx == NULL || key == NULL || (context == NULL && context_len != 0)) {
        return GLASS_ERR_ARGUMENT;
    }
    if (size != SIZE_UNKNOWN && size > SIZE_MAX_PLAIN) {
        return GLASS_ERR_LIMIT;
    }
    glass_stream *stream = NULL;
    GLASS_TRY(stream_new(ctx, &stream, 1));
    glass_status status = fill_file(stream, key, size, context, context_len);
    if (status != GLASS_OK) {
        glass_stream_free(stream);
        return status;
    }
    *out = stream;
    return GLASS_OK;
}

GLASS_MUST_USE static glass_status fill_blob(glass_stream *stream, uint8_t blob_key[32], const glass_key *root,
                                             const uint8_t digest[32], uint64_t size)
{
    const glass_ctx *ctx = stream->ctx;
    uint8_t blob[16];
    uint8_t id[16];
    GLASS_TRY(glass_expand_label(ctx, blob_key, 32, root->bytes, "glasscase/v1/blob-key", digest, &size));
    GLASS_TRY(glass_expand_label(ctx, blob, sizeof blob, root->bytes, "glasscase/v1/blob-id", digest, &size));
    GLASS_TRY(glass_expand_label(ctx, stream->header + SALT_OFF, SALT_LEN, blob_key, "glasscase/v1/salt", digest, &size));
    GLASS_TRY(glass_name_of_key(ctx, id, blob_key));
    glass_prefix_put(stream->header, GLASS_STREAM_BLOB, ZERO_ID, blob, size, id);
    stream->kind = GLASS_STREAM_BLOB;
    stream->size = size;
    memcpy(stream->digest, digest, DIGEST);
    return stream_seal_header(stream, blob_key, NULL, 0);
}

/* As glass_stream_create_blob; `blob_key` gets the blob's own key. */
GLASS_MUST_USE static glass_status blob_new(const glass_ctx *ctx, glass_stream **out, uint8_t blob_key[32],
                                            const glass_key *root, const uint8_t digest[32], uint64_t size)
{
    if (size > SIZE_MAX_PLAIN) {
        return GLASS_ERR_LIMIT;
    }
    glass_stream *stream = NULL;
    GLASS_TRY(stream_new(ctx, &stream, 1));
    glass_status status = fill_blob(stream, blob_key, root, digest, size);
    if (status != GLASS_OK) {
        OPENSSL_cleanse(blob_key, 32);
        glass_stream_free(stream);
        return status;
    }
    *out = stream;
    return GLASS_OK;
}

glass_status glass_stream_create_blob(const glass_ctx *ctx, glass_stream **out, uint8_t *key, const glass_key *root,
                                      const uint8_t digest[32], uint64_t size)
{
    uint8_t blob_key[32];
    if (out == NULL) {
        return GLASS_ERR_ARGUMENT;
    }
    *out = NULL;
    if (ctx == NULL || root == NULL || digest == NULL) {
        return GLASS_ERR_ARGUMENT;
    }
    glass_status status = blob_new(ctx, out, blob_key, root, digest, size);
    if (key != NULL && status == GLASS_OK) {
        memcpy(key, blob_key, sizeof blob_key);
    }
    OPENSSL_cleanse(blob_key, sizeof blob_key);
    return status;
}

glass_status glass_blob_names(const glass_ctx *ctx, uint8_t key[32], uint8_t id[16], uint8_t header[128],
                              const glass_key *root, const uint8_t digest[32], uint64_t size)
{
    glass_stream *stream = NULL;
    if (ctx == NULL || key == NULL || id == NULL || header == NULL || root == NULL || digest == NULL) {
        return GLASS_ERR_ARGUMENT;
    }
    GLASS_TRY(blob_new(ctx, &stream, key, root, digest, size));
    memcpy(id, stream->header + 32, 16);
    memcpy(header, stream->header, GLASS_STREAM_HEADER);
    glass_stream_free(stream);
    return GLASS_OK;
}

glass_status glass_package_id(const glass_ctx *ctx, uint8_t id[16], const glass_key *key,
                              const uint8_t package_digest[32])
{
    if (ctx == NULL || id == NULL || key == NULL || package_digest == NULL) {
        return GLASS_ERR_ARGUMENT;
    }
    return glass_expand_label(ctx, id, 16, key->bytes, "glasscase/v1/package-id", package_digest, NULL);
}

GLASS_MUST_USE static glass_status fill_manifest(glass_stream *stream, const glass_key *key,
                                                 const uint8_t package_digest[32], const uint8_t manifest_digest[32],
                                                 uint64_t size, const uint8_t *context, size_t context_len)
{
    uint8_t package[16];
    uint8_t id[16];
    GLASS_TRY(glass_package_id(stream->ctx, package, key, package_digest));
    GLASS_TRY(glass_expand_label(stream->ctx, stream->header + SALT_OFF, SALT_LEN, key->bytes,
                                 "glasscase/v1/manifest-salt", manifest_digest, NULL));
    GLASS_TRY(glass_name_of_key(stream->ctx, id, key->bytes));
    glass_prefix_put(stream->header, GLASS_STREAM_MANIFEST, package, ZERO_ID, size, id);
    stream->kind = GLASS_STREAM_MANIFEST;
    stream->size = size;
    memcpy(stream->digest, manifest_digest, DIGEST);
    return stream_seal_header(stream, key->bytes, context, context_len);
}

glass_status glass_stream_create_manifest(const glass_ctx *ctx, glass_stream **out, const glass_key *key,
                                          const uint8_t package_digest[32], const uint8_t manifest_digest[32],
                                          uint64_t size, const uint8_t *context, size_t context_len)
{
    if (out == NULL) {
        return GLASS_ERR_ARGUMENT;
    }
    *out = NULL;
    if (ctx == NULL || key == NULL || package_digest == NULL || manifest_digest == NULL ||
        (context == NULL && context_len != 0)) {
        return GLASS_ERR_ARGUMENT;
    }
    if (size > SIZE_MAX_PLAIN) {
        return GLASS_ERR_LIMIT;
    }
    glass_stream *stream = NULL;
    GLASS_TRY(stream_new(ctx, &stream, 1));
    glass_status status = fill_manifest(stream, key, package_digest, manifest_digest, size, context, context_len);
    if (status != GLASS_OK) {
        glass_stream_free(stream);
        return status;
    }
    *out = stream;
    return GLASS_OK;
}

GLASS_MUST_USE static glass_status check_prefix(glass_stream_stat *stat, const uint8_t *header)
{
    if (memcmp(header, MAGIC, sizeof MAGIC) != 0) {
        return glass_fail(stat, GLASS_ERR_FORMAT, GLASS_STREAM_MAGIC);
    }
    if (header[8] > 1) {
        return glass_fail(stat, GLASS_ERR_UNSUPPORTED, GLASS_STREAM_NEWER);
    }
    if (header[8] == 0) {
        return glass_fail(stat, GLASS_ERR_FORMAT, GLASS_STREAM_FIELD);
    }
    if (header[9] != SUITE_COBBLESTONE_256) {
        return glass_fail(stat, GLASS_ERR_UNSUPPORTED, GLASS_STREAM_SUITE);
    }
    int kind = header[10];
    int flags = header[11];
    int prefix_len = header[12] << 8 | header[13];
    int reserved = header[14] | header[15];
    int package_zero = memcmp(header + 16, ZERO_ID, 16) == 0;
    int blob_zero = memcmp(header + 32, ZERO_ID, 16) == 0;
    uint64_t size = get_u64(header + 48);
    int ids = (kind == GLASS_STREAM_FILE && package_zero) || (kind == GLASS_STREAM_BLOB && package_zero) ||
              (kind == GLASS_STREAM_MANIFEST && blob_zero);
    int sized = size <= SIZE_MAX_PLAIN || (kind == GLASS_STREAM_FILE && size == SIZE_UNKNOWN);
    if (flags != 0 || prefix_len != PREFIX_LEN || reserved != 0 || !ids || !sized) {
        return glass_fail(stat, GLASS_ERR_FORMAT, GLASS_STREAM_FIELD);
    }
    return GLASS_OK;
}

/* The secret of a message that is read; the commitment is compared before anything else is done with it. */
GLASS_MUST_USE static glass_status accept(glass_stream *stream, glass_stream_stat *stat, const glass_key *key,
                                          const uint8_t *salt, const uint8_t *prefix, const uint8_t *context,
                                          size_t context_len)
{
    glass_status status = glass_message_secret(stream->ctx, stream->secret, key->bytes, salt, prefix, context,
                                               context_len);
    if (status != GLASS_OK) {
        return glass_fail(stat, status, status == GLASS_ERR_LIMIT ? GLASS_STREAM_USAGE : GLASS_STREAM_CRYPTO);
    }
    if (!glass_equal(stream->secret + SECRET_COMMITMENT, salt + SALT_LEN, 32)) {
        return glass_fail(stat, GLASS_ERR_AUTH, GLASS_STREAM_COMMIT);
    }
    return GLASS_OK;
}

GLASS_MUST_USE static glass_status accept_ours(glass_stream *stream, glass_stream_stat *stat, const glass_key *key,
                                               const uint8_t *context, size_t context_len)
{
    uint8_t id[16];
    GLASS_TRY(check_prefix(stat, stream->header));
    GLASS_TRY(glass_name_of_key(stream->ctx, id, key->bytes));
    if (!glass_equal(id, stream->header + 56, 16)) {
        return glass_fail(stat, GLASS_ERR_AUTH, GLASS_STREAM_KEY_ID);
    }
    stream->kind = stream->header[10];
    stream->size = get_u64(stream->header + 48);
    return accept(stream, stat, key, stream->header + SALT_OFF, stream->header, context, context_len);
}

static int accept_arguments(const glass_ctx *ctx, glass_stream **out, const glass_stream_stat *stat,
                            const glass_key *key, const uint8_t *header, const uint8_t *context, size_t context_len)
{
    if (out != NULL) {
        *out = NULL;
    }
    return ctx != NULL && out != NULL && stat != NULL && key != NULL && header != NULL &&
           (context != NULL || context_len == 0);
}

glass_status glass_stream_accept(const glass_ctx *ctx, glass_stream **out, glass_stream_stat *stat, const glass_key *key,
                                 const uint8_t header[128], const uint8_t *context, size_t context_len)
{
    if (!accept_arguments(ctx, out, stat, key, header, context, context_len)) {
        return GLASS_ERR_ARGUMENT;
    }
    glass_stream *stream = NULL;
    GLASS_TRY(stream_new(ctx, &stream, 0));
    memcpy(stream->header, header, GLASS_STREAM_HEADER);
    glass_status status = accept_ours(stream, stat, key, context, context_len);
    if (status != GLASS_OK) {
        glass_stream_free(stream);
        return status;
    }
    *out = stream;
    return GLASS_OK;
}

glass_status glass_stream_accept_bare(const glass_ctx *ctx, glass_stream **out, glass_stream_stat *stat,
                                      const glass_key *key, const uint8_t header[56], const uint8_t *context,
                                      size_t context_len)
{
    if (!accept_arguments(ctx, out, stat, key, header, context, context_len)) {
        return GLASS_ERR_ARGUMENT;
    }
    glass_stream *stream = NULL;
    GLASS_TRY(stream_new(ctx, &stream, 0));
    memcpy(stream->header, header, GLASS_STREAM_BARE_HEADER);
    stream->header_len = GLASS_STREAM_BARE_HEADER;
    glass_status status = accept(stream, stat, key, stream->header, NULL, context, context_len);
    if (status != GLASS_OK) {
        glass_stream_free(stream);
        return status;
    }
    *out = stream;
    return GLASS_OK;
}

glass_status glass_stream_facts_of(const glass_stream *stream, glass_stream_facts *out)
{
    if (stream == NULL || out == NULL) {
        return GLASS_ERR_ARGUMENT;
    }
    memset(out, 0, sizeof *out);
    out->kind = stream->kind;
    out->size = stream->size;
    memcpy(out->header, stream->header, stream->header_len);
    if (stream->header_len == GLASS_STREAM_BARE_HEADER) {
        out->bare = 1;
        return GLASS_OK;
    }
    memcpy(out->package_id, stream->header + 16, 16);
    memcpy(out->blob_id, stream->header + 32, 16);
    memcpy(out->key_id, stream->header + 56, 16);
    return GLASS_OK;
}
