/* Any bytes as the SGX extension of a PCK certificate. */
#include "fuzz.h"
#include "x509.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    glass_pck_facts facts;
    unsigned entries = 0;
    glass_pck_fault fault = glass_pck_read(&facts, &entries, (glass_slice){data, size});
    FUZZ_MUST(fault == GLASS_PCK_MALFORMED ? entries == 0 : entries == 5 || entries == 7);
    return 0;
}
