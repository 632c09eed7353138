#include <string.h>

#include "internal.h"
#include "parse.h"

enum { LINE = 64 };

static int base64_value(uint8_t c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Four digits to 1, 2 or 3 bytes; padding bits must be zero. Returns the number of bytes, 0 if the group is malformed. */
static size_t group(uint8_t out[3], const uint8_t in[4])
{
    size_t bytes = in[3] != '=' ? 3 : in[2] != '=' ? 2 : 1;
    uint32_t value = 0;
    for (size_t i = 0; i < 4; i++) {
        int digit = i <= bytes ? base64_value(in[i]) : 0;
        if (digit < 0) {
            return 0;
        }
        value = value << 6 | (uint32_t)digit;
    }
    if (bytes < 3 && (value & (bytes == 2 ? 0xffU : 0xffffU)) != 0) {
        return 0;
    }
    out[0] = (uint8_t)(value >> 16);
    out[1] = (uint8_t)(value >> 8);
    out[2] = (uint8_t)value;
    return bytes;
}

/* One line without its LF: a multiple of 4 digits; `*padded` tells that the data ends here. */
GLASS_MUST_USE static glass_status line(glass_slice text, uint8_t *out, size_t capacity, size_t *out_len, bool *padded)
{
    if (text.len == 0 || text.len > LINE || text.len % 4 != 0) {
        return GLASS_ERR_FORMAT;
    }
    for (size_t i = 0; i < text.len; i += 4) {
        uint8_t three[3];
        size_t bytes = *padded ? 0 : group(three, text.at + i);
        if (bytes == 0) {
            return GLASS_ERR_FORMAT;
        }
        if (bytes > capacity - *out_len) {
            return GLASS_ERR_LIMIT;
        }
        memcpy(out + *out_len, three, bytes);
        *out_len += bytes;
        *padded = bytes < 3;
    }
    return GLASS_OK;
}

/* The text exactly, then LF; at the very end of the input the LF may be absent if `last`. */
GLASS_MUST_USE static glass_status marker(glass_cursor *cur, const char *begin, const char *label, bool last)
{
    const char *parts[3] = {begin, label, "-----"};
    for (size_t i = 0; i < 3; i++) {
        const uint8_t *seen = NULL;
        size_t len = strlen(parts[i]);
        GLASS_TRY(glass_cursor_take(cur, &seen, len));
        if (memcmp(seen, parts[i], len) != 0) {
            return GLASS_ERR_FORMAT;
        }
    }
    if (last && glass_cursor_left(cur) == 0) {
        return GLASS_OK;
    }
    const uint8_t *feed = NULL;
    GLASS_TRY(glass_cursor_take(cur, &feed, 1));
    return feed[0] == '\n' ? GLASS_OK : GLASS_ERR_FORMAT;
}

glass_status glass_pem_block(glass_cursor *cur, const char *label, uint8_t *out, size_t capacity, size_t *out_len)
{
    bool padded = false;
    size_t previous = LINE; /* length of the line before: only the last one may be shorter */
    *out_len = 0;
    GLASS_TRY(marker(cur, "-----BEGIN ", label, false));
    for (;;) {
        const uint8_t *feed = memchr(cur->at, '\n', glass_cursor_left(cur));
        if (glass_cursor_left(cur) > 0 && cur->at[0] == '-') {
            break;
        }
        if (feed == NULL || previous != LINE) {
            return GLASS_ERR_FORMAT;
        }
        glass_slice text = {cur->at, (size_t)(feed - cur->at)};
        GLASS_TRY(line(text, out, capacity, out_len, &padded));
        previous = text.len;
        cur->at = feed + 1;
    }
    if (*out_len == 0) {
        return GLASS_ERR_FORMAT;
    }
    return marker(cur, "-----END ", label, true);
}
