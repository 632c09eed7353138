#include "collateral.h"

#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* The checks of one issuer chain with its signer. */
typedef struct issuer_checks {
    glass_item item;
    glass_check_id missing;
    glass_check_id malformed;
    glass_check_id bad_roles;
    glass_check_id untrusted;
    glass_check_id signer;
    glass_role role_a;
    glass_role role_b;
    const char *roles;
} issuer_checks;

typedef struct crl_checks {
    glass_item item;
    glass_check_id missing;
    glass_check_id malformed;
    glass_check_id bad_extension;
    glass_check_id bad_issuer;
    glass_check_id bad_key_id;
    glass_check_id bad_signature;
} crl_checks;

typedef struct document_checks {
    glass_item item;
    const char *name;
    glass_check_id missing;
    glass_check_id malformed;
    glass_check_id bad_signature;
} document_checks;

static const issuer_checks CRL_ISSUER = {
    GLASS_ITEM_PCK_CRL_ISSUER_CHAIN, GLASS_CHECK_CRL_CHAIN_MISSING, GLASS_CHECK_CRL_CHAIN_MALFORMED,
    GLASS_CHECK_CRL_CHAIN_BAD_ROLES, GLASS_CHECK_CRL_CHAIN_UNTRUSTED, GLASS_CHECK_CRL_CA_BAD_EXTENSION,
    GLASS_ROLE_PROCESSOR_CA, GLASS_ROLE_PLATFORM_CA, "one root, one PCK CA"};
static const issuer_checks TCB_ISSUER = {
    GLASS_ITEM_TCB_INFO_ISSUER_CHAIN, GLASS_CHECK_TCBINFO_CHAIN_MISSING, GLASS_CHECK_TCBINFO_CHAIN_MALFORMED,
    GLASS_CHECK_TCBINFO_CHAIN_BAD_ROLES, GLASS_CHECK_TCBINFO_CHAIN_UNTRUSTED, GLASS_CHECK_TCBINFO_SIGNER_BAD_EXTENSION,
    GLASS_ROLE_TCB_SIGNER, GLASS_ROLE_TCB_SIGNER, "one root, one TCB signing certificate"};
static const issuer_checks QE_ISSUER = {
    GLASS_ITEM_QE_IDENTITY_ISSUER_CHAIN, GLASS_CHECK_QE_CHAIN_MISSING, GLASS_CHECK_QE_CHAIN_MALFORMED,
    GLASS_CHECK_QE_CHAIN_BAD_ROLES, GLASS_CHECK_QE_CHAIN_UNTRUSTED, GLASS_CHECK_QE_SIGNER_BAD_EXTENSION,
    GLASS_ROLE_TCB_SIGNER, GLASS_ROLE_TCB_SIGNER, "one root, one TCB signing certificate"};
static const crl_checks ROOT_CRL = {
    GLASS_ITEM_ROOT_CA_CRL, GLASS_CHECK_CRL_ROOT_MISSING, GLASS_CHECK_CRL_ROOT_MALFORMED,
    GLASS_CHECK_CRL_ROOT_BAD_EXTENSION, GLASS_CHECK_CRL_ROOT_BAD_ISSUER, GLASS_CHECK_CRL_ROOT_BAD_KEY_ID,
    GLASS_CHECK_CRL_ROOT_BAD_SIGNATURE};
static const crl_checks PCK_CRL = {
    GLASS_ITEM_PCK_CRL, GLASS_CHECK_CRL_PCK_MISSING, GLASS_CHECK_CRL_PCK_MALFORMED, GLASS_CHECK_CRL_PCK_BAD_EXTENSION,
    GLASS_CHECK_CRL_PCK_BAD_ISSUER, GLASS_CHECK_CRL_PCK_BAD_KEY_ID, GLASS_CHECK_CRL_PCK_BAD_SIGNATURE};
static const document_checks TCB_INFO = {
    GLASS_ITEM_TCB_INFO, "tcbInfo", GLASS_CHECK_TCBINFO_DOCUMENT_MISSING, GLASS_CHECK_TCBINFO_DOCUMENT_MALFORMED,
    GLASS_CHECK_TCBINFO_DOCUMENT_BAD_SIGNATURE};
static const document_checks QE_IDENTITY = {
    GLASS_ITEM_QE_IDENTITY, "enclaveIdentity", GLASS_CHECK_QE_DOCUMENT_MISSING, GLASS_CHECK_QE_DOCUMENT_MALFORMED,
    GLASS_CHECK_QE_DOCUMENT_BAD_SIGNATURE};

static void judge_text(glass_findings *findings, glass_check_id id, bool good, const char *bad, const char *wanted)
{
    glass_judge(findings, id, good, glass_value_text(good ? wanted : bad), glass_value_text(wanted));
}

glass_status glass_collateral_new(glass_collateral **out)
{
    if (out == NULL) {
        return GLASS_ERR_ARGUMENT;
    }
    *out = calloc(1, sizeof **out);
    return *out != NULL ? GLASS_OK : GLASS_ERR_MEMORY;
}

glass_status glass_collateral_set(glass_collateral *collateral, glass_item item, const uint8_t *data, size_t len)
{
    if (collateral == NULL || (unsigned)item >= GLASS_ITEMS || (data == NULL && len != 0)) {
        return GLASS_ERR_ARGUMENT;
    }
    if (collateral->started || collateral->item[item] != NULL) {
        return GLASS_ERR_STATE;
    }
    /* hexadecimal doubles the size; what is longer is malformed, and one byte above the limit shows it as well as all */
    size_t cap = (size_t)GLASS_CRL_MAX * 2 + 2;
    size_t kept = len < cap ? len : cap;
    uint8_t *copy = malloc(kept + 1);
    if (copy == NULL) {
        return GLASS_ERR_MEMORY;
    }
    if (kept > 0) {
        memcpy(copy, data, kept);
    }
    copy[kept] = 0;
    collateral->item[item] = copy;
    collateral->item_len[item] = kept;
    return GLASS_OK;
}

static glass_slice item_of(const glass_collateral *c, glass_item item)
{
    return (glass_slice){c->item[item], c->item_len[item]};
}

/* Signature under the anchor's key and own key of the signer; both from `known` where it is the same certificate. */
static void check_signer(const glass_ctx *ctx, glass_issuer *issuer, const glass_anchor *anchor, const glass_issuer *known)
{
    const glass_cert *signer = issuer->signer;
    if (known != NULL && known->key != NULL && glass_slice_equal(known->signer->der, signer->der) &&
        EVP_PKEY_up_ref(known->key) == 1) {
        issuer->is_signed = known->is_signed;
        issuer->key = known->key;
        return;
    }
    issuer->is_signed = glass_anchor_signed(ctx, anchor, signer);
    issuer->key = glass_point_new(ctx, signer->key);
}

/* The certificate that a person is shown: the signer, or the one that stands where root or signer should. */
static const glass_cert *shown_of(const glass_issuer *issuer, const issuer_checks *ids)
{
    const glass_cert *first = &issuer->chain.certs[0];
    if (issuer->root != NULL && issuer->signer != NULL) {
        return issuer->signer;
    }
    bool placed = first == issuer->root || first->role == ids->role_a || first->role == ids->role_b;
    return placed ? &issuer->chain.certs[1] : first;
}

GLASS_MUST_USE static glass_status prepare_issuer(const glass_ctx *ctx, glass_collateral *c, const glass_anchor *anchor, const issuer_checks *ids, glass_issuer *out, const glass_issuer *known)
{
    glass_slice pem = item_of(c, ids->item);
    judge_text(&c->findings, ids->missing, pem.len != 0, "absent", "present");
    if (pem.len == 0) {
        return GLASS_OK;
    }
    glass_status status = glass_chain_read(&out->chain, pem, 2, false);
    if (status == GLASS_ERR_MEMORY) {
        return status;
    }
    judge_text(&c->findings, ids->malformed, status == GLASS_OK, glass_status_name(status), "two certificates");
    if (status != GLASS_OK) {
        return GLASS_OK;
    }
    out->root = glass_chain_only(&out->chain, GLASS_ROLE_ROOT, GLASS_ROLE_SIMULATED_ROOT);
    out->signer = glass_chain_only(&out->chain, ids->role_a, ids->role_b);
    bool roles = out->root != NULL && out->signer != NULL;
    glass_judge(&c->findings, ids->bad_roles, roles, glass_value_chars(&c->findings, shown_of(out, ids)->common_name),
                glass_value_text(ids->roles));
    if (!roles) {
        out->root = NULL;
        out->signer = NULL;
        return GLASS_OK;
    }
    judge_text(&c->findings, ids->untrusted, glass_anchor_accepts(anchor, out->root), "another certificate", "a root of the anchor");
    check_signer(ctx, out, anchor, known);
    glass_judge_signer(&c->findings, ids->signer, out->signer, &anchor->certs[0], out->is_signed);
    return GLASS_OK;
}

/* DER, PEM or hexadecimal DER (one LF may end it) to DER in a new buffer. */
GLASS_MUST_USE static glass_status decode_crl(uint8_t **out, size_t *out_len, glass_slice item)
{
    *out_len = 0;
    if (item.len == 0 || item.len > (size_t)GLASS_CRL_MAX * 2 + 1) {
        return GLASS_ERR_FORMAT;
    }
    *out = malloc(item.len);
    if (*out == NULL) {
        return GLASS_ERR_MEMORY;
    }
    if (item.at[0] == GLASS_DER_SEQUENCE) { /* hexadecimal begins with the digit 3, which is another byte */
        memcpy(*out, item.at, item.len);
        *out_len = item.len;
    } else if (item.at[0] == '-') {
        glass_cursor cur = glass_cursor_of(item.at, item.len);
        GLASS_TRY(glass_pem_block(&cur, "X509 CRL", *out, item.len, out_len));
        if (glass_cursor_left(&cur) != 0) {
            return GLASS_ERR_FORMAT;
        }
    } else {
        size_t digits = item.at[item.len - 1] == '\n' ? item.len - 1 : item.len;
        GLASS_TRY(glass_hex_decode(*out, digits / 2, (glass_slice){item.at, digits}));
        *out_len = digits / 2;
    }
    return *out_len <= GLASS_CRL_MAX ? GLASS_OK : GLASS_ERR_LIMIT;
}

/* `issuer` NULL: its certificate could not be read, so what depends on it is not reached. */
GLASS_MUST_USE static glass_status prepare_crl(const glass_ctx *ctx, glass_collateral *c, const crl_checks *ids, uint8_t **der, glass_crl *crl, bool *has, const glass_cert *issuer, EVP_PKEY *key)
{
    glass_slice item = item_of(c, ids->item);
    size_t len = 0;
    judge_text(&c->findings, ids->missing, item.len != 0, "absent", "present");
    if (item.len == 0) {
        return GLASS_OK;
    }
    glass_status status = decode_crl(der, &len, item);
    if (status == GLASS_OK) {
        status = glass_crl_read(crl, *der, len);
    }
    if (status == GLASS_ERR_MEMORY) {
        return status;
    }
    judge_text(&c->findings, ids->malformed, status == GLASS_OK, glass_status_name(status), "a version 2 CRL");
    if (status != GLASS_OK) {
        return GLASS_OK;
    }
    *has = true;
    judge_text(&c->findings, ids->bad_extension, !crl->bad_extension, "other extensions", "CRL number and authority key id");
    if (issuer == NULL) {
        return GLASS_OK;
    }
    judge_text(&c->findings, ids->bad_issuer, glass_slice_equal(crl->issuer, issuer->subject), "another name",
               glass_role_name(issuer->role));
    bool linked = crl->authority_key_id.len != 0 && glass_slice_equal(crl->authority_key_id, issuer->subject_key_id);
    glass_judge(&c->findings, ids->bad_key_id, linked,
                glass_value_hex(&c->findings, crl->authority_key_id.at, crl->authority_key_id.len),
                glass_value_hex(&c->findings, issuer->subject_key_id.at, issuer->subject_key_id.len));
    judge_text(&c->findings, ids->bad_signature, glass_point_verifies(ctx, key, crl->tbs, crl->signature), "does not hold", "holds");
    return GLASS_OK;
}

/* The outer document and the signature over the object; `object->bytes.at` stays NULL if there is none to read. */
static void prepare_document(const glass_ctx *ctx, glass_collateral *c, const document_checks *ids, glass_signed_object *object, const glass_issuer *issuer)
{
    glass_slice item = item_of(c, ids->item);
    memset(object, 0, sizeof *object);
    judge_text(&c->findings, ids->missing, item.len != 0, "absent", "present");
    if (item.len == 0) {
        return;
    }
    glass_status status = glass_signed_object_read(object, item, ids->name);
    if (status != GLASS_OK) {
        judge_text(&c->findings, ids->malformed, false, glass_status_name(status), "strict JSON");
        object->bytes = (glass_slice){NULL, 0};
        return;
    }
    if (issuer->signer != NULL) {
        judge_text(&c->findings, ids->bad_signature,
                   glass_point_verifies(ctx, issuer->key, object->bytes, object->signature), "does not hold", "holds");
    }
}

GLASS_MUST_USE static glass_status prepare_tcb_info(const glass_ctx *ctx, glass_collateral *c)
{
    glass_signed_object object;
    prepare_document(ctx, c, &TCB_INFO, &object, &c->tcb_issuer);
    if (object.bytes.at == NULL) {
        return GLASS_OK;
    }
    GLASS_TRY(glass_sha256(ctx, c->facts.tcb_info_sha256, object.bytes.at, object.bytes.len));
    glass_status status = glass_tcb_info_read(&c->tcb_info, object.bytes);
    if (status == GLASS_ERR_MEMORY) {
        return status;
    }
    judge_text(&c->findings, GLASS_CHECK_TCBINFO_DOCUMENT_MALFORMED, status == GLASS_OK, glass_status_name(status), "strict JSON");
    if (status != GLASS_OK) {
        return GLASS_OK;
    }
    const glass_tcb_info *info = &c->tcb_info;
    c->has_tcb_info = true;
    glass_judge(&c->findings, GLASS_CHECK_TCBINFO_VERSION_UNSUPPORTED, info->version == 3, glass_value_uint(info->version),
                glass_value_uint(3));
    glass_judge(&c->findings, GLASS_CHECK_TCBINFO_TYPE_UNSUPPORTED, info->tcb_type == 0, glass_value_uint(info->tcb_type),
                glass_value_uint(0));
    if (info->version == 2 || info->version == 3) {
        judge_text(&c->findings, GLASS_CHECK_TCBINFO_LEVELS_MALFORMED, info->levels_good, "malformed",
                   "distinct levels of 16 components, of known status and date");
    }
    c->facts.tcb_info_version = (uint32_t)info->version;
    c->facts.tcb_info_evaluation = info->evaluation;
    memcpy(c->facts.fmspc, info->fmspc, sizeof info->fmspc);
    c->facts.windows[GLASS_DATED_TCB_INFO] = (glass_window){info->issued, info->next_update, 1};
    return GLASS_OK;
}

GLASS_MUST_USE static glass_status prepare_qe_identity(const glass_ctx *ctx, glass_collateral *c)
{
    glass_signed_object object;
    prepare_document(ctx, c, &QE_IDENTITY, &object, &c->qe_issuer);
    if (object.bytes.at == NULL) {
        return GLASS_OK;
    }
    glass_status status = glass_qe_identity_read(&c->qe_identity, object.bytes);
    if (status == GLASS_ERR_MEMORY) {
        return status;
    }
    judge_text(&c->findings, GLASS_CHECK_QE_DOCUMENT_MALFORMED, status == GLASS_OK, glass_status_name(status), "strict JSON");
    if (status != GLASS_OK) {
        return GLASS_OK;
    }
    const glass_qe_identity *identity = &c->qe_identity;
    c->has_qe_identity = true;
    glass_judge(&c->findings, GLASS_CHECK_QE_VERSION_UNSUPPORTED, identity->version == 2, glass_value_uint(identity->version),
                glass_value_uint(2));
    judge_text(&c->findings, GLASS_CHECK_QE_LEVELS_MALFORMED, identity->levels_good, "malformed",
               "levels from the highest SVN down, of known status and date");
    c->facts.qe_identity_evaluation = identity->evaluation;
    c->facts.windows[GLASS_DATED_QE_IDENTITY] = (glass_window){identity->issued, identity->next_update, 1};
    return GLASS_OK;
}

static void date(glass_facts *facts, unsigned index, const glass_cert *cert)
{
    if (cert != NULL) {
        facts->windows[index] = (glass_window){cert->not_before, cert->not_after, 1};
    }
}

static void prepare_facts(glass_collateral *c, const glass_anchor *anchor)
{
    glass_facts *facts = &c->facts;
    date(facts, GLASS_DATED_PCK_CRL_ROOT, c->crl_issuer.root);
    date(facts, GLASS_DATED_PCK_CRL_CA, c->crl_issuer.signer);
    date(facts, GLASS_DATED_TCB_INFO_ROOT, c->tcb_issuer.root);
    date(facts, GLASS_DATED_TCB_INFO_SIGNER, c->tcb_issuer.signer);
    date(facts, GLASS_DATED_QE_IDENTITY_ROOT, c->qe_issuer.root);
    date(facts, GLASS_DATED_QE_IDENTITY_SIGNER, c->qe_issuer.signer);
    if (c->has_root_crl) {
        facts->windows[GLASS_DATED_ROOT_CA_CRL] = (glass_window){c->root_crl.this_update, c->root_crl.next_update, 1};
        memcpy(facts->root_ca_crl_number, c->root_crl.number, sizeof c->root_crl.number);
    }
    if (c->has_pck_crl) {
        facts->windows[GLASS_DATED_PCK_CRL] = (glass_window){c->pck_crl.this_update, c->pck_crl.next_update, 1};
        memcpy(facts->pck_crl_number, c->pck_crl.number, sizeof c->pck_crl.number);
    }
    memcpy(facts->root_key_id, anchor->root_key_id, sizeof anchor->root_key_id);
}

GLASS_MUST_USE static glass_status prepare_all(const glass_ctx *ctx, glass_collateral *c, const glass_anchor *anchor)
{
    GLASS_TRY(prepare_issuer(ctx, c, anchor, &CRL_ISSUER, &c->crl_issuer, NULL));
    GLASS_TRY(prepare_issuer(ctx, c, anchor, &TCB_ISSUER, &c->tcb_issuer, NULL));
    GLASS_TRY(prepare_issuer(ctx, c, anchor, &QE_ISSUER, &c->qe_issuer, &c->tcb_issuer));
    GLASS_TRY(prepare_crl(ctx, c, &ROOT_CRL, &c->crl_der[0], &c->root_crl, &c->has_root_crl, &anchor->certs[0], anchor->pkey));
    GLASS_TRY(prepare_crl(ctx, c, &PCK_CRL, &c->crl_der[1], &c->pck_crl, &c->has_pck_crl, c->crl_issuer.signer, c->crl_issuer.key));
    GLASS_TRY(prepare_tcb_info(ctx, c));
    GLASS_TRY(prepare_qe_identity(ctx, c));
    prepare_facts(c, anchor);
    memcpy(c->anchor_id, anchor->id, sizeof c->anchor_id);
    c->prepared = true;
    return GLASS_OK;
}

static void clear_issuer(glass_issuer *issuer)
{
    EVP_PKEY_free(issuer->key);
    glass_chain_clear(&issuer->chain);
    memset(issuer, 0, sizeof *issuer);
}

glass_status glass_collateral_prepare(const glass_ctx *ctx, glass_collateral *collateral, const glass_anchor *anchor)
{
    if (ctx == NULL || collateral == NULL || anchor == NULL) {
        return GLASS_ERR_ARGUMENT;
    }
    if (collateral->started) { /* also after a failure */
        return GLASS_ERR_STATE;
    }
    collateral->started = true;
    glass_findings_clear(&collateral->findings);
    return prepare_all(ctx, collateral, anchor);
}

void glass_collateral_free(glass_collateral *collateral)
{
    if (collateral == NULL) {
        return;
    }
    for (size_t i = 0; i < GLASS_ITEMS; i++) {
        free(collateral->item[i]);
    }
    free(collateral->crl_der[0]);
    free(collateral->crl_der[1]);
    glass_crl_clear(&collateral->root_crl);
    glass_crl_clear(&collateral->pck_crl);
    glass_levels_clear(&collateral->tcb_info.levels);
    glass_levels_clear(&collateral->qe_identity.levels);
    clear_issuer(&collateral->crl_issuer);
    clear_issuer(&collateral->tcb_issuer);
    clear_issuer(&collateral->qe_issuer);
    free(collateral);
}
