/* The readers that every hostile byte goes through: bounded cursor, strict DER, strict JSON, exact PEM, calendar time.
 * Invariants: no reader looks past its end, recurses on input, or allocates from a length that the input names. */
#ifndef GLASS_PARSE_H
#define GLASS_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "glass_status.h"

typedef struct glass_slice {
    const uint8_t *at;
    size_t len;
} glass_slice;

typedef struct glass_cursor {
    const uint8_t *at;
    const uint8_t *end;
} glass_cursor;

glass_cursor glass_cursor_of(const uint8_t *data, size_t len);

static inline size_t glass_cursor_left(const glass_cursor *cur)
{
    return (size_t)(cur->end - cur->at);
}

/* glass_cursor_take sets `*out` to the next `len` bytes and moves on, or fails with GLASS_ERR_TRUNCATED and does not move. */
GLASS_MUST_USE static inline glass_status glass_cursor_take(glass_cursor *cur, const uint8_t **out, size_t len)
{
    *out = NULL;
    if (len > glass_cursor_left(cur)) {
        return GLASS_ERR_TRUNCATED;
    }
    *out = cur->at;
    cur->at += len;
    return GLASS_OK;
}

GLASS_MUST_USE glass_status glass_cursor_u16le(glass_cursor *cur, uint16_t *out);
GLASS_MUST_USE glass_status glass_cursor_u32le(glass_cursor *cur, uint32_t *out);

static inline bool glass_slice_equal(glass_slice a, glass_slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

/* glass_slice_is returns whether the slice is exactly the characters of `text`. */
static inline bool glass_slice_is(glass_slice slice, const char *text)
{
    size_t len = strlen(text);
    return slice.len == len && (len == 0 || memcmp(slice.at, text, len) == 0);
}

bool glass_all_zero(const uint8_t *data, size_t len);

/* DER: single-byte tags, definite minimal lengths below 16 MiB. */
enum {
    GLASS_DER_BOOLEAN = 0x01,
    GLASS_DER_INTEGER = 0x02,
    GLASS_DER_BIT_STRING = 0x03,
    GLASS_DER_OCTET_STRING = 0x04,
    GLASS_DER_NULL = 0x05,
    GLASS_DER_OID = 0x06,
    GLASS_DER_ENUMERATED = 0x0a,
    GLASS_DER_UTF8_STRING = 0x0c,
    GLASS_DER_PRINTABLE_STRING = 0x13,
    GLASS_DER_UTC_TIME = 0x17,
    GLASS_DER_GENERALIZED_TIME = 0x18,
    GLASS_DER_SEQUENCE = 0x30,
    GLASS_DER_SET = 0x31,
    GLASS_DER_CONTEXT_0 = 0xa0, /* constructed [0] */
    GLASS_DER_CONTEXT_3 = 0xa3,
    GLASS_DER_IMPLICIT_0 = 0x80, /* primitive [0] */
    GLASS_DER_MAX_DEPTH = 12
};

/* glass_der_check returns GLASS_OK if the `len` bytes are exactly one DER element, strict down to every primitive. */
GLASS_MUST_USE glass_status glass_der_check(const uint8_t *data, size_t len);
/* glass_der_next reads one element with `tag` and sets `*content` to a cursor over its content. */
GLASS_MUST_USE glass_status glass_der_next(glass_cursor *cur, uint8_t tag, glass_cursor *content);
/* glass_der_slice does the same but gives the content as a slice; glass_der_raw gives the whole element with its header. */
GLASS_MUST_USE glass_status glass_der_slice(glass_cursor *cur, uint8_t tag, glass_slice *content);
GLASS_MUST_USE glass_status glass_der_raw(glass_cursor *cur, uint8_t tag, glass_slice *element);
bool glass_der_peek(const glass_cursor *cur, uint8_t tag);
bool glass_der_done(const glass_cursor *cur);
/* glass_der_unsigned reads a non-negative INTEGER and gives its magnitude without a leading zero byte (zero: one byte 0). */
GLASS_MUST_USE glass_status glass_der_unsigned(glass_cursor *cur, glass_slice *magnitude);
/* glass_der_small reads a non-negative INTEGER or ENUMERATED (`tag`) of at most `max`. */
GLASS_MUST_USE glass_status glass_der_small(glass_cursor *cur, uint8_t tag, uint32_t max, uint32_t *out);
/* glass_der_boolean reads a BOOLEAN. */
GLASS_MUST_USE glass_status glass_der_boolean(glass_cursor *cur, bool *out);
/* glass_der_time reads UTCTime for 1950 to 2049 and GeneralizedTime from 2050 on, as RFC 5280 wants. */
GLASS_MUST_USE glass_status glass_der_time(glass_cursor *cur, int64_t *out);
/* glass_der_signature reads an ECDSA-Sig-Value into raw r || s. */
GLASS_MUST_USE glass_status glass_der_signature(uint8_t raw[64], const uint8_t *der, size_t len);

/* JSON pull reader: no tree, no escapes, printable ASCII strings, non-negative integers below 2^53, depth 8, no key twice. */
enum { GLASS_JSON_MAX_DEPTH = 8, GLASS_JSON_MAX_KEYS = 64 };

typedef struct glass_json_frame {
    size_t count; /* members read so far */
    bool object;
    glass_slice keys[GLASS_JSON_MAX_KEYS];
} glass_json_frame;

typedef struct glass_json {
    glass_cursor cur;
    size_t depth;
    glass_json_frame frames[GLASS_JSON_MAX_DEPTH];
} glass_json;

void glass_json_open(glass_json *json, const uint8_t *data, size_t len);
GLASS_MUST_USE glass_status glass_json_object(glass_json *json);
/* glass_json_key sets `*key` to the next key of the object that is open, or `*more` to false at its end. */
GLASS_MUST_USE glass_status glass_json_key(glass_json *json, glass_slice *key, bool *more);
GLASS_MUST_USE glass_status glass_json_array(glass_json *json);
/* glass_json_element moves to the next element of the array that is open, or sets `*more` to false at its end. */
GLASS_MUST_USE glass_status glass_json_element(glass_json *json, bool *more);
GLASS_MUST_USE glass_status glass_json_string(glass_json *json, glass_slice *out);
GLASS_MUST_USE glass_status glass_json_uint(glass_json *json, uint64_t max, uint64_t *out);
/* glass_json_hex reads a string of exactly 2 * `len` hexadecimal digits of either case. */
GLASS_MUST_USE glass_status glass_json_hex(glass_json *json, uint8_t *out, size_t len);
/* glass_json_time reads a string of the form YYYY-MM-DDThh:mm:ssZ. */
GLASS_MUST_USE glass_status glass_json_time(glass_json *json, int64_t *out);
GLASS_MUST_USE glass_status glass_json_skip(glass_json *json);
/* glass_json_span skips one value and sets `*out` to its exact bytes. */
GLASS_MUST_USE glass_status glass_json_span(glass_json *json, glass_slice *out);
/* glass_json_outline finds the end of an object by its braces and strings alone and sets `*out` to its bytes: for what is read
 * strictly afterwards, to its last byte. */
GLASS_MUST_USE glass_status glass_json_outline(glass_json *json, glass_slice *out);
/* glass_json_close succeeds if nothing but white space is left. */
GLASS_MUST_USE glass_status glass_json_close(glass_json *json);

/* Hexadecimal digits of either case, exactly 2 * `out_len` of them. */
GLASS_MUST_USE glass_status glass_hex_decode(uint8_t *out, size_t out_len, glass_slice digits);

/* PEM: one block "-----BEGIN `label`-----", lines of 64, LF, canonical base64. Moves `cur` behind the block and its LF,
 * which only the end of the input may replace. `*out_len` is set to the decoded size, at most `capacity`. */
GLASS_MUST_USE glass_status glass_pem_block(glass_cursor *cur, const char *label, uint8_t *out, size_t capacity, size_t *out_len);

/* Seconds since 1970 in the proleptic Gregorian calendar; calendar-valid input only, no leap second. */
GLASS_MUST_USE glass_status glass_time_from_civil(int64_t *out, unsigned year, unsigned month, unsigned day, unsigned hour, unsigned minute, unsigned second);
GLASS_MUST_USE glass_status glass_time_from_iso(int64_t *out, glass_slice text);
/* glass_time_to_iso writes YYYY-MM-DDThh:mm:ssZ and a NUL; times outside the years 0 to 9999 give "out of range". */
void glass_time_to_iso(char out[21], int64_t time);

#endif
