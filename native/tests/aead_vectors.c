/* Runs AES-256-GCM cases through the chunk codec: lines of "key nonce plaintext ciphertext tag" in hex on stdin, `-` for
 * nothing; for each, one line on stdout: "sealed opened", each yes or no. tests/vectors/test_wycheproof_stream.py feeds it. */
#include <string.h>

#include "check.h"
#include "stream_internal.h"

static size_t unhex(uint8_t *out, size_t cap, const char *text)
{
    size_t len = strcmp(text, "-") == 0 ? 0 : strlen(text) / 2;
    CHECK(len <= cap);
    for (size_t i = 0; i < len; i++) {
        unsigned int byte = 0;
        CHECK(sscanf(text + 2 * i, "%2x", &byte) == 1);
        out[i] = (uint8_t)byte;
    }
    return len;
}

int main(void)
{
    static char words[5][40000];
    static uint8_t plain[20000];
    static uint8_t sealed[20000];
    static uint8_t out[20000];
    glass_ctx *ctx = NULL;
    CHECK_STATUS(GLASS_OK, glass_ctx_new(&ctx));
    while (scanf("%39999s %39999s %39999s %39999s %39999s", words[0], words[1], words[2], words[3], words[4]) == 5) {
        uint8_t secret[SECRET_LEN] = {0};
        EVP_CIPHER_CTX *cipher = NULL;
        CHECK(unhex(secret, 32, words[0]) == 32);
        CHECK(unhex(secret + SECRET_NONCE, 12, words[1]) == 12);
        size_t len = unhex(plain, CHUNK, words[2]);
        CHECK(unhex(sealed, CHUNK, words[3]) == len);
        CHECK(unhex(sealed + len, TAG, words[4]) == TAG);
        CHECK_STATUS(GLASS_OK, glass_cipher_new(ctx, &cipher, secret, 1));
        CHECK_STATUS(GLASS_OK, glass_chunk_seal(cipher, secret, 0, out, plain, len));
        int same = memcmp(out, sealed, len + TAG) == 0;
        EVP_CIPHER_CTX_free(cipher);
        CHECK_STATUS(GLASS_OK, glass_cipher_new(ctx, &cipher, secret, 0));
        glass_status status = glass_chunk_open(cipher, secret, 0, out, sealed, len);
        printf("%s %s\n", same ? "yes" : "no", status == GLASS_OK && memcmp(out, plain, len) == 0 ? "yes" : "no");
        EVP_CIPHER_CTX_free(cipher);
    }
    glass_ctx_free(ctx);
    return 0;
}
