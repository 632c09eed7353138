/* What is known so far of each check: outcome, what was seen, what was wanted; turned into text only when asked for.
 * Invariant: an outcome leaves NOT_REACHED once; a FAIL stays a FAIL whatever is judged later. */
#ifndef GLASS_JUDGE_H
#define GLASS_JUDGE_H

#include <stdbool.h>
#include <stdint.h>

#include "checks.h"
#include "glass_verify.h"
#include "parse.h"

enum { GLASS_FINDINGS_ARENA = 6144, GLASS_VALUE_MAX = 96 };

typedef enum glass_value_kind {
    GLASS_VALUE_NONE = 0,
    GLASS_VALUE_TEXT,  /* a literal of the program */
    GLASS_VALUE_UINT,
    GLASS_VALUE_TIME,
    GLASS_VALUE_BEFORE, /* any time before this one */
    GLASS_VALUE_SINCE,  /* this time or any later one */
    GLASS_VALUE_HEX,   /* bytes kept in the arena */
    GLASS_VALUE_CHARS  /* characters of the input kept in the arena, escaped when shown */
} glass_value_kind;

typedef struct glass_value {
    uint8_t kind;
    uint16_t len;
    union {
        uint64_t number;
        int64_t time;
        uint32_t offset;
        const char *text;
    } as;
} glass_value;

typedef struct glass_findings {
    uint8_t outcomes[GLASS_CHECK_COUNT];
    glass_value observed[GLASS_CHECK_COUNT];
    glass_value expected[GLASS_CHECK_COUNT];
    uint32_t used; /* bytes of the arena */
    uint8_t arena[GLASS_FINDINGS_ARENA];
} glass_findings;

void glass_findings_clear(glass_findings *findings);
/* glass_findings_copy copies all that is in use. */
void glass_findings_copy(glass_findings *to, const glass_findings *from);

glass_value glass_value_none(void);
glass_value glass_value_text(const char *literal);
glass_value glass_value_uint(uint64_t number);
glass_value glass_value_time(int64_t time);
glass_value glass_value_before(int64_t time);
glass_value glass_value_since(int64_t time);
/* These two keep a copy of at most GLASS_VALUE_MAX bytes. */
glass_value glass_value_hex(glass_findings *findings, const uint8_t *data, size_t len);
glass_value glass_value_chars(glass_findings *findings, glass_slice text);

/* glass_judge sets the outcome of one check to PASS or FAIL. */
void glass_judge(glass_findings *findings, glass_check_id id, bool good, glass_value observed, glass_value expected);
void glass_judge_not_applicable(glass_findings *findings, glass_check_id id);
/* glass_judge_window judges the two checks of a validity window: from <= at < until. */
void glass_judge_window(glass_findings *findings, glass_check_id not_yet_valid, glass_check_id expired, int64_t from, int64_t until, int64_t at);

#endif
