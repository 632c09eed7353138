/* Any bytes as a CRL: a search never leaves the table. */
#include "fuzz.h"
#include "x509.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    glass_crl crl;
    uint8_t serial[20] = {1};
    if (glass_crl_read(&crl, data, size) == GLASS_OK) {
        (void)glass_crl_lists(&crl, (glass_slice){serial, sizeof serial});
        FUZZ_MUST(crl.revoked_count <= size);
    }
    FUZZ_MUST(glass_crl_lists(&crl, (glass_slice){NULL, 0}));
    glass_crl_clear(&crl);
    return 0;
}
