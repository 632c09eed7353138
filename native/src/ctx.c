#include "glass_ctx.h"

#include <stdlib.h>

#include "internal.h"

GLASS_MUST_USE static glass_status fetch_algorithms(glass_ctx *ctx)
{
    ctx->sha256 = EVP_MD_fetch(ctx->lib, "SHA2-256", NULL);
    ctx->sha384 = EVP_MD_fetch(ctx->lib, "SHA2-384", NULL);
    ctx->sha512 = EVP_MD_fetch(ctx->lib, "SHA2-512", NULL);
    ctx->aes_256_gcm = EVP_CIPHER_fetch(ctx->lib, "AES-256-GCM", NULL);
    ctx->hmac = EVP_MAC_fetch(ctx->lib, "HMAC", NULL);
    ctx->p256 = glass_p256_template(ctx->lib);
    if (ctx->sha256 == NULL || ctx->sha384 == NULL || ctx->sha512 == NULL || ctx->aes_256_gcm == NULL ||
        ctx->hmac == NULL || ctx->p256 == NULL) {
        return GLASS_ERR_LIBCRYPTO;
    }
    return GLASS_OK;
}

glass_status glass_ctx_new(glass_ctx **out)
{
    if (out == NULL) {
        return GLASS_ERR_ARGUMENT;
    }
    *out = NULL;
    glass_ctx *ctx = calloc(1, sizeof *ctx);
    if (ctx == NULL) {
        return GLASS_ERR_MEMORY;
    }
    ctx->vault = glass_vault_new();
    if (ctx->vault == NULL) {
        glass_ctx_free(ctx);
        return GLASS_ERR_MEMORY;
    }
    ctx->lib = OSSL_LIB_CTX_new();
    if (ctx->lib == NULL) {
        glass_ctx_free(ctx);
        return GLASS_ERR_LIBCRYPTO;
    }
    glass_status status = fetch_algorithms(ctx);
    if (status != GLASS_OK) {
        glass_ctx_free(ctx);
        return status;
    }
    *out = ctx;
    return GLASS_OK;
}

void glass_ctx_free(glass_ctx *ctx)
{
    if (ctx == NULL) {
        return;
    }
    glass_vault_release(ctx->vault);
    EVP_PKEY_free(ctx->p256);
    EVP_MAC_free(ctx->hmac);
    EVP_CIPHER_free(ctx->aes_256_gcm);
    EVP_MD_free(ctx->sha512);
    EVP_MD_free(ctx->sha384);
    EVP_MD_free(ctx->sha256);
    OSSL_LIB_CTX_free(ctx->lib);
    free(ctx);
}

const char *glass_libcrypto_version(void)
{
    return OpenSSL_version(OPENSSL_VERSION);
}

int glass_cpu_has_vaes(void)
{
#if defined(__x86_64__) && (defined(__clang__) || __GNUC__ >= 11)
    uint32_t eax = 7;
    uint32_t ebx = 0;
    uint32_t ecx = 0;
    uint32_t edx = 0;
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    return (int)((ecx >> 9) & 1U);
#else
    return 0;
#endif
}

int glass_equal(const uint8_t *a, const uint8_t *b, size_t len)
{
    return CRYPTO_memcmp(a, b, len) == 0;
}

void glass_wipe(uint8_t *buf, size_t len)
{
    OPENSSL_cleanse(buf, len);
}

glass_status glass_sha256(const glass_ctx *ctx, uint8_t out[32], const uint8_t *data, size_t len)
{
    if (ctx == NULL || out == NULL || (data == NULL && len != 0)) {
        return GLASS_ERR_ARGUMENT;
    }
    unsigned int written = 0;
    if (EVP_Digest(data, len, out, &written, ctx->sha256, NULL) != 1 || written != 32) {
        return GLASS_ERR_LIBCRYPTO;
    }
    return GLASS_OK;
}
