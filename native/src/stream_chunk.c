/* One chunk, one digest, one read, one write, one failure: what every path through the stream code is made of. */
#include <errno.h>
#include <openssl/err.h>
#include <unistd.h>

#include "stream_internal.h"

glass_status glass_fail(glass_stream_stat *stat, glass_status status, int fault)
{
    stat->fault = fault;
    return status;
}

glass_status glass_fail_chunk(glass_stream_stat *stat, uint64_t chunk)
{
    stat->chunk = chunk;
    return glass_fail(stat, GLASS_ERR_AUTH, GLASS_STREAM_TAG_FAILED);
}

glass_status glass_fail_input(glass_stream_stat *stat, int number)
{
    stat->os_errno = number;
    return glass_fail(stat, GLASS_ERR_IO, GLASS_STREAM_IO);
}

glass_status glass_fail_output(glass_stream_stat *stat, int number)
{
    int full = number == ENOSPC || number == EDQUOT || number == EFBIG;
    stat->os_errno = number;
    return glass_fail(stat, GLASS_ERR_IO, full ? GLASS_STREAM_NOSPACE : GLASS_STREAM_OUTPUT);
}

int glass_cancelled(const glass_stream_stat *stat)
{
    return __atomic_load_n(&stat->cancel, __ATOMIC_RELAXED) != 0;
}

void glass_progress(glass_stream_stat *stat, uint64_t bytes)
{
    (void)__atomic_add_fetch(&stat->progress, bytes, __ATOMIC_RELAXED);
}

glass_status glass_cipher_new(const glass_ctx *ctx, EVP_CIPHER_CTX **out, const uint8_t *secret, int writing)
{
    EVP_CIPHER_CTX *cipher = EVP_CIPHER_CTX_new();
    if (cipher == NULL) {
        return GLASS_ERR_MEMORY;
    }
    if (EVP_CipherInit_ex2(cipher, ctx->aes_256_gcm, secret + SECRET_KEY, NULL, writing, NULL) != 1) {
        EVP_CIPHER_CTX_free(cipher);
        return GLASS_ERR_LIBCRYPTO;
    }
    *out = cipher;
    return GLASS_OK;
}

/* nonce = base nonce XOR the chunk's number, which stands in the last eight bytes. */
static void chunk_nonce(uint8_t nonce[12], const uint8_t *secret, uint64_t number)
{
    uint8_t counter[8];
    put_u64(counter, number);
    memcpy(nonce, secret + SECRET_NONCE, 12);
    for (size_t i = 0; i < sizeof counter; i++) {
        nonce[4 + i] ^= counter[i];
    }
}

glass_status glass_chunk_seal(EVP_CIPHER_CTX *cipher, const uint8_t *secret, uint64_t number, uint8_t *out,
                              const uint8_t *in, size_t len)
{
    uint8_t nonce[12];
    int written = 0;
    int rest = 0;
    chunk_nonce(nonce, secret, number);
    if (len > CHUNK || EVP_EncryptInit_ex2(cipher, NULL, NULL, nonce, NULL) != 1) {
        return GLASS_ERR_LIBCRYPTO;
    }
    if (len > 0 && EVP_EncryptUpdate(cipher, out, &written, in, (int)len) != 1) {
        return GLASS_ERR_LIBCRYPTO;
    }
    if (EVP_EncryptFinal_ex(cipher, out + written, &rest) != 1 || (size_t)(written + rest) != len ||
        EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_GET_TAG, (int)TAG, out + len) != 1) {
        return GLASS_ERR_LIBCRYPTO;
    }
    return GLASS_OK;
}

glass_status glass_chunk_open(EVP_CIPHER_CTX *cipher, const uint8_t *secret, uint64_t number, uint8_t *out,
                              const uint8_t *in, size_t len)
{
    uint8_t nonce[12];
    uint8_t tag[TAG];
    int written = 0;
    int rest = 0;
    chunk_nonce(nonce, secret, number);
    memcpy(tag, in + len, TAG);
    if (len > CHUNK || EVP_DecryptInit_ex2(cipher, NULL, NULL, nonce, NULL) != 1 ||
        EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_SET_TAG, (int)TAG, tag) != 1) {
        return GLASS_ERR_LIBCRYPTO;
    }
    if (len > 0 && EVP_DecryptUpdate(cipher, out, &written, in, (int)len) != 1) {
        OPENSSL_cleanse(out, len);
        return GLASS_ERR_LIBCRYPTO;
    }
    ERR_set_mark(); /* the error queue belongs to whoever else uses libcrypto in this thread */
    int good = EVP_DecryptFinal_ex(cipher, out + written, &rest);
    (void)ERR_pop_to_mark();
    if (good != 1 || (size_t)(written + rest) != len) {
        OPENSSL_cleanse(out, len);
        return GLASS_ERR_AUTH;
    }
    return GLASS_OK;
}

glass_status glass_hash(const glass_ctx *ctx, EVP_MD_CTX *md, uint8_t *out, const uint8_t *data, size_t len)
{
    unsigned int written = 0;
    if (EVP_DigestInit_ex2(md, ctx->sha256, NULL) != 1 || EVP_DigestUpdate(md, data, len) != 1 ||
        EVP_DigestFinal_ex(md, out, &written) != 1 || written != DIGEST) {
        return GLASS_ERR_LIBCRYPTO;
    }
    return GLASS_OK;
}

glass_status glass_hash_leaves(const glass_ctx *ctx, EVP_MD_CTX *md, uint8_t *leaves, const uint8_t *data, size_t len)
{
    for (size_t done = 0; done < len; done += CHUNK) {
        size_t part = len - done < CHUNK ? len - done : CHUNK;
        GLASS_TRY(glass_hash(ctx, md, leaves + done / CHUNK * DIGEST, data + done, part));
    }
    return GLASS_OK;
}

uint64_t glass_payload_len(uint64_t size)
{
    return size + TAG * (size / CHUNK + 1);
}

glass_status glass_payload_size(const glass_stream *stream, glass_stream_stat *stat, uint64_t *size,
                                uint64_t payload_len)
{
    *size = 0;
    if (stream->size != SIZE_UNKNOWN) {
        uint64_t stated = glass_payload_len(stream->size);
        if (payload_len < stated) {
            return glass_fail(stat, GLASS_ERR_TRUNCATED, GLASS_STREAM_TRUNCATED);
        }
        if (payload_len > stated) {
            return glass_fail(stat, GLASS_ERR_FORMAT, GLASS_STREAM_TRAILING);
        }
        *size = stream->size;
        return GLASS_OK;
    }
    uint64_t whole = payload_len / SEALED;
    uint64_t last = payload_len % SEALED;
    if (last < TAG) { /* the last chunk is shorter than the others but never without a tag */
        return glass_fail(stat, GLASS_ERR_TRUNCATED, GLASS_STREAM_TRUNCATED);
    }
    *size = whole * CHUNK + last - TAG;
    if (*size > SIZE_MAX_PLAIN) {
        return glass_fail(stat, GLASS_ERR_LIMIT, GLASS_STREAM_SIZE);
    }
    return GLASS_OK;
}

glass_status glass_read_at(glass_stream_stat *stat, int fd, uint8_t *out, size_t len, uint64_t offset, size_t *got)
{
    *got = 0;
    while (*got < len) {
        ssize_t part = pread(fd, out + *got, len - *got, (off_t)(offset + *got));
        if (part < 0 && errno == EINTR) {
            continue;
        }
        if (part < 0) {
            return glass_fail_input(stat, errno);
        }
        if (part == 0) {
            return GLASS_OK;
        }
        *got += (size_t)part;
    }
    return GLASS_OK;
}

glass_status glass_write_at(glass_stream_stat *stat, int fd, const uint8_t *data, size_t len, uint64_t offset)
{
    size_t done = 0;
    while (done < len) {
        ssize_t part = pwrite(fd, data + done, len - done, (off_t)(offset + done));
        if (part < 0 && errno == EINTR) {
            continue;
        }
        if (part <= 0) {
            return glass_fail_output(stat, part < 0 ? errno : EIO);
        }
        done += (size_t)part;
    }
    return GLASS_OK;
}

glass_status glass_unchanged(glass_stream_stat *stat, int fd, const struct stat *before, int writing)
{
    struct stat after;
    if (fstat(fd, &after) != 0) {
        return glass_fail_input(stat, errno);
    }
    int touched = before->st_mtim.tv_sec != after.st_mtim.tv_sec || before->st_mtim.tv_nsec != after.st_mtim.tv_nsec;
    if (before->st_size != after.st_size || (writing && touched)) {
        return glass_fail(stat, GLASS_ERR_CHANGED, GLASS_STREAM_CHANGED);
    }
    return GLASS_OK;
}
