/* A context owns an OpenSSL library context of its own, so neither openssl.cnf nor the environment can change a result.
 * It is immutable after glass_ctx_new and may be shared between threads. */
#ifndef GLASS_CTX_H
#define GLASS_CTX_H

#include <stddef.h>
#include <stdint.h>

#include "glass_status.h"

/* cffi: begin */
typedef struct glass_ctx glass_ctx;

/* glass_ctx_new sets `*out` to a new context with the algorithms that the core uses already fetched, or to NULL. */
glass_status glass_ctx_new(glass_ctx **out);
/* glass_ctx_free releases `ctx`; NULL is allowed. */
void glass_ctx_free(glass_ctx *ctx);
/* glass_libcrypto_version returns the text of the libcrypto that is loaded, for example "OpenSSL 3.0.19 27 Jan 2026". */
const char *glass_libcrypto_version(void);
/* glass_cpu_has_vaes returns 1 if the processor has vector AES, else 0. */
int glass_cpu_has_vaes(void);
/* glass_equal returns 1 if the `len` bytes at `a` and `b` are equal, in constant time. */
int glass_equal(const uint8_t *a, const uint8_t *b, size_t len);
/* glass_wipe overwrites `len` bytes in a way that the compiler keeps. */
void glass_wipe(uint8_t *buf, size_t len);
/* glass_sha256 writes the 32-byte digest of `len` bytes to `out`. */
glass_status glass_sha256(const glass_ctx *ctx, uint8_t out[32], const uint8_t *data, size_t len);
/* cffi: end */

#endif
