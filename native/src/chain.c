#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "quote.h"

glass_status glass_chain_read(glass_chain *chain, glass_slice pem, size_t count, bool final_nul)
{
    memset(chain, 0, sizeof *chain);
    if (pem.len > GLASS_CHAIN_MAX || count > sizeof chain->certs / sizeof chain->certs[0]) {
        return GLASS_ERR_LIMIT;
    }
    if (final_nul && pem.len > 0 && pem.at[pem.len - 1] == 0) {
        pem.len--;
    }
    if (pem.len == 0) {
        return GLASS_ERR_FORMAT;
    }
    chain->der = malloc(pem.len); /* base64 only shrinks */
    if (chain->der == NULL) {
        return GLASS_ERR_MEMORY;
    }
    glass_cursor cur = glass_cursor_of(pem.at, pem.len);
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        size_t size = 0;
        GLASS_TRY(glass_pem_block(&cur, "CERTIFICATE", chain->der + used, pem.len - used, &size));
        GLASS_TRY(glass_cert_read(&chain->certs[i], chain->der + used, size));
        used += size;
    }
    if (glass_cursor_left(&cur) != 0) {
        return GLASS_ERR_FORMAT;
    }
    chain->count = count;
    return GLASS_OK;
}

void glass_chain_clear(glass_chain *chain)
{
    free(chain->der);
    memset(chain, 0, sizeof *chain);
}

const glass_cert *glass_chain_only(const glass_chain *chain, glass_role a, glass_role b)
{
    const glass_cert *found = NULL;
    for (size_t i = 0; i < chain->count; i++) {
        if (chain->certs[i].role == a || chain->certs[i].role == b) {
            if (found != NULL) {
                return NULL;
            }
            found = &chain->certs[i];
        }
    }
    return found;
}
