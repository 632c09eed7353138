/* SHA-256 of many files on several threads: each takes the next file that nobody has taken yet. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "glass_measure.h"
#include "internal.h"

enum {
    READ_SIZE = 256 << 10, /* bytes of one read */
    THREADS_MAX = 64
};

struct job {
    const glass_ctx *ctx;
    glass_file_digest *out;
    const int *fds;
    size_t fds_len;
    atomic_size_t next;
};

static void hash_one(const struct job *job, size_t index, EVP_MD_CTX *hash, uint8_t *buffer)
{
    glass_file_digest *out = &job->out[index];
    out->status = GLASS_ERR_LIBCRYPTO;
    if (EVP_DigestInit_ex2(hash, job->ctx->sha256, NULL) != 1) {
        return;
    }
    for (;;) {
        ssize_t got = pread(job->fds[index], buffer, READ_SIZE, (off_t)out->size);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            out->error = errno;
            out->status = GLASS_ERR_IO;
            return;
        }
        if (got == 0) {
            break;
        }
        if (EVP_DigestUpdate(hash, buffer, (size_t)got) != 1) {
            return;
        }
        out->size += (uint64_t)got;
    }
    unsigned int written = 0;
    if (EVP_DigestFinal_ex(hash, out->sha256, &written) != 1 || written != 32) {
        return;
    }
    out->status = GLASS_OK;
}

static void *work(void *argument)
{
    struct job *job = argument;
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    uint8_t *buffer = malloc(READ_SIZE);
    while (hash != NULL && buffer != NULL) {
        size_t index = atomic_fetch_add(&job->next, 1);
        if (index >= job->fds_len) {
            break;
        }
        hash_one(job, index, hash, buffer);
    }
    free(buffer);
    EVP_MD_CTX_free(hash);
    return NULL;
}

glass_status glass_hash_files(const glass_ctx *ctx, glass_file_digest *out, const int *fds, size_t fds_len,
                              unsigned int threads)
{
    if (ctx == NULL || (fds_len != 0 && (out == NULL || fds == NULL)) || threads < 1 || threads > THREADS_MAX) {
        return GLASS_ERR_ARGUMENT;
    }
    for (size_t i = 0; i < fds_len; i++) {
        memset(&out[i], 0, sizeof out[i]);
        out[i].status = GLASS_ERR_MEMORY; /* what stays if no thread came to it */
    }
    struct job job = {.ctx = ctx, .out = out, .fds = fds, .fds_len = fds_len};
    atomic_init(&job.next, 0);
    pthread_t helper[THREADS_MAX];
    unsigned int started = 0;
    while (started + 1 < threads && started + 1 < fds_len &&
           pthread_create(&helper[started], NULL, work, &job) == 0) {
        started++;
    }
    (void)work(&job);
    for (unsigned int i = 0; i < started; i++) {
        (void)pthread_join(helper[i], NULL);
    }
    return GLASS_OK;
}
