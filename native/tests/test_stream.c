/* The stream code through every path: memory, push, descriptors with 1 to 8 threads, reader; and what each must refuse. */
#include <fcntl.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "stream_reader.h"

#define MAX_PLAIN ((size_t)5 * 1048576 + 40000)
#define MAX_SEALED (MAX_PLAIN + 128 + (MAX_PLAIN / 16384 + 1) * 16)

static glass_ctx *ctx;
static glass_key *key;
static uint8_t plain[MAX_PLAIN];
static uint8_t sealed[MAX_SEALED];
static uint8_t opened[MAX_PLAIN + 16];

static int temporary(void)
{
    char name[] = "/tmp/glass-stream-XXXXXX";
    int fd = mkstemp(name);
    CHECK(fd >= 0);
    CHECK(unlink(name) == 0);
    return fd;
}

static void put(int fd, const uint8_t *data, size_t len)
{
    CHECK(ftruncate(fd, 0) == 0);
    CHECK(pwrite(fd, data, len, 0) == (ssize_t)len);
}

static size_t seal(size_t len)
{
    glass_stream_stat stat = {0};
    glass_stream *stream = NULL;
    size_t out_len = 0;
    CHECK_STATUS(GLASS_OK, glass_stream_create(ctx, &stream, key, len, NULL, 0));
    CHECK_STATUS(GLASS_OK, glass_stream_encrypt(stream, &stat, sealed, sizeof sealed, &out_len, plain, len));
    CHECK(out_len == 128 + len + 16 * (len / 16384 + 1));
    CHECK_STATUS(GLASS_ERR_STATE, glass_stream_encrypt(stream, &stat, sealed, sizeof sealed, &out_len, plain, len));
    glass_stream_free(stream);
    return 128 + len + 16 * (len / 16384 + 1);
}

static glass_status open_memory(size_t sealed_len, size_t *len, glass_stream_stat *stat)
{
    glass_stream *stream = NULL;
    glass_status status = glass_stream_accept(ctx, &stream, stat, key, sealed, NULL, 0);
    *len = 0;
    if (status == GLASS_OK) {
        status = glass_stream_decrypt(stream, stat, opened, sizeof opened, len, NULL, sealed + 128, sealed_len - 128);
    }
    glass_stream_free(stream);
    return status;
}

static glass_status open_fd(int fd, int out, int threads, glass_stream_stat *stat)
{
    uint8_t header[128] = {0};
    glass_stream *stream = NULL;
    uint8_t digest[32];
    CHECK(pread(fd, header, sizeof header, 0) == 128);
    glass_status status = glass_stream_accept(ctx, &stream, stat, key, header, NULL, 0);
    if (status == GLASS_OK) {
        status = glass_stream_decrypt_fd(stream, stat, digest, fd, 0, out, 0, threads);
    }
    glass_stream_free(stream);
    return status;
}

static glass_status open_push(size_t sealed_len, size_t step, size_t *len, glass_stream_stat *stat)
{
    glass_stream *stream = NULL;
    glass_status status = glass_stream_accept(ctx, &stream, stat, key, sealed, NULL, 0);
    *len = 0;
    for (size_t at = 128; status == GLASS_OK && at < sealed_len; at += step) {
        size_t part = sealed_len - at < step ? sealed_len - at : step;
        size_t got = 0;
        CHECK(glass_stream_push_bound(stream, part) <= sizeof opened - *len);
        status = glass_stream_push(stream, stat, opened + *len, sizeof opened - *len, &got, sealed + at, part);
        *len += got;
    }
    if (status == GLASS_OK) {
        uint8_t last[128 + 16400];
        size_t got = 0;
        status = glass_stream_finish(stream, stat, last, sizeof last, &got);
        memcpy(opened + *len, last, got);
        *len += got;
    }
    if (stream != NULL && status != GLASS_OK) { /* a failed stream stays failed */
        uint8_t more[20000];
        size_t got = 1;
        CHECK_STATUS(GLASS_ERR_STATE, glass_stream_push(stream, stat, more, sizeof more, &got, more, 10));
        CHECK(got == 0);
    }
    glass_stream_free(stream);
    return status;
}

static void test_sizes(void)
{
    static const size_t sizes[] = {0, 1, 16383, 16384, 16385, 32768, 262144, 1048575, 1048576, 1048577, MAX_PLAIN};
    int in = temporary();
    int out = temporary();
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t n = seal(sizes[i]);
        size_t len = 0;
        glass_stream_stat stat = {0};
        CHECK_STATUS(GLASS_OK, open_memory(n, &len, &stat));
        CHECK(len == sizes[i] && memcmp(opened, plain, len) == 0);
        CHECK_STATUS(GLASS_OK, open_push(n, 7001, &len, &stat));
        CHECK(len == sizes[i] && memcmp(opened, plain, len) == 0);
        put(in, sealed, n);
        for (int threads = 1; threads <= 8; threads++) {
            CHECK(ftruncate(out, 0) == 0);
            CHECK_STATUS(GLASS_OK, open_fd(in, out, threads, &stat));
            memset(opened, 0, sizeof opened);
            CHECK(pread(out, opened, sizeof opened, 0) == (ssize_t)sizes[i]);
            CHECK(memcmp(opened, plain, sizes[i]) == 0);
        }
    }
    CHECK(close(in) == 0 && close(out) == 0);
}

static void test_encrypt_fd(void)
{
    glass_stream_stat stat = {0};
    int in = temporary();
    int out = temporary();
    put(in, plain, MAX_PLAIN);
    for (int threads = 1; threads <= 3; threads++) {
        glass_stream *stream = NULL;
        size_t len = 0;
        CHECK_STATUS(GLASS_OK, glass_stream_create(ctx, &stream, key, MAX_PLAIN, NULL, 0));
        CHECK_STATUS(GLASS_OK, glass_stream_encrypt_fd(stream, &stat, in, 0, out, 0, NULL, 0, threads));
        CHECK_STATUS(GLASS_ERR_STATE, glass_stream_encrypt_fd(stream, &stat, in, 0, out, 0, NULL, 0, threads));
        glass_stream_free(stream);
        CHECK(pread(out, sealed, sizeof sealed, 0) == (ssize_t)MAX_SEALED);
        CHECK_STATUS(GLASS_OK, open_memory(MAX_SEALED, &len, &stat));
        CHECK(len == MAX_PLAIN && memcmp(opened, plain, len) == 0);
    }
    glass_stream *stream = NULL; /* the file has another length than stated */
    CHECK_STATUS(GLASS_OK, glass_stream_create(ctx, &stream, key, MAX_PLAIN - 1, NULL, 0));
    CHECK_STATUS(GLASS_ERR_CHANGED, glass_stream_encrypt_fd(stream, &stat, in, 0, out, 0, NULL, 0, 2));
    CHECK(stat.fault == GLASS_STREAM_SIZE);
    glass_stream_free(stream);
    CHECK(close(in) == 0 && close(out) == 0);
}

static void test_blob(void)
{
    static uint8_t pieces[6 * 32];
    uint8_t digest[32];
    uint8_t same[32];
    static uint8_t first[MAX_SEALED];
    glass_stream_stat stat = {0};
    int in = temporary();
    int out = temporary();
    put(in, plain, MAX_PLAIN);
    CHECK_STATUS(GLASS_OK, glass_content_digest_fd(ctx, &stat, digest, pieces, sizeof pieces, NULL, 0, in, 0, MAX_PLAIN, 2));
    CHECK_STATUS(GLASS_OK, glass_content_digest(ctx, same, plain, MAX_PLAIN));
    CHECK(memcmp(digest, same, 32) == 0);
    for (int threads = 1; threads <= 8; threads++) {
        glass_stream *stream = NULL;
        CHECK_STATUS(GLASS_OK, glass_stream_create_blob(ctx, &stream, NULL, key, digest, MAX_PLAIN));
        CHECK_STATUS(GLASS_OK, glass_stream_encrypt_fd(stream, &stat, in, 0, out, 0, pieces, sizeof pieces, threads));
        glass_stream_free(stream);
        CHECK(pread(out, threads == 1 ? first : sealed, MAX_SEALED, 0) == (ssize_t)MAX_SEALED);
        CHECK(threads == 1 || memcmp(first, sealed, MAX_SEALED) == 0);
    }
    glass_stream *stream = NULL; /* in memory: the same bytes */
    size_t len = 0;
    CHECK_STATUS(GLASS_OK, glass_stream_create_blob(ctx, &stream, NULL, key, digest, MAX_PLAIN));
    CHECK_STATUS(GLASS_OK, glass_stream_encrypt(stream, &stat, sealed, sizeof sealed, &len, plain, MAX_PLAIN));
    CHECK(len == MAX_SEALED && memcmp(first, sealed, len) == 0);
    glass_stream_free(stream);
    plain[MAX_PLAIN / 2] ^= 1; /* other content under the same names is refused, in memory and in a file */
    put(in, plain, MAX_PLAIN);
    CHECK_STATUS(GLASS_OK, glass_stream_create_blob(ctx, &stream, NULL, key, digest, MAX_PLAIN));
    CHECK_STATUS(GLASS_ERR_CHANGED, glass_stream_encrypt(stream, &stat, sealed, sizeof sealed, &len, plain, MAX_PLAIN));
    CHECK(len == 0);
    glass_stream_free(stream);
    CHECK_STATUS(GLASS_OK, glass_stream_create_blob(ctx, &stream, NULL, key, digest, MAX_PLAIN));
    CHECK_STATUS(GLASS_ERR_CHANGED, glass_stream_encrypt_fd(stream, &stat, in, 0, out, 0, pieces, sizeof pieces, 2));
    glass_stream_free(stream);
    plain[MAX_PLAIN / 2] ^= 1;
    pieces[0] ^= 1; /* pieces that are not those of the digest */
    CHECK_STATUS(GLASS_OK, glass_stream_create_blob(ctx, &stream, NULL, key, digest, MAX_PLAIN));
    CHECK_STATUS(GLASS_ERR_CHANGED, glass_stream_encrypt_fd(stream, &stat, in, 0, out, 0, pieces, sizeof pieces, 2));
    glass_stream_free(stream);
    CHECK_STATUS(GLASS_OK, glass_stream_create_blob(ctx, &stream, NULL, key, digest, MAX_PLAIN)); /* no push for blobs */
    CHECK_STATUS(GLASS_ERR_STATE, glass_stream_push(stream, &stat, sealed, sizeof sealed, &len, plain, 10));
    glass_stream_free(stream);
    CHECK(close(in) == 0 && close(out) == 0);
}

/* Every bit of the header: refused, nothing comes out. */
static void test_header_bits(void)
{
    size_t n = seal(40000);
    for (size_t bit = 0; bit < 128 * 8; bit++) {
        glass_stream_stat stat = {0};
        size_t len = 1;
        sealed[bit / 8] ^= (uint8_t)(1U << (bit % 8));
        CHECK(open_memory(n, &len, &stat) != GLASS_OK);
        CHECK(len == 0 && stat.fault != GLASS_STREAM_FINE);
        sealed[bit / 8] ^= (uint8_t)(1U << (bit % 8));
    }
}

static void test_lowest_chunk(void)
{
    size_t n = seal(MAX_PLAIN);
    int in = temporary();
    sealed[128 + (size_t)150 * 16400 + 7] ^= 1;
    sealed[128 + (size_t)77 * 16400 + 7] ^= 1;
    sealed[128 + (size_t)301 * 16400 + 7] ^= 1;
    put(in, sealed, n);
    for (int threads = 1; threads <= 8; threads++) {
        glass_stream_stat stat = {0};
        CHECK_STATUS(GLASS_ERR_AUTH, open_fd(in, -1, threads, &stat));
        CHECK(stat.fault == GLASS_STREAM_TAG_FAILED && stat.chunk == 77);
    }
    glass_stream_stat stat = {0};
    size_t len = 0;
    CHECK_STATUS(GLASS_ERR_AUTH, open_push(n, 100000, &len, &stat));
    CHECK(len == (size_t)77 * 16384 && memcmp(opened, plain, len) == 0);
    CHECK(close(in) == 0);
}

static void test_cancel(void)
{
    size_t n = seal(MAX_PLAIN);
    int in = temporary();
    glass_stream_stat stat = {.cancel = 1};
    put(in, sealed, n);
    CHECK_STATUS(GLASS_ERR_CANCELLED, open_fd(in, -1, 2, &stat));
    CHECK(stat.fault == GLASS_STREAM_CANCEL);
    CHECK(close(in) == 0);
}

static void test_reader(void)
{
    size_t n = seal(MAX_PLAIN);
    int in = temporary();
    put(in, sealed, n);
    glass_stream_stat stat = {0};
    glass_reader *reader = NULL;
    CHECK_STATUS(GLASS_OK, glass_reader_new(ctx, &reader, &stat, key, in, sealed, NULL, 0));
    CHECK(glass_reader_size(reader) == MAX_PLAIN);
    uint64_t seed = 1;
    for (int i = 0; i < 400; i++) {
        seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
        size_t offset = (size_t)(seed >> 33) % (MAX_PLAIN + 10);
        size_t want = (size_t)(seed >> 20) % (i % 3 == 0 ? 900000 : 40000);
        size_t got = 0;
        CHECK_STATUS(GLASS_OK, glass_reader_pread(reader, &stat, opened, &got, want, offset, 1 + i % 3));
        size_t rest = offset > MAX_PLAIN ? 0 : MAX_PLAIN - offset;
        CHECK(got == (want < rest ? want : rest) && memcmp(opened, plain + offset, got) == 0);
    }
    sealed[128 + (size_t)100 * 16400 + 3] ^= 1; /* the host changes a chunk after the reader was opened */
    put(in, sealed, n);
    size_t got = 1;
    memset(opened, 7, 300000);
    CHECK_STATUS(GLASS_ERR_AUTH, glass_reader_pread(reader, &stat, opened, &got, 300000, 99 * 16384, 2));
    CHECK(got == 0 && stat.chunk == 100);
    for (size_t i = 0; i < 300000; i++) {
        CHECK(opened[i] == 0);
    }
    CHECK_STATUS(GLASS_ERR_AUTH, glass_reader_pread(reader, &stat, opened, &got, 10, 0, 1)); /* and it stays dead */
    glass_reader_free(reader);
    sealed[5] ^= 1;
    CHECK_STATUS(GLASS_ERR_AUTH, glass_reader_new(ctx, &reader, &stat, key, in, sealed, NULL, 0));
    CHECK(reader == NULL && stat.fault == GLASS_STREAM_HEADER_DIFFERS);
    CHECK(ftruncate(in, (off_t)n - 1) == 0);
    CHECK_STATUS(GLASS_ERR_TRUNCATED, glass_reader_new(ctx, &reader, &stat, key, in, NULL, NULL, 0));
    CHECK(close(in) == 0);
}

static int blob_file(const uint8_t *data, size_t len, const uint8_t *root_digest, glass_key **blob_key)
{
    glass_stream_stat stat = {0};
    glass_stream *stream = NULL;
    uint8_t raw[32];
    uint8_t id[16];
    uint8_t header[128];
    size_t n = 0;
    int fd = temporary();
    CHECK_STATUS(GLASS_OK, glass_stream_create_blob(ctx, &stream, NULL, key, root_digest, len));
    CHECK_STATUS(GLASS_OK, glass_stream_encrypt(stream, &stat, sealed, sizeof sealed, &n, data, len));
    glass_stream_free(stream);
    CHECK_STATUS(GLASS_OK, glass_blob_names(ctx, raw, id, header, key, root_digest, len));
    CHECK(memcmp(header, sealed, 128) == 0 && memcmp(id, sealed + 32, 16) == 0);
    CHECK_STATUS(GLASS_OK, glass_key_new(ctx, blob_key, raw));
    put(fd, sealed, n);
    return fd;
}

static int flip(int fd, off_t at)
{
    uint8_t byte = 0;
    if (pread(fd, &byte, 1, at) != 1) {
        return -1;
    }
    byte ^= 1;
    return pwrite(fd, &byte, 1, at) == 1 ? 0 : -1;
}

/* The leaf list of a file above 2 GiB is not kept in memory but decrypted and compared again; `reader` then does the same. */
static void as_if_long(glass_reader *reader)
{
    CHECK(reader->kept != NULL && reader->idle == NULL);
    free(reader->kept);
    reader->kept = NULL;
}

/* A key holder serves authentic chunks of other content: the leaf list notices it at each read. */
static void test_leaves(int long_list)
{
    static uint8_t leaves[(MAX_PLAIN / 16384 + 1) * 32];
    static uint8_t pieces[6 * 32];
    size_t count = (MAX_PLAIN + 16383) / 16384;
    uint8_t digest[32];
    uint8_t list_digest[32];
    glass_stream_stat stat = {0};
    glass_key *blob_key = NULL;
    glass_key *list_key = NULL;
    glass_reader *reader = NULL;
    glass_reader *list = NULL;
    size_t got = 0;
    int in = temporary();
    put(in, plain, MAX_PLAIN);
    CHECK_STATUS(GLASS_OK, glass_content_digest_fd(ctx, &stat, digest, pieces, sizeof pieces, leaves, count * 32, in, 0, MAX_PLAIN, 2));
    CHECK_STATUS(GLASS_OK, glass_content_digest(ctx, list_digest, leaves, count * 32));
    int list_fd = blob_file(leaves, count * 32, list_digest, &list_key);
    int blob_fd = blob_file(plain, MAX_PLAIN, digest, &blob_key);
    CHECK_STATUS(GLASS_OK, glass_reader_new(ctx, &reader, &stat, blob_key, blob_fd, NULL, NULL, 0));
    CHECK_STATUS(GLASS_OK, glass_reader_new(ctx, &list, &stat, list_key, list_fd, NULL, NULL, 0));
    CHECK_STATUS(GLASS_OK, glass_reader_set_leaves(reader, &stat, list, digest));
    if (long_list) {
        as_if_long(reader);
    }
    for (int threads = 1; threads <= 3; threads++) {
        memset(opened, 0, sizeof opened);
        CHECK_STATUS(GLASS_OK, glass_reader_pread(reader, &stat, opened, &got, sizeof opened, 0, threads));
        CHECK(got == MAX_PLAIN && memcmp(opened, plain, got) == 0);
    }
    CHECK_STATUS(GLASS_OK, glass_reader_pread(reader, &stat, opened, &got, 4096, 3000001, 1));
    CHECK(got == 4096 && memcmp(opened, plain + 3000001, got) == 0);
    if (long_list) { /* the host changes the list after it was checked as a whole; no lane holds its part any more */
        glass_reader_free(reader);
        CHECK_STATUS(GLASS_OK, glass_reader_new(ctx, &reader, &stat, blob_key, blob_fd, NULL, NULL, 0));
        CHECK_STATUS(GLASS_OK, glass_reader_new(ctx, &list, &stat, list_key, list_fd, NULL, NULL, 0));
        CHECK_STATUS(GLASS_OK, glass_reader_set_leaves(reader, &stat, list, digest));
        as_if_long(reader);
        CHECK(flip(list_fd, 128 + 40) == 0);
        CHECK_STATUS(GLASS_ERR_AUTH, glass_reader_pread(reader, &stat, opened, &got, 4096, 0, 1));
        CHECK(got == 0 && opened[0] == 0 && stat.fault == GLASS_STREAM_TAG_FAILED);
        CHECK(flip(list_fd, 128 + 40) == 0);
    }
    glass_reader_free(reader);
    /* the same list does not fit other content */
    digest[0] ^= 1;
    CHECK_STATUS(GLASS_OK, glass_reader_new(ctx, &reader, &stat, blob_key, blob_fd, NULL, NULL, 0));
    CHECK_STATUS(GLASS_OK, glass_reader_new(ctx, &list, &stat, list_key, list_fd, NULL, NULL, 0));
    CHECK_STATUS(GLASS_ERR_AUTH, glass_reader_set_leaves(reader, &stat, list, digest));
    CHECK(stat.fault == GLASS_STREAM_LEAF);
    glass_reader_free(reader);
    digest[0] ^= 1;
    /* a list of other leaves whose digest the attacker states as its own does not hash to the content's digest; and a
     * true list with false content fails at the chunk */
    glass_key *other_key = NULL;
    uint8_t other[32];
    plain[50 * 16384] ^= 1;
    CHECK_STATUS(GLASS_OK, glass_content_digest(ctx, other, plain, MAX_PLAIN));
    int other_fd = blob_file(plain, MAX_PLAIN, other, &other_key);
    CHECK_STATUS(GLASS_OK, glass_reader_new(ctx, &reader, &stat, other_key, other_fd, NULL, NULL, 0));
    CHECK_STATUS(GLASS_OK, glass_reader_new(ctx, &list, &stat, list_key, list_fd, NULL, NULL, 0));
    CHECK_STATUS(GLASS_OK, glass_reader_set_leaves(reader, &stat, list, digest));
    if (long_list) {
        as_if_long(reader);
    }
    CHECK_STATUS(GLASS_OK, glass_reader_pread(reader, &stat, opened, &got, 16384, 49 * 16384, 1));
    CHECK_STATUS(GLASS_ERR_AUTH, glass_reader_pread(reader, &stat, opened, &got, 4 * 16384, 49 * 16384, 2));
    CHECK(got == 0 && stat.fault == GLASS_STREAM_LEAF && stat.chunk == 50 && opened[0] == 0);
    CHECK_STATUS(GLASS_ERR_AUTH, glass_reader_pread(reader, &stat, opened, &got, 1, 0, 1));
    plain[50 * 16384] ^= 1;
    glass_reader_free(reader);
    glass_key_free(blob_key);
    glass_key_free(list_key);
    glass_key_free(other_key);
    CHECK(close(in) == 0 && close(list_fd) == 0 && close(blob_fd) == 0 && close(other_fd) == 0);
}

static void test_wrong_key(void)
{
    size_t n = seal(10);
    size_t len = 0;
    static const uint8_t other[32] = {9};
    glass_key *right = key;
    glass_stream_stat stat = {0};
    CHECK_STATUS(GLASS_OK, glass_key_new(ctx, &key, other));
    CHECK_STATUS(GLASS_ERR_AUTH, open_memory(n, &len, &stat));
    CHECK(stat.fault == GLASS_STREAM_KEY_ID);
    glass_key_free(key);
    key = right;
    glass_stream *stream = NULL;
    CHECK_STATUS(GLASS_ERR_AUTH, glass_stream_accept(ctx, &stream, &stat, key, sealed, (const uint8_t *)"x", 1));
    CHECK(stream == NULL && stat.fault == GLASS_STREAM_COMMIT);
}

/* What others have left in the error queue of libcrypto stays there, and nothing is added, also by a chunk that is refused. */
static void test_error_queue(void)
{
    size_t len = 0;
    for (int forged = 0; forged < 2; forged++) {
        glass_stream_stat stat = {0};
        size_t n = seal(100000);
        sealed[n - 1] ^= (uint8_t)forged;
        ERR_clear_error();
        ERR_raise(ERR_LIB_USER, 77);
        CHECK_STATUS(forged ? GLASS_ERR_AUTH : GLASS_OK, open_memory(n, &len, &stat));
        CHECK(ERR_GET_REASON(ERR_get_error()) == 77 && ERR_get_error() == 0);
    }
}

/* More keys than a page holds, freed in another order, some after their context. */
static void test_many_keys(void)
{
    glass_ctx *own = NULL;
    glass_key *keys[200];
    uint8_t raw[32] = {0};
    uint8_t id[16];
    uint8_t again[16];
    CHECK_STATUS(GLASS_OK, glass_ctx_new(&own));
    for (int i = 0; i < 200; i++) {
        raw[0] = (uint8_t)i;
        CHECK_STATUS(GLASS_OK, glass_key_new(own, &keys[i], raw));
    }
    for (int i = 0; i < 200; i += 2) {
        glass_key_free(keys[i]);
        raw[0] = (uint8_t)i;
        CHECK_STATUS(GLASS_OK, glass_key_new(own, &keys[i], raw));
    }
    for (int i = 0; i < 200; i++) {
        glass_key *fresh = NULL;
        raw[0] = (uint8_t)i;
        CHECK_STATUS(GLASS_OK, glass_key_new(ctx, &fresh, raw));
        CHECK_STATUS(GLASS_OK, glass_key_id(ctx, id, keys[i]));
        CHECK_STATUS(GLASS_OK, glass_key_id(ctx, again, fresh));
        CHECK(memcmp(id, again, sizeof id) == 0);
        glass_key_free(fresh);
    }
    for (int i = 0; i < 100; i++) {
        glass_key_free(keys[i]);
    }
    glass_ctx_free(own);
    for (int i = 100; i < 200; i++) {
        glass_key_free(keys[i]);
    }
}

int main(void)
{
    static const uint8_t raw[32] = {1, 2, 3};
    CHECK_STATUS(GLASS_OK, glass_ctx_new(&ctx));
    CHECK_STATUS(GLASS_OK, glass_stream_selftest(ctx));
    CHECK_STATUS(GLASS_OK, glass_key_new(ctx, &key, raw));
    uint64_t seed = 42;
    for (size_t i = 0; i < sizeof plain; i++) {
        seed = seed * 6364136223846793005ULL + 1;
        plain[i] = (uint8_t)(seed >> 56);
    }
    test_sizes();
    test_encrypt_fd();
    test_blob();
    test_header_bits();
    test_lowest_chunk();
    test_cancel();
    test_reader();
    test_leaves(0);
    test_leaves(1);
    test_wrong_key();
    test_error_queue();
    test_many_keys();
    glass_key_free(key);
    glass_ctx_free(ctx);
    glass_key_free(NULL);
    glass_stream_free(NULL);
    glass_reader_free(NULL);
    puts("stream ok");
    return 0;
}
