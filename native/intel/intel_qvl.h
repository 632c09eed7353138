/* The part of the C ABI of Intel's libsgx_dcap_quoteverify.so.1 that is used, declared from its published facts:
 * LP64, little endian. Only the two tee_* entry points, which every build of the library exports. */
#ifndef GLASS_INTEL_QVL_H
#define GLASS_INTEL_QVL_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* One object of the collateral; the size includes the final NUL. */
typedef struct intel_object {
    const char *text;
    uint32_t size;
} intel_object;

typedef struct intel_collateral {
    uint32_t version;  /* 3: CRLs are hexadecimal DER */
    uint32_t tee_type; /* 0: SGX */
    intel_object pck_crl_issuer_chain;
    intel_object root_ca_crl;
    intel_object pck_crl;
    intel_object tcb_info_issuer_chain;
    intel_object tcb_info;
    intel_object qe_identity_issuer_chain;
    intel_object qe_identity;
} intel_collateral;

/* Version 3.2, 496 bytes; later minor versions append. */
typedef struct intel_supplemental {
    uint16_t major_version;
    uint16_t minor_version;
    int64_t earliest_issue;
    int64_t latest_issue;
    int64_t earliest_expiration;
    int64_t tcb_date;
    uint32_t pck_crl_number;
    uint32_t root_ca_crl_number;
    uint32_t evaluation;
    uint8_t root_key_id[48];
    uint8_t ppid[16];
    uint8_t cpusvn[16];
    uint16_t pcesvn;
    uint16_t pceid;
    uint32_t tee_type;
    uint8_t sgx_type;
    uint8_t platform_instance_id[16];
    uint8_t pad[3];
    int32_t dynamic_platform;
    int32_t cached_keys;
    int32_t smt_enabled;
    char advisories[320];
    uint8_t tail[4];
} intel_supplemental;

typedef struct intel_descriptor {
    uint16_t major_version; /* 0: the latest */
    uint32_t data_size;
    uint8_t *data;
} intel_descriptor;

_Static_assert(sizeof(time_t) == 8, "64-bit time");
_Static_assert(sizeof(intel_collateral) == 120, "collateral");
_Static_assert(offsetof(intel_collateral, root_ca_crl) == 24 && offsetof(intel_collateral, qe_identity) == 104, "collateral");
_Static_assert(sizeof(intel_supplemental) == 496, "supplemental data 3.2");
_Static_assert(offsetof(intel_supplemental, earliest_issue) == 8 && offsetof(intel_supplemental, root_key_id) == 52 &&
                   offsetof(intel_supplemental, ppid) == 100 && offsetof(intel_supplemental, pcesvn) == 132 &&
                   offsetof(intel_supplemental, sgx_type) == 140 && offsetof(intel_supplemental, platform_instance_id) == 141 &&
                   offsetof(intel_supplemental, dynamic_platform) == 160 && offsetof(intel_supplemental, advisories) == 172,
               "supplemental data 3.2");
_Static_assert(sizeof(intel_descriptor) == 16 && offsetof(intel_descriptor, data_size) == 4, "descriptor");

typedef uint32_t (*intel_version_and_size)(const uint8_t *quote, uint32_t quote_size, uint32_t *version, uint32_t *size);
typedef uint32_t (*intel_verify_quote)(const uint8_t *quote, uint32_t quote_size, const uint8_t *collateral, time_t at,
                                       uint32_t *expiration_status, uint32_t *result, void *qve_report,
                                       intel_descriptor *supplemental);

#endif
