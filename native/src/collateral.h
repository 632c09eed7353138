/* Anchor and prepared collateral from the inside. */
#ifndef GLASS_COLLATERAL_INTERNAL_H
#define GLASS_COLLATERAL_INTERNAL_H

#include "documents.h"
#include "glass_collateral.h"
#include "quote.h"

enum {
    GLASS_ITEMS = 7,
    GLASS_ROOTS_MAX = 4,
    GLASS_KNOWN_MAX = 4,
    GLASS_CRL_MAX = 10485760 /* bytes of DER */
};

struct glass_anchor {
    uint8_t id[32]; /* SHA-256 over everything below that decides */
    bool insecure;
    size_t count;
    uint8_t *der[GLASS_ROOTS_MAX];
    glass_cert certs[GLASS_ROOTS_MAX]; /* all with one subject, key id and key */
    uint8_t key[65];
    EVP_PKEY *pkey;
    uint8_t root_key_id[48];
    size_t known_count;
    uint8_t *known[GLASS_KNOWN_MAX]; /* owned: certificates whose signature under `key` has been checked */
    size_t known_len[GLASS_KNOWN_MAX];
};

/* glass_anchor_accepts returns whether the certificate is byte for byte one of the anchor's. */
bool glass_anchor_accepts(const glass_anchor *anchor, const glass_cert *cert);

/* glass_anchor_signed returns whether the certificate's signature holds under the anchor's key. */
bool glass_anchor_signed(const glass_ctx *ctx, const glass_anchor *anchor, const glass_cert *cert);

/* A root and one certificate below it, as they come with CRL, TCB info and QE identity. */
typedef struct glass_issuer {
    glass_chain chain;
    const glass_cert *root;   /* NULL: not one of this role */
    const glass_cert *signer;
    bool is_signed;           /* the signer under the anchor's key */
    EVP_PKEY *key;            /* of the signer */
} glass_issuer;

struct glass_collateral {
    uint8_t *item[GLASS_ITEMS];
    size_t item_len[GLASS_ITEMS];
    bool started;
    bool prepared;
    uint8_t anchor_id[32];
    glass_findings findings; /* what depends neither on the time nor on the quote */
    glass_facts facts;
    glass_issuer crl_issuer;
    glass_issuer tcb_issuer;
    glass_issuer qe_issuer;
    uint8_t *crl_der[2];     /* root, PCK */
    glass_crl root_crl;
    glass_crl pck_crl;
    bool has_root_crl;
    bool has_pck_crl;
    bool has_tcb_info;
    glass_tcb_info tcb_info;
    bool has_qe_identity;
    glass_qe_identity qe_identity;
};

/* The nine checks of one certificate below the root lie in a row; these are their places in it. */
enum {
    GLASS_SIGNER_BAD_EXTENSION = 0,
    GLASS_SIGNER_BAD_CONSTRAINTS,
    GLASS_SIGNER_BAD_KEY_USAGE,
    GLASS_SIGNER_BAD_ISSUER,
    GLASS_SIGNER_BAD_KEY_ID,
    GLASS_SIGNER_BAD_SIGNATURE,
    GLASS_SIGNER_REVOKED,
    GLASS_SIGNER_NOT_YET_VALID,
    GLASS_SIGNER_EXPIRED
};

/* glass_judge_signer judges the checks from `base` on that need neither time nor CRL. */
void glass_judge_signer(glass_findings *findings, unsigned base, const glass_cert *cert, const glass_cert *parent, bool is_signed);
/* glass_judge_signer_now judges revocation (`crl` NULL: not reached) and the window. */
void glass_judge_signer_now(glass_findings *findings, unsigned base, const glass_cert *cert, const glass_crl *crl, int64_t at);

#endif
