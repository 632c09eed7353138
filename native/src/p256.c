#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <string.h>

#include "glass_verify.h"
#include "internal.h"
#include "x509.h"

EVP_PKEY *glass_point_new(const glass_ctx *ctx, const uint8_t key[65])
{
    char group[] = "prime256v1";
    uint8_t point[65];
    if (key[0] != 0x04) { /* only the uncompressed form */
        return NULL;
    }
    memcpy(point, key, sizeof point);
    OSSL_PARAM params[3] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point),
        OSSL_PARAM_construct_end(),
    };
    EVP_PKEY *out = NULL;
    ERR_set_mark(); /* the error queue belongs to whoever else uses libcrypto in this thread */
    EVP_PKEY_CTX *maker = EVP_PKEY_CTX_new_from_name(ctx->lib, "EC", NULL);
    if (maker == NULL || EVP_PKEY_fromdata_init(maker) != 1 ||
        EVP_PKEY_fromdata(maker, &out, EVP_PKEY_PUBLIC_KEY, params) != 1) {
        EVP_PKEY_free(out);
        out = NULL;
    }
    EVP_PKEY_CTX_free(maker);
    (void)ERR_pop_to_mark();
    return out;
}

/* One INTEGER of an ECDSA-Sig-Value from 32 bytes; returns its size, at most 35. */
static size_t put_integer(uint8_t *out, const uint8_t number[32])
{
    size_t skip = 0;
    while (skip < 31 && number[skip] == 0) {
        skip++;
    }
    size_t lead = number[skip] >= 0x80 ? 1 : 0;
    size_t len = 32 - skip;
    out[0] = GLASS_DER_INTEGER;
    out[1] = (uint8_t)(len + lead);
    out[2] = 0;
    memcpy(out + 2 + lead, number + skip, len);
    return 2 + lead + len;
}

bool glass_point_verifies_digest(const glass_ctx *ctx, EVP_PKEY *key, const uint8_t digest[32], const uint8_t raw[64])
{
    uint8_t der[72];
    if (key == NULL) {
        return false;
    }
    size_t len = put_integer(der + 2, raw);
    len += put_integer(der + 2 + len, raw + 32);
    der[0] = GLASS_DER_SEQUENCE;
    der[1] = (uint8_t)len;
    ERR_set_mark();
    EVP_PKEY_CTX *verifier = EVP_PKEY_CTX_new_from_pkey(ctx->lib, key, NULL);
    bool good = verifier != NULL && EVP_PKEY_verify_init(verifier) == 1 &&
                EVP_PKEY_verify(verifier, der, len + 2, digest, 32) == 1;
    EVP_PKEY_CTX_free(verifier);
    (void)ERR_pop_to_mark();
    return good;
}

bool glass_point_verifies(const glass_ctx *ctx, EVP_PKEY *key, glass_slice message, const uint8_t raw[64])
{
    uint8_t digest[32];
    if (key == NULL || message.at == NULL || glass_sha256(ctx, digest, message.at, message.len) != GLASS_OK) {
        return false;
    }
    return glass_point_verifies_digest(ctx, key, digest, raw);
}

glass_status glass_p256_verify(const glass_ctx *ctx, const uint8_t key[65], const uint8_t *message, size_t message_len, const uint8_t *signature, size_t signature_len, int der)
{
    uint8_t raw[64];
    if (ctx == NULL || key == NULL || message == NULL || signature == NULL) {
        return GLASS_ERR_ARGUMENT;
    }
    if (der != 0) {
        if (glass_der_check(signature, signature_len) != GLASS_OK ||
            glass_der_signature(raw, signature, signature_len) != GLASS_OK) {
            return GLASS_ERR_FORMAT;
        }
    } else {
        if (signature_len != sizeof raw) {
            return GLASS_ERR_FORMAT;
        }
        memcpy(raw, signature, sizeof raw);
    }
    EVP_PKEY *point = glass_point_new(ctx, key);
    if (point == NULL) {
        return GLASS_ERR_FORMAT;
    }
    bool good = glass_point_verifies(ctx, point, (glass_slice){message, message_len}, raw);
    EVP_PKEY_free(point);
    return good ? GLASS_OK : GLASS_ERR_AUTH;
}
