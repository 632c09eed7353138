/* Any bytes as a served QE identity document. */
#include "documents.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    glass_signed_object object;
    glass_qe_identity identity;
    if (glass_signed_object_read(&object, (glass_slice){data, size}, "enclaveIdentity") == GLASS_OK) {
        if (glass_qe_identity_read(&identity, object.bytes) == GLASS_OK && identity.levels_good) {
            FUZZ_MUST(identity.levels.count > 0);
        }
        glass_levels_clear(&identity.levels);
    }
    return 0;
}
