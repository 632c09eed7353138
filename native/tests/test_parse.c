/* The readers: what must be accepted is, and each way of being not exact is refused. */
#include <string.h>

#include "check.h"
#include "internal.h"
#include "parse.h"
#include "x509.h"

static void der_is(glass_status expected, const char *hex)
{
    uint8_t data[64];
    size_t len = strlen(hex) / 2;
    CHECK_STATUS(GLASS_OK, glass_hex_decode(data, len, (glass_slice){(const uint8_t *)hex, 2 * len}));
    glass_status got = glass_der_check(data, len);
    if ((expected == GLASS_OK) != (got == GLASS_OK)) {
        fprintf(stderr, "%s gave %s\n", hex, glass_status_name(got));
        exit(1);
    }
}

static void test_der(void)
{
    der_is(GLASS_OK, "3000");
    der_is(GLASS_OK, "0101ff");
    der_is(GLASS_OK, "020100");
    der_is(GLASS_OK, "02020080");
    der_is(GLASS_OK, "3006020101020102");
    der_is(GLASS_OK, "a003020101");
    der_is(GLASS_OK, "800101");
    der_is(GLASS_OK, "03020106");
    static const char *const bad[] = {
        "",             /* nothing */
        "30",           /* no length */
        "3080020101",   /* indefinite */
        "308100",       /* long form for 0 */
        "30817f",       /* long form for 127 */
        "3003020101ff", /* byte after the element */
        "3004020101",   /* content ends early */
        "3003020201",   /* inner element longer than the outer */
        "300302",       /* header cut by the outer */
        "30020204020202020202", /* inner header reaches over the end of the outer */
        "010101",       /* BOOLEAN must be 00 or ff */
        "0100",         /* BOOLEAN without content */
        "0200",         /* INTEGER without content */
        "02020001",     /* INTEGER not minimal */
        "0202ff80",     /* negative INTEGER not minimal */
        "0a020001",     /* ENUMERATED not minimal */
        "0501ff",       /* NULL with content */
        "0600",         /* OID without content */
        "06028001",     /* OID arc not minimal */
        "060181",       /* OID ends inside an arc */
        "0300",         /* BIT STRING without its first byte */
        "030108",       /* more than 7 unused bits */
        "03020101",     /* an unused bit is set */
        "030107",       /* unused bits of nothing */
        "1f8101",       /* tag of more than one byte */
        "2403040101",   /* constructed OCTET STRING */
        "410101",       /* application class */
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        der_is(GLASS_ERR_FORMAT, bad[i]);
    }
}

static void test_der_depth(void)
{
    static uint8_t deep[200000];
    for (size_t depth = 1; depth <= 100; depth++) { /* short form all the way: at most 62 levels, enough to pass the cap */
        size_t len = 0;
        for (size_t i = 0; i < depth && i < 60; i++) {
            deep[len] = 0x30;
            deep[len + 1] = (uint8_t)(2 * ((depth < 60 ? depth : 60) - i - 1));
            len += 2;
        }
        glass_status expected = depth <= GLASS_DER_MAX_DEPTH ? GLASS_OK : GLASS_ERR_LIMIT;
        CHECK_STATUS(expected, glass_der_check(deep, len));
    }
    memset(deep, 0x30, sizeof deep); /* 100,000 openings: refused at once, without recursion */
    CHECK(glass_der_check(deep, sizeof deep) != GLASS_OK);
}

static void test_signature(void)
{
    uint8_t raw[64];
    static const uint8_t good[] = {0x30, 0x07, 0x02, 0x02, 0x00, 0x80, 0x02, 0x01, 0x01};
    static const uint8_t tail[] = {0x30, 0x07, 0x02, 0x02, 0x00, 0x80, 0x02, 0x01, 0x01, 0x00};
    static const uint8_t negative[] = {0x30, 0x06, 0x02, 0x01, 0x80, 0x02, 0x01, 0x01};
    static const uint8_t third[] = {0x30, 0x09, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01};
    CHECK_STATUS(GLASS_OK, glass_der_signature(raw, good, sizeof good));
    CHECK(raw[31] == 0x80 && raw[63] == 1 && raw[30] == 0);
    CHECK(glass_der_signature(raw, tail, sizeof tail) != GLASS_OK);
    CHECK(glass_der_signature(raw, negative, sizeof negative) != GLASS_OK);
    CHECK(glass_der_signature(raw, third, sizeof third) != GLASS_OK);
}

static glass_status json_skip_all(const char *text)
{
    glass_json json;
    glass_json_open(&json, (const uint8_t *)text, strlen(text));
    GLASS_TRY(glass_json_skip(&json));
    return glass_json_close(&json);
}

static void test_json(void)
{
    static const char *const good[] = {
        "{}", "[]", "0", "12", "\"a b\"", "true", " {\"a\" : [ 1 , {\"b\":\"c\"} ] }\n", "{\"a\":{\"a\":1},\"b\":{\"a\":1}}",
        "[[[[[[[[1]]]]]]]]", "9007199254740991",
    };
    static const char *const bad[] = {
        "", " ", "{", "}", "[", "[1", "[1,]", "[,1]", "[1 2]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "{'a':1}",
        "{\"a\":1}{}", "{} x", "01", "00", "-0", "-1", "--1", "+1", "1.0", "1e3", "1E3", "-1.5", ".5", "NaN", "Infinity",
        "tru", "True", "nul", "\"a", "\"\\u0041\"", "\"\\n\"", "\"\t\"", "\"\x7f\"", "\"\xc3\xa9\"", "\xef\xbb\xbf{}",
        "{\"a\":1,\"a\":1}", "{\"a\":1,\"b\":2,\"a\":3}", "[{\"x\":1,\"x\":2}]", "9007199254740992", "99999999999999999999999",
        "[[[[[[[[[1]]]]]]]]]", "{\"a\":1]", "[1}", "// c\n1", "\v1",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        CHECK_STATUS(GLASS_OK, json_skip_all(good[i]));
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (json_skip_all(bad[i]) == GLASS_OK) {
            fprintf(stderr, "accepted: %s\n", bad[i]);
            exit(1);
        }
    }
    static char deep[200001];
    memset(deep, '[', 200000);
    CHECK_STATUS(GLASS_ERR_LIMIT, json_skip_all(deep));
}

static void test_json_span(void)
{
    static const char text[] = "{\"x\": {\"k\" : [1, 2]} , \"y\":1}";
    glass_json json;
    glass_slice key;
    glass_slice span;
    bool more = false;
    glass_json_open(&json, (const uint8_t *)text, strlen(text));
    CHECK_STATUS(GLASS_OK, glass_json_object(&json));
    CHECK_STATUS(GLASS_OK, glass_json_key(&json, &key, &more));
    CHECK(more && glass_slice_is(key, "x"));
    CHECK_STATUS(GLASS_OK, glass_json_span(&json, &span));
    CHECK(glass_slice_is(span, "{\"k\" : [1, 2]}")); /* verbatim, spaces and all */
}

static void time_is(bool good, const char *text, int64_t expected)
{
    int64_t out = -1;
    glass_status status = glass_time_from_iso(&out, (glass_slice){(const uint8_t *)text, strlen(text)});
    if ((status == GLASS_OK) != good || (good && out != expected)) {
        fprintf(stderr, "%s gave %lld\n", text, (long long)out);
        exit(1);
    }
    if (good) {
        char back[21];
        glass_time_to_iso(back, out);
        CHECK(strcmp(back, text) == 0);
    }
}

static void test_time(void)
{
    time_is(true, "1970-01-01T00:00:00Z", 0);
    time_is(true, "1969-12-31T23:59:59Z", -1);
    time_is(true, "2000-02-29T00:00:00Z", 951782400);
    time_is(true, "2038-01-19T03:14:08Z", 2147483648);
    time_is(true, "2050-01-02T00:00:00Z", 2524694400);
    time_is(true, "9999-12-31T23:59:59Z", 253402300799);
    time_is(true, "0000-01-01T00:00:00Z", -62167219200);
    static const char *const bad[] = {
        "", "2025-06-19", "2025-06-19T10:56:11", "2025-06-19 10:56:11Z", "2025-06-19T10:56:11+00:00", "2025-06-19T10:56:11z",
        "2025-02-29T00:00:00Z", "1900-02-29T00:00:00Z", "2025-13-01T00:00:00Z", "2025-00-01T00:00:00Z", "2025-01-00T00:00:00Z",
        "2025-04-31T00:00:00Z", "2025-01-01T24:00:00Z", "2025-01-01T00:60:00Z", "2025-01-01T00:00:60Z", "+025-01-01T00:00:00Z",
        "2025-W25-4T00:00:00Z", "20250619T105611.0000Z", " 025-01-01T00:00:00Z", "2025-06-19T10:56:11.0Z",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        time_is(false, bad[i], 0);
    }
}

static void der_time_is(bool good, uint8_t tag, const char *text, int64_t expected)
{
    uint8_t der[40] = {tag, (uint8_t)strlen(text)};
    int64_t out = 0;
    memcpy(der + 2, text, strlen(text));
    glass_cursor cur = glass_cursor_of(der, 2 + strlen(text));
    glass_status status = glass_der_time(&cur, &out);
    CHECK((status == GLASS_OK) == good);
    CHECK(!good || out == expected);
}

static void test_der_time(void)
{
    der_time_is(true, GLASS_DER_UTC_TIME, "491231235959Z", 2524607999);
    der_time_is(true, GLASS_DER_UTC_TIME, "500101000000Z", -631152000);
    der_time_is(true, GLASS_DER_GENERALIZED_TIME, "20500101000000Z", 2524608000);
    der_time_is(true, GLASS_DER_GENERALIZED_TIME, "99991231235959Z", 253402300799);
    der_time_is(false, GLASS_DER_GENERALIZED_TIME, "20491231235959Z", 0); /* must be UTCTime */
    der_time_is(false, GLASS_DER_UTC_TIME, "4912312359Z", 0);
    der_time_is(false, GLASS_DER_UTC_TIME, "491231235959+0000", 0);
    der_time_is(false, GLASS_DER_GENERALIZED_TIME, "20500101000000.5Z", 0);
    der_time_is(false, GLASS_DER_GENERALIZED_TIME, "20500101000000", 0);
    der_time_is(false, GLASS_DER_OCTET_STRING, "491231235959Z", 0);
}

static glass_status pem(const char *text, size_t *len)
{
    uint8_t out[200];
    glass_cursor cur = glass_cursor_of((const uint8_t *)text, strlen(text));
    GLASS_TRY(glass_pem_block(&cur, "CERTIFICATE", out, sizeof out, len));
    return glass_cursor_left(&cur) == 0 ? GLASS_OK : GLASS_ERR_FORMAT;
}

#define BEGIN "-----BEGIN CERTIFICATE-----\n"
#define END "-----END CERTIFICATE-----"
#define FULL "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2\n"

static void test_pem(void)
{
    size_t len = 0;
    CHECK_STATUS(GLASS_OK, pem(BEGIN "QUJD\n" END "\n", &len));
    CHECK(len == 3);
    CHECK_STATUS(GLASS_OK, pem(BEGIN FULL "QQ==\n" END, &len));
    CHECK(len == 49);
    static const char *const bad[] = {
        "", "x" BEGIN "QUJD\n" END, BEGIN END, BEGIN "\n" END, BEGIN "QUJD" END, BEGIN "QUJD\r\n" END, BEGIN " QUJD\n" END,
        BEGIN "QUJ\n" END, BEGIN "QUJDR\n" END, BEGIN "QR==\n" END, BEGIN "QUJ=QUJD\n" END, BEGIN "Q===\n" END, BEGIN "=QQQ\n" END,
        BEGIN "QQ==\nQUJD\n" END, BEGIN "QUJD\nQUJD\n" END, BEGIN FULL FULL FULL FULL FULL END, BEGIN "QU-D\n" END,
        BEGIN "QUJD\n" END "\n\n", BEGIN "QUJD\n" END " ", BEGIN "QUJD\n-----END CERT-----", BEGIN "QUJD\n", BEGIN "QUJD\n-",
        "-----BEGIN X509 CRL-----\nQUJD\n" END, "-----BEGIN CERTIFICATE----- \nQUJD\n" END,
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (pem(bad[i], &len) == GLASS_OK) {
            fprintf(stderr, "accepted PEM %zu\n", i);
            exit(1);
        }
    }
}

int main(void)
{
    test_der();
    test_der_depth();
    test_signature();
    test_json();
    test_json_span();
    test_time();
    test_der_time();
    test_pem();
    puts("parse ok");
    return 0;
}
