/* Any bytes as a quote: parse and the parts that it gives lie inside. */
#include "fuzz.h"
#include "glass_quote.h"

static void inside(glass_span span, size_t size)
{
    FUZZ_MUST(span.offset <= size && span.size <= size - span.offset);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    glass_quote *quote = NULL;
    uint32_t fault = 0;
    if (glass_quote_parse(fuzz_context(), &quote, &fault, data, size) == GLASS_OK) {
        const glass_quote_layout *l = glass_quote_get_layout(quote);
        const glass_span spans[] = {l->vendor_id, l->user_data, l->body, l->signed_bytes, l->signature, l->attestation_key,
                                    l->qe_report, l->qe_report_signature, l->qe_auth, l->certification};
        for (size_t i = 0; i < sizeof spans / sizeof spans[0]; i++) {
            inside(spans[i], size);
        }
        FUZZ_MUST((size_t)l->certification.offset + l->certification.size == size); /* nothing trails */
        for (size_t i = 0; i < 4; i++) {
            const uint8_t *der = NULL;
            size_t len = 0;
            glass_quote_certificate(quote, i, &der, &len);
            FUZZ_MUST((der == NULL) == (len == 0));
        }
    } else {
        FUZZ_MUST(quote == NULL);
    }
    glass_quote_free(quote);
    return 0;
}
