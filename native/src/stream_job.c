/* The threads of one operation. Units are taken in rising order from one counter; when one fails no new one begins, but
 * those that are running end, so the lowest failing unit is found whatever the number of threads. */
#include <signal.h>
#include <stdlib.h>

#include "stream_internal.h"

#define STACK_SIZE ((size_t)256 * 1024) /* bytes; big stacks are slow to give back in an enclave */

glass_status glass_lane_open(const glass_job *job, glass_lane *lane)
{
    memset(lane, 0, sizeof *lane);
    lane->in_len = job->in_len;
    lane->out_len = job->out_len;
    lane->md = EVP_MD_CTX_new();
    lane->in = malloc(job->in_len);
    lane->out = job->out_len == 0 ? NULL : malloc(job->out_len);
    if (lane->md == NULL || lane->in == NULL || (job->out_len != 0 && lane->out == NULL)) {
        return GLASS_ERR_MEMORY;
    }
    return job->secret == NULL ? GLASS_OK : glass_cipher_new(job->ctx, &lane->cipher, job->secret, job->writing);
}

void glass_lane_close(glass_lane *lane)
{
    EVP_CIPHER_CTX_free(lane->cipher);
    EVP_MD_CTX_free(lane->md);
    if (lane->in != NULL) {
        OPENSSL_cleanse(lane->in, lane->in_len);
    }
    if (lane->out != NULL) {
        OPENSSL_cleanse(lane->out, lane->out_len);
    }
    free(lane->in);
    free(lane->out);
    memset(lane, 0, sizeof *lane);
}

static void record(glass_job *job, uint64_t unit, glass_status status, const glass_stream_stat *stat)
{
    (void)pthread_mutex_lock(&job->lock);
    if (job->status == GLASS_OK || unit < job->failed_unit) {
        job->failed_unit = unit;
        job->status = status;
        job->failure = *stat;
    }
    (void)pthread_mutex_unlock(&job->lock);
    __atomic_store_n(&job->stop, 1, __ATOMIC_RELEASE);
}

static void work(glass_job *job, glass_lane *lane)
{
    while (!__atomic_load_n(&job->stop, __ATOMIC_ACQUIRE)) {
        glass_stream_stat stat = {0};
        uint64_t unit = __atomic_fetch_add(&job->next, 1, __ATOMIC_RELAXED);
        if (unit >= job->units) {
            return;
        }
        glass_status status = GLASS_OK;
        if (job->pump == NULL && glass_cancelled(job->stat)) { /* a pump looks itself: the lanes behind wait for its word */
            status = glass_fail(&stat, GLASS_ERR_CANCELLED, GLASS_STREAM_CANCEL);
        } else {
            status = job->unit(job, lane, &stat, unit);
        }
        if (status != GLASS_OK) {
            record(job, unit, status, &stat);
            return;
        }
    }
}

static void *thread_main(void *argument)
{
    glass_job *job = argument;
    glass_lane lane;
    if (glass_lane_open(job, &lane) == GLASS_OK) { /* without memory the other lanes do the work */
        work(job, &lane);
    }
    glass_lane_close(&lane);
    return NULL;
}

/* Start up to `count` threads with all signals blocked, so that handlers run where the caller wants them. */
static int start(glass_job *job, pthread_t *threads, int count)
{
    pthread_attr_t attributes;
    sigset_t all;
    sigset_t before;
    int started = 0;
    if (count <= 0 || pthread_attr_init(&attributes) != 0) {
        return 0;
    }
    (void)pthread_attr_setstacksize(&attributes, STACK_SIZE);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    while (started < count && pthread_create(&threads[started], &attributes, thread_main, job) == 0) {
        started++;
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void)pthread_attr_destroy(&attributes);
    return started;
}

static int fault_of(glass_status status)
{
    return status == GLASS_ERR_MEMORY ? GLASS_STREAM_NOMEM : GLASS_STREAM_CRYPTO;
}

glass_status glass_job_run(glass_job *job, int threads)
{
    pthread_t others[GLASS_STREAM_THREADS_MAX];
    glass_lane lane;
    job->next = 0;
    job->stop = 0;
    job->status = GLASS_OK;
    memset(&job->failure, 0, sizeof job->failure);
    if (pthread_mutex_init(&job->lock, NULL) != 0) {
        return glass_fail(job->stat, GLASS_ERR_MEMORY, GLASS_STREAM_NOMEM);
    }
    int count = threads < GLASS_STREAM_THREADS_MAX ? threads : GLASS_STREAM_THREADS_MAX;
    if ((uint64_t)count > job->units) {
        count = (int)job->units;
    }
    glass_status status = glass_lane_open(job, &lane);
    int started = status == GLASS_OK ? start(job, others, count - 1) : 0;
    if (status == GLASS_OK) {
        work(job, &lane);
    }
    for (int i = 0; i < started; i++) {
        (void)pthread_join(others[i], NULL);
    }
    glass_lane_close(&lane);
    (void)pthread_mutex_destroy(&job->lock);
    if (status != GLASS_OK) {
        return glass_fail(job->stat, status, fault_of(status));
    }
    if (job->status != GLASS_OK) {
        job->stat->chunk = job->failure.chunk;
        job->stat->os_errno = job->failure.os_errno;
        int fault = job->failure.fault;
        return glass_fail(job->stat, job->status, fault != GLASS_STREAM_FINE ? fault : fault_of(job->status));
    }
    return GLASS_OK;
}
