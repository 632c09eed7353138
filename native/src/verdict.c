#include "verdict.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define NAME_OF(identifier, name) name,
static const char *const NAMES[GLASS_CHECK_COUNT] = {GLASS_CHECKS(NAME_OF)};
#undef NAME_OF

const char *glass_check_name(uint32_t index)
{
    return index < GLASS_CHECK_COUNT ? NAMES[index] : NULL;
}

uint32_t glass_check_count(void)
{
    return GLASS_CHECK_COUNT;
}

void glass_verdict_free(glass_verdict *verdict)
{
    if (verdict == NULL) {
        return;
    }
    free(verdict->advisory);
    free(verdict);
}

int glass_verdict_genuine(const glass_verdict *verdict)
{
    if (verdict == NULL) {
        return 0;
    }
    size_t passed = 0;
    for (size_t i = 0; i < GLASS_CHECK_COUNT; i++) {
        uint8_t outcome = verdict->findings.outcomes[i];
        if (outcome != GLASS_OUTCOME_PASS && outcome != GLASS_OUTCOME_NOT_APPLICABLE) {
            return 0;
        }
        passed += outcome == GLASS_OUTCOME_PASS ? 1U : 0U;
    }
    return passed > 0 ? 1 : 0;
}

const uint8_t *glass_verdict_outcomes(const glass_verdict *verdict)
{
    return verdict->findings.outcomes;
}

const glass_facts *glass_verdict_facts(const glass_verdict *verdict)
{
    return &verdict->facts;
}

/* Text that grows in a buffer of the caller and is cut at its end. */
typedef struct writer {
    char *out;
    size_t room; /* without the final NUL */
    size_t used;
} writer;

static void put(writer *w, const char *text, size_t len)
{
    for (size_t i = 0; i < len && w->used < w->room; i++) {
        w->out[w->used] = text[i];
        w->used++;
    }
    w->out[w->used] = 0;
}

static void put_words(writer *w, const char *text)
{
    put(w, text, strlen(text));
}

static void put_hex(writer *w, const uint8_t *data, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < len; i++) {
        const char pair[2] = {digits[data[i] >> 4], digits[data[i] & 15]};
        put(w, pair, 2);
    }
}

/* Characters of the input: what is not printable ASCII, and the backslash, as \xNN. */
static void put_escaped(writer *w, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (data[i] >= 0x20 && data[i] <= 0x7e && data[i] != '\\') {
            const char one[1] = {(char)data[i]};
            put(w, one, 1);
        } else {
            put(w, "\\x", 2);
            put_hex(w, &data[i], 1);
        }
    }
}

static void put_value(writer *w, const glass_findings *findings, const glass_value *value)
{
    char text[32];
    switch ((glass_value_kind)value->kind) {
    case GLASS_VALUE_NONE:
        break;
    case GLASS_VALUE_TEXT:
        put_words(w, value->as.text);
        break;
    case GLASS_VALUE_UINT:
        (void)snprintf(text, sizeof text, "%llu", (unsigned long long)value->as.number);
        put_words(w, text);
        break;
    case GLASS_VALUE_TIME:
    case GLASS_VALUE_BEFORE:
    case GLASS_VALUE_SINCE:
        glass_time_to_iso(text, value->as.time);
        put_words(w, value->kind == GLASS_VALUE_BEFORE ? "before " : "");
        put_words(w, text);
        put_words(w, value->kind == GLASS_VALUE_SINCE ? " or later" : "");
        break;
    case GLASS_VALUE_HEX:
        put_hex(w, findings->arena + value->as.offset, value->len);
        break;
    case GLASS_VALUE_CHARS:
        put_escaped(w, findings->arena + value->as.offset, value->len);
        break;
    }
}

glass_status glass_verdict_text(const glass_verdict *verdict, uint32_t index, char *observed, size_t observed_capacity, char *expected, size_t expected_capacity)
{
    if (verdict == NULL || index >= GLASS_CHECK_COUNT || observed == NULL || expected == NULL || observed_capacity == 0 ||
        expected_capacity == 0) {
        return GLASS_ERR_ARGUMENT;
    }
    writer first = {observed, observed_capacity - 1, 0};
    writer second = {expected, expected_capacity - 1, 0};
    observed[0] = 0;
    expected[0] = 0;
    put_value(&first, &verdict->findings, &verdict->findings.observed[index]);
    put_value(&second, &verdict->findings, &verdict->findings.expected[index]);
    return GLASS_OK;
}

static const char *advisory_at(const glass_verdict *verdict, uint32_t index)
{
    const char *at = (const char *)verdict->advisory;
    for (uint32_t i = 0; i < index; i++) {
        at += strlen(at) + 1;
    }
    return at;
}

static bool has_advisory(const glass_verdict *verdict, glass_slice text)
{
    const char *at = (const char *)verdict->advisory;
    for (uint32_t i = 0; i < verdict->facts.advisory_count; i++) {
        if (glass_slice_is(text, at)) {
            return true;
        }
        at += strlen(at) + 1;
    }
    return false;
}

glass_status glass_verdict_add_advisories(glass_verdict *verdict, const glass_levels *levels, const glass_tcb_level *level)
{
    size_t more = 0;
    for (uint32_t i = 0; i < level->advisory_count; i++) {
        more += levels->advisory[level->first_advisory + i].len + 1;
    }
    if (more == 0) {
        return GLASS_OK;
    }
    uint8_t *bigger = realloc(verdict->advisory, verdict->advisory_used + more);
    if (bigger == NULL) {
        return GLASS_ERR_MEMORY;
    }
    verdict->advisory = bigger;
    for (uint32_t i = 0; i < level->advisory_count; i++) {
        glass_slice text = levels->advisory[level->first_advisory + i];
        if (!has_advisory(verdict, text)) {
            memcpy(verdict->advisory + verdict->advisory_used, text.at, text.len);
            verdict->advisory[verdict->advisory_used + text.len] = 0;
            verdict->advisory_used += text.len + 1;
            verdict->facts.advisory_count++;
        }
    }
    return GLASS_OK;
}

glass_status glass_verdict_advisory(const glass_verdict *verdict, uint32_t index, char *out, size_t capacity)
{
    if (verdict == NULL || out == NULL || capacity == 0 || index >= verdict->facts.advisory_count) {
        return GLASS_ERR_ARGUMENT;
    }
    writer w = {out, capacity - 1, 0};
    const char *text = advisory_at(verdict, index);
    out[0] = 0;
    put_escaped(&w, (const uint8_t *)text, strlen(text));
    return GLASS_OK;
}
