/* What the files of the stream code share; nothing here is public. */
#ifndef GLASS_STREAM_INTERNAL_H
#define GLASS_STREAM_INTERNAL_H

#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#include "glass_stream.h"
#include "internal.h"

#define CHUNK ((size_t)GLASS_STREAM_CHUNK)
#define SEALED ((size_t)(GLASS_STREAM_CHUNK + GLASS_STREAM_TAG)) /* a whole chunk in the file */
#define TAG ((size_t)GLASS_STREAM_TAG)
#define BATCH ((size_t)16)                                       /* chunks that random access reads at once: 256 KiB */
#define PIECE ((size_t)GLASS_STREAM_PIECE)
#define PIECE_CHUNKS ((size_t)(GLASS_STREAM_PIECE / GLASS_STREAM_CHUNK))
#define SEALED_PIECE ((size_t)GLASS_STREAM_HEADER + PIECE_CHUNKS * SEALED) /* a piece in the file, and room for the header */
#define DIGEST ((size_t)32)
#define SIZE_UNKNOWN UINT64_MAX
#define SIZE_MAX_PLAIN ((uint64_t)1 << 44)                       /* 16 TiB */

/* HKDF output of one message, in this order. */
#define SECRET_KEY 0
#define SECRET_NONCE 32
#define SECRET_COMMITMENT 44
#define SECRET_LEN 76

struct glass_key {
    uint8_t bytes[32];
    glass_vault *vault; /* where it lies, NULL: on a page of its own */
};

enum stream_state { STREAM_FRESH, STREAM_PUSHING, STREAM_DONE, STREAM_FAILED };

struct glass_stream {
    const glass_ctx *ctx;
    uint8_t secret[SECRET_LEN];
    uint8_t header[GLASS_STREAM_HEADER];
    size_t header_len; /* 128, or 56 for a bare message */
    int writing;
    int kind;
    uint64_t size;          /* SIZE_UNKNOWN: not stated */
    uint8_t digest[DIGEST]; /* of a blob or manifest that is written: what the content must have */
    enum stream_state state;
    /* push only */
    EVP_CIPHER_CTX *cipher;
    uint8_t *tail;   /* input of the chunk that is not complete */
    size_t tail_len;
    uint64_t next;   /* number of the next chunk */
    uint64_t bytes;  /* plaintext bytes so far */
    glass_stream_stat failure;
};

/* HKDF-Expand-SHA512 with a raw key; out_len <= 128. */
GLASS_MUST_USE glass_status glass_expand(const glass_ctx *ctx, uint8_t *out, size_t out_len, const uint8_t key[32],
                                         const uint8_t *info, size_t info_len);
/* info = name || 00 || digest || u64(size), the last only if `size` is not NULL. */
GLASS_MUST_USE glass_status glass_expand_label(const glass_ctx *ctx, uint8_t *out, size_t out_len,
                                               const uint8_t key[32], const char *name, const uint8_t digest[32],
                                               const uint64_t *size);
GLASS_MUST_USE glass_status glass_name_of_key(const glass_ctx *ctx, uint8_t id[16], const uint8_t key[32]);

/* The first 72 bytes of a header. */
void glass_prefix_put(uint8_t prefix[72], int kind, const uint8_t package_id[16], const uint8_t blob_id[16],
                      uint64_t size, const uint8_t key_id[16]);
/* Salt and key to the message's secret, through the prefix (NULL if bare) and the application's context. */
GLASS_MUST_USE glass_status glass_message_secret(const glass_ctx *ctx, uint8_t secret[76], const uint8_t key[32],
                                                 const uint8_t salt[24], const uint8_t *prefix,
                                                 const uint8_t *context, size_t context_len);

GLASS_MUST_USE glass_status glass_fail(glass_stream_stat *stat, glass_status status, int fault);
GLASS_MUST_USE glass_status glass_fail_chunk(glass_stream_stat *stat, uint64_t chunk);
GLASS_MUST_USE glass_status glass_fail_input(glass_stream_stat *stat, int number);
GLASS_MUST_USE glass_status glass_fail_output(glass_stream_stat *stat, int number);
int glass_cancelled(const glass_stream_stat *stat);
void glass_progress(glass_stream_stat *stat, uint64_t bytes);

static inline void put_u64(uint8_t *out, uint64_t value)
{
    for (int i = 7; i >= 0; i--) {
        out[i] = (uint8_t)(value & 0xff);
        value >>= 8;
    }
}

static inline uint64_t get_u64(const uint8_t *in)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++) {
        value = value << 8 | in[i];
    }
    return value;
}

/* Chunks. `cipher` has the message's key; the nonce is made from the message's base nonce and the number of the chunk. */
GLASS_MUST_USE glass_status glass_cipher_new(const glass_ctx *ctx, EVP_CIPHER_CTX **out, const uint8_t *secret,
                                             int writing);
GLASS_MUST_USE glass_status glass_chunk_seal(EVP_CIPHER_CTX *cipher, const uint8_t *secret, uint64_t number,
                                             uint8_t *out, const uint8_t *in, size_t len);
/* On failure the `len` bytes at `out` are wiped. */
GLASS_MUST_USE glass_status glass_chunk_open(EVP_CIPHER_CTX *cipher, const uint8_t *secret, uint64_t number,
                                             uint8_t *out, const uint8_t *in, size_t len);
GLASS_MUST_USE glass_status glass_hash(const glass_ctx *ctx, EVP_MD_CTX *md, uint8_t *out, const uint8_t *data,
                                       size_t len);
/* The digests of the 16 KiB leaves of at most one piece, written one after the other. */
GLASS_MUST_USE glass_status glass_hash_leaves(const glass_ctx *ctx, EVP_MD_CTX *md, uint8_t *leaves,
                                              const uint8_t *data, size_t len);

/* A plaintext size is stated or follows from the length of the payload; both must fit. */
GLASS_MUST_USE glass_status glass_payload_size(const glass_stream *stream, glass_stream_stat *stat, uint64_t *size,
                                               uint64_t payload_len);
uint64_t glass_payload_len(uint64_t size);

/* Files. Reads are complete or end at the end of the file. */
GLASS_MUST_USE glass_status glass_read_at(glass_stream_stat *stat, int fd, uint8_t *out, size_t len, uint64_t offset,
                                          size_t *got);
GLASS_MUST_USE glass_status glass_write_at(glass_stream_stat *stat, int fd, const uint8_t *data, size_t len,
                                           uint64_t offset);

/* The input is the file that it was: a writer asks for size and time, a reader, whose bytes are authentic, for the size alone. */
GLASS_MUST_USE glass_status glass_unchanged(glass_stream_stat *stat, int fd, const struct stat *before, int writing);

/* Work on all threads: `unit` is called with every number below `units`, rising; the failure of the lowest unit counts. */
typedef struct glass_lane {
    EVP_CIPHER_CTX *cipher;
    EVP_MD_CTX *md;
    uint8_t *in;
    uint8_t *out;
    size_t in_len;
    size_t out_len;
} glass_lane;

struct pump;
typedef struct glass_job {
    const glass_ctx *ctx;
    const uint8_t *secret; /* NULL: no cipher */
    int writing;
    size_t in_len;         /* buffers of each lane */
    size_t out_len;
    uint64_t units;
    glass_stream_stat *stat; /* of the caller: cancel and progress */
    glass_status (*unit)(struct glass_job *job, glass_lane *lane, glass_stream_stat *stat, uint64_t number);
    const void *work;
    struct pump *pump;     /* of stream_pump.c, which has no `work` */
    /* the engine's own */
    uint64_t next;
    int stop;
    pthread_mutex_t lock;
    uint64_t failed_unit;
    glass_status status;
    glass_stream_stat failure;
} glass_job;

GLASS_MUST_USE glass_status glass_job_run(glass_job *job, int threads);
GLASS_MUST_USE glass_status glass_lane_open(const glass_job *job, glass_lane *lane);
void glass_lane_close(glass_lane *lane);

#endif
