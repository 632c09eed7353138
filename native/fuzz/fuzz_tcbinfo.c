/* Any bytes as a served TCB info document. */
#include "documents.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    glass_signed_object object;
    glass_tcb_info info;
    if (glass_signed_object_read(&object, (glass_slice){data, size}, "tcbInfo") == GLASS_OK) {
        FUZZ_MUST(object.bytes.at >= data && object.bytes.at + object.bytes.len <= data + size);
        if (glass_tcb_info_read(&info, object.bytes) == GLASS_OK && info.levels_good) {
            FUZZ_MUST(info.levels.count > 0);
        }
        glass_levels_clear(&info.levels);
    }
    return 0;
}
