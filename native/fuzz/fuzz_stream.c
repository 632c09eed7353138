/* A hostile file: header and chunks of any bytes, through memory, push, pump and random access. The first byte chooses how the
 * input is used: as it is, or as the body under a header that is right, so that the code behind the commitment is reached. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "glass_stream.h"

#define MUST(condition) \
    do {                \
        if (!(condition)) { \
            abort();    \
        }               \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static glass_ctx *ctx;
static glass_key *key;
static uint8_t good[128 + 3 * 16400];
static size_t good_len;
static uint8_t plain[3 * 16384];

static void start(void)
{
    static const uint8_t raw[32] = {7};
    glass_stream *stream = NULL;
    glass_stream_stat stat = {0};
    MUST(glass_ctx_new(&ctx) == GLASS_OK && glass_key_new(ctx, &key, raw) == GLASS_OK);
    MUST(glass_stream_create(ctx, &stream, key, 40000, NULL, 0) == GLASS_OK);
    MUST(glass_stream_encrypt(stream, &stat, good, sizeof good, &good_len, plain, 40000) == GLASS_OK);
    glass_stream_free(stream);
}

/* What every path must agree on: accepted with these bytes, or refused with nothing. */
static void memory(const uint8_t *file, size_t len, glass_status *status, size_t *out_len)
{
    static uint8_t out[1 << 20];
    glass_stream *stream = NULL;
    glass_stream_stat stat = {0};
    *out_len = 0;
    *status = GLASS_ERR_TRUNCATED;
    if (len < 128) {
        return;
    }
    *status = glass_stream_accept(ctx, &stream, &stat, key, file, NULL, 0);
    if (*status == GLASS_OK) {
        *status = glass_stream_decrypt(stream, &stat, out, sizeof out, out_len, NULL, file + 128, len - 128);
        MUST(*status == GLASS_OK || *out_len == 0);
    }
    MUST((*status == GLASS_OK) == (stat.fault == GLASS_STREAM_FINE));
    glass_stream_free(stream);
}

static void push(const uint8_t *file, size_t len, size_t step, glass_status expected, size_t expected_len)
{
    static uint8_t out[1 << 20];
    glass_stream *stream = NULL;
    glass_stream_stat stat = {0};
    size_t total = 0;
    if (len < 128 || glass_stream_accept(ctx, &stream, &stat, key, file, NULL, 0) != GLASS_OK) {
        return;
    }
    glass_status status = GLASS_OK;
    for (size_t at = 128; status == GLASS_OK && at < len; at += step) {
        size_t got = 0;
        size_t part = len - at < step ? len - at : step;
        status = glass_stream_push(stream, &stat, out, sizeof out, &got, file + at, part);
        total += got;
    }
    if (status == GLASS_OK) {
        size_t got = 0;
        status = glass_stream_finish(stream, &stat, out, sizeof out, &got);
        total += got;
    }
    MUST((status == GLASS_OK) == (expected == GLASS_OK));
    MUST(status != GLASS_OK || total == expected_len);
    glass_stream_free(stream);
}

/* From descriptor to descriptor: what was written is the beginning of the content, all of it exactly if it is accepted. */
static void pump(const uint8_t *file, size_t len, int threads, glass_status expected, size_t expected_len)
{
    static uint8_t out[1 << 20];
    glass_stream *stream = NULL;
    glass_stream_stat stat = {0};
    if (len < 128 || glass_stream_accept(ctx, &stream, &stat, key, file, NULL, 0) != GLASS_OK) {
        return;
    }
    int in = memfd_create("fuzz", 0);
    int to = memfd_create("fuzz", 0);
    MUST(in >= 0 && to >= 0 && write(in, file, len) == (ssize_t)len && lseek(in, 128, SEEK_SET) == 128);
    glass_status status = glass_stream_pump_fd(stream, &stat, in, to, threads);
    ssize_t got = pread(to, out, sizeof out, 0);
    MUST((status == GLASS_OK) == (expected == GLASS_OK) && got >= 0 && stat.bytes == (uint64_t)got);
    MUST(status != GLASS_OK || (size_t)got == expected_len);
    MUST((size_t)got <= sizeof plain && memcmp(out, plain, (size_t)got) == 0);
    MUST(close(in) == 0 && close(to) == 0);
    glass_stream_free(stream);
}

static void reader(const uint8_t *file, size_t len, size_t expected_len, glass_status expected)
{
    static uint8_t out[1 << 20];
    glass_stream_stat stat = {0};
    glass_reader *opened = NULL;
    int fd = memfd_create("fuzz", 0);
    MUST(fd >= 0 && write(fd, file, len) == (ssize_t)len);
    glass_status status = glass_reader_new(ctx, &opened, &stat, key, fd, NULL, NULL, 0);
    if (status == GLASS_OK) {
        size_t got = 0;
        status = glass_reader_pread(opened, &stat, out, &got, sizeof out, 0, 2);
        MUST(status != GLASS_OK || got == glass_reader_size(opened));
        MUST(status != GLASS_OK || got == expected_len);
    }
    MUST((status == GLASS_OK) == (expected == GLASS_OK));
    glass_reader_free(opened);
    MUST(close(fd) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t file[sizeof good + (1 << 18)];
    if (ctx == NULL) {
        start();
    }
    if (size < 4 || size > (1 << 17)) {
        return 0;
    }
    size_t len = size - 4;
    size_t at = (size_t)data[1] << 8 | data[2];
    switch (data[0] % 4) {
    case 0: /* as it is */
        memcpy(file, data + 4, len);
        break;
    case 1: /* behind a good header */
        memcpy(file, good, 128);
        memcpy(file + 128, data + 4, len);
        len += 128;
        break;
    case 2: /* in the middle of a good file */
        memcpy(file, good, good_len);
        at %= good_len;
        len = len < good_len - at ? len : good_len - at;
        memcpy(file + at, data + 4, len);
        len = good_len;
        break;
    default: /* a good file cut, or followed by the input */
        memcpy(file, good, good_len);
        if (data[3] % 2 == 0) {
            len = at % good_len;
        } else {
            memcpy(file + good_len, data + 4, len);
            len += good_len;
        }
        break;
    }
    glass_status status = GLASS_OK;
    size_t out_len = 0;
    memory(file, len, &status, &out_len);
    push(file, len, 1 + at % 20000, status, out_len);
    pump(file, len, 1 + data[3] % 3, status, out_len);
    reader(file, len, out_len, status);
    if (status == GLASS_OK) { /* nothing but the one good file is accepted */
        MUST(len == good_len && memcmp(file, good, good_len) == 0);
    }
    return 0;
}
