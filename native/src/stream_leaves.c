/* Leaf lists: every chunk that is read must be the very content that the digest of its file names. A holder of the key can
 * make other chunks that are authentic for AES-GCM; these he cannot pass off. */
#include <stdlib.h>

#include "stream_reader.h"

#define LEAVES_OF_CHUNK (CHUNK / DIGEST) /* 512 leaves, of 8 MiB, in one chunk of the leaf list */
#define PIECES_OF_CHUNK (LEAVES_OF_CHUNK / PIECE_CHUNKS)
#define KEPT_MAX ((uint64_t)4 << 20)     /* bytes of a leaf list that stays in memory: that of a file of 2 GiB */

/* The leaf of a chunk: from the list that was kept when it was checked, or out of a piece of the list that is compared with its
 * digest in private memory now. */
GLASS_MUST_USE static glass_status leaf_of(const glass_reader *reader, struct reader_lane *lane,
                                           glass_stream_stat *stat, uint64_t chunk, const uint8_t **leaf)
{
    uint64_t list_chunk = chunk / LEAVES_OF_CHUNK;
    size_t index = (size_t)(chunk % LEAVES_OF_CHUNK);
    size_t piece = index / PIECE_CHUNKS;
    if (reader->kept != NULL) {
        *leaf = reader->kept + chunk * DIGEST;
        return GLASS_OK;
    }
    if (lane->leaves_len == 0 || lane->leaves_chunk != list_chunk) {
        struct reader_lane *own = NULL;
        lane->leaves_len = 0;
        lane->checked = 0;
        GLASS_TRY(glass_lane_take(reader->leaves, &own));
        glass_status status = glass_open_chunks(reader->leaves, own, stat, list_chunk, 1, lane->leaves);
        glass_lane_give(reader->leaves, own);
        GLASS_TRY(status);
        lane->leaves_chunk = list_chunk;
        lane->leaves_len = glass_chunk_len(reader->leaves, list_chunk);
    }
    if ((lane->checked >> piece & 1U) == 0) {
        uint8_t digest[DIGEST];
        size_t start = piece * PIECE_CHUNKS * DIGEST;
        size_t len = lane->leaves_len - start < PIECE_CHUNKS * DIGEST ? lane->leaves_len - start : PIECE_CHUNKS * DIGEST;
        GLASS_TRY(glass_hash(reader->stream->ctx, lane->md, digest, lane->leaves + start, len));
        if (!glass_equal(digest, reader->pieces + (list_chunk * PIECES_OF_CHUNK + piece) * DIGEST, DIGEST)) {
            stat->chunk = chunk;
            return glass_fail(stat, GLASS_ERR_AUTH, GLASS_STREAM_LEAF);
        }
        lane->checked |= 1U << piece;
    }
    *leaf = lane->leaves + index * DIGEST;
    return GLASS_OK;
}

glass_status glass_check_leaves(const glass_reader *reader, struct reader_lane *lane, glass_stream_stat *stat,
                                uint64_t first, uint64_t count, const uint8_t *plain)
{
    for (uint64_t i = 0; i < count && first + i < (reader->size + CHUNK - 1) / CHUNK; i++) {
        uint8_t digest[DIGEST];
        const uint8_t *leaf = NULL;
        GLASS_TRY(leaf_of(reader, lane, stat, first + i, &leaf));
        GLASS_TRY(glass_hash(reader->stream->ctx, lane->md, digest, plain + i * CHUNK, glass_chunk_len(reader, first + i)));
        if (!glass_equal(digest, leaf, DIGEST)) {
            stat->chunk = first + i;
            return glass_fail(stat, GLASS_ERR_AUTH, GLASS_STREAM_LEAF);
        }
    }
    return GLASS_OK;
}

/* Hash the whole leaf list, one chunk of it after the other, to piece digests and those to the content digest. `kept`, if it is
 * not NULL, gets the list. */
GLASS_MUST_USE static glass_status hash_list(const glass_reader *list, struct reader_lane *lane,
                                             glass_stream_stat *stat, uint8_t *pieces, size_t pieces_len, uint8_t *kept,
                                             const uint8_t digest[32])
{
    uint8_t all[DIGEST];
    size_t step = PIECE_CHUNKS * DIGEST;
    for (uint64_t chunk = 0; chunk * CHUNK < list->size; chunk++) {
        size_t len = glass_chunk_len(list, chunk);
        uint8_t *plain = kept != NULL ? kept + chunk * CHUNK : lane->bounce;
        GLASS_TRY(glass_open_chunks(list, lane, stat, chunk, 1, plain));
        for (size_t done = 0; done < len; done += step) {
            uint8_t *piece = pieces + (chunk * PIECES_OF_CHUNK + done / step) * DIGEST;
            size_t part = len - done < step ? len - done : step;
            GLASS_TRY(glass_hash(list->stream->ctx, lane->md, piece, plain + done, part));
        }
    }
    GLASS_TRY(glass_sha256(list->stream->ctx, all, pieces, pieces_len));
    return glass_equal(all, digest, DIGEST) ? GLASS_OK : glass_fail(stat, GLASS_ERR_AUTH, GLASS_STREAM_LEAF);
}

/* Lanes made before have no room for leaves, and chunks read before were not compared with any. */
static void forget(glass_reader *reader)
{
    while (reader->idle != NULL) {
        struct reader_lane *old = reader->idle;
        reader->idle = old->next;
        glass_lane_free(old);
    }
    for (size_t i = 0; i < CACHE_SLOTS; i++) {
        reader->slots[i].used = 0;
    }
}

glass_status glass_reader_set_leaves(glass_reader *reader, glass_stream_stat *stat, glass_reader *leaves,
                                     const uint8_t digest[32])
{
    struct reader_lane *lane = NULL;
    if (reader == NULL || stat == NULL || leaves == NULL || digest == NULL || reader->leaves != NULL) {
        glass_reader_free(leaves);
        return GLASS_ERR_ARGUMENT;
    }
    uint64_t chunks = reader->size / CHUNK + (reader->size % CHUNK != 0);
    size_t pieces = (size_t)(reader->size / PIECE + (reader->size % PIECE != 0));
    if (leaves->size != chunks * DIGEST) {
        glass_reader_free(leaves);
        return glass_fail(stat, GLASS_ERR_AUTH, GLASS_STREAM_LEAF);
    }
    uint8_t *digests = calloc(pieces + 1, DIGEST);
    uint8_t *kept = leaves->size <= KEPT_MAX ? calloc((size_t)leaves->size + 1, 1) : NULL; /* NULL for want of memory too */
    glass_status status = digests == NULL ? GLASS_ERR_MEMORY : glass_lane_take(leaves, &lane);
    if (status == GLASS_OK) {
        status = hash_list(leaves, lane, stat, digests, pieces * DIGEST, kept, digest);
    }
    glass_lane_give(leaves, lane);
    if (status != GLASS_OK) {
        free(kept);
        free(digests);
        glass_reader_free(leaves);
        return stat->fault != GLASS_STREAM_FINE ? status : glass_fail(stat, status, GLASS_STREAM_CRYPTO);
    }
    forget(reader);
    reader->pieces = digests;
    reader->kept = kept;
    reader->leaves = leaves;
    return GLASS_OK;
}
