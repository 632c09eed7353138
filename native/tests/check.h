/* The two macros that the native tests need. A failed check ends the program with 1. */
#ifndef GLASS_TEST_CHECK_H
#define GLASS_TEST_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                             \
    do {                                                                             \
        if (!(condition)) {                                                          \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                                 \
        }                                                                            \
    } while (0)

#define CHECK_STATUS(expected, call)                                                           \
    do {                                                                                       \
        glass_status check_got_ = (call);                                                      \
        if (check_got_ != (expected)) {                                                        \
            fprintf(stderr, "%s:%d: %s gave %s\n", __FILE__, __LINE__, #call,                  \
                    glass_status_name(check_got_));                                            \
            exit(1);                                                                           \
        }                                                                                      \
    } while (0)

#endif
