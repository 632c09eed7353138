/* Intel's own quote verification library as a second opinion: found and loaded at run time, never linked, never bundled.
 * It is foreign code with global state that may crash or hang, so it is used in a worker process only. */
#ifndef GLASS_INTEL_H
#define GLASS_INTEL_H

#include <stddef.h>
#include <stdint.h>

#include "glass_status.h"

/* cffi: begin */
typedef struct glass_intel glass_intel;

/* What the library answered. `supplemental` is 0 if none was asked for; then the fields below it are zero. */
typedef struct glass_intel_answer {
    uint32_t returned;          /* 0 or 0xE0xx */
    uint32_t result;            /* 0, 0xA001.. */
    uint32_t expiration_status; /* 0: nothing expired. Must be read besides `result` */
    uint32_t supplemental;      /* 1: the fields below are the library's */
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
    uint8_t sgx_type;
    uint8_t platform_instance_id[16];
    char advisories[321];       /* separated by commas, with a final NUL */
} glass_intel_answer;

/* glass_intel_open loads the library `path` (a file, or a name that the loader searches) with its two entry points and sets
 * `*out`, or to NULL. GLASS_ERR_UNSUPPORTED: it cannot be loaded or is another library. */
GLASS_MUST_USE glass_status glass_intel_open(glass_intel **out, const char *path);
/* glass_intel_verify judges a quote at `at` (> 0). items: the seven objects in the order of enum glass_item, CRLs as
 * hexadecimal DER, each followed by a NUL that item_len does not count. wants_supplemental: 0 or 1.
 * GLASS_ERR_UNSUPPORTED: the library's supplemental data has a size or version that is not known. */
GLASS_MUST_USE glass_status glass_intel_verify(const glass_intel *library, glass_intel_answer *out, const uint8_t *quote, size_t quote_len, const char *const *items, const size_t *item_len, int64_t at, int wants_supplemental);
/* glass_intel_close frees the handle; the library itself stays loaded (it cannot be unloaded). */
void glass_intel_close(glass_intel *library);
/* cffi: end */

#endif
