#include "intel_qvl.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "glass_intel.h"

enum {
    COLLATERAL_VERSION = 3,
    SUPPLEMENTAL_MAJOR = 3,
    SUPPLEMENTAL_MINOR_MIN = 2,
    SUPPLEMENTAL_MAX = 4096, /* bytes; 3.3 has 536 */
    QUOTE_MAX = 65536,
    ITEMS = 7
};

struct glass_intel {
    void *handle;
    intel_version_and_size version_and_size;
    intel_verify_quote verify;
};

glass_status glass_intel_open(glass_intel **out, const char *path)
{
    if (out == NULL || path == NULL) {
        return GLASS_ERR_ARGUMENT;
    }
    *out = NULL;
    glass_intel *library = calloc(1, sizeof *library);
    if (library == NULL) {
        return GLASS_ERR_MEMORY;
    }
    /* lazy: one build of the library names symbols of other Python versions that it never calls */
    library->handle = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    if (library->handle != NULL) {
        void *size = dlsym(library->handle, "tee_get_supplemental_data_version_and_size");
        void *verify = dlsym(library->handle, "tee_verify_quote");
        memcpy(&library->version_and_size, &size, sizeof size); /* C has no cast from object to function pointer */
        memcpy(&library->verify, &verify, sizeof verify);
    }
    if (library->version_and_size == NULL || library->verify == NULL) {
        glass_intel_close(library);
        return GLASS_ERR_UNSUPPORTED;
    }
    *out = library;
    return GLASS_OK;
}

void glass_intel_close(glass_intel *library)
{
    free(library);
}

static intel_object object(const char *const *items, const size_t *item_len, size_t index)
{
    return (intel_object){items[index], (uint32_t)(item_len[index] + 1)};
}

static void take_supplemental(glass_intel_answer *out, const uint8_t *data)
{
    intel_supplemental s;
    memcpy(&s, data, sizeof s);
    out->supplemental = 1;
    out->major_version = s.major_version;
    out->minor_version = s.minor_version;
    out->earliest_issue = s.earliest_issue;
    out->latest_issue = s.latest_issue;
    out->earliest_expiration = s.earliest_expiration;
    out->tcb_date = s.tcb_date;
    out->pck_crl_number = s.pck_crl_number;
    out->root_ca_crl_number = s.root_ca_crl_number;
    out->evaluation = s.evaluation;
    memcpy(out->root_key_id, s.root_key_id, sizeof s.root_key_id);
    memcpy(out->ppid, s.ppid, sizeof s.ppid);
    memcpy(out->cpusvn, s.cpusvn, sizeof s.cpusvn);
    out->pcesvn = s.pcesvn;
    out->pceid = s.pceid;
    out->sgx_type = s.sgx_type;
    memcpy(out->platform_instance_id, s.platform_instance_id, sizeof s.platform_instance_id);
    memcpy(out->advisories, s.advisories, sizeof s.advisories);
    out->advisories[sizeof s.advisories] = 0;
}

/* A buffer of the size that the library names, zeroed; NULL in `descriptor->data` if none is wanted. */
GLASS_MUST_USE static glass_status make_buffer(const glass_intel *library, intel_descriptor *descriptor, const uint8_t *quote, uint32_t quote_len)
{
    uint32_t version = 0;
    uint32_t size = 0;
    if (library->version_and_size(quote, quote_len, &version, &size) != 0 || size < sizeof(intel_supplemental) ||
        size > SUPPLEMENTAL_MAX) {
        return GLASS_ERR_UNSUPPORTED;
    }
    descriptor->data = calloc(1, size);
    descriptor->data_size = size;
    return descriptor->data != NULL ? GLASS_OK : GLASS_ERR_MEMORY;
}

glass_status glass_intel_verify(const glass_intel *library, glass_intel_answer *out, const uint8_t *quote, size_t quote_len, const char *const *items, const size_t *item_len, int64_t at, int wants_supplemental)
{
    if (library == NULL || out == NULL || quote == NULL || items == NULL || item_len == NULL || at <= 0 ||
        quote_len > QUOTE_MAX) {
        return GLASS_ERR_ARGUMENT;
    }
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < ITEMS; i++) { /* the library takes sizes of 32 bits and fetches what is NULL */
        if (items[i] == NULL || item_len[i] >= INT32_MAX) {
            return GLASS_ERR_ARGUMENT;
        }
    }
    intel_collateral collateral = {
        .version = COLLATERAL_VERSION,
        .tee_type = 0,
        .pck_crl_issuer_chain = object(items, item_len, 2),
        .root_ca_crl = object(items, item_len, 0),
        .pck_crl = object(items, item_len, 1),
        .tcb_info_issuer_chain = object(items, item_len, 4),
        .tcb_info = object(items, item_len, 3),
        .qe_identity_issuer_chain = object(items, item_len, 6),
        .qe_identity = object(items, item_len, 5),
    };
    intel_descriptor descriptor = {0, 0, NULL};
    if (wants_supplemental != 0) {
        glass_status status = make_buffer(library, &descriptor, quote, (uint32_t)quote_len);
        if (status != GLASS_OK) {
            return status;
        }
    }
    out->expiration_status = 1; /* the worse answer until the library gives its own */
    out->result = 0xffff;
    out->returned = library->verify(quote, (uint32_t)quote_len, (const uint8_t *)&collateral, (time_t)at,
                                    &out->expiration_status, &out->result, NULL,
                                    descriptor.data != NULL ? &descriptor : NULL);
    glass_status status = GLASS_OK;
    if (out->returned == 0 && descriptor.data != NULL) {
        take_supplemental(out, descriptor.data);
        if (out->major_version != SUPPLEMENTAL_MAJOR || out->minor_version < SUPPLEMENTAL_MINOR_MIN) {
            status = GLASS_ERR_UNSUPPORTED;
        }
    }
    free(descriptor.data);
    return status;
}
