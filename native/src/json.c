#include <string.h>

#include "internal.h"
#include "parse.h"

static const uint64_t JSON_MAX_UINT = (UINT64_C(1) << 53) - 1;

void glass_json_open(glass_json *json, const uint8_t *data, size_t len)
{
    json->cur = glass_cursor_of(data, len);
    json->depth = 0;
}

static void space(glass_json *json)
{
    while (glass_cursor_left(&json->cur) > 0) {
        uint8_t c = json->cur.at[0];
        if (c != ' ' && c != '\t' && c != '\n' && c != '\r') {
            return;
        }
        json->cur.at++;
    }
}

/* The next byte after white space, 0 at the end (0 is legal nowhere). */
static uint8_t peek(glass_json *json)
{
    space(json);
    return glass_cursor_left(&json->cur) > 0 ? json->cur.at[0] : 0;
}

GLASS_MUST_USE static glass_status expect(glass_json *json, uint8_t byte)
{
    if (peek(json) != byte) {
        return GLASS_ERR_FORMAT;
    }
    json->cur.at++;
    return GLASS_OK;
}

GLASS_MUST_USE static glass_status push(glass_json *json, bool object)
{
    if (json->depth == GLASS_JSON_MAX_DEPTH) {
        return GLASS_ERR_LIMIT;
    }
    json->frames[json->depth].count = 0;
    json->frames[json->depth].object = object;
    json->depth++;
    return GLASS_OK;
}

glass_status glass_json_object(glass_json *json)
{
    GLASS_TRY(expect(json, '{'));
    return push(json, true);
}

glass_status glass_json_array(glass_json *json)
{
    GLASS_TRY(expect(json, '['));
    return push(json, false);
}

/* Move to the next member of the innermost frame, which ends with `close`. */
GLASS_MUST_USE static glass_status member(glass_json *json, bool object, uint8_t close, bool *more)
{
    *more = false;
    if (json->depth == 0 || json->frames[json->depth - 1].object != object) {
        return GLASS_ERR_STATE;
    }
    if (peek(json) == close) {
        json->cur.at++;
        json->depth--;
        return GLASS_OK;
    }
    if (json->frames[json->depth - 1].count > 0) {
        GLASS_TRY(expect(json, ','));
    }
    json->frames[json->depth - 1].count++;
    *more = true;
    return GLASS_OK;
}

glass_status glass_json_element(glass_json *json, bool *more)
{
    return member(json, false, ']', more);
}

glass_status glass_json_key(glass_json *json, glass_slice *key, bool *more)
{
    *key = (glass_slice){NULL, 0};
    GLASS_TRY(member(json, true, '}', more));
    if (!*more) {
        return GLASS_OK;
    }
    glass_json_frame *frame = &json->frames[json->depth - 1];
    if (frame->count > GLASS_JSON_MAX_KEYS) {
        return GLASS_ERR_LIMIT;
    }
    GLASS_TRY(glass_json_string(json, key));
    for (size_t i = 0; i + 1 < frame->count; i++) {
        if (glass_slice_equal(frame->keys[i], *key)) { /* readers differ in which of the two they take */
            return GLASS_ERR_FORMAT;
        }
    }
    frame->keys[frame->count - 1] = *key;
    return expect(json, ':');
}

glass_status glass_json_string(glass_json *json, glass_slice *out)
{
    *out = (glass_slice){NULL, 0};
    GLASS_TRY(expect(json, '"'));
    const uint8_t *start = json->cur.at;
    while (json->cur.at < json->cur.end) {
        uint8_t c = json->cur.at[0];
        if (c == '"') {
            *out = (glass_slice){start, (size_t)(json->cur.at - start)};
            json->cur.at++;
            return GLASS_OK;
        }
        if (c < 0x20 || c > 0x7e || c == '\\') { /* Intel's documents hold plain ASCII; an escape would be a second spelling */
            return GLASS_ERR_FORMAT;
        }
        json->cur.at++;
    }
    return GLASS_ERR_TRUNCATED;
}

glass_status glass_json_uint(glass_json *json, uint64_t max, uint64_t *out)
{
    uint64_t value = 0;
    size_t count = 0;
    *out = 0;
    (void)peek(json);
    while (json->cur.at < json->cur.end && json->cur.at[0] >= '0' && json->cur.at[0] <= '9') {
        value = value * 10 + (uint64_t)(json->cur.at[0] - '0');
        count++;
        if (value > JSON_MAX_UINT || (count > 1 && value < 10)) { /* too large, or a leading zero */
            return GLASS_ERR_FORMAT;
        }
        json->cur.at++;
    }
    uint8_t next = json->cur.at < json->cur.end ? json->cur.at[0] : 0;
    if (count == 0 || value > max || next == '.' || next == 'e' || next == 'E') {
        return GLASS_ERR_FORMAT;
    }
    *out = value;
    return GLASS_OK;
}

glass_status glass_json_hex(glass_json *json, uint8_t *out, size_t len)
{
    glass_slice digits;
    memset(out, 0, len);
    GLASS_TRY(glass_json_string(json, &digits));
    return glass_hex_decode(out, len, digits);
}

glass_status glass_json_time(glass_json *json, int64_t *out)
{
    glass_slice text;
    *out = 0;
    GLASS_TRY(glass_json_string(json, &text));
    return glass_time_from_iso(out, text);
}

GLASS_MUST_USE static glass_status literal(glass_json *json)
{
    static const char *const words[3] = {"true", "false", "null"};
    for (size_t i = 0; i < 3; i++) {
        size_t len = strlen(words[i]);
        if (glass_cursor_left(&json->cur) >= len && memcmp(json->cur.at, words[i], len) == 0) {
            json->cur.at += len;
            return GLASS_OK;
        }
    }
    return GLASS_ERR_FORMAT;
}

/* One value that is not an object or array. */
GLASS_MUST_USE static glass_status skip_scalar(glass_json *json, uint8_t first)
{
    glass_slice text;
    uint64_t number = 0;
    if (first == '"') {
        return glass_json_string(json, &text);
    }
    if (first >= '0' && first <= '9') {
        return glass_json_uint(json, JSON_MAX_UINT, &number);
    }
    return literal(json);
}

glass_status glass_json_skip(glass_json *json)
{
    size_t floor = json->depth;
    do {
        uint8_t first = peek(json);
        if (first == '{') {
            GLASS_TRY(glass_json_object(json));
        } else if (first == '[') {
            GLASS_TRY(glass_json_array(json));
        } else {
            GLASS_TRY(skip_scalar(json, first));
        }
        bool more = false;
        while (json->depth > floor && !more) { /* stand before the next value, or leave the frames that end here */
            glass_slice key;
            if (json->frames[json->depth - 1].object) {
                GLASS_TRY(glass_json_key(json, &key, &more));
            } else {
                GLASS_TRY(glass_json_element(json, &more));
            }
        }
    } while (json->depth > floor);
    return GLASS_OK;
}

glass_status glass_json_outline(glass_json *json, glass_slice *out)
{
    size_t open = 0;
    *out = (glass_slice){NULL, 0};
    if (peek(json) != '{') {
        return GLASS_ERR_FORMAT;
    }
    const uint8_t *start = json->cur.at;
    const uint8_t *at = start;
    do {
        if (*at == '{') {
            open++;
        } else if (*at == '}') {
            open--;
        } else if (*at == '"') { /* no escapes: the next quote ends it */
            at = memchr(at + 1, '"', (size_t)(json->cur.end - at - 1));
            if (at == NULL) {
                return GLASS_ERR_TRUNCATED;
            }
        }
        at++;
    } while (open > 0 && at < json->cur.end);
    if (open > 0) {
        return GLASS_ERR_TRUNCATED;
    }
    *out = (glass_slice){start, (size_t)(at - start)};
    json->cur.at = at;
    return GLASS_OK;
}

glass_status glass_json_span(glass_json *json, glass_slice *out)
{
    *out = (glass_slice){NULL, 0};
    (void)peek(json);
    const uint8_t *start = json->cur.at;
    GLASS_TRY(glass_json_skip(json));
    *out = (glass_slice){start, (size_t)(json->cur.at - start)};
    return GLASS_OK;
}

glass_status glass_json_close(glass_json *json)
{
    space(json);
    return json->depth == 0 && glass_cursor_left(&json->cur) == 0 ? GLASS_OK : GLASS_ERR_FORMAT;
}
