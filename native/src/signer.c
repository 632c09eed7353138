#include <string.h>

#include "collateral.h"
#include "internal.h"

#define SIGNER_ROW(PREFIX)                                                                                   \
    _Static_assert(GLASS_CHECK_##PREFIX##_EXPIRED - GLASS_CHECK_##PREFIX##_BAD_EXTENSION == GLASS_SIGNER_EXPIRED, \
                   "the checks of a certificate lie in a row")
SIGNER_ROW(PCK_CA);
SIGNER_ROW(PCK_LEAF);
SIGNER_ROW(CRL_CA);
SIGNER_ROW(TCBINFO_SIGNER);
SIGNER_ROW(QE_SIGNER);

static bool is_ca(glass_role role)
{
    return role == GLASS_ROLE_PROCESSOR_CA || role == GLASS_ROLE_PLATFORM_CA;
}

static void judge(glass_findings *findings, unsigned id, bool good, glass_value observed, glass_value expected)
{
    glass_judge(findings, (glass_check_id)id, good, observed, expected);
}

static const char *constraints_of(const glass_cert *cert)
{
    if (!cert->ca) {
        return cert->path_length == -1 ? "CA:FALSE" : "CA:FALSE, with a path length";
    }
    return cert->path_length == 0 ? "CA:TRUE, path length 0" : "CA:TRUE, another path length";
}

static void judge_form(glass_findings *findings, unsigned base, const glass_cert *cert)
{
    bool ca = is_ca(cert->role);
    bool extensions = !cert->bad_extension && (cert->sgx.at == NULL || cert->role == GLASS_ROLE_PCK);
    judge(findings, base + GLASS_SIGNER_BAD_EXTENSION, extensions,
          glass_value_text(extensions ? "the extensions of the profile" : "other extensions"),
          glass_value_text("key ids, CRL point, key usage, constraints, as the profile has them"));
    bool constraints = ca ? cert->ca && cert->path_length == 0 : !cert->ca && cert->path_length == -1;
    judge(findings, base + GLASS_SIGNER_BAD_CONSTRAINTS, constraints, glass_value_text(constraints_of(cert)),
          glass_value_text(ca ? "CA:TRUE, path length 0" : "CA:FALSE"));
    unsigned usage = ca ? GLASS_KEY_USAGE_CA : GLASS_KEY_USAGE_LEAF;
    judge(findings, base + GLASS_SIGNER_BAD_KEY_USAGE, cert->key_usage == usage, glass_value_uint(cert->key_usage),
          glass_value_uint(usage));
}

void glass_judge_signer(glass_findings *findings, unsigned base, const glass_cert *cert, const glass_cert *parent, bool is_signed)
{
    judge_form(findings, base, cert);
    judge(findings, base + GLASS_SIGNER_BAD_ISSUER, glass_slice_equal(cert->issuer, parent->subject),
          glass_value_text(glass_slice_equal(cert->issuer, parent->subject) ? glass_role_name(parent->role) : "another name"),
          glass_value_text(glass_role_name(parent->role)));
    bool linked = cert->authority_key_id.len != 0 && glass_slice_equal(cert->authority_key_id, parent->subject_key_id);
    judge(findings, base + GLASS_SIGNER_BAD_KEY_ID, linked,
          glass_value_hex(findings, cert->authority_key_id.at, cert->authority_key_id.len),
          glass_value_hex(findings, parent->subject_key_id.at, parent->subject_key_id.len));
    judge(findings, base + GLASS_SIGNER_BAD_SIGNATURE, is_signed,
          glass_value_text(is_signed ? "holds" : "does not hold"), glass_value_text("holds"));
}

void glass_judge_signer_now(glass_findings *findings, unsigned base, const glass_cert *cert, const glass_crl *crl, int64_t at)
{
    if (crl != NULL) {
        bool listed = glass_crl_lists(crl, cert->serial);
        judge(findings, base + GLASS_SIGNER_REVOKED, !listed, glass_value_hex(findings, cert->serial.at, cert->serial.len),
              glass_value_text("not listed"));
    }
    glass_judge_window(findings, (glass_check_id)(base + GLASS_SIGNER_NOT_YET_VALID),
                       (glass_check_id)(base + GLASS_SIGNER_EXPIRED), cert->not_before, cert->not_after, at);
}
