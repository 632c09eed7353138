#include "judge.h"

#include <stddef.h>
#include <string.h>

#include "internal.h"

void glass_findings_clear(glass_findings *findings)
{
    memset(findings, 0, offsetof(glass_findings, arena));
}

void glass_findings_copy(glass_findings *to, const glass_findings *from)
{
    memcpy(to, from, offsetof(glass_findings, arena) + from->used);
}

glass_value glass_value_none(void)
{
    return (glass_value){.kind = GLASS_VALUE_NONE};
}

glass_value glass_value_text(const char *literal)
{
    return (glass_value){.kind = GLASS_VALUE_TEXT, .as.text = literal};
}

glass_value glass_value_uint(uint64_t number)
{
    return (glass_value){.kind = GLASS_VALUE_UINT, .as.number = number};
}

glass_value glass_value_time(int64_t time)
{
    return (glass_value){.kind = GLASS_VALUE_TIME, .as.time = time};
}

glass_value glass_value_before(int64_t time)
{
    return (glass_value){.kind = GLASS_VALUE_BEFORE, .as.time = time};
}

glass_value glass_value_since(int64_t time)
{
    return (glass_value){.kind = GLASS_VALUE_SINCE, .as.time = time};
}

/* A full arena shortens what is shown, never what is decided. */
static glass_value keep(glass_findings *findings, glass_value_kind kind, const uint8_t *data, size_t len)
{
    size_t room = GLASS_FINDINGS_ARENA - findings->used;
    size_t size = len < GLASS_VALUE_MAX ? len : GLASS_VALUE_MAX;
    size = size < room ? size : room;
    glass_value value = {.kind = (uint8_t)kind, .len = (uint16_t)size, .as.offset = findings->used};
    if (size > 0) {
        memcpy(findings->arena + findings->used, data, size);
        findings->used += (uint32_t)size;
    }
    return value;
}

glass_value glass_value_hex(glass_findings *findings, const uint8_t *data, size_t len)
{
    return keep(findings, GLASS_VALUE_HEX, data, len);
}

glass_value glass_value_chars(glass_findings *findings, glass_slice text)
{
    return keep(findings, GLASS_VALUE_CHARS, text.at, text.len);
}

void glass_judge(glass_findings *findings, glass_check_id id, bool good, glass_value observed, glass_value expected)
{
    if (findings->outcomes[id] == GLASS_OUTCOME_FAIL) {
        return;
    }
    findings->outcomes[id] = good ? GLASS_OUTCOME_PASS : GLASS_OUTCOME_FAIL;
    findings->observed[id] = observed;
    findings->expected[id] = expected;
}

void glass_judge_not_applicable(glass_findings *findings, glass_check_id id)
{
    if (findings->outcomes[id] == GLASS_OUTCOME_NOT_REACHED) {
        findings->outcomes[id] = GLASS_OUTCOME_NOT_APPLICABLE;
    }
}

void glass_judge_window(glass_findings *findings, glass_check_id not_yet_valid, glass_check_id expired, int64_t from, int64_t until, int64_t at)
{
    glass_judge(findings, not_yet_valid, from <= at, glass_value_time(at), glass_value_since(from));
    glass_judge(findings, expired, at < until, glass_value_time(at), glass_value_before(until));
}
