#include "glass_verify.h"

#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "pckchain.h"
#include "verdict.h"

/* One verification while it runs. */
typedef struct task {
    const glass_ctx *ctx;
    glass_verdict *verdict;
    glass_findings *f;
    const glass_collateral *collateral;
    const glass_anchor *anchor;
    const uint8_t *quote;
    int64_t at;
    glass_quote_layout layout;
    glass_cache *cache;
    glass_pck_chain *chain; /* NULL: the quote carries none */
} task;

static void judge_text(task *t, glass_check_id id, bool good, const char *bad, const char *wanted)
{
    glass_judge(t->f, id, good, glass_value_text(good ? wanted : bad), glass_value_text(wanted));
}

static void judge_bytes(task *t, glass_check_id id, const uint8_t *observed, const uint8_t *expected, size_t len)
{
    glass_judge(t->f, id, memcmp(observed, expected, len) == 0, glass_value_hex(t->f, observed, len),
                glass_value_hex(t->f, expected, len));
}

static bool passed(const task *t, glass_check_id id)
{
    return t->f->outcomes[id] == GLASS_OUTCOME_PASS;
}

static glass_slice slice_of(const task *t, glass_span span)
{
    return (glass_slice){t->quote + span.offset, span.size};
}

static const glass_crl *root_crl(const task *t)
{
    return t->collateral->has_root_crl ? &t->collateral->root_crl : NULL;
}

static const glass_crl *pck_crl(const task *t)
{
    return t->collateral->has_pck_crl ? &t->collateral->pck_crl : NULL;
}

static void judge_root(task *t)
{
    const glass_cert *root = t->chain->root;
    const glass_crl *crl = root_crl(t);
    judge_text(t, GLASS_CHECK_ROOT_CERTIFICATE_UNKNOWN, glass_anchor_accepts(t->anchor, root), "another certificate",
               "a root of the anchor");
    judge_bytes(t, GLASS_CHECK_ROOT_KEY_MISMATCH, root->key, t->anchor->key, sizeof root->key);
    if (crl != NULL) {
        judge_text(t, GLASS_CHECK_ROOT_CERTIFICATE_REVOKED, !glass_crl_lists(crl, root->serial), "listed", "not listed");
    }
    glass_judge_window(t->f, GLASS_CHECK_ROOT_CERTIFICATE_NOT_YET_VALID, GLASS_CHECK_ROOT_CERTIFICATE_EXPIRED,
                       root->not_before, root->not_after, t->at);
    t->verdict->facts.windows[GLASS_DATED_ROOT] = (glass_window){root->not_before, root->not_after, 1};
}

static void judge_sgx_extension(task *t)
{
    const glass_pck_chain *chain = t->chain;
    bool there = chain->leaf->sgx.at != NULL;
    judge_text(t, GLASS_CHECK_PCK_SGX_MISSING, there, "absent", "present");
    if (!there) {
        return;
    }
    bool read = chain->sgx_fault != GLASS_PCK_MALFORMED;
    judge_text(t, GLASS_CHECK_PCK_SGX_MALFORMED, read, "malformed", "the entries of the profile");
    if (!read) {
        return;
    }
    glass_judge(t->f, GLASS_CHECK_PCK_SGX_BAD_TYPE, chain->sgx_fault != GLASS_PCK_BAD_TYPE,
                glass_value_uint(chain->facts.sgx_type), glass_value_text("0, 1 or 2"));
    unsigned wanted = chain->ca->role == GLASS_ROLE_PLATFORM_CA ? 7 : 5;
    glass_judge(t->f, GLASS_CHECK_PCK_SGX_CA_MISMATCH, chain->sgx_entries == wanted, glass_value_uint(chain->sgx_entries),
                glass_value_uint(wanted));
}

/* Chain, root, CA, PCK certificate and its SGX extension. */
static void judge_chain(task *t)
{
    const glass_pck_chain *chain = t->chain;
    bool read = chain->form == GLASS_OK;
    judge_text(t, GLASS_CHECK_PCK_CHAIN_MALFORMED, read, glass_status_name(chain->form), "three certificates");
    if (!read) {
        return;
    }
    bool roles = chain->root != NULL && chain->ca != NULL && chain->leaf != NULL;
    judge_text(t, GLASS_CHECK_PCK_CHAIN_BAD_ROLES, roles, "other names", "one root, one PCK CA, one PCK certificate");
    if (!roles) {
        return;
    }
    judge_root(t);
    glass_judge_signer(t->f, GLASS_CHECK_PCK_CA_BAD_EXTENSION, chain->ca, &t->anchor->certs[0], chain->ca_signed);
    glass_judge_signer_now(t->f, GLASS_CHECK_PCK_CA_BAD_EXTENSION, chain->ca, root_crl(t), t->at);
    glass_judge_signer(t->f, GLASS_CHECK_PCK_LEAF_BAD_EXTENSION, chain->leaf, chain->ca, chain->leaf_signed);
    glass_judge_signer_now(t->f, GLASS_CHECK_PCK_LEAF_BAD_EXTENSION, chain->leaf, pck_crl(t), t->at);
    judge_sgx_extension(t);
    glass_facts *facts = &t->verdict->facts;
    facts->pck = chain->facts;
    facts->windows[GLASS_DATED_PCK_CA] = (glass_window){chain->ca->not_before, chain->ca->not_after, 1};
    facts->windows[GLASS_DATED_PCK_LEAF] = (glass_window){chain->leaf->not_before, chain->leaf->not_after, 1};
    const glass_cert *ca = t->collateral->crl_issuer.signer;
    if (ca != NULL) {
        bool named = glass_slice_equal(ca->subject, chain->ca->subject);
        bool same = named && memcmp(ca->key, chain->ca->key, sizeof ca->key) == 0;
        glass_judge(t->f, GLASS_CHECK_CRL_CA_MISMATCH, same,
                    glass_value_text(named && !same ? "this name with another key" : glass_role_name(ca->role)),
                    glass_value_text(glass_role_name(chain->ca->role)));
    }
}

static void judge_issuer_now(task *t, const glass_issuer *issuer, unsigned signer, glass_check_id not_yet_valid, glass_check_id expired)
{
    if (issuer->signer == NULL) {
        return;
    }
    glass_judge_window(t->f, not_yet_valid, expired, issuer->root->not_before, issuer->root->not_after, t->at);
    glass_judge_signer_now(t->f, signer, issuer->signer, root_crl(t), t->at);
}

/* What in the collateral depends on the time. */
static void judge_collateral_now(task *t)
{
    const glass_collateral *c = t->collateral;
    judge_issuer_now(t, &c->crl_issuer, GLASS_CHECK_CRL_CA_BAD_EXTENSION, GLASS_CHECK_CRL_CHAIN_NOT_YET_VALID,
                     GLASS_CHECK_CRL_CHAIN_EXPIRED);
    judge_issuer_now(t, &c->tcb_issuer, GLASS_CHECK_TCBINFO_SIGNER_BAD_EXTENSION, GLASS_CHECK_TCBINFO_CHAIN_NOT_YET_VALID,
                     GLASS_CHECK_TCBINFO_CHAIN_EXPIRED);
    judge_issuer_now(t, &c->qe_issuer, GLASS_CHECK_QE_SIGNER_BAD_EXTENSION, GLASS_CHECK_QE_CHAIN_NOT_YET_VALID,
                     GLASS_CHECK_QE_CHAIN_EXPIRED);
    if (c->has_root_crl) {
        glass_judge_window(t->f, GLASS_CHECK_CRL_ROOT_NOT_YET_VALID, GLASS_CHECK_CRL_ROOT_EXPIRED, c->root_crl.this_update,
                           c->root_crl.next_update, t->at);
    }
    if (c->has_pck_crl) {
        glass_judge_window(t->f, GLASS_CHECK_CRL_PCK_NOT_YET_VALID, GLASS_CHECK_CRL_PCK_EXPIRED, c->pck_crl.this_update,
                           c->pck_crl.next_update, t->at);
    }
    if (c->has_tcb_info) {
        glass_judge_window(t->f, GLASS_CHECK_TCBINFO_DOCUMENT_NOT_YET_VALID, GLASS_CHECK_TCBINFO_DOCUMENT_EXPIRED,
                           c->tcb_info.issued, c->tcb_info.next_update, t->at);
    }
    if (c->has_qe_identity) {
        glass_judge_window(t->f, GLASS_CHECK_QE_DOCUMENT_NOT_YET_VALID, GLASS_CHECK_QE_DOCUMENT_EXPIRED,
                           c->qe_identity.issued, c->qe_identity.next_update, t->at);
    }
}

/* Do TCB info and QE identity belong to this TEE and this platform? */
static void judge_belonging(task *t, bool known_tee)
{
    const glass_collateral *c = t->collateral;
    if (c->has_tcb_info && known_tee) {
        glass_judge(t->f, GLASS_CHECK_TCBINFO_ID_MISMATCH, c->tcb_info.id == GLASS_ID_SGX,
                    c->tcb_info.id_text.at != NULL ? glass_value_chars(t->f, c->tcb_info.id_text) : glass_value_text("absent"),
                    glass_value_text("SGX"));
    }
    if (c->has_qe_identity && known_tee) {
        glass_judge(t->f, GLASS_CHECK_QE_ID_MISMATCH, c->qe_identity.id == GLASS_ID_QE,
                    glass_value_chars(t->f, c->qe_identity.id_text), glass_value_text("QE"));
    }
    if (c->has_tcb_info && t->verdict->facts.pck.present) {
        const glass_pck_facts *pck = &t->verdict->facts.pck;
        judge_bytes(t, GLASS_CHECK_TCBINFO_FMSPC_MISMATCH, c->tcb_info.fmspc, pck->fmspc, sizeof pck->fmspc);
        judge_bytes(t, GLASS_CHECK_TCBINFO_PCEID_MISMATCH, c->tcb_info.pceid, pck->pceid, sizeof pck->pceid);
    }
}

/* (value & mask) == expected, expected unmasked: a bit outside the mask can never match. */
static void judge_masked(task *t, glass_check_id id, const uint8_t *value, const uint8_t *mask, const uint8_t *expected, size_t len)
{
    uint8_t masked[16];
    for (size_t i = 0; i < len; i++) {
        masked[i] = value[i] & mask[i];
    }
    judge_bytes(t, id, masked, expected, len);
}

static uint16_t u16le(const uint8_t *at)
{
    return (uint16_t)(at[0] | ((unsigned)at[1] << 8));
}

static void judge_qe_identity(task *t, const uint8_t *report)
{
    const glass_qe_identity *identity = &t->collateral->qe_identity;
    glass_facts *facts = &t->verdict->facts;
    facts->qe_isvsvn = u16le(report + GLASS_REPORT_ISVSVN);
    if (!passed(t, GLASS_CHECK_QE_ID_MISMATCH) || !passed(t, GLASS_CHECK_QE_DOCUMENT_BAD_SIGNATURE)) {
        return; /* an unsigned identity, or that of another enclave, says nothing of this one */
    }
    judge_masked(t, GLASS_CHECK_QE_MISCSELECT_MISMATCH, report + GLASS_REPORT_MISCSELECT, identity->miscselect_mask,
                 identity->miscselect, sizeof identity->miscselect);
    judge_masked(t, GLASS_CHECK_QE_ATTRIBUTES_MISMATCH, report + GLASS_REPORT_ATTRIBUTES, identity->attributes_mask,
                 identity->attributes, sizeof identity->attributes);
    judge_bytes(t, GLASS_CHECK_QE_MRSIGNER_MISMATCH, report + GLASS_REPORT_MRSIGNER, identity->mrsigner,
                sizeof identity->mrsigner);
    uint16_t product = u16le(report + GLASS_REPORT_ISVPRODID);
    glass_judge(t->f, GLASS_CHECK_QE_ISVPRODID_MISMATCH, product == identity->isvprodid, glass_value_uint(product),
                glass_value_uint(identity->isvprodid));
    if (!identity->levels_good) {
        return;
    }
    const glass_tcb_level *level = glass_qe_level(&identity->levels, facts->qe_isvsvn);
    const glass_tcb_level *wanted = glass_wanted_level(&identity->levels);
    facts->qe_needed_isvsvn = wanted != NULL && wanted->status == GLASS_TCB_UP_TO_DATE ? wanted->svn : 0;
    glass_judge(t->f, GLASS_CHECK_QE_SVN_UNSUPPORTED, level != NULL, glass_value_uint(facts->qe_isvsvn),
                glass_value_uint(identity->levels.level[identity->levels.count - 1].svn));
    if (level == NULL) {
        return;
    }
    facts->qe_status = glass_qe_status_of(level);
    facts->qe_tcb_date = level->date;
    glass_judge(t->f, GLASS_CHECK_QE_SVN_REVOKED, facts->qe_status != GLASS_TCB_REVOKED,
                glass_value_text(glass_tcb_status_name(level->status)), glass_value_text("not Revoked"));
}

/* The QE report: signed by the PCK key, bound to the attestation key, of the enclave that the identity names. */
GLASS_MUST_USE static glass_status judge_qe_report(task *t)
{
    const uint8_t *report = t->quote + t->layout.qe_report.offset;
    uint8_t text[64 + GLASS_QE_AUTH_MAX];
    uint8_t digest[32];
    if (t->chain != NULL && t->chain->leaf != NULL) {
        bool good = false;
        GLASS_TRY(glass_pck_chain_signed(t->ctx, &good, t->chain, t->cache, slice_of(t, t->layout.qe_report),
                                         t->quote + t->layout.qe_report_signature.offset));
        judge_text(t, GLASS_CHECK_QE_REPORT_BAD_SIGNATURE, good, "does not hold", "holds");
    }
    if (t->layout.qe_auth.size <= GLASS_QE_AUTH_MAX) {
        memcpy(text, t->quote + t->layout.attestation_key.offset, 64);
        memcpy(text + 64, t->quote + t->layout.qe_auth.offset, t->layout.qe_auth.size);
        GLASS_TRY(glass_sha256(t->ctx, digest, text, 64 + t->layout.qe_auth.size));
        judge_bytes(t, GLASS_CHECK_QE_REPORT_BAD_BINDING, report + GLASS_REPORT_DATA, digest, sizeof digest);
    }
    bool zero = glass_all_zero(report + GLASS_REPORT_DATA + 32, 32);
    judge_text(t, GLASS_CHECK_QE_REPORT_BAD_TAIL, zero, "not zero", "zero");
    judge_qe_identity(t, report);
    return GLASS_OK;
}

static void judge_quote_signature(task *t)
{
    uint8_t point[65];
    point[0] = 0x04;
    memcpy(point + 1, t->quote + t->layout.attestation_key.offset, 64);
    EVP_PKEY *key = glass_point_new(t->ctx, point);
    judge_text(t, GLASS_CHECK_QUOTE_KEY_OFF_CURVE, key != NULL, "no point of P-256", "a point of P-256");
    if (key != NULL) {
        bool good = glass_point_verifies(t->ctx, key, slice_of(t, t->layout.signed_bytes),
                                       t->quote + t->layout.signature.offset);
        judge_text(t, GLASS_CHECK_QUOTE_BODY_BAD_SIGNATURE, good, "does not hold", "holds");
    }
    EVP_PKEY_free(key);
}

static glass_level level_of(const glass_tcb_level *from)
{
    glass_level to = {.pcesvn = from->svn, .status = from->status, .date = from->date};
    memcpy(to.component_svn, from->component_svn, sizeof to.component_svn);
    return to;
}

/* Which TCB level holds, and the statuses of platform and QE together. */
GLASS_MUST_USE static glass_status judge_platform(task *t)
{
    const glass_tcb_info *info = &t->collateral->tcb_info;
    glass_facts *facts = &t->verdict->facts;
    /* levels that nobody signed, or of another platform, say nothing of this one */
    bool comparable = passed(t, GLASS_CHECK_TCBINFO_DOCUMENT_BAD_SIGNATURE) &&
                      passed(t, GLASS_CHECK_TCBINFO_LEVELS_MALFORMED) && passed(t, GLASS_CHECK_TCBINFO_ID_MISMATCH) &&
                      passed(t, GLASS_CHECK_TCBINFO_FMSPC_MISMATCH) && passed(t, GLASS_CHECK_TCBINFO_PCEID_MISMATCH);
    if (!comparable) {
        return GLASS_OK;
    }
    const glass_tcb_level *level = glass_platform_level(&info->levels, &facts->pck);
    facts->needed = level_of(glass_wanted_level(&info->levels));
    glass_judge(t->f, GLASS_CHECK_PLATFORM_TCB_UNSUPPORTED, level != NULL,
                glass_value_hex(t->f, facts->pck.component_svn, sizeof facts->pck.component_svn),
                glass_value_text("a level of the TCB info"));
    if (level == NULL) {
        return GLASS_OK;
    }
    facts->matched = level_of(level);
    facts->platform_status = level->status;
    GLASS_TRY(glass_verdict_add_advisories(t->verdict, &info->levels, level));
    if (facts->qe_status != GLASS_TCB_UNKNOWN) {
        const glass_levels *levels = &t->collateral->qe_identity.levels;
        GLASS_TRY(glass_verdict_add_advisories(t->verdict, levels, glass_qe_level(levels, facts->qe_isvsvn)));
    }
    facts->tcb_status = glass_converge(level->status, facts->qe_status);
    glass_judge(t->f, GLASS_CHECK_PLATFORM_TCB_REVOKED, level->status != GLASS_TCB_REVOKED,
                glass_value_text(glass_tcb_status_name(level->status)), glass_value_text("not Revoked"));
    return GLASS_OK;
}

/* Earliest and latest dates over everything that is dated; zero as soon as one of them is unknown. */
static void date_facts(glass_facts *facts)
{
    int64_t earliest = INT64_MAX;
    int64_t latest = INT64_MIN;
    int64_t expiration = INT64_MAX;
    for (size_t i = 0; i < GLASS_DATED_COUNT; i++) {
        const glass_window *window = &facts->windows[i];
        if (window->known == 0) {
            return;
        }
        earliest = window->start < earliest ? window->start : earliest;
        latest = window->start > latest ? window->start : latest;
        expiration = window->end < expiration ? window->end : expiration;
    }
    facts->earliest_issue = earliest;
    facts->latest_issue = latest;
    facts->earliest_expiration = expiration;
}

GLASS_MUST_USE static glass_status judge_all(task *t, size_t quote_len)
{
    bool complete = glass_quote_read(&t->layout, t->f, t->quote, quote_len);
    if (complete && t->layout.certification_type == GLASS_CERTIFICATION_PCK_CHAIN) {
        GLASS_TRY(glass_pck_chain_get(t->ctx, &t->chain, t->cache, t->anchor, t->collateral,
                                      slice_of(t, t->layout.certification)));
    }
    if (t->layout.tee == GLASS_TEE_TDX) { /* quote.tee.unsupported: shown, not judged */
        t->verdict->facts.pck = t->chain != NULL ? t->chain->facts : t->verdict->facts.pck;
        glass_pck_chain_put(t->chain);
        return GLASS_OK;
    }
    if (t->chain != NULL) {
        judge_chain(t);
    }
    judge_collateral_now(t);
    judge_belonging(t, passed(t, GLASS_CHECK_QUOTE_TEE_UNKNOWN));
    glass_status status = GLASS_OK;
    if (complete) {
        status = judge_qe_report(t);
        judge_quote_signature(t);
    }
    if (status == GLASS_OK) {
        status = judge_platform(t);
    }
    date_facts(&t->verdict->facts);
    glass_pck_chain_put(t->chain);
    return status;
}

glass_status glass_verify(const glass_ctx *ctx, glass_verdict **out, const uint8_t *quote, size_t quote_len, const glass_collateral *collateral, const glass_anchor *anchor, glass_cache *cache, int64_t at)
{
    if (out == NULL) {
        return GLASS_ERR_ARGUMENT;
    }
    *out = NULL;
    if (ctx == NULL || collateral == NULL || anchor == NULL || (quote == NULL && quote_len != 0) || at <= 0) {
        return GLASS_ERR_ARGUMENT;
    }
    if (!collateral->prepared || memcmp(collateral->anchor_id, anchor->id, sizeof anchor->id) != 0) {
        return GLASS_ERR_STATE;
    }
    glass_verdict *verdict = malloc(sizeof *verdict);
    if (verdict == NULL) {
        return GLASS_ERR_MEMORY;
    }
    glass_findings_copy(&verdict->findings, &collateral->findings);
    verdict->facts = collateral->facts;
    verdict->advisory = NULL;
    verdict->advisory_used = 0;
    task t = {.ctx = ctx, .verdict = verdict, .f = &verdict->findings, .collateral = collateral, .anchor = anchor,
              .quote = quote, .at = at, .cache = cache};
    glass_status status = judge_all(&t, quote_len);
    if (status != GLASS_OK) {
        glass_verdict_free(verdict);
        return status;
    }
    *out = verdict;
    return GLASS_OK;
}
