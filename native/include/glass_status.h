/* What every fallible function of the core returns. Values are stable; new ones are added at the end. */
#ifndef GLASS_STATUS_H
#define GLASS_STATUS_H

#if defined(__GNUC__)
#define GLASS_MUST_USE __attribute__((warn_unused_result))
#else
#define GLASS_MUST_USE
#endif

/* cffi: begin */
typedef enum glass_status {
    GLASS_OK = 0,
    GLASS_ERR_ARGUMENT = 1,    /* the caller broke the contract of the function */
    GLASS_ERR_MEMORY = 2,      /* allocation failed */
    GLASS_ERR_LIBCRYPTO = 3,   /* libcrypto failed where it must not */
    GLASS_ERR_STATE = 4,       /* the object cannot do this now, or failed before */
    GLASS_ERR_LIMIT = 5,       /* input above a documented limit */
    GLASS_ERR_FORMAT = 6,      /* input is not byte-exact */
    GLASS_ERR_UNSUPPORTED = 7, /* well formed, but not a kind that is accepted */
    GLASS_ERR_AUTH = 8,        /* a tag, signature or commitment does not hold */
    GLASS_ERR_TRUNCATED = 9,   /* input ends too early */
    GLASS_ERR_CHANGED = 10,    /* input changed while it was read, or differs from its digest */
    GLASS_ERR_IO = 11,         /* the descriptor failed; errno is in the detail object */
    GLASS_ERR_CANCELLED = 12   /* the caller set the cancel flag */
} glass_status;

const char *glass_status_name(glass_status status);
/* cffi: end */

#endif
