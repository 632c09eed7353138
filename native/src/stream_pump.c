/* Pipes with threads: from one descriptor to another in order. Each lane reads a batch when it is its turn, works on it beside
 * the others, and writes it when it is its turn again; memory is that of the lanes. Nothing is written of a batch that has a
 * chunk which is not authentic, or of any after it; what comes before it is written, whatever the number of threads.
 * Waiting for a pipe is cut in short waits, so that a cancel is heard while nobody reads or writes at the other end. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/uio.h>
#include <unistd.h>

#include "stream_internal.h"

#define WAIT_MS 100
#define PIPE_SIZE (1 << 20) /* bytes of buffer that both pipes should have */

struct pump {
    glass_stream *stream;
    int in;
    int out;        /* -1: nothing is written */
    int out_waits;  /* the output may keep a write waiting: pipe, socket, terminal */
    size_t unit;    /* bytes of input of a whole chunk */
    struct stat before; /* of the input */
    pthread_mutex_t lock; /* all below */
    pthread_cond_t turn;
    uint64_t reading; /* the batch whose turn it is */
    uint64_t writing;
    uint64_t failed;  /* the lowest batch that failed */
    uint64_t count;   /* batches, all ones until the input has ended */
    uint64_t bytes;   /* plaintext of the batches that were written */
};

/* Wait until it is the turn of `unit`; 0: it will not come, because the input has ended or a batch before has failed. */
static int await(struct pump *pump, const uint64_t *whose, uint64_t unit)
{
    (void)pthread_mutex_lock(&pump->lock);
    while (*whose != unit && pump->failed > unit && pump->count > unit) {
        (void)pthread_cond_wait(&pump->turn, &pump->lock);
    }
    int mine = *whose == unit && pump->failed > unit && pump->count > unit;
    (void)pthread_mutex_unlock(&pump->lock);
    return mine;
}

static void pass(struct pump *pump, uint64_t *whose, uint64_t unit)
{
    (void)pthread_mutex_lock(&pump->lock);
    *whose = unit + 1;
    (void)pthread_cond_broadcast(&pump->turn);
    (void)pthread_mutex_unlock(&pump->lock);
}

static void fail_from(struct pump *pump, uint64_t unit)
{
    (void)pthread_mutex_lock(&pump->lock);
    if (unit < pump->failed) {
        pump->failed = unit;
    }
    (void)pthread_cond_broadcast(&pump->turn);
    (void)pthread_mutex_unlock(&pump->lock);
}

static void end_after(struct pump *pump, uint64_t unit)
{
    (void)pthread_mutex_lock(&pump->lock);
    pump->count = unit + 1;
    (void)pthread_cond_broadcast(&pump->turn);
    (void)pthread_mutex_unlock(&pump->lock);
}

/* Until `fd` is ready or the operation is cancelled. */
GLASS_MUST_USE static glass_status wait_for(const glass_job *job, glass_stream_stat *stat, int fd, short events)
{
    for (;;) {
        struct pollfd one = {.fd = fd, .events = events};
        if (glass_cancelled(job->stat)) {
            return glass_fail(stat, GLASS_ERR_CANCELLED, GLASS_STREAM_CANCEL);
        }
        int ready = poll(&one, 1, WAIT_MS);
        if (ready > 0) {
            return GLASS_OK;
        }
        if (ready < 0 && errno != EINTR) {
            return events == POLLOUT ? glass_fail_output(stat, errno) : glass_fail_input(stat, errno);
        }
    }
}

/* Fill `out`; fewer bytes only at the end of the input. */
GLASS_MUST_USE static glass_status read_batch(const glass_job *job, const struct pump *pump, glass_stream_stat *stat,
                                              uint8_t *out, size_t len, size_t *got)
{
    *got = 0;
    while (*got < len) {
        GLASS_TRY(wait_for(job, stat, pump->in, POLLIN));
        ssize_t part = read(pump->in, out + *got, len - *got);
        if (part < 0 && (errno == EINTR || errno == EAGAIN)) {
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

/* One write that does not wait. A descriptor that cannot do that takes what a pipe that is ready takes without waiting. */
static ssize_t write_some(struct pump *pump, const uint8_t *data, size_t len)
{
    if (!pump->out_waits) {
        return write(pump->out, data, len);
    }
    if (pump->out_waits == 1) {
        struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
        ssize_t done = pwritev2(pump->out, &part, 1, -1, RWF_NOWAIT);
        if (done >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL && errno != ESPIPE)) {
            return done;
        }
        pump->out_waits = 2;
    }
    return write(pump->out, data, len < PIPE_BUF ? len : PIPE_BUF);
}

GLASS_MUST_USE static glass_status write_batch(const glass_job *job, struct pump *pump, glass_stream_stat *stat,
                                               const uint8_t *data, size_t len)
{
    size_t done = 0;
    while (done < len) {
        if (pump->out_waits) {
            GLASS_TRY(wait_for(job, stat, pump->out, POLLOUT));
        }
        ssize_t part = write_some(pump, data + done, len - done);
        if (part < 0 && (errno == EINTR || errno == EAGAIN)) {
            continue;
        }
        if (part <= 0) {
            return glass_fail_output(stat, part < 0 ? errno : EIO);
        }
        done += (size_t)part;
    }
    return GLASS_OK;
}

/* The plaintext up to `end` is one that the stream allows; of the last batch it must be all that was stated. */
GLASS_MUST_USE static glass_status check_size(const glass_stream *stream, glass_stream_stat *stat, uint64_t end, int last)
{
    if (end > SIZE_MAX_PLAIN) {
        return glass_fail(stat, GLASS_ERR_LIMIT, GLASS_STREAM_SIZE);
    }
    if (stream->size == SIZE_UNKNOWN || end == stream->size || (end < stream->size && !last)) {
        return GLASS_OK;
    }
    if (stream->writing) {
        return glass_fail(stat, GLASS_ERR_CHANGED, GLASS_STREAM_SIZE);
    }
    return end > stream->size ? glass_fail(stat, GLASS_ERR_FORMAT, GLASS_STREAM_TRAILING)
                              : glass_fail(stat, GLASS_ERR_TRUNCATED, GLASS_STREAM_TRUNCATED);
}

/* One chunk of `len` bytes of plaintext at the end of lane->out; `in` is where it comes from. */
GLASS_MUST_USE static glass_status one_chunk(const glass_stream *stream, glass_lane *lane, glass_stream_stat *stat,
                                             uint64_t number, size_t *filled, const uint8_t *in, size_t len)
{
    uint8_t *out = lane->out + *filled;
    if (stream->writing) {
        *filled += len + TAG;
        return glass_chunk_seal(lane->cipher, stream->secret, number, out, in, len);
    }
    *filled += len;
    glass_status status = glass_chunk_open(lane->cipher, stream->secret, number, out, in, len);
    return status == GLASS_ERR_AUTH ? glass_fail_chunk(stat, number) : status;
}

/* The `got` bytes in lane->in, to lane->out: whole chunks, and if they are the last also what is left, which may be nothing. */
GLASS_MUST_USE static glass_status convert(const struct pump *pump, glass_lane *lane, glass_stream_stat *stat,
                                           uint64_t batch, size_t got, int last, size_t *filled, size_t *plain)
{
    const glass_stream *stream = pump->stream;
    size_t tag = stream->writing ? 0 : TAG;
    size_t whole = got / pump->unit;
    size_t rest = got % pump->unit;
    if (last && rest < tag) {
        return glass_fail(stat, GLASS_ERR_TRUNCATED, GLASS_STREAM_TRUNCATED);
    }
    *plain = whole * CHUNK + (last ? rest - tag : 0);
    GLASS_TRY(check_size(stream, stat, batch * BATCH * CHUNK + *plain, last));
    if (stream->writing && batch == 0) {
        memcpy(lane->out, stream->header, GLASS_STREAM_HEADER);
        *filled = GLASS_STREAM_HEADER;
    }
    for (size_t i = 0; i < whole; i++) {
        GLASS_TRY(one_chunk(stream, lane, stat, batch * BATCH + i, filled, lane->in + i * pump->unit, CHUNK));
    }
    if (last) {
        GLASS_TRY(one_chunk(stream, lane, stat, batch * BATCH + whole, filled, lane->in + whole * pump->unit, rest - tag));
    }
    return GLASS_OK;
}

GLASS_MUST_USE static glass_status pump_steps(glass_job *job, struct pump *pump, glass_lane *lane, glass_stream_stat *stat,
                                              uint64_t batch)
{
    size_t got = 0;
    size_t filled = 0;
    size_t plain = 0;
    if (!await(pump, &pump->reading, batch)) {
        return GLASS_OK;
    }
    GLASS_TRY(read_batch(job, pump, stat, lane->in, BATCH * pump->unit, &got));
    int last = got < BATCH * pump->unit;
    if (last) {
        __atomic_store_n(&job->stop, 1, __ATOMIC_RELEASE); /* no new batch begins */
        end_after(pump, batch);
    }
    pass(pump, &pump->reading, batch);
    if (last && S_ISREG(pump->before.st_mode)) { /* of a file that has changed the last batch is not written */
        GLASS_TRY(glass_unchanged(stat, pump->in, &pump->before, pump->stream->writing));
    }
    GLASS_TRY(convert(pump, lane, stat, batch, got, last, &filled, &plain));
    if (!await(pump, &pump->writing, batch)) {
        return GLASS_OK;
    }
    if (pump->out >= 0) {
        GLASS_TRY(write_batch(job, pump, stat, lane->out, filled));
    }
    glass_progress(job->stat, plain);
    pump->bytes += plain; /* only the batch whose turn it is */
    pass(pump, &pump->writing, batch);
    return GLASS_OK;
}

GLASS_MUST_USE static glass_status pump_unit(glass_job *job, glass_lane *lane, glass_stream_stat *stat, uint64_t batch)
{
    struct pump *pump = job->pump;
    glass_status status = pump_steps(job, pump, lane, stat, batch);
    if (status != GLASS_OK) {
        OPENSSL_cleanse(lane->out, lane->out_len);
        fail_from(pump, batch);
    }
    return status;
}

/* Larger buffers for pipes, where the system allows them: fewer turns between the processes at their ends. */
static void widen(int fd)
{
    int size = fcntl(fd, F_GETPIPE_SZ);
    if (size > 0 && size < PIPE_SIZE) {
        (void)fcntl(fd, F_SETPIPE_SZ, PIPE_SIZE);
    }
}

GLASS_MUST_USE static glass_status pump_run(struct pump *pump, glass_stream_stat *stat, int threads)
{
    glass_stream *stream = pump->stream;
    glass_job job = {.ctx = stream->ctx, .secret = stream->secret, .writing = stream->writing, .in_len = BATCH * SEALED,
                     .out_len = GLASS_STREAM_HEADER + BATCH * SEALED, .units = UINT64_MAX, .stat = stat, .unit = pump_unit,
                     .pump = pump};
    if (pthread_mutex_init(&pump->lock, NULL) != 0) {
        return glass_fail(stat, GLASS_ERR_MEMORY, GLASS_STREAM_NOMEM);
    }
    if (pthread_cond_init(&pump->turn, NULL) != 0) {
        (void)pthread_mutex_destroy(&pump->lock);
        return glass_fail(stat, GLASS_ERR_MEMORY, GLASS_STREAM_NOMEM);
    }
    glass_status status = glass_job_run(&job, threads);
    (void)pthread_cond_destroy(&pump->turn);
    (void)pthread_mutex_destroy(&pump->lock);
    return status;
}

glass_status glass_stream_pump_fd(glass_stream *stream, glass_stream_stat *stat, int in, int out, int threads)
{
    struct stat facts;
    if (stream == NULL || stat == NULL || threads < 1) {
        return GLASS_ERR_ARGUMENT;
    }
    if (stream->state != STREAM_FRESH || (stream->writing && stream->kind != GLASS_STREAM_FILE)) {
        return glass_fail(stat, GLASS_ERR_STATE, GLASS_STREAM_USAGE);
    }
    stream->state = STREAM_FAILED; /* until all is well: a stream writes once */
    if (in < 0) { /* poll would wait for it for ever */
        return glass_fail(stat, GLASS_ERR_ARGUMENT, GLASS_STREAM_USAGE);
    }
    struct pump pump = {.stream = stream, .in = in, .out = out, .unit = stream->writing ? CHUNK : SEALED,
                        .failed = UINT64_MAX, .count = UINT64_MAX};
    if (fstat(in, &pump.before) != 0) {
        return glass_fail_input(stat, errno);
    }
    if (out >= 0) {
        if (fstat(out, &facts) != 0) {
            return glass_fail_output(stat, errno);
        }
        pump.out_waits = !S_ISREG(facts.st_mode) && !S_ISBLK(facts.st_mode);
        widen(out);
    }
    widen(in);
    glass_status status = pump_run(&pump, stat, threads);
    stat->bytes = pump.bytes;
    if (status == GLASS_OK) {
        stream->state = STREAM_DONE;
    }
    return status;
}
