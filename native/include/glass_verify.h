/* Is this quote genuine, and what does Intel say of its platform: a list of named checks in a fixed order. No policy here.
 *
 * A verification never stops at the first failure: each check runs as far as its inputs allow. The only statement that means
 * "genuine" is that no check of the verdict failed and none that must be reached was left: glass_verdict_genuine. */
#ifndef GLASS_VERIFY_H
#define GLASS_VERIFY_H

#include "glass_collateral.h"
#include "glass_quote.h"

/* cffi: begin */
typedef enum glass_outcome {
    GLASS_OUTCOME_NOT_REACHED = 0,
    GLASS_OUTCOME_PASS = 1,
    GLASS_OUTCOME_FAIL = 2,
    GLASS_OUTCOME_NOT_APPLICABLE = 3
} glass_outcome;

typedef enum glass_tcb_status {
    GLASS_TCB_UNKNOWN = 0, /* not decided */
    GLASS_TCB_UP_TO_DATE = 1,
    GLASS_TCB_SW_HARDENING_NEEDED = 2,
    GLASS_TCB_CONFIGURATION_NEEDED = 3,
    GLASS_TCB_CONFIGURATION_AND_SW_HARDENING_NEEDED = 4,
    GLASS_TCB_OUT_OF_DATE = 5,
    GLASS_TCB_OUT_OF_DATE_CONFIGURATION_NEEDED = 6,
    GLASS_TCB_REVOKED = 7
} glass_tcb_status;

/* Valid while start <= at < end. `known` is 0 where the item could not be read. */
typedef struct glass_window {
    int64_t start;
    int64_t end;
    int32_t known;
} glass_window;

typedef struct glass_level {
    uint8_t component_svn[16];
    uint16_t pcesvn;
    glass_tcb_status status; /* GLASS_TCB_UNKNOWN: there is no such level */
    int64_t date;     /* tcbDate */
} glass_level;

enum glass_dated {
    GLASS_DATED_ROOT = 0, GLASS_DATED_PCK_CA = 1, GLASS_DATED_PCK_LEAF = 2, GLASS_DATED_ROOT_CA_CRL = 3,
    GLASS_DATED_PCK_CRL_ROOT = 4, GLASS_DATED_PCK_CRL_CA = 5, GLASS_DATED_PCK_CRL = 6,
    GLASS_DATED_TCB_INFO_ROOT = 7, GLASS_DATED_TCB_INFO_SIGNER = 8, GLASS_DATED_TCB_INFO = 9,
    GLASS_DATED_QE_IDENTITY_ROOT = 10, GLASS_DATED_QE_IDENTITY_SIGNER = 11, GLASS_DATED_QE_IDENTITY = 12,
    GLASS_DATED_COUNT = 13
};

typedef struct glass_facts {
    glass_tcb_status tcb_status;            /* the converged status: table 1.6 */
    glass_tcb_status platform_status;       /* of the matched TCB level alone */
    glass_tcb_status qe_status;             /* UP_TO_DATE, OUT_OF_DATE, REVOKED or UNKNOWN */
    uint32_t advisory_count;       /* glass_verdict_advisory: platform level first, then QE level, each once */
    glass_pck_facts pck;
    glass_level matched;           /* the TCB level that holds for this platform */
    glass_level needed;            /* the lowest UpToDate level, or the highest level where there is none */
    int64_t qe_tcb_date;
    uint16_t qe_isvsvn;
    uint16_t qe_needed_isvsvn;     /* the lowest UpToDate level of the QE identity, 0: none */
    uint8_t root_ca_crl_number[20]; /* big-endian, right aligned */
    uint8_t pck_crl_number[20];
    uint32_t tcb_info_version;
    uint32_t tcb_info_evaluation;  /* tcbEvaluationDataNumber */
    uint32_t qe_identity_evaluation;
    uint8_t fmspc[6];              /* of the TCB info */
    uint8_t tcb_info_sha256[32];   /* of the signed object, verbatim: the beacon */
    uint8_t root_key_id[48];       /* SHA-384 of the root's key as Intel computes it */
    int64_t earliest_issue;        /* over all dated items; 0 when any is unknown */
    int64_t latest_issue;
    int64_t earliest_expiration;
    glass_window windows[13];      /* by enum glass_dated */
} glass_facts;

typedef struct glass_cache glass_cache;
typedef struct glass_verdict glass_verdict;

typedef struct glass_job {
    const uint8_t *quote;
    size_t quote_len;
    const glass_collateral *collateral;
} glass_job;

/* glass_check_name returns the id of check `index`, or NULL from glass_check_count() on. */
const char *glass_check_name(uint32_t index);
uint32_t glass_check_count(void);
const char *glass_tcb_status_name(glass_tcb_status status);

/* glass_cache_new sets `*out` to a cache of signature results that may be shared between threads: which PCK chains (by
 * SHA-256 of their bytes and of the anchor) and which QE reports under them have good signatures. It never holds a verdict.
 * 1 to 4096 chains, 8 QE reports each. */
GLASS_MUST_USE glass_status glass_cache_new(glass_cache **out, size_t entries);
void glass_cache_free(glass_cache *cache);

/* glass_verify judges `quote` at the time `at` (unix seconds, > 0) and sets `*out` to a new verdict, or to NULL.
 * A status other than GLASS_OK says that nothing was judged (arguments, memory, libcrypto); hostile bytes never cause one.
 * `collateral` must have been prepared with `anchor`; `cache` may be NULL. */
GLASS_MUST_USE glass_status glass_verify(const glass_ctx *ctx, glass_verdict **out, const uint8_t *quote, size_t quote_len, const glass_collateral *collateral, const glass_anchor *anchor, glass_cache *cache, int64_t at);
/* glass_verify_many does the same for `count` jobs on up to `threads` threads (1 to 64): out[i] is the verdict of jobs[i].
 * When the status is not GLASS_OK all of `out` are NULL. */
GLASS_MUST_USE glass_status glass_verify_many(const glass_ctx *ctx, glass_verdict **out, const glass_job *jobs, size_t count, const glass_anchor *anchor, glass_cache *cache, int64_t at, uint32_t threads);
void glass_verdict_free(glass_verdict *verdict);

/* glass_verdict_genuine returns 1 only if every check passed or is not applicable. */
int glass_verdict_genuine(const glass_verdict *verdict);
/* glass_verdict_outcomes returns glass_check_count() bytes, one glass_outcome each. */
const uint8_t *glass_verdict_outcomes(const glass_verdict *verdict);
/* glass_verdict_text writes what check `index` saw and wanted as printable ASCII with a final NUL, cut to the capacity. */
GLASS_MUST_USE glass_status glass_verdict_text(const glass_verdict *verdict, uint32_t index, char *observed, size_t observed_capacity, char *expected, size_t expected_capacity);
const glass_facts *glass_verdict_facts(const glass_verdict *verdict);
/* glass_verdict_advisory writes advisory `index` as printable ASCII with a final NUL. */
GLASS_MUST_USE glass_status glass_verdict_advisory(const glass_verdict *verdict, uint32_t index, char *out, size_t capacity);

/* glass_p256_verify returns GLASS_OK if the signature over SHA-256(message) holds, GLASS_ERR_AUTH if it does not,
 * GLASS_ERR_FORMAT if key or signature have the wrong form. `der` 0: raw r || s of 64 bytes; 1: strict DER. */
GLASS_MUST_USE glass_status glass_p256_verify(const glass_ctx *ctx, const uint8_t key[65], const uint8_t *message, size_t message_len, const uint8_t *signature, size_t signature_len, int der);
/* cffi: end */

#endif
