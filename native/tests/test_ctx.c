/* The context: made, used from an own library context, freed; wrong arguments are refused. */
#include <string.h>

#include "check.h"
#include "glass_ctx.h"

int main(void)
{
    glass_ctx *ctx = NULL;
    uint8_t digest[32];
    static const uint8_t abc[32] = {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40,
                                    0xde, 0x5d, 0xae, 0x22, 0x23, 0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17,
                                    0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad};
    CHECK_STATUS(GLASS_ERR_ARGUMENT, glass_ctx_new(NULL));
    CHECK_STATUS(GLASS_OK, glass_ctx_new(&ctx));
    CHECK_STATUS(GLASS_OK, glass_sha256(ctx, digest, (const uint8_t *)"abc", 3));
    CHECK(glass_equal(digest, abc, 32));
    digest[31] ^= 1;
    CHECK(!glass_equal(digest, abc, 32));
    glass_wipe(digest, sizeof digest);
    CHECK(digest[0] == 0 && digest[31] == 0);
    CHECK_STATUS(GLASS_ERR_ARGUMENT, glass_sha256(NULL, digest, abc, 3));
    CHECK(strcmp(glass_status_name(GLASS_ERR_AUTH), "auth") == 0);
    glass_ctx_free(ctx);
    glass_ctx_free(NULL);
    puts("ctx ok");
    return 0;
}
