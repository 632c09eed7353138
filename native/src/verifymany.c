#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "glass_verify.h"
#include "internal.h"

enum { THREADS_MAX = 64 };

/* What all threads of one call share. */
typedef struct batch {
    const glass_ctx *ctx;
    glass_verdict **out;
    const glass_job *jobs;
    size_t count;
    const glass_anchor *anchor;
    glass_cache *cache;
    int64_t at;
    atomic_size_t next;
    atomic_int status; /* the first that is not GLASS_OK */
} batch;

static void work(batch *b)
{
    for (;;) {
        size_t index = atomic_fetch_add(&b->next, 1);
        if (index >= b->count || atomic_load(&b->status) != GLASS_OK) {
            return;
        }
        const glass_job *job = &b->jobs[index];
        glass_status status = glass_verify(b->ctx, &b->out[index], job->quote, job->quote_len, job->collateral, b->anchor,
                                           b->cache, b->at);
        if (status != GLASS_OK) {
            int none = GLASS_OK;
            (void)atomic_compare_exchange_strong(&b->status, &none, (int)status);
        }
    }
}

static void *thread_main(void *argument)
{
    batch *b = argument;
    work(b);
    OPENSSL_thread_stop_ex(b->ctx->lib); /* per-thread data of an own library context */
    return NULL;
}

glass_status glass_verify_many(const glass_ctx *ctx, glass_verdict **out, const glass_job *jobs, size_t count, const glass_anchor *anchor, glass_cache *cache, int64_t at, uint32_t threads)
{
    pthread_t others[THREADS_MAX];
    uint32_t started = 0;
    if (ctx == NULL || out == NULL || (jobs == NULL && count != 0) || threads == 0 || threads > THREADS_MAX) {
        return GLASS_ERR_ARGUMENT;
    }
    for (size_t i = 0; i < count; i++) {
        out[i] = NULL;
    }
    batch b = {.ctx = ctx, .out = out, .jobs = jobs, .count = count, .anchor = anchor, .cache = cache, .at = at};
    atomic_init(&b.next, 0);
    atomic_init(&b.status, GLASS_OK);
    while (started + 1 < threads && started + 1 < count && pthread_create(&others[started], NULL, thread_main, &b) == 0) {
        started++;
    }
    work(&b);
    for (uint32_t i = 0; i < started; i++) {
        (void)pthread_join(others[i], NULL);
    }
    glass_status status = (glass_status)atomic_load(&b.status);
    for (size_t i = 0; status != GLASS_OK && i < count; i++) {
        glass_verdict_free(out[i]);
        out[i] = NULL;
    }
    return status;
}
