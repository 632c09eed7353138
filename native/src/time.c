#include <stdio.h>

#include "internal.h"
#include "parse.h"

/* Days from 1970-01-01 to the given day, by the era arithmetic of the Gregorian calendar (400 years = 146,097 days). */
static int64_t days_from_civil(unsigned year, unsigned month, unsigned day)
{
    int64_t y = (int64_t)year - (month <= 2 ? 1 : 0);
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t year_of_era = y - era * 400;
    int64_t shifted = ((int64_t)month + 9) % 12;
    int64_t day_of_year = (153 * shifted + 2) / 5 + (int64_t)day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

static unsigned days_in_month(unsigned year, unsigned month)
{
    static const uint8_t days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && leap ? 1U : 0U);
}

glass_status glass_time_from_civil(int64_t *out, unsigned year, unsigned month, unsigned day, unsigned hour, unsigned minute, unsigned second)
{
    *out = 0;
    if (year > 9999 || month < 1 || month > 12 || day < 1 || hour > 23 || minute > 59 || second > 59) {
        return GLASS_ERR_FORMAT;
    }
    if (day > days_in_month(year, month)) {
        return GLASS_ERR_FORMAT;
    }
    *out = days_from_civil(year, month, day) * 86400 + (int64_t)hour * 3600 + (int64_t)minute * 60 + (int64_t)second;
    return GLASS_OK;
}

/* Decimal digits only; the caller has checked the length. */
GLASS_MUST_USE static glass_status digits(unsigned *out, const uint8_t *at, size_t count)
{
    unsigned value = 0;
    *out = 0;
    for (size_t i = 0; i < count; i++) {
        if (at[i] < '0' || at[i] > '9') {
            return GLASS_ERR_FORMAT;
        }
        value = value * 10 + (unsigned)(at[i] - '0');
    }
    *out = value;
    return GLASS_OK;
}

glass_status glass_time_from_iso(int64_t *out, glass_slice text)
{
    unsigned part[6];
    static const uint8_t start[6] = {0, 5, 8, 11, 14, 17};
    *out = 0;
    if (text.len != 20 || text.at[4] != '-' || text.at[7] != '-' || text.at[10] != 'T' || text.at[13] != ':' ||
        text.at[16] != ':' || text.at[19] != 'Z') {
        return GLASS_ERR_FORMAT;
    }
    for (size_t i = 0; i < 6; i++) {
        GLASS_TRY(digits(&part[i], text.at + start[i], i == 0 ? 4 : 2));
    }
    return glass_time_from_civil(out, part[0], part[1], part[2], part[3], part[4], part[5]);
}

glass_status glass_der_time(glass_cursor *cur, int64_t *out)
{
    unsigned part[6];
    glass_slice text = {NULL, 0};
    bool utc = glass_der_peek(cur, GLASS_DER_UTC_TIME);
    size_t year_digits = utc ? 2 : 4;
    *out = 0;
    GLASS_TRY(glass_der_slice(cur, utc ? GLASS_DER_UTC_TIME : GLASS_DER_GENERALIZED_TIME, &text));
    if (text.len != year_digits + 11 || text.at[text.len - 1] != 'Z') {
        return GLASS_ERR_FORMAT;
    }
    GLASS_TRY(digits(&part[0], text.at, year_digits));
    for (size_t i = 1; i < 6; i++) {
        GLASS_TRY(digits(&part[i], text.at + year_digits + 2 * (i - 1), 2));
    }
    if (utc) {
        part[0] += part[0] >= 50 ? 1900U : 2000U;
    } else if (part[0] < 2050) { /* RFC 5280 4.1.2.5: earlier dates must be UTCTime */
        return GLASS_ERR_FORMAT;
    }
    return glass_time_from_civil(out, part[0], part[1], part[2], part[3], part[4], part[5]);
}

void glass_time_to_iso(char out[21], int64_t time)
{
    static const int64_t year_zero = -62167219200;
    static const int64_t year_10000 = 253402300800;
    if (time < year_zero || time >= year_10000) {
        (void)snprintf(out, 21, "out of range");
        return;
    }
    int64_t days = (time - year_zero) / 86400;
    int64_t rest = (time - year_zero) % 86400;
    days += days_from_civil(0, 1, 1) + 719468; /* days since 0000-03-01 */
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t day_of_era = days - era * 146097;
    int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t shifted = (5 * day_of_year + 2) / 153;
    unsigned day = (unsigned)(day_of_year - (153 * shifted + 2) / 5 + 1);
    unsigned month = (unsigned)(shifted < 10 ? shifted + 3 : shifted - 9);
    unsigned year = (unsigned)(year_of_era + era * 400 + (month <= 2 ? 1 : 0));
    (void)snprintf(out, 21, "%04u-%02u-%02uT%02u:%02u:%02uZ", year % 10000, month % 100, day % 100,
                   (unsigned)(rest / 3600) % 100, (unsigned)(rest / 60 % 60), (unsigned)(rest % 60));
}
