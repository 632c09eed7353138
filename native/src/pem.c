#include <string.h>

#include "internal.h"
#include "parse.h"

enum { LINE = 64 };

/* Values of the digits from '+' to 'z'; 255: no digit. */
enum { FIRST_DIGIT = 43, DIGITS = 80, NO_DIGIT = 255 };
static const uint8_t VALUES[DIGITS] = {
    62, 255, 255, 255, 63, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 255,
    255, 255, 255, 255, 255, 255, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9,
    10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,
    255, 255, 255, 255, 255, 255, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35,
    36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51,
};

static uint32_t base64_value(uint8_t c)
{
    unsigned index = (unsigned)c - FIRST_DIGIT;
    return index < DIGITS ? VALUES[index] : NO_DIGIT;
}

/* Four digits to 1, 2 or 3 bytes; padding bits must be zero. Returns the number of bytes, 0 if the group is malformed. */
static size_t group(uint8_t out[3], const uint8_t in[4])
{
    size_t bytes = in[3] != '=' ? 3 : in[2] != '=' ? 2 : 1;
    uint32_t digit[4];
    for (size_t i = 0; i < 4; i++) {
        digit[i] = i <= bytes ? base64_value(in[i]) : 0;
    }
    if ((digit[0] | digit[1] | digit[2] | digit[3]) > 63) {
        return 0;
    }
    uint32_t value = digit[0] << 18 | digit[1] << 12 | digit[2] << 6 | digit[3];
    if (bytes < 3 && (value & (bytes == 2 ? 0xffU : 0xffffU)) != 0) {
        return 0;
    }
    out[0] = (uint8_t)(value >> 16);
    out[1] = (uint8_t)(value >> 8);
    out[2] = (uint8_t)value;
    return bytes;
}

/* A whole line of 64 digits without padding to 48 bytes: nearly all of a certificate. */
static bool whole_line(uint8_t out[48], const uint8_t *in)
{
    uint32_t bad = 0;
    for (size_t i = 0; i < LINE / 4; i++) {
        uint32_t a = base64_value(in[4 * i]);
        uint32_t b = base64_value(in[4 * i + 1]);
        uint32_t c = base64_value(in[4 * i + 2]);
        uint32_t d = base64_value(in[4 * i + 3]);
        bad |= a | b | c | d;
        out[3 * i] = (uint8_t)(a << 2 | b >> 4);
        out[3 * i + 1] = (uint8_t)(b << 4 | c >> 2);
        out[3 * i + 2] = (uint8_t)(c << 6 | d);
    }
    return bad < 64;
}

/* One line without its LF: a multiple of 4 digits; `*padded` tells that the data ends here. */
GLASS_MUST_USE static glass_status line(glass_slice text, uint8_t *out, size_t capacity, size_t *out_len, bool *padded)
{
    if (text.len == LINE && !*padded && capacity - *out_len >= 48 && whole_line(out + *out_len, text.at)) {
        *out_len += 48;
        return GLASS_OK;
    }
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
