/* The PCK chain of a quote with the results of its signatures, and the cache that keeps such chains.
 * Invariants: an entry is found by SHA-256 of the anchor's id and of the chain's exact bytes, a QE report by SHA-256 of its
 * bytes and signature; only signatures that hold are kept; roles, revocation and dates are judged again in every verification. */
#ifndef GLASS_PCKCHAIN_H
#define GLASS_PCKCHAIN_H

#include <stdatomic.h>

#include "collateral.h"

enum { GLASS_QE_REPORTS = 8 }; /* of one platform: a new one at each start of its quoting enclave */

typedef struct glass_pck_chain {
    atomic_uint references;
    uint8_t id[32];
    glass_status form;      /* GLASS_OK: three certificates were read */
    glass_chain chain;
    const glass_cert *root; /* by name; NULL: none or several */
    const glass_cert *ca;
    const glass_cert *leaf;
    bool ca_signed;         /* under the anchor's key */
    bool leaf_signed;       /* under the CA's key */
    glass_pck_fault sgx_fault;
    unsigned sgx_entries;
    glass_pck_facts facts;
    EVP_PKEY *leaf_key;
    uint8_t qe_good[GLASS_QE_REPORTS][32]; /* digests of QE reports whose signature holds under leaf_key; under the cache's lock */
    size_t qe_next;                        /* the one that is replaced next */
} glass_pck_chain;

/* glass_pck_chain_get sets `*out` to the chain in `pem`, from the cache or new; release with glass_pck_chain_put. */
GLASS_MUST_USE glass_status glass_pck_chain_get(const glass_ctx *ctx, glass_pck_chain **out, glass_cache *cache, const glass_anchor *anchor, const glass_collateral *collateral, glass_slice pem);
void glass_pck_chain_put(glass_pck_chain *chain);
/* glass_pck_chain_signed sets `*good` to whether `signature` over `report` holds under the leaf's key, by `cache` or by looking. */
GLASS_MUST_USE glass_status glass_pck_chain_signed(const glass_ctx *ctx, bool *good, glass_pck_chain *chain, glass_cache *cache, glass_slice report, const uint8_t signature[64]);

/* glass_pck_facts_of fills what the certificate says; all zero if `leaf` is NULL or its extension is malformed. */
glass_pck_fault glass_pck_facts_of(glass_pck_facts *facts, unsigned *entries, const glass_cert *leaf);

#endif
