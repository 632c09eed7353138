/* What the files of the core share: the context and the early return. */
#ifndef GLASS_INTERNAL_H
#define GLASS_INTERNAL_H

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "glass_ctx.h"
#include "glass_status.h"

/* Memory for keys, see vault.c. A slot has GLASS_VAULT_SLOT bytes; NULL if all are taken. glass_page_new gives a page of its own
 * with room for one slot. */
#define GLASS_VAULT_SLOT 64
typedef struct glass_vault glass_vault;
glass_vault *glass_vault_new(void);
void glass_vault_release(glass_vault *vault);
void *glass_vault_take(glass_vault *vault);
void glass_vault_give(glass_vault *vault, void *slot);
void *glass_page_new(void);
void glass_page_free(void *page);

struct glass_ctx {
    OSSL_LIB_CTX *lib;
    EVP_MD *sha256;
    EVP_MD *sha384;
    EVP_MD *sha512;
    EVP_CIPHER *aes_256_gcm;
    EVP_MAC *hmac;
    glass_vault *vault;
    EVP_PKEY *p256; /* the template that glass_point_new copies */
};

/* glass_p256_template returns a new key on P-256, or NULL. */
EVP_PKEY *glass_p256_template(OSSL_LIB_CTX *lib);

/* Leave the function at once with the status of `call` if it is not GLASS_OK. */
#define GLASS_TRY(call)                       \
    do {                                      \
        glass_status glass_try_ = (call);     \
        if (glass_try_ != GLASS_OK) {         \
            return glass_try_;                \
        }                                     \
    } while (0)

#endif
