#include "glass_status.h"

const char *glass_status_name(glass_status status)
{
    switch (status) {
    case GLASS_OK:
        return "ok";
    case GLASS_ERR_ARGUMENT:
        return "argument";
    case GLASS_ERR_MEMORY:
        return "memory";
    case GLASS_ERR_LIBCRYPTO:
        return "libcrypto";
    case GLASS_ERR_STATE:
        return "state";
    case GLASS_ERR_LIMIT:
        return "limit";
    case GLASS_ERR_FORMAT:
        return "format";
    case GLASS_ERR_UNSUPPORTED:
        return "unsupported";
    case GLASS_ERR_AUTH:
        return "auth";
    case GLASS_ERR_TRUNCATED:
        return "truncated";
    case GLASS_ERR_CHANGED:
        return "changed";
    case GLASS_ERR_IO:
        return "io";
    case GLASS_ERR_CANCELLED:
        return "cancelled";
    }
    return "unknown";
}
