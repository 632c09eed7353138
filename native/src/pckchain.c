#include "pckchain.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

enum { CACHE_MAX = 4096 };

struct glass_cache {
    pthread_mutex_t lock;
    size_t room;
    size_t count;
    size_t next; /* the entry that is replaced when all are in use */
    glass_pck_chain **entries;
};

glass_pck_fault glass_pck_facts_of(glass_pck_facts *facts, unsigned *entries, const glass_cert *leaf)
{
    memset(facts, 0, sizeof *facts);
    *entries = 0;
    if (leaf == NULL || leaf->sgx.at == NULL) {
        return GLASS_PCK_MALFORMED;
    }
    glass_pck_fault fault = glass_pck_read(facts, entries, leaf->sgx);
    if (fault == GLASS_PCK_MALFORMED) {
        return fault;
    }
    facts->present = 1;
    facts->platform_ca = *entries == 7 ? 1 : 0;
    facts->serial_size = (uint8_t)leaf->serial.len;
    memcpy(facts->serial, leaf->serial.at, leaf->serial.len);
    facts->not_before = leaf->not_before;
    facts->not_after = leaf->not_after;
    return fault;
}

/* Both signatures. The CA of the collateral's CRL is nearly always the same certificate and has been checked already. */
static void check_signatures(const glass_ctx *ctx, glass_pck_chain *chain, const glass_anchor *anchor, const glass_issuer *known)
{
    bool same = known->signer != NULL && glass_slice_equal(known->signer->der, chain->ca->der);
    chain->ca_signed = same ? known->is_signed
                            : glass_anchor_signed(ctx, anchor, chain->ca);
    EVP_PKEY *key = same ? known->key : glass_point_new(ctx, chain->ca->key);
    chain->leaf_signed = glass_point_verifies(ctx, key, chain->leaf->tbs, chain->leaf->signature);
    if (!same) {
        EVP_PKEY_free(key);
    }
}

/* SHA-256(anchor id || SHA-256(pem)). */
GLASS_MUST_USE static glass_status identify(const glass_ctx *ctx, uint8_t id[32], const glass_anchor *anchor, glass_slice pem)
{
    uint8_t text[64];
    memcpy(text, anchor->id, 32);
    GLASS_TRY(glass_sha256(ctx, text + 32, pem.at, pem.len));
    return glass_sha256(ctx, id, text, sizeof text);
}

GLASS_MUST_USE static glass_status read_chain(const glass_ctx *ctx, glass_pck_chain *chain, const glass_anchor *anchor, const glass_collateral *collateral, glass_slice pem)
{
    chain->form = glass_chain_read(&chain->chain, pem, 3, true);
    if (chain->form == GLASS_ERR_MEMORY) {
        return chain->form;
    }
    if (chain->form != GLASS_OK) {
        return GLASS_OK;
    }
    chain->root = glass_chain_only(&chain->chain, GLASS_ROLE_ROOT, GLASS_ROLE_SIMULATED_ROOT);
    chain->ca = glass_chain_only(&chain->chain, GLASS_ROLE_PROCESSOR_CA, GLASS_ROLE_PLATFORM_CA);
    chain->leaf = glass_chain_only(&chain->chain, GLASS_ROLE_PCK, GLASS_ROLE_PCK);
    chain->sgx_fault = glass_pck_facts_of(&chain->facts, &chain->sgx_entries, chain->leaf);
    if (chain->leaf != NULL) {
        chain->leaf_key = glass_point_new(ctx, chain->leaf->key);
    }
    if (chain->ca != NULL && chain->leaf != NULL) {
        check_signatures(ctx, chain, anchor, &collateral->crl_issuer);
    }
    return GLASS_OK;
}

static glass_pck_chain *find(glass_cache *cache, const uint8_t id[32])
{
    glass_pck_chain *found = NULL;
    if (cache == NULL || pthread_mutex_lock(&cache->lock) != 0) {
        return NULL;
    }
    for (size_t i = 0; i < cache->count && found == NULL; i++) {
        if (memcmp(cache->entries[i]->id, id, 32) == 0) {
            found = cache->entries[i];
            atomic_fetch_add(&found->references, 1);
        }
    }
    (void)pthread_mutex_unlock(&cache->lock);
    return found;
}

static void keep(glass_cache *cache, glass_pck_chain *chain)
{
    glass_pck_chain *old = NULL;
    if (cache == NULL || !chain->ca_signed || !chain->leaf_signed || chain->leaf_key == NULL ||
        pthread_mutex_lock(&cache->lock) != 0) {
        return;
    }
    atomic_fetch_add(&chain->references, 1);
    if (cache->count < cache->room) {
        cache->entries[cache->count] = chain;
        cache->count++;
    } else {
        old = cache->entries[cache->next];
        cache->entries[cache->next] = chain;
        cache->next = (cache->next + 1) % cache->room;
    }
    (void)pthread_mutex_unlock(&cache->lock);
    glass_pck_chain_put(old);
}

glass_status glass_pck_chain_get(const glass_ctx *ctx, glass_pck_chain **out, glass_cache *cache, const glass_anchor *anchor, const glass_collateral *collateral, glass_slice pem)
{
    uint8_t id[32] = {0};
    *out = NULL;
    if (cache != NULL) {
        GLASS_TRY(identify(ctx, id, anchor, pem));
        *out = find(cache, id);
        if (*out != NULL) {
            return GLASS_OK;
        }
    }
    glass_pck_chain *chain = calloc(1, sizeof *chain);
    if (chain == NULL) {
        return GLASS_ERR_MEMORY;
    }
    atomic_init(&chain->references, 1);
    memcpy(chain->id, id, sizeof id);
    glass_status status = read_chain(ctx, chain, anchor, collateral, pem);
    if (status != GLASS_OK) {
        glass_pck_chain_put(chain);
        return status;
    }
    keep(cache, chain);
    *out = chain;
    return GLASS_OK;
}

static bool known_report(glass_pck_chain *chain, glass_cache *cache, const uint8_t digest[32])
{
    bool found = false;
    if (pthread_mutex_lock(&cache->lock) != 0) {
        return false;
    }
    for (size_t i = 0; i < GLASS_QE_REPORTS; i++) { /* an unused place is zero, which no digest is */
        found = found || memcmp(chain->qe_good[i], digest, 32) == 0;
    }
    (void)pthread_mutex_unlock(&cache->lock);
    return found;
}

static void keep_report(glass_pck_chain *chain, glass_cache *cache, const uint8_t digest[32])
{
    if (pthread_mutex_lock(&cache->lock) != 0) {
        return;
    }
    memcpy(chain->qe_good[chain->qe_next], digest, 32);
    chain->qe_next = (chain->qe_next + 1) % GLASS_QE_REPORTS;
    (void)pthread_mutex_unlock(&cache->lock);
}

glass_status glass_pck_chain_signed(const glass_ctx *ctx, bool *good, glass_pck_chain *chain, glass_cache *cache, glass_slice report, const uint8_t signature[64])
{
    uint8_t text[GLASS_REPORT_SIZE + 64];
    uint8_t digest[32];
    *good = false;
    if (report.len != GLASS_REPORT_SIZE) {
        return GLASS_ERR_ARGUMENT;
    }
    if (cache != NULL) {
        memcpy(text, report.at, GLASS_REPORT_SIZE);
        memcpy(text + GLASS_REPORT_SIZE, signature, 64);
        GLASS_TRY(glass_sha256(ctx, digest, text, sizeof text));
        *good = known_report(chain, cache, digest);
        if (*good) {
            return GLASS_OK;
        }
    }
    *good = glass_point_verifies(ctx, chain->leaf_key, report, signature);
    if (*good && cache != NULL) {
        keep_report(chain, cache, digest);
    }
    return GLASS_OK;
}

void glass_pck_chain_put(glass_pck_chain *chain)
{
    if (chain == NULL || atomic_fetch_sub(&chain->references, 1) != 1) {
        return;
    }
    EVP_PKEY_free(chain->leaf_key);
    glass_chain_clear(&chain->chain);
    free(chain);
}

glass_status glass_cache_new(glass_cache **out, size_t entries)
{
    if (out == NULL || entries == 0 || entries > CACHE_MAX) {
        return GLASS_ERR_ARGUMENT;
    }
    *out = NULL;
    glass_cache *cache = calloc(1, sizeof *cache);
    if (cache == NULL) {
        return GLASS_ERR_MEMORY;
    }
    cache->room = entries;
    cache->entries = calloc(entries, sizeof *cache->entries);
    if (cache->entries == NULL || pthread_mutex_init(&cache->lock, NULL) != 0) {
        free(cache->entries);
        free(cache);
        return GLASS_ERR_MEMORY;
    }
    *out = cache;
    return GLASS_OK;
}

void glass_cache_free(glass_cache *cache)
{
    if (cache == NULL) {
        return;
    }
    for (size_t i = 0; i < cache->count; i++) {
        glass_pck_chain_put(cache->entries[i]);
    }
    (void)pthread_mutex_destroy(&cache->lock);
    free(cache->entries);
    free(cache);
}
