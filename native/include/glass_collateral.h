/* Anchors and collateral: what the verifier trusts, and the seven signed objects of Intel that it reads.
 * A prepared collateral has had its bytes parsed and its signatures checked once; validity windows and revocation are
 * looked at again in every verification. */
#ifndef GLASS_COLLATERAL_H
#define GLASS_COLLATERAL_H

#include "glass_ctx.h"

/* cffi: begin */
typedef struct glass_anchor glass_anchor;
typedef struct glass_collateral glass_collateral;

typedef enum glass_item {
    GLASS_ITEM_ROOT_CA_CRL = 0,             /* DER, hexadecimal DER or PEM, 10 MiB */
    GLASS_ITEM_PCK_CRL = 1,                 /* the same */
    GLASS_ITEM_PCK_CRL_ISSUER_CHAIN = 2,    /* PEM, 64 KiB */
    GLASS_ITEM_TCB_INFO = 3,                /* the whole served document, 1 MiB */
    GLASS_ITEM_TCB_INFO_ISSUER_CHAIN = 4,
    GLASS_ITEM_QE_IDENTITY = 5,
    GLASS_ITEM_QE_IDENTITY_ISSUER_CHAIN = 6
} glass_item;

/* glass_anchor_new sets `*out` to a new anchor that accepts exactly the `count` root certificates of `der` (1 to 4, all with
 * the 65-byte key `pinned_key`), or to NULL. `insecure` is 1 for a root that is not Intel's.
 * GLASS_ERR_FORMAT: a certificate is not a self-issued root by the rules, or has another key. */
GLASS_MUST_USE glass_status glass_anchor_new(const glass_ctx *ctx, glass_anchor **out, const uint8_t *const *der, const size_t *der_len, size_t count, const uint8_t pinned_key[65], int insecure);
/* glass_anchor_know checks the signature of one certificate under the anchor's key and remembers it by its exact bytes, so that
 * it is not checked again where it occurs in a chain. At most 4, before the anchor is shared; nothing is trusted by it that
 * its signature does not show. GLASS_ERR_AUTH: the signature does not hold. */
GLASS_MUST_USE glass_status glass_anchor_know(const glass_ctx *ctx, glass_anchor *anchor, const uint8_t *der, size_t der_len);
void glass_anchor_free(glass_anchor *anchor);
/* glass_pem_certificate decodes the one PEM certificate in `pem` into `der` (`capacity` bytes) and sets `*der_len`, or to 0. */
GLASS_MUST_USE glass_status glass_pem_certificate(uint8_t *der, size_t capacity, size_t *der_len, const uint8_t *pem, size_t pem_len);
/* glass_certificate_key writes the 65-byte P-256 key of the certificate `der` to `key`. */
GLASS_MUST_USE glass_status glass_certificate_key(uint8_t key[65], const uint8_t *der, size_t der_len);

/* glass_collateral_new sets `*out` to a new empty collateral, or to NULL. */
GLASS_MUST_USE glass_status glass_collateral_new(glass_collateral **out);
/* glass_collateral_set copies one item; a missing item is a failed check, not an error. GLASS_ERR_STATE after prepare or when
 * the item was set before. Bytes of any form and any length are taken: what is wrong with them becomes a failed check. */
GLASS_MUST_USE glass_status glass_collateral_set(glass_collateral *collateral, glass_item item, const uint8_t *data, size_t len);
/* glass_collateral_prepare parses all items and checks their signatures under `anchor`, once. */
GLASS_MUST_USE glass_status glass_collateral_prepare(const glass_ctx *ctx, glass_collateral *collateral, const glass_anchor *anchor);
void glass_collateral_free(glass_collateral *collateral);
/* cffi: end */

#endif
