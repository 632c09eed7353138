/* The verifier's edges: wrong arguments, hostile bytes, tables, the cache; real evidence is judged by tests/corpus. */
#include <string.h>

#include "check.h"
#include "glass_verify.h"
#include "platform.h"

static void test_names(void)
{
    CHECK(strcmp(glass_check_name(0), "quote.bytes.oversize") == 0);
    CHECK(strcmp(glass_check_name(glass_check_count() - 1), "platform.tcb.revoked") == 0);
    CHECK(glass_check_name(glass_check_count()) == NULL);
    for (uint32_t i = 0; i < glass_check_count(); i++) {
        for (uint32_t j = 0; j < i; j++) {
            CHECK(strcmp(glass_check_name(i), glass_check_name(j)) != 0);
        }
    }
}

static void test_convergence(void)
{
    enum { UTD = 1, SWH, CFG, CFG_SWH, OOD, OOD_CFG, REV };
    static const struct {
        int platform;
        int out_of_date;
    } rows[] = {{UTD, OOD}, {SWH, OOD}, {CFG, OOD_CFG}, {CFG_SWH, OOD_CFG}, {OOD, OOD}, {OOD_CFG, OOD_CFG}, {REV, REV}};
    for (size_t i = 0; i < 7; i++) {
        glass_tcb_status platform = (glass_tcb_status)rows[i].platform;
        CHECK(glass_converge(platform, GLASS_TCB_UP_TO_DATE) == platform);
        CHECK(glass_converge(platform, GLASS_TCB_OUT_OF_DATE) == (glass_tcb_status)rows[i].out_of_date);
        CHECK(glass_converge(platform, GLASS_TCB_REVOKED) == GLASS_TCB_REVOKED);
        CHECK(glass_converge(platform, GLASS_TCB_UNKNOWN) == GLASS_TCB_UNKNOWN); /* no QE level: not supported */
    }
    CHECK(glass_converge(GLASS_TCB_UNKNOWN, GLASS_TCB_UP_TO_DATE) == GLASS_TCB_UNKNOWN);
}

static void test_levels(void)
{
    glass_levels levels = {NULL, 0, NULL, 0, 0, 0};
    static const uint8_t svns[3][2] = {{5, 9}, {7, 1}, {6, 6}}; /* component 0, PCESVN; not in order */
    for (size_t i = 0; i < 3; i++) {
        glass_tcb_level *level = NULL;
        CHECK_STATUS(GLASS_OK, glass_levels_add(&levels, &level));
        level->component_svn[0] = svns[i][0];
        level->svn = svns[i][1];
        level->status = i == 1 ? GLASS_TCB_UP_TO_DATE : GLASS_TCB_OUT_OF_DATE;
    }
    CHECK_STATUS(GLASS_OK, glass_levels_sort(&levels));
    CHECK(levels.level[0].component_svn[0] == 7 && levels.level[2].component_svn[0] == 5);
    glass_pck_facts pck = {.present = 1, .component_svn = {7}, .pcesvn = 0};
    CHECK(glass_platform_level(&levels, &pck) == NULL); /* PCESVN counts too */
    pck.pcesvn = 8;
    CHECK(glass_platform_level(&levels, &pck) == &levels.level[0]);
    pck.component_svn[0] = 6;
    CHECK(glass_platform_level(&levels, &pck) == &levels.level[1]);
    for (size_t i = 1; i < 16; i++) { /* every component is compared by itself */
        levels.level[1].component_svn[i] = 1;
        CHECK(glass_platform_level(&levels, &pck) == NULL);
        levels.level[1].component_svn[i] = 0;
    }
    CHECK(glass_wanted_level(&levels)->component_svn[0] == 7);
    levels.level[1] = levels.level[0];
    CHECK(glass_levels_sort(&levels) != GLASS_OK); /* twice the same */
    glass_levels_clear(&levels);
    CHECK(glass_levels_sort(&levels) != GLASS_OK); /* none */
}

static void test_arguments(const glass_ctx *ctx)
{
    glass_anchor *anchor = NULL;
    glass_collateral *collateral = NULL;
    glass_cache *cache = NULL;
    glass_verdict *verdict = NULL;
    glass_quote *quote = NULL;
    uint32_t fault = 0;
    uint8_t key[65] = {4};
    const uint8_t junk[4] = {1, 2, 3, 4};
    const uint8_t *der[1] = {junk};
    size_t len[1] = {sizeof junk};
    CHECK_STATUS(GLASS_ERR_ARGUMENT, glass_anchor_new(ctx, &anchor, der, len, 0, key, 0)); /* an empty trust store */
    CHECK_STATUS(GLASS_ERR_FORMAT, glass_anchor_new(ctx, &anchor, der, len, 1, key, 0));
    CHECK(anchor == NULL);
    CHECK_STATUS(GLASS_ERR_ARGUMENT, glass_cache_new(&cache, 0));
    CHECK_STATUS(GLASS_OK, glass_collateral_new(&collateral));
    CHECK_STATUS(GLASS_ERR_ARGUMENT, glass_collateral_set(collateral, (glass_item)7, junk, 4));
    CHECK_STATUS(GLASS_OK, glass_collateral_set(collateral, GLASS_ITEM_TCB_INFO, junk, 4));
    CHECK_STATUS(GLASS_ERR_STATE, glass_collateral_set(collateral, GLASS_ITEM_TCB_INFO, junk, 4));
    CHECK_STATUS(GLASS_ERR_ARGUMENT, glass_collateral_prepare(ctx, collateral, NULL));
    CHECK_STATUS(GLASS_ERR_ARGUMENT, glass_verify(ctx, &verdict, junk, 4, collateral, NULL, NULL, 1));
    CHECK(verdict == NULL && glass_verdict_genuine(verdict) == 0);
    CHECK_STATUS(GLASS_ERR_FORMAT, glass_quote_parse(ctx, &quote, &fault, junk, 4));
    CHECK(quote == NULL && strcmp(glass_check_name(fault), "quote.bytes.truncated") == 0);
    CHECK_STATUS(GLASS_ERR_FORMAT, glass_quote_parse(ctx, &quote, &fault, NULL, 0));
    glass_quote_free(NULL);
    glass_anchor_free(NULL);
    glass_cache_free(NULL);
    glass_verdict_free(NULL);
    glass_collateral_free(NULL);
    glass_collateral_free(collateral);
}

/* A quote whose sizes all say 4 GiB is refused without an allocation of that size. */
static void test_huge_sizes(const glass_ctx *ctx)
{
    static uint8_t quote[2000];
    glass_quote *out = NULL;
    uint32_t fault = 0;
    memset(quote, 0xff, sizeof quote);
    quote[0] = 3;
    quote[1] = 0;
    quote[2] = 2;
    quote[3] = 0;
    memset(quote + 4, 0, 4);
    CHECK_STATUS(GLASS_ERR_FORMAT, glass_quote_parse(ctx, &out, &fault, quote, sizeof quote));
    CHECK_STATUS(GLASS_ERR_FORMAT, glass_quote_parse(ctx, &out, &fault, quote, 20));
    static uint8_t large[GLASS_QUOTE_MAX + 1];
    CHECK_STATUS(GLASS_ERR_FORMAT, glass_quote_parse(ctx, &out, &fault, large, sizeof large));
    CHECK(strcmp(glass_check_name(fault), "quote.bytes.oversize") == 0);
}

int main(void)
{
    glass_ctx *ctx = NULL;
    CHECK_STATUS(GLASS_OK, glass_ctx_new(&ctx));
    test_names();
    test_convergence();
    test_levels();
    test_arguments(ctx);
    test_huge_sizes(ctx);
    glass_ctx_free(ctx);
    puts("verify ok");
    return 0;
}
