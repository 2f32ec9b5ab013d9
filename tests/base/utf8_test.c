#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/utf8.h"

#define RANDOM_STRINGS 300000

/* An independent reader: WHATWG's "UTF-8 decoder" as a state machine over code points, byte by
 * byte, that writes the scalar values it finds. Nothing of it is shared with base/utf8.c. */
struct reader {
    uint32_t point;
    int needed, seen;
    uint8_t lower, upper;
};

static const struct reader reader_start = {.lower = 0x80, .upper = 0xBF};

/* Returns 1 for a character in *out, -1 for an error, 0 for go on; *again: the byte was not
 * consumed. */
static int reader_take(struct reader *r, uint8_t byte, uint32_t *out, bool *again)
{
    *again = false;
    if (r->needed == 0) {
        if (byte <= 0x7F)
            return *out = byte, 1;
        if (byte >= 0xC2 && byte <= 0xDF) {
            r->needed = 1;
            r->point = byte & 0x1F;
        } else if (byte >= 0xE0 && byte <= 0xEF) {
            r->lower = byte == 0xE0 ? 0xA0 : r->lower;
            r->upper = byte == 0xED ? 0x9F : r->upper;
            r->needed = 2;
            r->point = byte & 0xF;
        } else if (byte >= 0xF0 && byte <= 0xF4) {
            r->lower = byte == 0xF0 ? 0x90 : r->lower;
            r->upper = byte == 0xF4 ? 0x8F : r->upper;
            r->needed = 3;
            r->point = byte & 0x7;
        } else {
            return -1;
        }
        return 0;
    }
    if (byte < r->lower || byte > r->upper) {
        *r = reader_start;
        *again = true;
        return -1;
    }
    r->lower = 0x80;
    r->upper = 0xBF;
    r->point = (r->point << 6) | (byte & 0x3F);
    if (++r->seen != r->needed)
        return 0;
    *out = r->point;
    *r = reader_start;
    return 1;
}

static size_t encode(uint32_t point, uint8_t *out)
{
    if (point < 0x80)
        return out[0] = (uint8_t)point, 1;
    if (point < 0x800) {
        out[0] = (uint8_t)(0xC0 | point >> 6);
        out[1] = (uint8_t)(0x80 | (point & 0x3F));
        return 2;
    }
    if (point < 0x10000) {
        out[0] = (uint8_t)(0xE0 | point >> 12);
        out[1] = (uint8_t)(0x80 | (point >> 6 & 0x3F));
        out[2] = (uint8_t)(0x80 | (point & 0x3F));
        return 3;
    }
    out[0] = (uint8_t)(0xF0 | point >> 18);
    out[1] = (uint8_t)(0x80 | (point >> 12 & 0x3F));
    out[2] = (uint8_t)(0x80 | (point >> 6 & 0x3F));
    out[3] = (uint8_t)(0x80 | (point & 0x3F));
    return 4;
}

struct expected {
    uint8_t repaired[64];
    size_t n_repaired, n_replaced;
    bool valid;
    size_t bad_offset, complete_len;
};

static void replace(struct expected *e, size_t offset)
{
    if (e->n_replaced++ == 0)
        e->bad_offset = offset;
    e->valid = false;
    e->n_repaired += encode(0xFFFD, e->repaired + e->n_repaired);
}

static struct expected expect(const uint8_t *bytes, size_t len)
{
    struct expected e = {.valid = true, .complete_len = len};
    struct reader reader = reader_start;
    size_t start = 0;
    for (size_t i = 0; i < len;) {
        uint32_t point;
        bool again;
        if (reader.needed == 0)
            start = i;
        int found = reader_take(&reader, bytes[i], &point, &again);
        if (found > 0)
            e.n_repaired += encode(point, e.repaired + e.n_repaired);
        else if (found < 0)
            replace(&e, start);
        i += !again;
    }
    if (reader.needed != 0) {
        e.complete_len = start;
        replace(&e, start);
    }
    return e;
}

/* Counts instead of asserting each: there are millions of strings. */
static int disagreements(const uint8_t *bytes, size_t len)
{
    struct expected e = expect(bytes, len);
    uint8_t out[64];
    size_t replaced = 99, bad = 99;
    size_t n = utf8_repair(bytes, len, out, &replaced);
    bool valid = utf8_is_valid(bytes, len, &bad);
    int wrong = n != e.n_repaired || memcmp(out, e.repaired, n) != 0 || replaced != e.n_replaced;
    wrong += valid != e.valid || (!valid && bad != e.bad_offset);
    wrong += utf8_complete_len(bytes, len) != e.complete_len;
    wrong += !utf8_is_valid(out, n, NULL) || n > 3 * len;
    return wrong;
}

static void test_utf8__agrees_with_the_reader_on_all_short_strings(void **state)
{
    int wrong = disagreements((const uint8_t *)"", 0);
    for (int a = 0; a < 256; a++) {
        uint8_t bytes[2] = {(uint8_t)a, 0};
        wrong += disagreements(bytes, 1);
        for (int b = 0; b < 256; b++) {
            bytes[1] = (uint8_t)b;
            wrong += disagreements(bytes, 2);
        }
    }
    assert_int_equal(wrong, 0);
}

static void test_utf8__agrees_with_the_reader_on_random_strings(void **state)
{
    /* Bytes at which some range begins or ends, and any others. */
    static const uint8_t edges[] = {0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF,
                                    0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED,
                                    0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF};
    uint64_t seed = 0x9E3779B97F4A7C15;
    int wrong = 0;
    for (int i = 0; i < RANDOM_STRINGS; i++) {
        uint8_t bytes[20];
        size_t len = i % 3 == 0 ? 3 : i % 3 == 1 ? 4 : 1 + (size_t)i % 20;
        for (size_t j = 0; j < len; j++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            uint8_t any = (uint8_t)(seed >> 40);
            bytes[j] = seed >> 62 ? edges[any % sizeof edges] : any;
        }
        wrong += disagreements(bytes, len);
    }
    assert_int_equal(wrong, 0);
}

static void test_utf8__every_character_is_valid_and_whole(void **state)
{
    int wrong = 0;
    for (uint32_t point = 0; point <= 0x10FFFF; point++) {
        uint8_t bytes[4];
        size_t len = encode(point, bytes);
        bool surrogate = point >= 0xD800 && point <= 0xDFFF;
        wrong += utf8_is_valid(bytes, len, NULL) == surrogate;
        if (surrogate)
            continue;
        for (size_t cut = 1; cut < len; cut++)
            wrong += utf8_complete_len(bytes, cut) != 0;
        wrong += utf8_complete_len(bytes, len) != len;
    }
    assert_int_equal(wrong, 0);
}

static void test_utf8__replaces_as_whatwg_prescribes(void **state)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"\x41\xC0\xAF\x41", "A\uFFFD\uFFFDA"},
        {"\x41\xE0\x9F\x80\x41", "A\uFFFD\uFFFD\uFFFDA"},
        {"\x41\xED\xA0\x80\x41", "A\uFFFD\uFFFD\uFFFDA"},
        {"\x41\xF0\x80\x80\x80\x41", "A\uFFFD\uFFFD\uFFFD\uFFFDA"},
        {"\x41\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", "A\uFFFD\uFFFD\uFFFD\uFFFD\uFFFDA\uFFFD\uFFFD"
                                                     "B"},
        {"\x41\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", "A\uFFFD\uFFFD\uFFFD\uFFFDA"},
        {"abc\xE2\x82", "abc\uFFFD"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t out[64];
        size_t n = utf8_repair(cases[i].in, strlen(cases[i].in), out, NULL);
        assert_int_equal(n, strlen(cases[i].out));
        assert_memory_equal(out, cases[i].out, n);
    }
}

static void test_utf8__finds_a_bad_byte_behind_any_run_of_ascii(void **state)
{
    uint8_t bytes[64];
    for (size_t at = 0; at < sizeof bytes; at++) {
        memset(bytes, 'a', sizeof bytes);
        bytes[at] = 0x80;
        size_t bad = 99;
        assert_false(utf8_is_valid(bytes, sizeof bytes, &bad));
        assert_int_equal(bad, at);
        assert_true(utf8_is_valid(bytes, at, &bad));
    }
    assert_true(utf8_is_valid(NULL, 0, NULL));
    assert_true(utf8_is_valid("a\0b", 3, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8__agrees_with_the_reader_on_all_short_strings),
        cmocka_unit_test(test_utf8__agrees_with_the_reader_on_random_strings),
        cmocka_unit_test(test_utf8__every_character_is_valid_and_whole),
        cmocka_unit_test(test_utf8__replaces_as_whatwg_prescribes),
        cmocka_unit_test(test_utf8__finds_a_bad_byte_behind_any_run_of_ascii),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
