#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <string.h>

#include "glass_verify.h"
#include "internal.h"
#include "x509.h"

/* The base point of P-256, as good a first point of the template as any. */
static const uint8_t BASE_POINT[65] = {
    0x04, 0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63, 0xa4, 0x40, 0xf2,
    0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96, 0x4f,
    0xe3, 0x42, 0xe2, 0xfe, 0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e, 0x16, 0x2b, 0xce,
    0x33, 0x57, 0x6b, 0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5};

EVP_PKEY *glass_p256_template(OSSL_LIB_CTX *lib)
{
    char group[] = "prime256v1";
    uint8_t point[65];
    memcpy(point, BASE_POINT, sizeof point);
    OSSL_PARAM params[3] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point),
        OSSL_PARAM_construct_end(),
    };
    EVP_PKEY *out = NULL;
    EVP_PKEY_CTX *maker = EVP_PKEY_CTX_new_from_name(lib, "EC", NULL);
    if (maker == NULL || EVP_PKEY_fromdata_init(maker) != 1 ||
        EVP_PKEY_fromdata(maker, &out, EVP_PKEY_PUBLIC_KEY, params) != 1) {
        EVP_PKEY_free(out);
        out = NULL;
    }
    EVP_PKEY_CTX_free(maker);
    return out;
}

/* A copy of the template takes the point: four times as fast as building the curve again. The setter refuses what is not on
 * the curve. */
EVP_PKEY *glass_point_new(const glass_ctx *ctx, const uint8_t key[65])
{
    if (key[0] != 0x04) { /* only the uncompressed form */
        return NULL;
    }
    ERR_set_mark(); /* the error queue belongs to whoever else uses libcrypto in this thread */
    EVP_PKEY *out = EVP_PKEY_dup(ctx->p256);
    if (out != NULL && EVP_PKEY_set1_encoded_public_key(out, key, 65) != 1) {
        EVP_PKEY_free(out);
        out = NULL;
    }
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
