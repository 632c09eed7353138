/* Any bytes as an RA-TLS certificate: what is accepted is whole DER and its parts lie inside. */
#include "fuzz.h"
#include "glass_ratls.h"
#include "parse.h"

static void inside(glass_span span, size_t size)
{
    FUZZ_MUST(span.offset > 0 && span.offset < size && span.size <= size - span.offset);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    glass_ratls_certificate found;
    if (glass_ratls_read(fuzz_context(), &found, data, size) == GLASS_OK) {
        FUZZ_MUST(glass_der_check(data, size) == GLASS_OK);
        inside(found.evidence, size);
        inside(found.names, size);
        inside(found.common_name, size);
        FUZZ_MUST(found.self_signed <= 1);
    }
    return 0;
}
