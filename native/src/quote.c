#include "quote.h"

#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "pckchain.h"

static const uint8_t INTEL_VENDOR[16] = {0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9,
                                         0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07};

_Static_assert(GLASS_QUOTE_MAX == 65536 && GLASS_QE_AUTH_MAX == 1024, "two texts below say so");

enum { KEY_TYPE_P256 = 2, BODY_SGX = 1, BODY_TD10 = 2, BODY_TD15 = 3 };

/* The quote while it is read. */
typedef struct reader {
    glass_quote_layout *layout;
    glass_findings *findings;
    const uint8_t *start;
    glass_cursor cur;
} reader;

static void judge(reader *r, glass_check_id id, bool good, uint64_t observed, uint64_t expected)
{
    glass_judge(r->findings, id, good, glass_value_uint(observed), glass_value_uint(expected));
}

static glass_span span_of(const reader *r, const uint8_t *at, size_t size)
{
    return (glass_span){(uint32_t)(at - r->start), (uint32_t)size};
}

/* The next `size` bytes as a part of the quote; false, and the truncation judged, if they are not there. */
static bool part(reader *r, glass_cursor *cur, glass_span *out, size_t size)
{
    const uint8_t *at = NULL;
    size_t left = glass_cursor_left(cur);
    if (glass_cursor_take(cur, &at, size) != GLASS_OK) {
        judge(r, GLASS_CHECK_QUOTE_BYTES_TRUNCATED, false, left, size);
        return false;
    }
    *out = span_of(r, at, size);
    return true;
}

static bool number16(reader *r, glass_cursor *cur, uint16_t *out)
{
    if (glass_cursor_u16le(cur, out) != GLASS_OK) {
        judge(r, GLASS_CHECK_QUOTE_BYTES_TRUNCATED, false, glass_cursor_left(cur), 2);
        return false;
    }
    return true;
}

static bool number32(reader *r, glass_cursor *cur, uint32_t *out)
{
    if (glass_cursor_u32le(cur, out) != GLASS_OK) {
        judge(r, GLASS_CHECK_QUOTE_BYTES_TRUNCATED, false, glass_cursor_left(cur), 4);
        return false;
    }
    return true;
}

/* Version 3 has four reserved bytes where later ones say the TEE; later ones have four where it says the SVNs of QE and PCE. */
static bool judge_tee(reader *r)
{
    glass_quote_layout *l = r->layout;
    uint64_t reserved = l->version == 3 ? l->tee : (uint64_t)l->pce_svn << 16 | l->qe_svn;
    judge(r, GLASS_CHECK_QUOTE_HEADER_RESERVED, reserved == 0, reserved, 0);
    bool tee = l->version == 3 || l->tee == GLASS_TEE_SGX || l->tee == GLASS_TEE_TDX;
    judge(r, GLASS_CHECK_QUOTE_TEE_UNKNOWN, tee, l->tee, GLASS_TEE_SGX);
    if (tee) {
        bool sgx = l->version == 3 || l->tee == GLASS_TEE_SGX;
        glass_judge(r->findings, GLASS_CHECK_QUOTE_TEE_UNSUPPORTED, sgx, glass_value_text(sgx ? "SGX" : "TDX"),
                    glass_value_text("SGX"));
    }
    bool stop = l->version == 3 && l->tee != 0;
    if (l->version == 3) {
        l->tee = GLASS_TEE_SGX;
    }
    return tee && !stop;
}

static bool header(reader *r)
{
    glass_quote_layout *l = r->layout;
    if (!number16(r, &r->cur, &l->version) || !number16(r, &r->cur, &l->key_type) || !number32(r, &r->cur, &l->tee) ||
        !number16(r, &r->cur, &l->qe_svn) || !number16(r, &r->cur, &l->pce_svn) ||
        !part(r, &r->cur, &l->vendor_id, 16) || !part(r, &r->cur, &l->user_data, 20)) {
        return false;
    }
    bool known = l->version >= 3 && l->version <= 5;
    glass_judge(r->findings, GLASS_CHECK_QUOTE_VERSION_UNSUPPORTED, known, glass_value_uint(l->version),
                glass_value_text("3, 4 or 5"));
    judge(r, GLASS_CHECK_QUOTE_KEY_TYPE_UNSUPPORTED, l->key_type == KEY_TYPE_P256, l->key_type, KEY_TYPE_P256);
    bool tee = judge_tee(r);
    const uint8_t *vendor = r->start + l->vendor_id.offset;
    glass_judge(r->findings, GLASS_CHECK_QUOTE_VENDOR_UNKNOWN, memcmp(vendor, INTEL_VENDOR, 16) == 0,
                glass_value_hex(r->findings, vendor, 16), glass_value_hex(r->findings, INTEL_VENDOR, 16));
    return known && tee;
}

/* Size of the body by version, TEE and, in version 5, its descriptor; 0 if they do not agree. */
static size_t body_size(reader *r)
{
    glass_quote_layout *l = r->layout;
    uint32_t stated = 0;
    if (l->version != 5) {
        glass_judge_not_applicable(r->findings, GLASS_CHECK_QUOTE_BODY_MISMATCH);
        return l->tee == GLASS_TEE_SGX ? GLASS_REPORT_SIZE : GLASS_TD10_SIZE;
    }
    if (!number16(r, &r->cur, &l->body_type) || !number32(r, &r->cur, &stated)) {
        return 0;
    }
    size_t size = 0;
    if (l->tee == GLASS_TEE_SGX && l->body_type == BODY_SGX) {
        size = GLASS_REPORT_SIZE;
    } else if (l->tee == GLASS_TEE_TDX && l->body_type == BODY_TD10) {
        size = GLASS_TD10_SIZE;
    } else if (l->tee == GLASS_TEE_TDX && l->body_type == BODY_TD15) {
        size = GLASS_TD15_SIZE;
    }
    if (size == 0) {
        glass_judge(r->findings, GLASS_CHECK_QUOTE_BODY_MISMATCH, false, glass_value_uint(l->body_type),
                    glass_value_text(l->tee == GLASS_TEE_SGX ? "body type 1" : "body type 2 or 3"));
        return 0;
    }
    judge(r, GLASS_CHECK_QUOTE_BODY_MISMATCH, stated == size, stated, size);
    return stated == size ? size : 0;
}

static bool report_reserved_zero(const uint8_t *report)
{
    return glass_all_zero(report + 20, 12) && glass_all_zero(report + 96, 32) && glass_all_zero(report + 160, 32) &&
           glass_all_zero(report + 262, 42);
}

static void judge_reserved(reader *r, glass_check_id id, glass_span report)
{
    bool zero = report_reserved_zero(r->start + report.offset);
    glass_judge(r->findings, id, zero, glass_value_text(zero ? "zero" : "not zero"), glass_value_text("zero"));
}

static bool body(reader *r)
{
    size_t size = body_size(r);
    if (size == 0 || !part(r, &r->cur, &r->layout->body, size)) {
        return false;
    }
    r->layout->signed_bytes = span_of(r, r->start, (size_t)(r->cur.at - r->start));
    if (r->layout->tee == GLASS_TEE_SGX) {
        judge_reserved(r, GLASS_CHECK_QUOTE_REPORT_RESERVED, r->layout->body);
    } else {
        glass_judge_not_applicable(r->findings, GLASS_CHECK_QUOTE_REPORT_RESERVED);
    }
    return true;
}

/* QE report, its signature, authentication data and certification data: all of `cur`. */
static bool qe_part(reader *r, glass_cursor *cur)
{
    glass_quote_layout *l = r->layout;
    uint16_t auth_len = 0;
    uint32_t data_len = 0;
    if (!part(r, cur, &l->qe_report, GLASS_REPORT_SIZE)) {
        return false;
    }
    judge_reserved(r, GLASS_CHECK_QUOTE_QE_REPORT_RESERVED, l->qe_report);
    if (!part(r, cur, &l->qe_report_signature, 64) || !number16(r, cur, &auth_len)) {
        return false;
    }
    glass_judge(r->findings, GLASS_CHECK_QUOTE_QE_AUTH_OVERSIZE, auth_len <= GLASS_QE_AUTH_MAX, glass_value_uint(auth_len),
                glass_value_text("at most 1024"));
    if (auth_len > GLASS_QE_AUTH_MAX || !part(r, cur, &l->qe_auth, auth_len) || !number16(r, cur, &l->certification_type) ||
        !number32(r, cur, &data_len) || !part(r, cur, &l->certification, data_len)) {
        return false;
    }
    size_t left = glass_cursor_left(cur);
    judge(r, GLASS_CHECK_QUOTE_AUTH_TRAILING, left == 0, left, 0);
    judge(r, GLASS_CHECK_QUOTE_CERTIFICATION_UNSUPPORTED, l->certification_type == GLASS_CERTIFICATION_PCK_CHAIN,
          l->certification_type, GLASS_CERTIFICATION_PCK_CHAIN);
    return true;
}

/* Version 4 and 5 wrap the QE part in certification data of type 6, which must fill the signature data. */
static bool nested(reader *r, glass_cursor *auth, glass_cursor *inner)
{
    uint16_t type = 0;
    uint32_t size = 0;
    glass_span span;
    if (r->layout->version == 3) {
        glass_judge_not_applicable(r->findings, GLASS_CHECK_QUOTE_AUTH_NESTED);
        *inner = *auth;
        return true;
    }
    if (!number16(r, auth, &type) || !number32(r, auth, &size)) {
        return false;
    }
    if (type != GLASS_CERTIFICATION_QE_REPORT) {
        judge(r, GLASS_CHECK_QUOTE_AUTH_NESTED, false, type, GLASS_CERTIFICATION_QE_REPORT);
        return false;
    }
    size_t left = glass_cursor_left(auth);
    judge(r, GLASS_CHECK_QUOTE_AUTH_NESTED, size == left, size, left);
    if (!part(r, auth, &span, size)) {
        return false;
    }
    *inner = glass_cursor_of(r->start + span.offset, span.size);
    return true;
}

static bool auth_data(reader *r)
{
    uint32_t stated = 0;
    glass_span span;
    glass_cursor inner;
    if (!number32(r, &r->cur, &stated)) {
        return false;
    }
    if (!part(r, &r->cur, &span, stated)) {
        return false;
    }
    size_t left = glass_cursor_left(&r->cur);
    judge(r, GLASS_CHECK_QUOTE_BYTES_TRAILING, left == 0, left, 0); /* Intel accepts more, we do not */
    glass_cursor auth = glass_cursor_of(r->start + span.offset, span.size);
    if (!part(r, &auth, &r->layout->signature, 64) || !part(r, &auth, &r->layout->attestation_key, 64)) {
        return false;
    }
    return nested(r, &auth, &inner) && qe_part(r, &inner);
}

bool glass_quote_read(glass_quote_layout *layout, glass_findings *findings, const uint8_t *quote, size_t quote_len)
{
    reader r = {layout, findings, quote, glass_cursor_of(quote, quote_len)};
    memset(layout, 0, sizeof *layout);
    glass_judge(findings, GLASS_CHECK_QUOTE_BYTES_OVERSIZE, quote_len <= GLASS_QUOTE_MAX, glass_value_uint(quote_len),
                glass_value_text("at most 65536"));
    if (quote_len > GLASS_QUOTE_MAX) {
        return false;
    }
    r.start = r.cur.at;
    if (!header(&r) || !body(&r) || !auth_data(&r)) {
        return false;
    }
    judge(&r, GLASS_CHECK_QUOTE_BYTES_TRUNCATED, true, quote_len, quote_len);
    return layout->key_type == KEY_TYPE_P256;
}

struct glass_quote {
    glass_quote_layout layout;
    glass_pck_facts pck;
    glass_chain chain;
};

/* The first check that a byte-exact quote passes and this one does not; GLASS_CHECK_COUNT if there is none. */
static uint32_t first_fault(const glass_findings *findings, bool complete)
{
    for (uint32_t id = 0; id <= GLASS_CHECK_QUOTE_QE_REPORT_RESERVED; id++) {
        bool shown_anyway = id == GLASS_CHECK_QUOTE_TEE_UNSUPPORTED || id == GLASS_CHECK_QUOTE_CERTIFICATION_UNSUPPORTED;
        if (findings->outcomes[id] == GLASS_OUTCOME_FAIL && !shown_anyway) {
            return id;
        }
    }
    return complete ? (uint32_t)GLASS_CHECK_COUNT : (uint32_t)GLASS_CHECK_QUOTE_BYTES_TRUNCATED;
}

glass_status glass_quote_parse(const glass_ctx *ctx, glass_quote **out, uint32_t *fault, const uint8_t *quote, size_t quote_len)
{
    if (ctx == NULL || out == NULL || fault == NULL || (quote == NULL && quote_len != 0)) {
        return GLASS_ERR_ARGUMENT;
    }
    *out = NULL;
    *fault = GLASS_CHECK_COUNT;
    glass_findings *findings = malloc(sizeof *findings);
    glass_quote *made = calloc(1, sizeof *made);
    glass_status status = findings != NULL && made != NULL ? GLASS_OK : GLASS_ERR_MEMORY;
    if (status == GLASS_OK) {
        glass_findings_clear(findings);
        bool complete = glass_quote_read(&made->layout, findings, quote, quote_len);
        *fault = first_fault(findings, complete);
        status = *fault == GLASS_CHECK_COUNT ? GLASS_OK : GLASS_ERR_FORMAT;
    }
    if (status == GLASS_OK && made->layout.certification_type == GLASS_CERTIFICATION_PCK_CHAIN) {
        glass_slice pem = {quote + made->layout.certification.offset, made->layout.certification.size};
        if (glass_chain_read(&made->chain, pem, 3, true) == GLASS_OK) {
            const glass_cert *leaf = glass_chain_only(&made->chain, GLASS_ROLE_PCK, GLASS_ROLE_PCK);
            unsigned entries = 0;
            (void)glass_pck_facts_of(&made->pck, &entries, leaf);
        }
    }
    free(findings);
    if (status != GLASS_OK) {
        glass_quote_free(made);
        return status;
    }
    *out = made;
    return GLASS_OK;
}

void glass_quote_free(glass_quote *quote)
{
    if (quote == NULL) {
        return;
    }
    glass_chain_clear(&quote->chain);
    free(quote);
}

const glass_quote_layout *glass_quote_get_layout(const glass_quote *quote)
{
    return &quote->layout;
}

const glass_pck_facts *glass_quote_get_pck(const glass_quote *quote)
{
    return &quote->pck;
}

void glass_quote_certificate(const glass_quote *quote, size_t index, const uint8_t **der, size_t *der_len)
{
    *der = index < quote->chain.count ? quote->chain.certs[index].der.at : NULL;
    *der_len = index < quote->chain.count ? quote->chain.certs[index].der.len : 0;
}
