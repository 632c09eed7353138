/* Memory for keys: pages that are locked where allowed, left out of core dumps, and wiped. A vault is one such page with
 * room for 64 keys, shared by all of a context, because a page for each key costs more than encrypting a small file. It
 * lives until its context and its last key are gone, in whatever order that happens. */
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "internal.h"

#define SLOTS 64
#define PAGE_LEN ((size_t)SLOTS * GLASS_VAULT_SLOT)

struct glass_vault {
    pthread_mutex_t lock;
    uint64_t taken; /* one bit for each slot */
    int released;   /* the context is gone */
    uint8_t *page;
};

static uint8_t *page_new(void)
{
    uint8_t *page = mmap(NULL, PAGE_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        return NULL;
    }
    (void)mlock(page, PAGE_LEN);                  /* a limit on locked memory is not an error */
    (void)madvise(page, PAGE_LEN, MADV_DONTDUMP); /* unknown to some runtimes */
    return page;
}

static void page_free(uint8_t *page)
{
    OPENSSL_cleanse(page, PAGE_LEN);
    (void)munmap(page, PAGE_LEN);
}

static void vault_destroy(glass_vault *vault)
{
    page_free(vault->page);
    (void)pthread_mutex_destroy(&vault->lock);
    free(vault);
}

glass_vault *glass_vault_new(void)
{
    glass_vault *vault = calloc(1, sizeof *vault);
    if (vault == NULL) {
        return NULL;
    }
    vault->page = page_new();
    if (vault->page == NULL || pthread_mutex_init(&vault->lock, NULL) != 0) {
        if (vault->page != NULL) {
            page_free(vault->page);
        }
        free(vault);
        return NULL;
    }
    return vault;
}

void glass_vault_release(glass_vault *vault)
{
    if (vault == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&vault->lock);
    vault->released = 1;
    int last = vault->taken == 0;
    (void)pthread_mutex_unlock(&vault->lock);
    if (last) {
        vault_destroy(vault);
    }
}

void *glass_vault_take(glass_vault *vault)
{
    uint8_t *slot = NULL;
    (void)pthread_mutex_lock(&vault->lock);
    for (unsigned int i = 0; i < SLOTS && slot == NULL; i++) {
        uint64_t bit = (uint64_t)1 << i;
        if ((vault->taken & bit) == 0) {
            vault->taken |= bit;
            slot = vault->page + (size_t)i * GLASS_VAULT_SLOT;
        }
    }
    (void)pthread_mutex_unlock(&vault->lock);
    return slot;
}

void glass_vault_give(glass_vault *vault, void *slot)
{
    uint64_t bit = (uint64_t)1 << ((size_t)((uint8_t *)slot - vault->page) / GLASS_VAULT_SLOT);
    OPENSSL_cleanse(slot, GLASS_VAULT_SLOT);
    (void)pthread_mutex_lock(&vault->lock);
    vault->taken &= ~bit;
    int last = vault->released && vault->taken == 0;
    (void)pthread_mutex_unlock(&vault->lock);
    if (last) {
        vault_destroy(vault);
    }
}

void *glass_page_new(void)
{
    return page_new();
}

void glass_page_free(void *page)
{
    page_free(page);
}
