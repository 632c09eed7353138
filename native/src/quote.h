/* The quote as a layout over the bytes of the caller, and the PCK chain that it carries. */
#ifndef GLASS_QUOTE_INTERNAL_H
#define GLASS_QUOTE_INTERNAL_H

#include "judge.h"
#include "x509.h"

enum {
    GLASS_QUOTE_HEADER_SIZE = 48,
    GLASS_REPORT_SIZE = 384,
    GLASS_TD10_SIZE = 584,
    GLASS_TD15_SIZE = 648,
    GLASS_CERTIFICATION_PCK_CHAIN = 5,
    GLASS_CERTIFICATION_QE_REPORT = 6,
    GLASS_CHAIN_MAX = 65536 /* bytes of one PEM chain */
};

/* Offsets in an SGX report body. */
enum {
    GLASS_REPORT_MISCSELECT = 16,
    GLASS_REPORT_ATTRIBUTES = 48,
    GLASS_REPORT_MRSIGNER = 128,
    GLASS_REPORT_ISVPRODID = 256,
    GLASS_REPORT_ISVSVN = 258,
    GLASS_REPORT_DATA = 320
};

/* glass_quote_read judges the checks of the quote's form into `findings` and returns true if all parts were found, so that
 * `layout` is complete; faults that do not hide later fields do not stop it. */
bool glass_quote_read(glass_quote_layout *layout, glass_findings *findings, const uint8_t *quote, size_t quote_len);

/* Certificates of one PEM chain in their order; the DER is owned. */
typedef struct glass_chain {
    uint8_t *der;
    size_t count;
    glass_cert certs[3];
} glass_chain;

/* glass_chain_read reads exactly `count` certificates (2 or 3); `final_nul` allows one NUL at the end. Release with
 * glass_chain_clear, also after a failure. */
GLASS_MUST_USE glass_status glass_chain_read(glass_chain *chain, glass_slice pem, size_t count, bool final_nul);
void glass_chain_clear(glass_chain *chain);
/* glass_chain_only returns the one certificate whose role is `a` or `b`, or NULL if there is none or more than one. */
const glass_cert *glass_chain_only(const glass_chain *chain, glass_role a, glass_role b);

#endif
