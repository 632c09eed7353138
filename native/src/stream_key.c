/* Keys, in the memory of vault.c, and HKDF-Expand-SHA512 (RFC 5869), from which every other key, id and salt comes. */
#include <openssl/core_names.h>
#include <openssl/params.h>

#include "stream_internal.h"

glass_status glass_key_new(const glass_ctx *ctx, glass_key **out, const uint8_t bytes[32])
{
    if (out == NULL) {
        return GLASS_ERR_ARGUMENT;
    }
    *out = NULL;
    if (ctx == NULL || bytes == NULL) {
        return GLASS_ERR_ARGUMENT;
    }
    glass_vault *vault = ctx->vault;
    glass_key *key = glass_vault_take(vault);
    if (key == NULL) { /* more than 64 keys at once: a page of its own */
        vault = NULL;
        key = glass_page_new();
    }
    if (key == NULL) {
        return GLASS_ERR_MEMORY;
    }
    memcpy(key->bytes, bytes, sizeof key->bytes);
    key->vault = vault;
    *out = key;
    return GLASS_OK;
}

void glass_key_free(glass_key *key)
{
    if (key == NULL) {
        return;
    }
    if (key->vault != NULL) {
        glass_vault_give(key->vault, key);
    } else {
        glass_page_free(key);
    }
}

/* T(n) = HMAC(key, T(n - 1) || info || n); here n is 1 or 2. */
GLASS_MUST_USE static glass_status expand_block(EVP_MAC_CTX *mac, uint8_t block[64], const uint8_t *before,
                                                size_t before_len, const uint8_t *info, size_t info_len,
                                                uint8_t number)
{
    size_t written = 0;
    if (EVP_MAC_init(mac, NULL, 0, NULL) != 1 || EVP_MAC_update(mac, before, before_len) != 1 ||
        EVP_MAC_update(mac, info, info_len) != 1 || EVP_MAC_update(mac, &number, 1) != 1 ||
        EVP_MAC_final(mac, block, &written, 64) != 1 || written != 64) {
        return GLASS_ERR_LIBCRYPTO;
    }
    return GLASS_OK;
}

GLASS_MUST_USE static glass_status expand_blocks(EVP_MAC_CTX *mac, uint8_t *out, size_t out_len, const uint8_t key[32],
                                                 const uint8_t *info, size_t info_len)
{
    char digest[] = "SHA2-512";
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                           OSSL_PARAM_construct_end()};
    uint8_t blocks[128];
    if (EVP_MAC_init(mac, key, 32, params) != 1) {
        return GLASS_ERR_LIBCRYPTO;
    }
    glass_status status = expand_block(mac, blocks, NULL, 0, info, info_len, 1);
    if (status == GLASS_OK && out_len > 64) {
        status = expand_block(mac, blocks + 64, blocks, 64, info, info_len, 2);
    }
    if (status == GLASS_OK) {
        memcpy(out, blocks, out_len);
    }
    OPENSSL_cleanse(blocks, sizeof blocks);
    return status;
}

glass_status glass_expand(const glass_ctx *ctx, uint8_t *out, size_t out_len, const uint8_t key[32],
                          const uint8_t *info, size_t info_len)
{
    if (out_len > 128) {
        return GLASS_ERR_ARGUMENT;
    }
    EVP_MAC_CTX *mac = EVP_MAC_CTX_new(ctx->hmac);
    if (mac == NULL) {
        return GLASS_ERR_MEMORY;
    }
    glass_status status = expand_blocks(mac, out, out_len, key, info, info_len);
    EVP_MAC_CTX_free(mac);
    if (status != GLASS_OK) {
        OPENSSL_cleanse(out, out_len);
    }
    return status;
}

glass_status glass_key_expand(const glass_ctx *ctx, uint8_t *out, size_t out_len, const glass_key *key,
                              const uint8_t *info, size_t info_len)
{
    if (ctx == NULL || out == NULL || out_len == 0 || out_len > 64 || key == NULL || (info == NULL && info_len != 0)) {
        return GLASS_ERR_ARGUMENT;
    }
    return glass_expand(ctx, out, out_len, key->bytes, info, info_len);
}

glass_status glass_expand_label(const glass_ctx *ctx, uint8_t *out, size_t out_len, const uint8_t key[32],
                                const char *name, const uint8_t digest[32], const uint64_t *size)
{
    uint8_t info[96];
    size_t len = strlen(name) + 1; /* the zero byte belongs to the label */
    if (len + DIGEST + 8 > sizeof info) {
        return GLASS_ERR_ARGUMENT;
    }
    memcpy(info, name, len);
    memcpy(info + len, digest, DIGEST);
    len += DIGEST;
    if (size != NULL) {
        put_u64(info + len, *size);
        len += 8;
    }
    return glass_expand(ctx, out, out_len, key, info, len);
}

glass_status glass_name_of_key(const glass_ctx *ctx, uint8_t id[16], const uint8_t key[32])
{
    static const char name[] = "glasscase/v1/key-id"; /* nothing follows it, not even a zero byte */
    return glass_expand(ctx, id, 16, key, (const uint8_t *)name, sizeof name - 1);
}

glass_status glass_key_id(const glass_ctx *ctx, uint8_t id[16], const glass_key *key)
{
    if (ctx == NULL || id == NULL || key == NULL) {
        return GLASS_ERR_ARGUMENT;
    }
    return glass_name_of_key(ctx, id, key->bytes);
}
