/* What random access and leaf lists share; nothing here is public. */
#ifndef GLASS_STREAM_READER_H
#define GLASS_STREAM_READER_H

#include "stream_internal.h"

#define CACHE_SLOTS 64                   /* chunks: 1 MiB */

struct slot {
    uint8_t *bytes;
    uint64_t chunk;
    uint64_t used;
};

/* What one reading thread needs; `leaves` is one decrypted chunk of the leaf list, of which the pieces in `checked` have
 * been compared with the piece digests since it was decrypted. */
struct reader_lane {
    struct reader_lane *next;
    EVP_CIPHER_CTX *cipher;
    EVP_MD_CTX *md;
    uint8_t *sealed; /* BATCH * SEALED */
    uint8_t *bounce; /* CHUNK */
    uint8_t *leaves; /* CHUNK, or NULL */
    size_t leaves_len;
    uint64_t leaves_chunk;
    unsigned int checked;
};

struct glass_reader {
    glass_stream *stream;
    int fd;
    uint64_t size;
    glass_reader *leaves; /* NULL: no leaf check */
    uint8_t *pieces;
    uint8_t *kept;        /* the whole leaf list, compared with the digest; NULL if it is too long */
    pthread_mutex_t lock; /* all below */
    struct reader_lane *idle;
    struct slot slots[CACHE_SLOTS];
    uint64_t clock;
    glass_status dead;
    glass_stream_stat failure;
};

GLASS_MUST_USE glass_status glass_lane_take(glass_reader *reader, struct reader_lane **out);
void glass_lane_give(glass_reader *reader, struct reader_lane *lane);
void glass_lane_free(struct reader_lane *lane);
/* Plaintext bytes of a chunk. */
size_t glass_chunk_len(const glass_reader *reader, uint64_t chunk);
/* Decrypt `count` <= BATCH chunks from `first` to `dst`, which is wiped on failure; no leaf check. */
GLASS_MUST_USE glass_status glass_open_chunks(const glass_reader *reader, struct reader_lane *lane,
                                              glass_stream_stat *stat, uint64_t first, uint64_t count, uint8_t *dst);
/* Compare `count` chunks that were just decrypted to `plain` with their leaves. */
GLASS_MUST_USE glass_status glass_check_leaves(const glass_reader *reader, struct reader_lane *lane,
                                               glass_stream_stat *stat, uint64_t first, uint64_t count,
                                               const uint8_t *plain);

#endif
