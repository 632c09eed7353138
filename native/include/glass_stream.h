/* Streaming encryption of files: C2SP chunked encryption (Cobblestone-256) behind a 72-byte prefix, and what a package
 * derives from a key and the content. The format is in docs/stream-format.md.
 *
 * Rules that the interface keeps, whatever the caller does: a salt is never a parameter; a stream that writes does it once;
 * a blob or manifest is encrypted only from content that has the digest its salt was derived from; plaintext is handed out
 * only from chunks whose tag held; after a failed tag nothing more comes out of the same object. */
#ifndef GLASS_STREAM_H
#define GLASS_STREAM_H

#include <stddef.h>
#include <stdint.h>

#include "glass_ctx.h"
#include "glass_status.h"

/* cffi: begin */
enum {
    GLASS_STREAM_CHUNK = 16384,       /* bytes of plaintext in every chunk but the last, which is shorter */
    GLASS_STREAM_TAG = 16,            /* bytes that encryption adds to a chunk */
    GLASS_STREAM_PIECE = 1048576,     /* bytes of plaintext under one piece digest */
    GLASS_STREAM_HEADER = 128,        /* prefix 72, salt 24, commitment 32 */
    GLASS_STREAM_BARE_HEADER = 56,    /* salt and commitment, without our prefix */
    GLASS_STREAM_CONTEXT_MAX = 4096,  /* bytes of the application's context */
    GLASS_STREAM_BARE_CONTEXT_MAX = 8192,
    GLASS_STREAM_ID = 16,
    GLASS_STREAM_THREADS_MAX = 64
};

typedef enum glass_stream_kind {
    GLASS_STREAM_FILE = 0,
    GLASS_STREAM_MANIFEST = 1,
    GLASS_STREAM_BLOB = 2
} glass_stream_kind;

/* What failed, beside the status. Values are stable. */
typedef enum glass_stream_fault {
    GLASS_STREAM_FINE = 0,
    GLASS_STREAM_USAGE = 1,      /* the caller broke the contract */
    GLASS_STREAM_CHANGED = 2,    /* a file differs from its digest, or changed while it was read */
    GLASS_STREAM_MAGIC = 3,      /* not a file of this format */
    GLASS_STREAM_NEWER = 4,      /* a later version of the format */
    GLASS_STREAM_SUITE = 5,      /* an algorithm that version 1 does not use */
    GLASS_STREAM_FIELD = 6,      /* a reserved bit, a length, an id or a limit of the header */
    GLASS_STREAM_KEY_ID = 7,     /* made with another key */
    GLASS_STREAM_COMMIT = 8,     /* the header or the context is not the one that was encrypted */
    GLASS_STREAM_TAG_FAILED = 9, /* chunk `chunk` is not authentic */
    GLASS_STREAM_TRUNCATED = 10, /* the file ends too early */
    GLASS_STREAM_SIZE = 11,      /* the size differs from the one that was stated */
    GLASS_STREAM_TRAILING = 12,  /* bytes after the last chunk */
    GLASS_STREAM_IO = 13,        /* the input failed: `os_errno` says what the system answered */
    GLASS_STREAM_NOSPACE = 14,   /* disk, quota or file size limit */
    GLASS_STREAM_CANCEL = 15,
    GLASS_STREAM_NOMEM = 16,
    GLASS_STREAM_CRYPTO = 17,
    GLASS_STREAM_HEADER_DIFFERS = 18, /* authentic perhaps, but not the header that was expected */
    GLASS_STREAM_LEAF = 19,           /* chunk `chunk` is not the content of the leaf list, or the list is not that of the digest */
    GLASS_STREAM_OUTPUT = 20          /* the output failed otherwise than for want of space; `os_errno` as above */
} glass_stream_fault;

/* The report of one operation. `cancel` may be set and `progress` read by other threads while the operation runs. */
typedef struct glass_stream_stat {
    int fault;         /* glass_stream_fault */
    int os_errno;
    int cancel;        /* not zero: stop soon */
    uint64_t chunk;    /* the lowest chunk that failed */
    uint64_t bytes;    /* plaintext bytes done when the operation ended */
    uint64_t progress; /* plaintext bytes done so far */
} glass_stream_stat;

typedef struct glass_stream_facts {
    int kind;          /* glass_stream_kind */
    int bare;          /* 1: without prefix, nothing below is stated */
    uint64_t size;     /* plaintext bytes, all ones: not stated */
    uint8_t package_id[16];
    uint8_t blob_id[16];
    uint8_t key_id[16];
    uint8_t header[128];
} glass_stream_facts;

typedef struct glass_key glass_key;
typedef struct glass_stream glass_stream;
typedef struct glass_reader glass_reader;

/* glass_stream_selftest decrypts three known messages and one forged one; GLASS_ERR_LIBCRYPTO if an answer is wrong. */
glass_status glass_stream_selftest(const glass_ctx *ctx);

/* glass_key_new copies 32 bytes to memory that core dumps leave out; glass_key_free wipes them, NULL is allowed. A key may
 * outlive the context. */
glass_status glass_key_new(const glass_ctx *ctx, glass_key **out, const uint8_t bytes[32]);
void glass_key_free(glass_key *key);
/* glass_key_id writes the public name of a key. */
glass_status glass_key_id(const glass_ctx *ctx, uint8_t id[16], const glass_key *key);
/* glass_key_expand writes the first `out_len` <= 64 bytes of HKDF-Expand-SHA512(key, info). */
glass_status glass_key_expand(const glass_ctx *ctx, uint8_t *out, size_t out_len, const glass_key *key,
                              const uint8_t *info, size_t info_len);

/* glass_blob_names writes what a package derives for content of this digest and size under `root`: the blob's own key,
 * the id that is its file name, and its header. */
glass_status glass_blob_names(const glass_ctx *ctx, uint8_t key[32], uint8_t id[16], uint8_t header[128],
                              const glass_key *root, const uint8_t digest[32], uint64_t size);
/* glass_package_id writes the id that a package derives from its key and its plaintext digest. */
glass_status glass_package_id(const glass_ctx *ctx, uint8_t id[16], const glass_key *key,
                              const uint8_t package_digest[32]);

/* Three ways to begin writing. The first draws its own salt; `size` may be all ones if it is not known. */
glass_status glass_stream_create(const glass_ctx *ctx, glass_stream **out, const glass_key *key, uint64_t size,
                                 const uint8_t *context, size_t context_len);
/* The content must have this digest: GLASS_ERR_CHANGED later if it does not. `key` (may be NULL) gets the blob's key. */
glass_status glass_stream_create_blob(const glass_ctx *ctx, glass_stream **out, uint8_t *key, const glass_key *root,
                                      const uint8_t digest[32], uint64_t size);
/* `manifest_digest` is the plain SHA-256 of the manifest, which glass_stream_encrypt checks. */
glass_status glass_stream_create_manifest(const glass_ctx *ctx, glass_stream **out, const glass_key *key,
                                          const uint8_t package_digest[32], const uint8_t manifest_digest[32],
                                          uint64_t size, const uint8_t *context, size_t context_len);
/* glass_stream_accept begins reading: it checks every field of the header, the key and the commitment. */
glass_status glass_stream_accept(const glass_ctx *ctx, glass_stream **out, glass_stream_stat *stat, const glass_key *key,
                                 const uint8_t header[128], const uint8_t *context, size_t context_len);
/* The same for a message without our prefix, as any other implementation of the chunk format writes it. */
glass_status glass_stream_accept_bare(const glass_ctx *ctx, glass_stream **out, glass_stream_stat *stat,
                                      const glass_key *key, const uint8_t header[56], const uint8_t *context,
                                      size_t context_len);
glass_status glass_stream_facts_of(const glass_stream *stream, glass_stream_facts *out);
void glass_stream_free(glass_stream *stream);

/* Whole messages in memory. `out` gets the header and all chunks: 128 + len + 16 * (len / 16384 + 1) bytes. */
glass_status glass_stream_encrypt(glass_stream *stream, glass_stream_stat *stat, uint8_t *out, size_t out_cap,
                                  size_t *out_len, const uint8_t *data, size_t data_len);
/* `data` is everything after the header; `digest` (may be NULL) gets the content digest. */
glass_status glass_stream_decrypt(glass_stream *stream, glass_stream_stat *stat, uint8_t *out, size_t out_cap,
                                  size_t *out_len, uint8_t *digest, const uint8_t *data, size_t data_len);

/* Regular files, with threads; descriptors stay open and their positions do not matter. `in_off` and `out_off` are where
 * the message begins. `pieces`: the piece digests of a blob, NULL for a file. */
glass_status glass_stream_encrypt_fd(glass_stream *stream, glass_stream_stat *stat, int in, uint64_t in_off, int out,
                                     uint64_t out_off, const uint8_t *pieces, size_t pieces_len, int threads);
/* `out` = -1 verifies only. `digest` (may be NULL) gets the content digest. The message must end where the file ends, which is
 * looked at before and after. */
glass_status glass_stream_decrypt_fd(glass_stream *stream, glass_stream_stat *stat, uint8_t *digest, int in,
                                     uint64_t in_off, int out, uint64_t out_off, int threads);

/* Content digest of bytes, and of `size` bytes of a regular file from `offset`; `pieces` gets 32 bytes for each 1 MiB begun,
 * `leaves` (may be NULL) 32 for each 16 KiB begun; their lengths must be exactly that. */
glass_status glass_content_digest(const glass_ctx *ctx, uint8_t digest[32], const uint8_t *data, size_t data_len);
glass_status glass_content_digest_fd(const glass_ctx *ctx, glass_stream_stat *stat, uint8_t digest[32], uint8_t *pieces,
                                     size_t pieces_len, uint8_t *leaves, size_t leaves_len, int in, uint64_t offset,
                                     uint64_t size, int threads);

/* Push: for pipes. `out` must have room for glass_stream_push_bound bytes; only whole chunks come out. A writing stream
 * begins with its header; a reading one was accepted with the header already and gets what follows it. */
size_t glass_stream_push_bound(const glass_stream *stream, size_t in_len);
glass_status glass_stream_push(glass_stream *stream, glass_stream_stat *stat, uint8_t *out, size_t out_cap,
                               size_t *out_len, const uint8_t *in, size_t in_len);
glass_status glass_stream_finish(glass_stream *stream, glass_stream_stat *stat, uint8_t *out, size_t out_cap,
                                 size_t *out_len);

/* Pipes, sockets, terminals and files, from where they stand, with threads. A reading stream was accepted with the header already,
 * and `in` stands behind it; `out` = -1 verifies only. Written are whole batches of chunks in their order, up to the first batch
 * with a fault; stat->bytes says how much that was. The last batch of a regular file that changes meanwhile is a fault. The pipes get
 * larger buffers. */
glass_status glass_stream_pump_fd(glass_stream *stream, glass_stream_stat *stat, int in, int out, int threads);

/* Random access. glass_reader_new reads the header from `fd`, compares it with `expect` (may be NULL), accepts it and
 * decrypts the last chunk, so that the size is authentic. `fd` must stay open. */
glass_status glass_reader_new(const glass_ctx *ctx, glass_reader **out, glass_stream_stat *stat, const glass_key *key,
                              int fd, const uint8_t *expect, const uint8_t *context, size_t context_len);
glass_status glass_reader_new_bare(const glass_ctx *ctx, glass_reader **out, glass_stream_stat *stat,
                                   const glass_key *key, int fd, const uint8_t *context, size_t context_len);
/* glass_reader_set_leaves takes `leaves`, the reader of the leaf list, over (also when it fails), checks that the list
 * hashes to `digest`, and from then on every chunk that is read must be the one of its leaf. */
glass_status glass_reader_set_leaves(glass_reader *reader, glass_stream_stat *stat, glass_reader *leaves,
                                     const uint8_t digest[32]);
uint64_t glass_reader_size(const glass_reader *reader);
glass_status glass_reader_facts(const glass_reader *reader, glass_stream_facts *out);
/* glass_reader_pread writes up to `len` bytes from `offset` straight to `dst`; fewer only at the end of the content.
 * On failure `dst` is wiped; a chunk that is not authentic ends the reader for good. */
glass_status glass_reader_pread(glass_reader *reader, glass_stream_stat *stat, uint8_t *dst, size_t *got, size_t len,
                                uint64_t offset, int threads);
void glass_reader_free(glass_reader *reader);
/* cffi: end */

#endif
