/* Numbers between bounds: texts of digits between the bounds' own, length by length. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/status.h"
#include "model/json_compile.h"

#define WHOLE_MAX INT64_C(9999999999999999) /* 16 digits */
/* Up to here a whole part and 6 digits behind the point are told apart by a double. */
#define FRACTION_WHOLE_MAX INT64_C(8999999999)
#define FRACTION_DIGITS 6

struct bounds { /* of whole numbers, both included; any int64_t is exact */
    long double low, high;
    bool is_low_open, is_high_open; /* the bound itself is out */
};

/* --- digits --- */

static uint32_t digit_range(struct json_compile *c, char first, char last)
{
    return rules_class(c->rules, &(struct code_range){(uint8_t)first, (uint8_t)last}, 1, false);
}

static bool is_all(const char *digits, int n, char digit)
{
    for (int i = 0; i < n; i++)
        if (digits[i] != digit)
            return false;
    return true;
}

/* Texts of n digits from low to high. */
static uint32_t same_length(struct json_compile *c, const char *low, const char *high, int n)
{
    static const char nines[] = "9999999999999999", zeros[] = "0000000000000000";
    struct grammar_rules *rules = c->rules;

    if (n == 0)
        return rules_empty(rules);
    if (is_all(low, n, '0') && is_all(high, n, '9'))
        return rules_repeat(rules, digit_range(c, '0', '9'), (uint32_t)n, (uint32_t)n);
    if (low[0] == high[0])
        return JSON_JOIN(c, digit_range(c, low[0], low[0]),
                         same_length(c, low + 1, high + 1, n - 1));
    char first = low[0], last = high[0];
    uint32_t all = UINT32_MAX;
    if (!is_all(low + 1, n - 1, '0')) {
        all = JSON_JOIN(c, digit_range(c, first, first), same_length(c, low + 1, nines, n - 1));
        first++;
    }
    if (!is_all(high + 1, n - 1, '9')) {
        uint32_t at_last =
            JSON_JOIN(c, digit_range(c, last, last), same_length(c, zeros, high + 1, n - 1));
        all = all == UINT32_MAX ? at_last : rules_choice(rules, all, at_last);
        last--;
    }
    if (first > last)
        return all;
    uint32_t between = JSON_JOIN(c, digit_range(c, first, last),
                                 same_length(c, zeros, nines, n - 1));
    return all == UINT32_MAX ? between : rules_choice(rules, all, between);
}

/* Whole numbers from low to high, 0 <= low <= high. */
static uint32_t naturals(struct json_compile *c, int64_t low, int64_t high)
{
    uint32_t all = UINT32_MAX;
    int64_t begin = 0, end = 9;
    for (int n = 1; n <= 16; n++, begin = end + 1, end = 10 * end + 9) {
        int64_t from = low > begin ? low : begin, to = high < end ? high : end;
        char first[24], last[24];
        if (from > to)
            continue;
        snprintf(first, sizeof first, "%" PRId64, from);
        snprintf(last, sizeof last, "%" PRId64, to);
        uint32_t one = same_length(c, first, last, n);
        all = all == UINT32_MAX ? one : rules_choice(c->rules, all, one);
    }
    return all;
}

static uint32_t either(struct json_compile *c, uint32_t a, uint32_t b)
{
    return a == UINT32_MAX ? b : b == UINT32_MAX ? a : rules_choice(c->rules, a, b);
}

/* --- bounds --- */

static int64_t to_whole(long double value)
{
    return value > WHOLE_MAX    ? WHOLE_MAX
           : value < -WHOLE_MAX ? -WHOLE_MAX
                                : (int64_t)value;
}

/* The least whole number within, and the greatest. */
static int64_t whole_low(const struct bounds *b)
{
    long double low = ceill(b->low);
    return to_whole(b->is_low_open && low == b->low ? low + 1 : low);
}

static int64_t whole_high(const struct bounds *b)
{
    long double high = floorl(b->high);
    return to_whole(b->is_high_open && high == b->high ? high - 1 : high);
}

/* UINT32_MAX: there is none. */
static uint32_t wholes(struct json_compile *c, const struct bounds *b)
{
    int64_t low = whole_low(b), high = whole_high(b);
    uint32_t all = UINT32_MAX;
    if (low > high || b->low > WHOLE_MAX || b->high < -WHOLE_MAX) /* beyond what is written */
        return all;
    if (high >= 0)
        all = naturals(c, low > 0 ? low : 0, high);
    if (low < 0) {
        uint32_t negative = naturals(c, high < 0 ? -high : 1, -low);
        all = either(c, all, JSON_JOIN(c, rules_text(c->rules, "-"), negative));
    }
    return all;
}

/* ".", digits, the last not 0: strictly between two whole numbers */
static uint32_t fraction(struct json_compile *c)
{
    return JSON_JOIN(c, rules_text(c->rules, "."),
                     rules_repeat(c->rules, digit_range(c, '0', '9'), 0, FRACTION_DIGITS - 1),
                     digit_range(c, '1', '9'));
}

/* Fractions behind whole parts, where all of them lie within. */
static uint32_t fractions(struct json_compile *c, const struct bounds *b)
{
    int64_t from = to_whole(ceill(b->low)), to = to_whole(floorl(b->high));
    uint32_t all = UINT32_MAX;
    int64_t low = from > 0 ? from : 0, high = to - 1;
    high = high < FRACTION_WHOLE_MAX ? high : FRACTION_WHOLE_MAX;
    if (low <= high)
        all = JSON_JOIN(c, naturals(c, low, high), fraction(c));
    low = -to > 0 ? -to : 0;
    high = -from - 1 < FRACTION_WHOLE_MAX ? -from - 1 : FRACTION_WHOLE_MAX;
    if (low <= high)
        all = either(c, all, JSON_JOIN(c, rules_text(c->rules, "-"), naturals(c, low, high),
                                       fraction(c)));
    return all;
}

/* Between two neighbouring whole numbers: n.ddd with as few digits as find any. */
static uint32_t between_wholes(struct json_compile *c, const struct bounds *b)
{
    long double whole = floorl(b->low), scale = 1;
    if (b->low < 0 && b->high <= 0) { /* "-" and one above 0 */
        struct bounds mirrored = {0 - b->high, -b->low, b->is_high_open, b->is_low_open};
        uint32_t above = between_wholes(c, &mirrored);
        return above == UINT32_MAX ? above : JSON_JOIN(c, rules_text(c->rules, "-"), above);
    }
    if (whole < 0 || whole > FRACTION_WHOLE_MAX || b->high > whole + 1)
        return UINT32_MAX;
    for (int n = 1; n <= FRACTION_DIGITS; n++) {
        scale *= 10;
        struct bounds digits = {(b->low - whole) * scale, (b->high - whole) * scale, true, true};
        int64_t low = whole_low(&digits), high = whole_high(&digits);
        char first[24], last[24], head[24];
        if (low > high || (n < FRACTION_DIGITS && high - low < 8))
            continue;
        snprintf(head, sizeof head, "%.0Lf.", whole);
        snprintf(first, sizeof first, "%0*" PRId64, n, low);
        snprintf(last, sizeof last, "%0*" PRId64, n, high);
        return JSON_JOIN(c, rules_text(c->rules, head), same_length(c, first, last, n));
    }
    return UINT32_MAX;
}

static void read_bounds(struct json_compile *c, const json_t *schema, struct bounds *out)
{
    static const char *const names[] = {"minimum", "exclusiveMinimum", "maximum",
                                        "exclusiveMaximum"};
    for (int i = 0; i < 4; i++) {
        const json_t *value = json_object_get(schema, names[i]);
        if (value == NULL)
            continue;
        if (!json_is_number(value)) {
            json_refuse(c, names[i], "it takes a number%s",
                        json_is_boolean(value) ? "; true and false are of older drafts" : "");
            return;
        }
        long double bound = json_is_integer(value) ? (long double)json_integer_value(value)
                                                   : json_number_value(value);
        bool is_open = i % 2 == 1;
        if (i < 2 && (bound > out->low || (bound == out->low && is_open))) {
            out->low = bound;
            out->is_low_open = is_open;
        }
        if (i >= 2 && (bound < out->high || (bound == out->high && is_open))) {
            out->high = bound;
            out->is_high_open = is_open;
        }
    }
}

uint32_t json_number_expr(struct json_compile *c, const json_t *schema, bool is_integer)
{
    struct bounds bounds = {-INFINITY, INFINITY, false, false};
    const json_t *multiple = json_object_get(schema, "multipleOf");

    read_bounds(c, schema, &bounds);
    if (multiple != NULL && (!json_is_number(multiple) || json_number_value(multiple) != 1))
        return json_refuse(c, "multipleOf", "only 1 is compiled: a grammar cannot divide");
    if (c->status < 0)
        return 0;
    is_integer |= multiple != NULL;
    if (isinf(bounds.low) && isinf(bounds.high))
        return is_integer ? c->integer : c->number;
    uint32_t all = wholes(c, &bounds);
    if (!is_integer)
        all = either(c, all, fractions(c, &bounds));
    if (!is_integer && all == UINT32_MAX)
        all = between_wholes(c, &bounds);
    if (all == UINT32_MAX)
        return json_refuse(c, NULL, "no %s between its bounds, %Lg and %Lg, can be written",
                           is_integer ? "whole number" : "number", bounds.low, bounds.high);
    return json_named(c, all);
}
