#include <string.h>

#include "internal.h"
#include "parse.h"

/* Tag and length of the next element; `cur` moves behind the header and `*len` bytes are known to follow. */
GLASS_MUST_USE static glass_status header(glass_cursor *cur, uint8_t *tag, size_t *len)
{
    const uint8_t *bytes = NULL;
    *tag = 0;
    *len = 0;
    GLASS_TRY(glass_cursor_take(cur, &bytes, 2));
    if ((bytes[0] & 0x1f) == 0x1f) { /* tags of more than one byte occur nowhere here */
        return GLASS_ERR_FORMAT;
    }
    *tag = bytes[0];
    size_t value = bytes[1];
    if (value >= 0x80) {
        size_t count = value - 0x80;
        const uint8_t *more = NULL;
        if (count < 1 || count > 3) { /* indefinite, or 16 MiB and above */
            return GLASS_ERR_FORMAT;
        }
        GLASS_TRY(glass_cursor_take(cur, &more, count));
        value = 0;
        for (size_t i = 0; i < count; i++) {
            value = value << 8 | more[i];
        }
        if (value < 0x80 || (count > 1 && value >> (8 * (count - 1)) == 0)) { /* a shorter form exists */
            return GLASS_ERR_FORMAT;
        }
    }
    if (value > glass_cursor_left(cur)) {
        return GLASS_ERR_TRUNCATED;
    }
    *len = value;
    return GLASS_OK;
}

static bool minimal_integer(const uint8_t *at, size_t len)
{
    if (len == 0) {
        return false;
    }
    return len == 1 || !((at[0] == 0x00 && at[1] < 0x80) || (at[0] == 0xff && at[1] >= 0x80));
}

static bool good_oid(const uint8_t *at, size_t len)
{
    bool first = true; /* of an arc */
    for (size_t i = 0; i < len; i++) {
        if (first && at[i] == 0x80) {
            return false;
        }
        first = at[i] < 0x80;
    }
    return len != 0 && first;
}

static bool good_bits(const uint8_t *at, size_t len)
{
    if (len == 0 || at[0] > 7 || (len == 1 && at[0] != 0)) {
        return false;
    }
    return len == 1 || (at[len - 1] & ((1U << at[0]) - 1U)) == 0;
}

static bool good_primitive(uint8_t tag, const uint8_t *at, size_t len)
{
    switch (tag) {
    case GLASS_DER_BOOLEAN:
        return len == 1 && (at[0] == 0x00 || at[0] == 0xff);
    case GLASS_DER_INTEGER:
    case GLASS_DER_ENUMERATED:
        return minimal_integer(at, len);
    case GLASS_DER_BIT_STRING:
        return good_bits(at, len);
    case GLASS_DER_NULL:
        return len == 0;
    case GLASS_DER_OID:
        return good_oid(at, len);
    case GLASS_DER_OCTET_STRING:
    case GLASS_DER_UTF8_STRING:
    case GLASS_DER_PRINTABLE_STRING:
    case GLASS_DER_UTC_TIME:
    case GLASS_DER_GENERALIZED_TIME:
        return true;
    default:
        return (tag & 0xe0) == 0x80; /* primitive and context-specific; nothing else is expected */
    }
}

glass_status glass_der_check(const uint8_t *data, size_t len)
{
    glass_cursor cur = glass_cursor_of(data, len);
    const uint8_t *ends[GLASS_DER_MAX_DEPTH];
    size_t depth = 0;
    do {
        uint8_t tag = 0;
        size_t size = 0;
        GLASS_TRY(header(&cur, &tag, &size));
        if (depth > 0 && (cur.at > ends[depth - 1] || size > (size_t)(ends[depth - 1] - cur.at))) {
            return GLASS_ERR_FORMAT;
        }
        if (tag == GLASS_DER_SEQUENCE || tag == GLASS_DER_SET || (tag & 0xe0) == 0xa0) {
            if (depth == GLASS_DER_MAX_DEPTH) {
                return GLASS_ERR_LIMIT;
            }
            ends[depth] = cur.at + size;
            depth++;
        } else if (good_primitive(tag, cur.at, size)) {
            cur.at += size;
        } else {
            return GLASS_ERR_FORMAT;
        }
        while (depth > 0 && cur.at == ends[depth - 1]) {
            depth--;
        }
    } while (depth > 0);
    return glass_cursor_left(&cur) == 0 ? GLASS_OK : GLASS_ERR_FORMAT;
}

glass_status glass_der_next(glass_cursor *cur, uint8_t tag, glass_cursor *content)
{
    uint8_t seen = 0;
    size_t len = 0;
    *content = glass_cursor_of(NULL, 0);
    GLASS_TRY(header(cur, &seen, &len));
    if (seen != tag) {
        return GLASS_ERR_FORMAT;
    }
    *content = glass_cursor_of(cur->at, len);
    cur->at += len;
    return GLASS_OK;
}

glass_status glass_der_slice(glass_cursor *cur, uint8_t tag, glass_slice *content)
{
    glass_cursor inner;
    *content = (glass_slice){NULL, 0};
    GLASS_TRY(glass_der_next(cur, tag, &inner));
    *content = (glass_slice){inner.at, glass_cursor_left(&inner)};
    return GLASS_OK;
}

glass_status glass_der_raw(glass_cursor *cur, uint8_t tag, glass_slice *element)
{
    const uint8_t *start = cur->at;
    glass_cursor inner;
    *element = (glass_slice){NULL, 0};
    GLASS_TRY(glass_der_next(cur, tag, &inner));
    *element = (glass_slice){start, (size_t)(cur->at - start)};
    return GLASS_OK;
}

bool glass_der_peek(const glass_cursor *cur, uint8_t tag)
{
    return glass_cursor_left(cur) > 0 && cur->at[0] == tag;
}

bool glass_der_done(const glass_cursor *cur)
{
    return glass_cursor_left(cur) == 0;
}

glass_status glass_der_unsigned(glass_cursor *cur, glass_slice *magnitude)
{
    glass_slice content;
    *magnitude = (glass_slice){NULL, 0};
    GLASS_TRY(glass_der_slice(cur, GLASS_DER_INTEGER, &content));
    if (!minimal_integer(content.at, content.len) || content.at[0] >= 0x80) {
        return GLASS_ERR_FORMAT;
    }
    size_t skip = content.len > 1 && content.at[0] == 0 ? 1 : 0;
    *magnitude = (glass_slice){content.at + skip, content.len - skip};
    return GLASS_OK;
}

glass_status glass_der_small(glass_cursor *cur, uint8_t tag, uint32_t max, uint32_t *out)
{
    glass_slice content;
    uint32_t value = 0;
    *out = 0;
    GLASS_TRY(glass_der_slice(cur, tag, &content));
    if (!minimal_integer(content.at, content.len) || content.at[0] >= 0x80 || content.len > 4) {
        return GLASS_ERR_FORMAT;
    }
    for (size_t i = 0; i < content.len; i++) {
        value = value << 8 | content.at[i];
    }
    if (value > max) {
        return GLASS_ERR_FORMAT;
    }
    *out = value;
    return GLASS_OK;
}

glass_status glass_der_boolean(glass_cursor *cur, bool *out)
{
    glass_slice content;
    *out = false;
    GLASS_TRY(glass_der_slice(cur, GLASS_DER_BOOLEAN, &content));
    if (content.len != 1 || (content.at[0] != 0x00 && content.at[0] != 0xff)) {
        return GLASS_ERR_FORMAT;
    }
    *out = content.at[0] == 0xff;
    return GLASS_OK;
}

glass_status glass_der_signature(uint8_t raw[64], const uint8_t *der, size_t len)
{
    glass_cursor cur = glass_cursor_of(der, len);
    glass_cursor pair;
    memset(raw, 0, 64);
    GLASS_TRY(glass_der_next(&cur, GLASS_DER_SEQUENCE, &pair));
    for (size_t i = 0; i < 2; i++) {
        glass_slice number;
        GLASS_TRY(glass_der_unsigned(&pair, &number));
        if (number.len > 32) {
            return GLASS_ERR_FORMAT;
        }
        memcpy(raw + 32 * i + (32 - number.len), number.at, number.len);
    }
    return glass_der_done(&pair) && glass_der_done(&cur) ? GLASS_OK : GLASS_ERR_FORMAT;
}
