#include "internal.h"
#include "parse.h"

glass_cursor glass_cursor_of(const uint8_t *data, size_t len)
{
    static const uint8_t nothing[1] = {0};
    glass_cursor cur = {nothing, nothing};
    if (data != NULL && len != 0) {
        cur.at = data;
        cur.end = data + len;
    }
    return cur;
}

glass_status glass_cursor_u16le(glass_cursor *cur, uint16_t *out)
{
    const uint8_t *bytes = NULL;
    *out = 0;
    GLASS_TRY(glass_cursor_take(cur, &bytes, 2));
    *out = (uint16_t)(bytes[0] | ((unsigned)bytes[1] << 8));
    return GLASS_OK;
}

glass_status glass_cursor_u32le(glass_cursor *cur, uint32_t *out)
{
    const uint8_t *bytes = NULL;
    *out = 0;
    GLASS_TRY(glass_cursor_take(cur, &bytes, 4));
    *out = bytes[0] | ((uint32_t)bytes[1] << 8) | ((uint32_t)bytes[2] << 16) | ((uint32_t)bytes[3] << 24);
    return GLASS_OK;
}

bool glass_all_zero(const uint8_t *data, size_t len)
{
    uint8_t any = 0;
    for (size_t i = 0; i < len; i++) {
        any = (uint8_t)(any | data[i]);
    }
    return any == 0;
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

glass_status glass_hex_decode(uint8_t *out, size_t out_len, glass_slice digits)
{
    if (digits.len / 2 != out_len || digits.len % 2 != 0) {
        return GLASS_ERR_FORMAT;
    }
    for (size_t i = 0; i < out_len; i++) {
        int high = hex_digit(digits.at[2 * i]);
        int low = hex_digit(digits.at[2 * i + 1]);
        if (high < 0 || low < 0) {
            return GLASS_ERR_FORMAT;
        }
        out[i] = (uint8_t)(high * 16 + low);
    }
    return GLASS_OK;
}
