/* A quote taken apart for showing: nothing here says that it is genuine (glass_verify.h does). */
#ifndef GLASS_QUOTE_H
#define GLASS_QUOTE_H

#include "glass_ctx.h"

/* cffi: begin */
enum glass_quote_limit { GLASS_QUOTE_MAX = 65536, GLASS_QE_AUTH_MAX = 1024 };
enum glass_tee { GLASS_TEE_SGX = 0, GLASS_TEE_TDX = 0x81 };

typedef struct glass_quote glass_quote;

/* Where a part of the quote lies in the bytes that were parsed. */
typedef struct glass_span {
    uint32_t offset;
    uint32_t size;
} glass_span;

typedef struct glass_quote_layout {
    uint16_t version;            /* 3, 4 or 5 */
    uint16_t key_type;           /* 2 = ECDSA P-256 */
    uint32_t tee;                /* enum glass_tee */
    uint16_t body_type;          /* of version 5; 0 otherwise */
    uint16_t qe_svn;             /* version 3; reserved later */
    uint16_t pce_svn;
    uint16_t certification_type; /* 5 = PEM chain */
    glass_span vendor_id;        /* 16 */
    glass_span user_data;        /* 20 */
    glass_span body;             /* 384 SGX report, 584 or 648 TDX report */
    glass_span signed_bytes;     /* what `signature` covers */
    glass_span signature;        /* 64, raw r || s */
    glass_span attestation_key;  /* 64, x || y */
    glass_span qe_report;        /* 384 */
    glass_span qe_report_signature; /* 64 */
    glass_span qe_auth;
    glass_span certification;
} glass_quote_layout;

/* What the SGX extension of a PCK certificate says. */
typedef struct glass_pck_facts {
    uint8_t present;             /* 0: no readable PCK certificate, all else zero */
    uint8_t platform_ca;         /* 1: seven entries and issued by the platform CA; 0: processor CA */
    uint8_t cpusvn_differs;      /* 1: the CPUSVN octets are not the component SVNs */
    uint8_t sgx_type;            /* 0 standard, 1 scalable, 2 scalable with integrity */
    uint8_t dynamic_platform;    /* 0 false, 1 true, 2 not stated; the next two likewise */
    uint8_t cached_keys;
    uint8_t smt_enabled;
    uint8_t serial_size;
    uint8_t serial[20];
    uint8_t ppid[16];
    uint8_t component_svn[16];
    uint8_t cpusvn[16];
    uint16_t pcesvn;
    uint8_t pceid[2];
    uint8_t fmspc[6];
    uint8_t platform_instance_id[16];
    int64_t not_before;
    int64_t not_after;
} glass_pck_facts;

/* glass_quote_parse reads exactly `quote_len` bytes as a version 3, 4 or 5 quote and sets `*out` to a new handle which keeps
 * no pointer into `quote`. On failure `*out` is NULL and `*fault` is the index of the check that fails (glass_check_name). */
GLASS_MUST_USE glass_status glass_quote_parse(const glass_ctx *ctx, glass_quote **out, uint32_t *fault, const uint8_t *quote, size_t quote_len);
void glass_quote_free(glass_quote *quote);
/* The next three return parts of the handle; they live as long as it does. */
const glass_quote_layout *glass_quote_get_layout(const glass_quote *quote);
const glass_pck_facts *glass_quote_get_pck(const glass_quote *quote);
/* glass_quote_certificate sets `*der` and `*der_len` to the certificate at `index` of the chain, in the order of the quote,
 * or to NULL and 0 when there is none. */
void glass_quote_certificate(const glass_quote *quote, size_t index, const uint8_t **der, size_t *der_len);
/* cffi: end */

#endif
