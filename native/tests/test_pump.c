/* Pipes with 1, 2 and 8 threads: the same bytes as in memory, an end at the first fault, and no hanging. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "glass_stream.h"

#define BATCH ((size_t)16 * 16384)
#define MAX_PLAIN (13 * BATCH + 70000)
#define MAX_SEALED (128 + MAX_PLAIN + (MAX_PLAIN / 16384 + 1) * 16)

static glass_ctx *ctx;
static glass_key *key;
static uint8_t plain[MAX_PLAIN];
static uint8_t sealed[MAX_SEALED + 16];
static uint8_t result[MAX_SEALED + 16];
static const int THREADS[] = {1, 2, 8};

struct end {
    int fd;
    uint8_t *bytes;
    size_t len;
};

static void *feed(void *argument)
{
    struct end *end = argument;
    size_t done = 0;
    while (done < end->len) {
        ssize_t part = write(end->fd, end->bytes + done, end->len - done);
        if (part <= 0) {
            break; /* the other side has given up */
        }
        done += (size_t)part;
    }
    CHECK(close(end->fd) == 0);
    return NULL;
}

static void *drain(void *argument)
{
    struct end *end = argument;
    size_t room = end->len;
    end->len = 0;
    for (;;) {
        ssize_t part = read(end->fd, end->bytes + end->len, room - end->len);
        if (part <= 0) {
            break;
        }
        end->len += (size_t)part;
    }
    CHECK(close(end->fd) == 0);
    return NULL;
}

/* Send `len` bytes at `in` through a pipe, the stream and another pipe; `result` gets what comes, `*got` how much. */
static glass_status through(glass_stream *stream, glass_stream_stat *stat, uint8_t *in, size_t len, size_t *got, int threads)
{
    int source[2];
    int sink[2];
    pthread_t feeder;
    pthread_t drainer;
    CHECK(pipe(source) == 0 && pipe(sink) == 0);
    struct end begin = {.fd = source[1], .bytes = in, .len = len};
    struct end finish = {.fd = sink[0], .bytes = result, .len = sizeof result};
    CHECK(pthread_create(&feeder, NULL, feed, &begin) == 0 && pthread_create(&drainer, NULL, drain, &finish) == 0);
    glass_status status = glass_stream_pump_fd(stream, stat, source[0], sink[1], threads);
    CHECK(close(source[0]) == 0 && close(sink[1]) == 0);
    CHECK(pthread_join(feeder, NULL) == 0 && pthread_join(drainer, NULL) == 0);
    *got = finish.len;
    return status;
}

static size_t seal(size_t len, uint64_t stated)
{
    glass_stream *stream = NULL;
    glass_stream_stat stat = {0};
    size_t n = 0;
    CHECK_STATUS(GLASS_OK, glass_stream_create(ctx, &stream, key, stated, NULL, 0));
    CHECK_STATUS(GLASS_OK, glass_stream_encrypt(stream, &stat, sealed, sizeof sealed, &n, plain, len));
    glass_stream_free(stream);
    return n;
}

/* Decrypt the `n` bytes in `sealed` through pipes; `*got` bytes came out, all of them true. */
static glass_status open_pipe(glass_stream_stat *stat, size_t n, size_t *got, int threads)
{
    glass_stream *stream = NULL;
    memset(stat, 0, sizeof *stat);
    CHECK_STATUS(GLASS_OK, glass_stream_accept(ctx, &stream, stat, key, sealed, NULL, 0));
    glass_status status = through(stream, stat, sealed + 128, n - 128, got, threads);
    CHECK((status == GLASS_OK) == (stat->fault == GLASS_STREAM_FINE));
    CHECK(*got <= MAX_PLAIN && memcmp(result, plain, *got) == 0 && stat->bytes == *got);
    glass_stream_stat again = {0};
    CHECK_STATUS(GLASS_ERR_STATE, glass_stream_pump_fd(stream, &again, -1, -1, 1)); /* once, also after a failure */
    glass_stream_free(stream);
    return status;
}

static void test_sizes(void)
{
    const size_t sizes[] = {0, 1, 16383, 16384, 16385, BATCH - 1, BATCH, BATCH + 1, 2 * BATCH, 5 * BATCH + 16384, MAX_PLAIN};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (size_t t = 0; t < 3; t++) {
            glass_stream *stream = NULL;
            glass_stream_stat stat = {0};
            size_t got = 0;
            CHECK_STATUS(GLASS_OK, glass_stream_create(ctx, &stream, key, t == 0 ? UINT64_MAX : sizes[i], NULL, 0));
            CHECK_STATUS(GLASS_OK, through(stream, &stat, plain, sizes[i], &got, THREADS[t]));
            glass_stream_free(stream);
            CHECK(got == 128 + sizes[i] + 16 * (sizes[i] / 16384 + 1) && stat.bytes == sizes[i] && stat.progress == sizes[i]);
            memcpy(sealed, result, got);
            CHECK_STATUS(GLASS_OK, open_pipe(&stat, got, &got, THREADS[t]));
            CHECK(got == sizes[i]);
        }
    }
}

/* Two bad chunks: the lower one is named and no byte of its batch or a later one comes out. */
static void test_lowest_chunk(void)
{
    for (size_t t = 0; t < 3; t++) {
        for (int round = 0; round < 20; round++) {
            glass_stream_stat stat;
            size_t got = 0;
            size_t n = seal(MAX_PLAIN, UINT64_MAX);
            sealed[128 + (size_t)(70 + round) * 16400 + 5] ^= 1;
            sealed[128 + (size_t)(100 + round) * 16400 + 5] ^= 1;
            CHECK_STATUS(GLASS_ERR_AUTH, open_pipe(&stat, n, &got, THREADS[t]));
            CHECK(stat.fault == GLASS_STREAM_TAG_FAILED && stat.chunk == (uint64_t)(70 + round));
            CHECK(got == (size_t)(70 + round) / 16 * BATCH);
        }
    }
}

static void test_lengths(void)
{
    for (size_t t = 0; t < 3; t++) {
        glass_stream_stat stat;
        size_t got = 0;
        size_t n = seal(3 * BATCH, 3 * BATCH); /* ends with an empty chunk */
        CHECK_STATUS(GLASS_ERR_TRUNCATED, open_pipe(&stat, n - 16, &got, THREADS[t]));
        CHECK_STATUS(GLASS_ERR_TRUNCATED, open_pipe(&stat, n - 1, &got, THREADS[t]));
        CHECK(stat.fault == GLASS_STREAM_TRUNCATED && got == 3 * BATCH);
        CHECK_STATUS(GLASS_ERR_TRUNCATED, open_pipe(&stat, n - 16400, &got, THREADS[t]));
        CHECK_STATUS(GLASS_ERR_TRUNCATED, open_pipe(&stat, 128, &got, THREADS[t]));
        CHECK(got == 0);
        sealed[n] = 1;
        CHECK_STATUS(GLASS_ERR_FORMAT, open_pipe(&stat, n + 1, &got, THREADS[t]));
        CHECK(stat.fault == GLASS_STREAM_TRAILING && got == 3 * BATCH);
        n = seal(2 * BATCH + 100, UINT64_MAX); /* without a stated size only the tag can tell */
        CHECK_STATUS(GLASS_ERR_AUTH, open_pipe(&stat, n - 1, &got, THREADS[t]));
        CHECK_STATUS(GLASS_ERR_AUTH, open_pipe(&stat, n + 1, &got, THREADS[t]));
        CHECK_STATUS(GLASS_ERR_TRUNCATED, open_pipe(&stat, n - 101, &got, THREADS[t]));
        CHECK(got == 2 * BATCH);
        glass_stream *stream = NULL; /* the plaintext is not as long as was stated */
        for (int more = -1; more <= 1; more += 2) {
            memset(&stat, 0, sizeof stat);
            CHECK_STATUS(GLASS_OK, glass_stream_create(ctx, &stream, key, BATCH, NULL, 0));
            CHECK_STATUS(GLASS_ERR_CHANGED, through(stream, &stat, plain, more > 0 ? BATCH + 1 : BATCH - 1, &got, THREADS[t]));
            CHECK(stat.fault == GLASS_STREAM_SIZE);
            glass_stream_free(stream);
        }
    }
}

static void *cancel_soon(void *argument)
{
    glass_stream_stat *stat = argument;
    const struct timespec pause = {.tv_nsec = 50000000};
    (void)nanosleep(&pause, NULL);
    __atomic_store_n(&stat->cancel, 1, __ATOMIC_RELAXED);
    return NULL;
}

/* Nobody writes to the input, or nobody reads the output: a cancel ends it all the same. */
static void test_cancel(void)
{
    for (size_t t = 0; t < 3; t++) {
        for (int stalled = 0; stalled < 2; stalled++) {
            int source[2];
            int sink[2];
            pthread_t other;
            pthread_t feeder;
            glass_stream *stream = NULL;
            glass_stream_stat stat = {0};
            CHECK(pipe(source) == 0 && pipe(sink) == 0);
            struct end begin = {.fd = source[1], .bytes = plain, .len = MAX_PLAIN};
            CHECK_STATUS(GLASS_OK, glass_stream_create(ctx, &stream, key, UINT64_MAX, NULL, 0));
            CHECK(pthread_create(&other, NULL, cancel_soon, &stat) == 0);
            CHECK(stalled == 0 || pthread_create(&feeder, NULL, feed, &begin) == 0);
            CHECK_STATUS(GLASS_ERR_CANCELLED, glass_stream_pump_fd(stream, &stat, source[0], sink[1], THREADS[t]));
            CHECK(stat.fault == GLASS_STREAM_CANCEL && close(source[0]) == 0);
            CHECK(pthread_join(other, NULL) == 0);
            CHECK(stalled == 0 ? close(source[1]) == 0 : pthread_join(feeder, NULL) == 0);
            CHECK(close(sink[0]) == 0 && close(sink[1]) == 0);
            glass_stream_free(stream);
        }
    }
}

/* The Makefile puts this in the place of glass_cancelled: while `held` is set, the first lane to look is held up until it has
 * been cancelled, and the others have looked before and seen nothing. */
int __real_glass_cancelled(const glass_stream_stat *stat);
int __wrap_glass_cancelled(const glass_stream_stat *stat);
static glass_stream_stat *held;

int __wrap_glass_cancelled(const glass_stream_stat *stat)
{
    glass_stream_stat *mine = __atomic_exchange_n(&held, NULL, __ATOMIC_ACQ_REL);
    if (mine != NULL) {
        (void)cancel_soon(mine);
    }
    return __real_glass_cancelled(stat);
}

/* A cancel after a lane took a batch and before it works on it: the lanes with later batches do not wait for its turn. */
static void test_cancel_between(void)
{
    (void)alarm(60); /* instead of hanging for ever */
    for (int round = 0; round < 10; round++) {
        int source[2];
        glass_stream *stream = NULL;
        glass_stream_stat stat = {0};
        CHECK(pipe(source) == 0);
        CHECK_STATUS(GLASS_OK, glass_stream_create(ctx, &stream, key, UINT64_MAX, NULL, 0));
        __atomic_store_n(&held, &stat, __ATOMIC_RELEASE);
        CHECK_STATUS(GLASS_ERR_CANCELLED, glass_stream_pump_fd(stream, &stat, source[0], -1, THREADS[1 + round % 2]));
        CHECK(stat.fault == GLASS_STREAM_CANCEL && close(source[0]) == 0 && close(source[1]) == 0);
        glass_stream_free(stream);
    }
    (void)alarm(0);
}

/* A reader that has gone and a descriptor that is none are errors of the system; no input at all is one of the caller. */
static void test_errors(void)
{
    glass_stream *fresh = NULL;
    glass_stream_stat none = {0};
    CHECK_STATUS(GLASS_OK, glass_stream_create(ctx, &fresh, key, UINT64_MAX, NULL, 0));
    CHECK_STATUS(GLASS_ERR_ARGUMENT, glass_stream_pump_fd(fresh, &none, -1, -1, 1));
    CHECK_STATUS(GLASS_ERR_STATE, glass_stream_pump_fd(fresh, &none, 0, -1, 1));
    glass_stream_free(fresh);
    for (size_t t = 0; t < 3; t++) {
        const int expected[] = {EPIPE, EBADF};
        for (int kind = 0; kind < 2; kind++) {
            int source[2];
            int sink[2];
            pthread_t feeder;
            glass_stream *stream = NULL;
            glass_stream_stat stat = {0};
            CHECK(pipe(source) == 0 && pipe(sink) == 0 && close(sink[0]) == 0);
            struct end begin = {.fd = source[1], .bytes = plain, .len = MAX_PLAIN};
            CHECK_STATUS(GLASS_OK, glass_stream_create(ctx, &stream, key, UINT64_MAX, NULL, 0));
            CHECK(pthread_create(&feeder, NULL, feed, &begin) == 0);
            CHECK_STATUS(GLASS_ERR_IO, glass_stream_pump_fd(stream, &stat, source[0], kind == 0 ? sink[1] : 999, THREADS[t]));
            CHECK(stat.fault == GLASS_STREAM_OUTPUT && stat.os_errno == expected[kind]);
            CHECK(close(source[0]) == 0 && close(sink[1]) == 0);
            CHECK(pthread_join(feeder, NULL) == 0);
            glass_stream_free(stream);
        }
    }
}

int main(void)
{
    static const uint8_t raw[32] = {1, 2, 3};
    CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    CHECK_STATUS(GLASS_OK, glass_ctx_new(&ctx));
    CHECK_STATUS(GLASS_OK, glass_key_new(ctx, &key, raw));
    for (size_t i = 0; i < sizeof plain; i++) {
        plain[i] = (uint8_t)(i * 7 + i / 16384);
    }
    test_sizes();
    test_lowest_chunk();
    test_lengths();
    test_cancel();
    test_cancel_between();
    test_errors();
    glass_key_free(key);
    glass_ctx_free(ctx);
    puts("pump ok");
    return 0;
}
