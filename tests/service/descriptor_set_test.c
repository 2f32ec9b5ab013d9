/* Descriptor sets asked by name: the program's own against the methods it serves, and one made here
 * with what the own has not (imports in a row, extensions, enums in messages). */
#include "service/descriptor_set.h"
#include "service/service.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* --- a set made here --- */

struct made {
    uint8_t bytes[4096];
    size_t len;
};

static void put(struct made *to, int number, const void *bytes, size_t len)
{
    assert_true(len < 0x4000 && to->len + len + 3 <= sizeof to->bytes);
    to->bytes[to->len++] = (uint8_t)(number << 3 | 2);
    if (len >= 0x80)
        to->bytes[to->len++] = (uint8_t)(len | 0x80);
    to->bytes[to->len++] = (uint8_t)(len >= 0x80 ? len >> 7 : len);
    memcpy(to->bytes + to->len, bytes, len);
    to->len += len;
}

static void put_text(struct made *to, int number, const char *text)
{
    put(to, number, text, strlen(text));
}

static void put_named(struct made *to, int number, const char *name)
{
    struct made inner = {.len = 0};
    put_text(&inner, 1, name);
    put(to, number, inner.bytes, inner.len);
}

static void put_extension(struct made *to, int number, const char *extendee, uint8_t n)
{
    struct made field = {.len = 0};
    put_text(&field, 1, "note");
    put_text(&field, 2, extendee);
    field.bytes[field.len++] = 3 << 3;
    field.bytes[field.len++] = n;
    put(to, number, field.bytes, field.len);
}

/* c.proto <- b.proto <- a.proto -> c.proto; a.proto declares most, c.proto is of no package. */
static struct slice make_set(void)
{
    static struct made set;
    struct made kind = {.len = 0}, inner = {.len = 0}, outer = {.len = 0}, service = {.len = 0};
    struct made a = {.len = 0}, b = {.len = 0}, c = {.len = 0};

    put_text(&kind, 1, "Kind");
    put_named(&kind, 2, "KIND_ONE");
    put_text(&inner, 1, "Inner");
    put(&inner, 4, kind.bytes, kind.len);
    put_extension(&inner, 6, ".p.q.Outer", 101);
    put_text(&outer, 1, "Outer");
    put_named(&outer, 2, "field");
    put_named(&outer, 8, "choice");
    put(&outer, 3, inner.bytes, inner.len);
    put_text(&service, 1, "Service");
    put_named(&service, 2, "Method");
    put_text(&a, 1, "a.proto");
    put_text(&a, 2, "p.q");
    put_text(&a, 3, "b.proto");
    put_text(&a, 3, "c.proto");
    put(&a, 4, outer.bytes, outer.len);
    put(&a, 6, service.bytes, service.len);
    put_extension(&a, 7, ".p.q.Outer", 100);
    put_text(&b, 1, "b.proto");
    put_text(&b, 2, "p");
    put_text(&b, 3, "c.proto");
    put(&b, 5, kind.bytes, kind.len);
    put_text(&c, 1, "c.proto");
    put_named(&c, 4, "Bare");
    set.len = 0;
    put(&set, 1, a.bytes, a.len);
    put(&set, 1, b.bytes, b.len);
    put(&set, 1, c.bytes, c.len);
    return slice_of(set.bytes, set.len);
}

static void test_descriptor_set__finds_each_kind_of_name_in_its_file(void **state)
{
    static const struct {
        const char *symbol;
        int file;
    } wanted[] = {
        {"p.q.Outer", 0},          {".p.q.Outer", 0},
        {"p.q.Outer.field", 0},    {"p.q.Outer.choice", 0},
        {"p.q.Outer.Inner", 0},    {"p.q.Outer.Inner.Kind", 0},
        {"p.q.Service", 0},        {"p.q.Service.Method", 0},
        {"p.q.note", 0},           {"p.q.Outer.Inner.note", 0},
        {"p.Kind", 1},             {"p.KIND_ONE", 1},
        {"p.Kind.KIND_ONE", 1},    {"p.q.Outer.Inner.KIND_ONE", 0},
        {"Bare", 2},               {"p.q.Outer.Inner.Kind.KIND_ONE", 0},
        {"", -1},                  {".", -1},
        {"p", -1},                 {"p.q", -1},
        {"p.q.", -1},              {"p.q.Oute", -1},
        {"p.q.Outer.", -1},        {"p.q.Outerfield", -1},
        {"p.q.Outer.Kind", -1},    {"p.q.Service.Method.x", -1},
        {"p.Bare", -1},            {"..p.q.Outer", -1},
        {"p.q.Outer.field.x", -1}, {"KIND_ONE", -1},
    };
    struct slice set = make_set();
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (descriptor_set_declaring(set, slice_from(wanted[i].symbol)) != wanted[i].file)
            fail_msg("\"%s\" is not in file %d", wanted[i].symbol, wanted[i].file);
    assert_int_equal(descriptor_set_declaring(set, slice_of("p.q.Outer\0x", 11)), -1);
    assert_int_equal(descriptor_set_named(set, slice_from("b.proto")), 1);
    assert_int_equal(descriptor_set_named(set, slice_from("d.proto")), -1);
}

static void test_descriptor_set__extensions_are_found_and_counted(void **state)
{
    struct slice set = make_set(), outer = slice_from("p.q.Outer");
    int32_t numbers[8] = {0};

    assert_int_equal(descriptor_set_extensions(set, outer, numbers, 8), 2);
    assert_true(numbers[0] + numbers[1] == 201 && numbers[0] != numbers[1]);
    assert_int_equal(descriptor_set_extensions(set, outer, numbers, 1), 1);
    assert_int_equal(descriptor_set_extensions(set, slice_from("Bare"), numbers, 8), 0);
    assert_int_equal(descriptor_set_extending(set, outer, 101), 0);
    assert_int_equal(descriptor_set_extending(set, outer, 102), -1);
    assert_int_equal(descriptor_set_extending(set, outer, -1), -1);
    assert_int_equal(descriptor_set_extending(set, slice_from("Bare"), 100), -1);
    assert_true(descriptor_set_has_message(set, slice_from("p.q.Outer.Inner")));
    assert_false(descriptor_set_has_message(set, slice_from("p.q.Service")));
    assert_false(descriptor_set_has_message(set, slice_from("p.q.Outer.field")));
    assert_int_equal(descriptor_set_file(set, 3).len, 0);
    assert_int_equal(descriptor_set_file(set, -1).len, 0);
}

static void test_descriptor_set__imports_go_out_once_and_what_is_asked_for_again(void **state)
{
    struct slice set = make_set(), files[DESCRIPTOR_FILES_MAX];
    uint64_t sent = 0;

    assert_int_equal(descriptor_set_take(set, 1, &sent, files), 2);
    assert_true(files[0].bytes == descriptor_set_file(set, 1).bytes);
    assert_true(files[1].bytes == descriptor_set_file(set, 2).bytes);
    assert_int_equal(sent, 6);
    assert_int_equal(descriptor_set_take(set, 0, &sent, files), 1); /* it had both imports */
    assert_true(files[0].bytes == descriptor_set_file(set, 0).bytes);
    assert_int_equal(descriptor_set_take(set, 0, &sent, files), 1);
    sent = 0;
    assert_int_equal(descriptor_set_take(set, 0, &sent, files), 3); /* the import's import too */
}

static void test_descriptor_set__a_set_cut_anywhere_ends_the_walk(void **state)
{
    struct slice set = make_set();
    int32_t numbers[8];
    for (size_t len = 0; len < set.len; len++) {
        uint8_t *copy = malloc(len + 1); /* so that a sanitizer sees its end */
        memcpy(copy, set.bytes, len);
        struct slice cut = slice_of(copy, len);
        descriptor_set_declaring(cut, slice_from("p.q.Outer.Inner.Kind.KIND_ONE"));
        descriptor_set_extensions(cut, slice_from("p.q.Outer"), numbers, 8);
        assert_int_equal(descriptor_set_declaring(cut, slice_from("Bare")), -1);
        free(copy);
    }
}

static void test_descriptor_set__the_own_set_has_the_methods_that_are_served(void **state)
{
    struct descriptor_service services[16];
    struct slice set = descriptor_set_own();
    size_t n_methods, n = descriptor_set_services(set, services, 16);
    const struct method *methods = service_methods(&n_methods);

    assert_int_equal(n, 4);
    assert_true(descriptor_set_file(set, 0).len > 0);
    assert_int_equal(descriptor_set_file(set, DESCRIPTOR_FILES_MAX).len, 0);
    for (size_t i = 0; i < n_methods; i++) { /* "/pkg.Service/Method" */
        char symbol[256];
        snprintf(symbol, sizeof symbol, "%s", methods[i].path + 1);
        *strchr(symbol, '/') = '.';
        if (descriptor_set_declaring(set, slice_from(symbol)) < 0)
            fail_msg("%s is served and not declared", methods[i].path);
    }
    for (size_t i = 0; i < n; i++) {
        size_t k = 0;
        char path[256];
        snprintf(path, sizeof path, "/%.*s.%.*s/", (int)services[i].package.len,
                 (const char *)services[i].package.bytes, (int)services[i].name.len,
                 (const char *)services[i].name.bytes);
        while (k < n_methods && strncmp(methods[k].path, path, strlen(path)) != 0)
            k++;
        if (k == n_methods)
            fail_msg("%s is declared and not served", path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_descriptor_set__finds_each_kind_of_name_in_its_file),
        cmocka_unit_test(test_descriptor_set__extensions_are_found_and_counted),
        cmocka_unit_test(test_descriptor_set__imports_go_out_once_and_what_is_asked_for_again),
        cmocka_unit_test(test_descriptor_set__a_set_cut_anywhere_ends_the_walk),
        cmocka_unit_test(test_descriptor_set__the_own_set_has_the_methods_that_are_served),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
