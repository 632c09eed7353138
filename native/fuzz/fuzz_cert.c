/* Any bytes as a certificate: what is accepted is whole DER and its parts lie inside. */
#include "fuzz.h"
#include "x509.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    glass_cert cert;
    if (glass_cert_read(&cert, data, size) == GLASS_OK) {
        FUZZ_MUST(glass_der_check(data, size) == GLASS_OK);
        FUZZ_MUST(cert.tbs.at >= data && cert.tbs.at + cert.tbs.len <= data + size);
        FUZZ_MUST(cert.serial.len >= 1 && cert.serial.len <= GLASS_SERIAL_MAX && cert.key[0] == 4);
    }
    return 0;
}
