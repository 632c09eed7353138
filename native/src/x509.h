/* Certificates and CRLs as far as Intel's profile goes; every slice points into the DER that was read.
 * Invariants: a structure that could not be read whole is refused; what a role forbids is kept as a flag, so that the
 * verifier can show it as a check of its own. */
#ifndef GLASS_X509_H
#define GLASS_X509_H

#include <openssl/evp.h>

#include "glass_ctx.h"
#include "glass_quote.h"
#include "parse.h"

enum {
    GLASS_CERT_MAX = 8192,       /* bytes of one certificate */
    GLASS_KEY_ID_MAX = 32,       /* bytes of a key identifier */
    GLASS_SERIAL_MAX = 20,       /* bytes of a serial number */
    GLASS_CRL_ENTRIES_MAX = 1000000
};

typedef enum glass_role {
    GLASS_ROLE_NONE = 0,
    GLASS_ROLE_ROOT,
    GLASS_ROLE_SIMULATED_ROOT,
    GLASS_ROLE_PROCESSOR_CA,
    GLASS_ROLE_PLATFORM_CA,
    GLASS_ROLE_PCK,
    GLASS_ROLE_TCB_SIGNER
} glass_role;

/* Values of the keyUsage bit string, first byte. */
enum {
    GLASS_KEY_USAGE_CA = 0x06,   /* keyCertSign, cRLSign and nothing else */
    GLASS_KEY_USAGE_LEAF = 0xc0  /* digitalSignature, nonRepudiation and nothing else */
};

typedef struct glass_cert {
    glass_slice der;
    glass_slice tbs;       /* the signed bytes, with header */
    glass_slice serial;    /* magnitude, 1 to 20 bytes */
    glass_slice issuer;    /* raw Name */
    glass_slice subject;
    glass_slice common_name;
    glass_role role;       /* by the exact subject name */
    int64_t not_before;
    int64_t not_after;
    uint8_t key[65];       /* 04 || x || y */
    glass_slice authority_key_id;
    glass_slice subject_key_id;
    unsigned key_usage;    /* 0: absent */
    bool ca;
    int path_length;       /* -1: absent */
    glass_slice sgx;       /* content of the SGX extension, at NULL: absent */
    bool bad_extension;    /* unknown, repeated, missing, malformed or wrongly critical */
    uint8_t signature[64]; /* raw r || s */
} glass_cert;

/* glass_cert_read reads exactly `len` bytes; GLASS_ERR_FORMAT for anything that is not the profile's structure. */
GLASS_MUST_USE glass_status glass_cert_read(glass_cert *cert, const uint8_t *der, size_t len);
const char *glass_role_name(glass_role role);

/* Serial numbers left-padded with zeros to three words, so that a search is three comparisons an entry. */
typedef struct glass_serial {
    uint64_t word[3];
} glass_serial;

typedef struct glass_crl {
    glass_slice tbs;
    glass_slice issuer;
    int64_t this_update;
    int64_t next_update;
    uint8_t number[20];      /* big-endian, right aligned */
    glass_slice authority_key_id;
    bool bad_extension;
    glass_serial *revoked;   /* owned */
    size_t revoked_count;
    uint8_t signature[64];
} glass_crl;

/* glass_crl_read reads exactly `len` bytes in time linear in `len`; release with glass_crl_clear, also after a failure. */
GLASS_MUST_USE glass_status glass_crl_read(glass_crl *crl, const uint8_t *der, size_t len);
void glass_crl_clear(glass_crl *crl);
bool glass_crl_lists(const glass_crl *crl, glass_slice serial);

/* What cert.c, crl.c and ratls.c share. */
enum { GLASS_X509_COMMON_NAME = 3 }; /* last arc of 2.5.4.3 */
/* glass_x509_relative_name reads SET { SEQUENCE { OID 2.5.4.`attribute`, string } } with exactly one member. */
GLASS_MUST_USE glass_status glass_x509_relative_name(glass_cursor *cur, uint8_t attribute, glass_slice *value);
/* glass_x509_version_3 reads [0] { INTEGER 2 }; glass_x509_serial a positive number, `*magnitude` of 1 to 20 bytes. */
GLASS_MUST_USE glass_status glass_x509_version_3(glass_cursor *cur);
GLASS_MUST_USE glass_status glass_x509_serial(glass_cursor *cur, glass_slice *magnitude);
/* glass_x509_p256_key reads a SubjectPublicKeyInfo of P-256 with an uncompressed point; `*spki` is the whole of it. */
GLASS_MUST_USE glass_status glass_x509_p256_key(glass_cursor *cur, uint8_t key[65], glass_slice *spki);
GLASS_MUST_USE glass_status glass_x509_key_id(glass_slice *out, glass_slice extension);
GLASS_MUST_USE glass_status glass_x509_signature(glass_cursor *cur, uint8_t raw[64]);
GLASS_MUST_USE glass_status glass_x509_algorithm(glass_cursor *cur);
typedef struct glass_extension {
    glass_slice oid;
    glass_slice value; /* content of the OCTET STRING */
    bool critical;
} glass_extension;
GLASS_MUST_USE glass_status glass_x509_extension(glass_cursor *cur, glass_extension *out);

typedef enum glass_pck_fault {
    GLASS_PCK_GOOD = 0,
    GLASS_PCK_MALFORMED,
    GLASS_PCK_BAD_TYPE
} glass_pck_fault;

/* glass_pck_read reads the SGX extension into `facts` (only the extension's fields); `*entries` is 5 or 7. */
glass_pck_fault glass_pck_read(glass_pck_facts *facts, unsigned *entries, glass_slice extension);

/* P-256 keys and signatures. glass_point_new gives NULL if the 65 bytes are not a point in the uncompressed form. */
EVP_PKEY *glass_point_new(const glass_ctx *ctx, const uint8_t key[65]);
/* glass_point_verifies returns true only if raw r || s is a good signature of the message's SHA-256 under `key`. */
bool glass_point_verifies(const glass_ctx *ctx, EVP_PKEY *key, glass_slice message, const uint8_t raw[64]);
bool glass_point_verifies_digest(const glass_ctx *ctx, EVP_PKEY *key, const uint8_t digest[32], const uint8_t raw[64]);

#endif
