/* Any bytes as a PEM chain of three certificates, and as one CRL. */
#include "fuzz.h"
#include "quote.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    glass_chain chain;
    uint8_t der[4096];
    size_t len = 0;
    if (glass_chain_read(&chain, (glass_slice){data, size}, 3, true) == GLASS_OK) {
        FUZZ_MUST(chain.count == 3);
    }
    glass_chain_clear(&chain);
    glass_cursor cur = glass_cursor_of(data, size);
    if (glass_pem_block(&cur, "X509 CRL", der, sizeof der, &len) == GLASS_OK) {
        FUZZ_MUST(len >= 1 && len <= sizeof der);
    }
    return 0;
}
