/* MRENCLAVE: one SHA-256 over the records of ECREATE, EADD and EEXTEND; and SHA-256 of many files on several threads.
 * The layout of an enclave is decided elsewhere; here the records of whole runs of pages are made and hashed in batches.
 * Source: Intel SDM vol. 3D, ECREATE, EADD, EEXTEND. */
#ifndef GLASS_MEASURE_H
#define GLASS_MEASURE_H

#include <stddef.h>
#include <stdint.h>

#include "glass_ctx.h"
#include "glass_status.h"

/* cffi: begin */
typedef struct glass_measure glass_measure;

/* glass_measure_new sets `*out` to a measurement that has seen ECREATE of an enclave of `size` bytes whose SSA frame has
 * `ssa_pages` pages. `size` must be a multiple of 4096 and not zero, else GLASS_ERR_ARGUMENT. */
GLASS_MUST_USE glass_status glass_measure_new(const glass_ctx *ctx, glass_measure **out, uint32_t ssa_pages, uint64_t size);
/* glass_measure_free releases `measure`; NULL is allowed. */
void glass_measure_free(glass_measure *measure);
/* glass_measure_add hashes EADD alone of `pages` pages from `offset` on, all with the SECINFO flags `flags`.
 * `offset` is a multiple of 4096 and the run ends within the enclave, else GLASS_ERR_ARGUMENT; so for the two below. */
GLASS_MUST_USE glass_status glass_measure_add(glass_measure *measure, uint64_t offset, uint64_t pages, uint64_t flags);
/* glass_measure_extend hashes EADD and 16 times EEXTEND of each page of `content`; `content_len` is a multiple of 4096. */
GLASS_MUST_USE glass_status glass_measure_extend(glass_measure *measure, uint64_t offset, uint64_t flags,
                                                 const uint8_t *content, size_t content_len);
/* glass_measure_extend_zero is glass_measure_extend of `pages` pages of zeros. */
GLASS_MUST_USE glass_status glass_measure_extend_zero(glass_measure *measure, uint64_t offset, uint64_t pages,
                                                      uint64_t flags);
/* glass_measure_final writes the 32 bytes of MRENCLAVE to `out`. Afterwards every call gives GLASS_ERR_STATE, as it does
 * after a failure of libcrypto. */
GLASS_MUST_USE glass_status glass_measure_final(glass_measure *measure, uint8_t out[32]);

/* What came of one file. status: GLASS_OK, GLASS_ERR_IO with the system's error number, GLASS_ERR_LIBCRYPTO, or GLASS_ERR_MEMORY,
 * of a file that no thread could take. */
typedef struct glass_file_digest {
    uint8_t sha256[32];
    uint64_t size;
    int status;
    int error;
} glass_file_digest;

/* glass_hash_files reads each of `fds_len` descriptors of regular files from its beginning to its end, without moving its
 * position, and writes what came of it to the same place of `out`, on up to `threads` (1..64) threads.
 * It returns GLASS_OK even if a file failed: look at each `status`. */
GLASS_MUST_USE glass_status glass_hash_files(const glass_ctx *ctx, glass_file_digest *out, const int *fds, size_t fds_len,
                                             unsigned int threads);
/* cffi: end */

#endif
