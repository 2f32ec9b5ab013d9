#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "limits.h"
#include "tests/model/schema_fixture.h"

static void test_json_schema__true_is_any_json(void **state)
{
    static const char *const good[] = {
        "{}", "[]", "{ \"a\": [1, 2.5e-3, {\"b\":null}], \"\\u00e9\\n\":\"\" }", "\"x\"", "-0",
        "[\n  true,\n  false\n]", "1234567890123456", "0.25"};
    static const char *const bad[] = {
        "{", "{\"a\"}", "[1,]", "01", "1.", "+1", "\"\n\"", "\"\\x\"", "nul", "{\"a\":1,}", "[1 2]",
        "\"\\ud800\"", "12345678901234567", "1e999", "  1"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        takes("true", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        takes_not("{}", bad[i]);
    takes("true", "\"\\ud83d\\ude42\\\\\\/\"");
}

static void test_json_schema__objects_have_their_members_in_order(void **state)
{
    static const char person[] =
        "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},"
        "\"age\":{\"type\":\"integer\"},\"tags\":{\"type\":\"array\",\"items\":{\"type\":"
        "\"string\"}}},\"required\":[\"age\"]}";
    takes(person, "{\"name\": \"x\", \"age\": 3, \"tags\": []}");
    takes(person, "{\"age\":3}");
    takes(person, "{\"age\":3,\"tags\":[\"a\",\"b\"]}");
    takes_not(person, "{\"name\":\"x\"}");
    takes_not(person, "{\"age\":3,\"name\":\"x\"}");
    takes_not(person, "{\"age\":3,\"other\":1}");
    takes_not(person, "{\"age\":3,}");
    takes_not(person, "{}");
    takes("{\"type\":\"object\"}", "{}");
    takes("{\"type\":\"object\"}", "{\"a\":[1],\"b\":{}}"); /* that names no member */
    takes("{\"type\":\"object\",\"propertyNames\":{\"maxLength\":1}}", "{\"a\":1}");
    takes_not("{\"type\":\"object\",\"maxProperties\":1}", "{\"a\":1,\"b\":2}");
    takes("{\"type\":\"object\",\"minProperties\":1,\"maxProperties\":1}", "{\"a\":1}");
    takes_not("{\"type\":\"object\",\"minProperties\":1}", "{}");
    takes_not("{\"type\":\"object\",\"properties\":{}}", "{\"a\":1}");
    takes_not("{\"type\":\"object\",\"additionalProperties\":false}", "{\"a\":1}");
    takes_not("{\"type\":\"object\",\"required\":[\"z\"]}", "{\"z\":1,\"a\":1}");
    takes("{\"properties\":{\"a\":false,\"b\":true}}", "{\"b\":[]}");
    takes_not("{\"properties\":{\"a\":false,\"b\":true}}", "{\"a\":1}");
    takes("{\"type\":\"object\",\"required\":[\"z\"]}", "{\"z\":[1]}");
}

static void test_json_schema__other_members_have_other_names(void **state)
{
    static const char map[] =
        "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"ab\":{\"type\":"
        "\"integer\"},\"é\":{\"type\":\"integer\"}},\"additionalProperties\":{\"type\":"
        "\"boolean\"}}";
    takes(map, "{\"a\":1,\"ab\":2,\"é\":3,\"abc\":true,\"b\":false,\"\":true}");
    takes(map, "{\"è\":true}");
    takes_not(map, "{\"a\":true}");
    takes_not(map, "{\"ab\":true}");
    takes_not(map, "{\"é\":true}");
    takes_not(map, "{\"\\u0061\":true}");
    static const char escaped[] =
        "{\"type\":\"object\",\"properties\":{\"a\\\"b\":true,\"\\\\\":true,\"\\n\":true},"
        "\"additionalProperties\":{\"type\":\"null\"}}";
    takes(escaped, "{\"a\\\"b\":1,\"\\\\\":2,\"\\n\":3,\"a\":null,\"ac\":null}");
    takes_not(escaped, "{\"\\x\":null}"); /* no JSON */
    takes_not(escaped, "{\"a\"b\":null}");
    takes_not(escaped, "{\"a\"bc\":null}");
    takes_not(escaped, "{\"\nc\":null}");
    takes("{\"type\":\"object\",\"additionalProperties\":{\"type\":\"null\"},\"maxProperties\":2}",
          "{\"x\":null,\"y\":null}");
    takes_not(
        "{\"type\":\"object\",\"additionalProperties\":{\"type\":\"null\"},\"maxProperties\":2}",
        "{\"x\":null,\"y\":null,\"z\":null}");
}

static void test_json_schema__names_of_a_map_have_lengths_and_patterns(void **state)
{
    static const char map[] = "{\"additionalProperties\":{\"type\":\"null\"},"
                              "\"propertyNames\":{\"minLength\":1,\"maxLength\":2}}";
    takes(map, "{\"é\":null,\"xy\":null}");
    takes_not(map, "{\"\":null}");
    takes_not(map, "{\"xyz\":null}");
    takes("{\"additionalProperties\":true,\"propertyNames\":{\"type\":\"string\",\"pattern\":"
          "\"^[a-c]+$\"}}", "{\"abc\":1}");
    takes("{\"additionalProperties\":true,\"propertyNames\":{}}", "{\"d\":1}");
    refuses("{\"additionalProperties\":true,\"propertyNames\":{\"enum\":[\"a\"]}}",
            "#/propertyNames: of names");
    refuses("{\"additionalProperties\":true,\"propertyNames\":{\"type\":\"null\"}}",
            "\"type\"");
    refuses("{\"additionalProperties\":true,\"propertyNames\":7}", "#/propertyNames");
    refuses("{\"additionalProperties\":true,\"properties\":{\"a\":true},\"propertyNames\":{}}",
            "beside properties");
    refuses("{\"type\":\"object\",\"required\":[\"z\"],\"propertyNames\":{\"maxLength\":0}}",
            "beside properties");
}

static void test_json_schema__arrays_have_their_items_and_bounds(void **state)
{
    static const char some[] =
        "{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":2,\"maxItems\":3}";
    takes(some, "[1,2]");
    takes(some, "[ 1, 2, 3 ]");
    takes_not(some, "[1]");
    takes_not(some, "[1,2,3,4]");
    static const char pair[] =
        "{\"type\":\"array\",\"prefixItems\":[{\"type\":\"string\"},{\"type\":\"null\"}],"
        "\"items\":{\"type\":\"integer\"},\"minItems\":1}";
    takes(pair, "[\"a\"]");
    takes(pair, "[\"a\",null,1,2]");
    takes_not(pair, "[]");
    takes_not(pair, "[\"a\",1]");
    takes_not("{\"prefixItems\":[{\"type\":\"null\"}],\"items\":false}", "[null,null]");
    takes("{\"type\":\"array\",\"maxItems\":0}", "[]");
    takes_not("{\"type\":\"array\",\"maxItems\":0}", "[1]");
}

static void test_json_schema__strings_are_counted_in_characters(void **state)
{
    static const char some[] = "{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}";
    takes(some, "\"éé\"");
    takes(some, "\"\\u00e9\\n\\ud83d\\ude42\"");
    takes_not(some, "\"\xf0\x9f\x99\x82\"");
    takes_not(some, "\"abcd\"");
}

static void test_json_schema__patterns_are_those_of_the_value(void **state)
{
    takes("{\"pattern\":\"^[a-c]{2}-\\\\d+$\"}", "\"ab-12\"");
    takes_not("{\"pattern\":\"^[a-c]{2}-\\\\d+$\"}", "\"ab-\"");
    takes("{\"pattern\":\"b+\"}", "\"abbc\"");
    takes_not("{\"pattern\":\"b+\"}", "\"ac\"");
    takes("{\"pattern\":\"^(?:a|\\\"|\\\\\\\\)*?$\"}", "\"a\\\"\\\\\"");
    takes_not("{\"pattern\":\"^(?:a|\\\"|\\\\\\\\)*?$\"}", "\"a\\n\"");
    takes("{\"pattern\":\"^\\\\n.[^a]\\\\s$\"}", "\"\\nxé \"");
    takes_not("{\"pattern\":\"^\\\\n.[^a]\\\\s$\"}", "\"\\nxa \"");
    takes("{\"pattern\":\"^a$|^b\"}", "\"bcd\"");
    takes_not("{\"pattern\":\"^a$|^b\"}", "\"ac\"");
    takes("{\"pattern\":\"^[\\\\w.-]+@[\\\\x41-\\\\x43]$\"}", "\"a.b_c-9@B\"");
    takes("{\"pattern\":\"^\\\"$\"}", "\"\\\"\"");
    takes_not("{\"pattern\":\"^\\\"$\"}", "\"\"\"");
    takes_not("{\"pattern\":\"^\\\\\\\\$\"}", "\"\\\"");
    takes_not("{\"pattern\":\"^[\\\"-z]$\"}", "\"\"\"");
    takes("{\"pattern\":\"^\\\\D\\\\S\\\\W[^\\\\d][^\\\\w][^\\\\s]$\"}", "\"éé—é-é\"");
    static const char *const sets[] = {"\\\\D", "[^\\\\d]", "\\\\W", "[^x\\\\w]"};
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) { /* digits of Python's */
        char schema[64];
        snprintf(schema, sizeof schema, "{\"pattern\":\"^%s$\"}", sets[i]);
        takes(schema, "\"-\"");
        takes_not(schema, "\"\xd9\xa3\"");
        takes_not(schema, "\"\xf0\x9d\x9f\xbf\"");
        takes_not(schema, "\"3\"");
    }
    takes("{\"pattern\":\"^\\\\D{4}$\"}", "\"é日क😀\"");
    takes("{\"pattern\":\"^((a??\\\\D{2,}){2}){2}$\"}", "\"abcdefghij\""); /* not too many ways */
    takes("{\"pattern\":\"^\\\\s$\"}", "\"\xe3\x80\x80\"");
    takes_not("{\"pattern\":\"^\\\\s$\"}", "\"\xef\xbb\xbf\""); /* a blank of one of them */
    takes_not("{\"pattern\":\"^\\\\S$\"}", "\"\xef\xbb\xbf\"");
    takes_not("{\"pattern\":\"^[^\\\\s]$\"}", "\"\xc2\x85\"");
    refuses("{\"pattern\":\"(?=a)\"}", "/pattern: byte 3: of (? only (?: is compiled");
    refuses("{\"pattern\":\"(a)\\\\1\"}", "references to groups");
    refuses("{\"pattern\":\"\\\\bword\"}", "borders of words");
    refuses("{\"pattern\":\"a^\"}", "^ and $ stand at the ends");
    refuses("{\"pattern\":\"(a\"}", "no closing )");
    refuses("{\"pattern\":\"a{4097}\"}", "bounded by 4096");
    refuses("{\"pattern\":\"a)\"}", "begins no term");
    refuses("{\"pattern\":\"*\"}", "nothing to repeat");
    refuses("{\"pattern\":\"^a|[]$\"}", "a class holds no character");
}

/* Every whole number near the bounds, against the bounds. */
static void test_json_schema__whole_numbers_lie_within_their_bounds(void **state)
{
    static const int bounds[][2] = {{0, 0},     {-5, 17}, {7, 1234}, {-120, -8}, {99, 101},
                                    {-1, 1000}, {10, 99}, {-10, 0},  {38, 42}};
    struct tongue tongue = tongue_create();
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++) {
        char schema[96], text[16];
        snprintf(schema, sizeof schema,
                 "{\"type\":\"integer\",\"minimum\":%d,\"exclusiveMaximum\":%d.5}", bounds[i][0],
                 bounds[i][1]);
        if (bounds[i][1] < 0) /* -8.5 is below -8 */
            snprintf(schema, sizeof schema, "{\"type\":\"integer\",\"minimum\":%d,\"maximum\":%d}",
                     bounds[i][0], bounds[i][1]);
        for (int value = -130; value <= 1300; value++) {
            bool ends;
            snprintf(text, sizeof text, "%d", value);
            size_t n = grammar_takes(&tongue, GRAMMAR_JSON_SCHEMA, schema, text, &ends);
            assert_int_equal(n == strlen(text) && ends,
                             value >= bounds[i][0] && value <= bounds[i][1]);
        }
    }
    tongue_free(&tongue);
    refuses("{\"type\":\"integer\",\"minimum\":1,\"exclusiveMaximum\":2,\"exclusiveMinimum\":1}",
            "no whole number between its bounds");
    takes_not("{\"type\":\"integer\",\"minimum\":0}", "-0");
    static const char odd[] = /* no double has it */
        "{\"type\":\"integer\",\"minimum\":9007199254740993,\"exclusiveMaximum\":9007199254740994}";
    takes(odd, "9007199254740993");
    takes_not(odd, "9007199254740992");
    takes("{\"type\":\"integer\",\"minimum\":9999999999999999}", "9999999999999999");
}

static void test_json_schema__numbers_between_neighbouring_wholes(void **state)
{
    static const char below[] = "{\"type\":\"number\",\"minimum\":-0.75,\"maximum\":-0.25}";
    static const char to_zero[] =
        "{\"type\":\"number\",\"exclusiveMinimum\":-0.5,\"exclusiveMaximum\":0}";
    takes(below, "-0.30");
    takes(below, "-0.70");
    takes_not(below, "-0.80");
    takes_not(below, "-0.20");
    takes_not(below, "0.30");
    takes(to_zero, "-0.40");
    takes_not(to_zero, "-0.50");
    takes_not(to_zero, "--0.40");
    takes("{\"type\":\"number\",\"minimum\":2.25,\"maximum\":2.5}", "2.30");
    refuses("{\"type\":\"number\",\"exclusiveMinimum\":0,\"exclusiveMaximum\":0}",
            "no number between its bounds");
}

static void test_json_schema__refusals_have_a_place(void **state)
{
    refuses("{\"type\": \"object\",\n \"properties\": {\"é\": {\"type\": \"any\"}}}",
            "line 2, column 23: at #/properties/é/type: \"any\" is no type");
    refuses("{\"anyOf\": [{}, {\"items\": {\n\t\"minItems\": -1}}]}",
            "line 2, column 2: at #/anyOf/1/items/minItems: ");
    refuses("{\"items\": {\"$ref\": \"#/$defs/a~1b\"},\n\"$defs\": {\"a/b\": false}}",
            "line 2, column 11: at #/$defs/a~1b: the schema false");
    refuses("\n{\"$defs\": {\"a\": {\"$ref\": \"#/$defs/b\"},\n\"b\": {\"$ref\": \"#/$defs/a\"}},"
            "\"$ref\": \"#/$defs/a\"}",
            "begins with itself");
    refuses("\n{\"type\":\"array\",\"items\":{\"$ref\":\"#\"},\"minItems\":1}",
            "line 2, column 1: # matches no text that ends");
    refuses("  7", "line 1, column 3: at #: a schema is an object");
}

static void test_json_schema__values_are_spelled_out(void **state)
{
    takes("{\"enum\":[\"red\",\"re\",1.5,null,{\"a\":[true]}]}", "\"red\"");
    takes("{\"enum\":[\"red\",\"re\",1.5,null,{\"a\":[true]}]}", "{\"a\":[true]}");
    takes("{\"enum\":[\"red\",\"re\",1.5,null]}", "1.5");
    takes_not("{\"enum\":[\"red\",\"re\"]}", "\"r\"");
    takes("{\"const\":\"a\\\"\\n\"}", "\"a\\\"\\n\"");
    takes("{\"type\":\"string\",\"enum\":[1,\"x\"]}", "\"x\"");
    takes_not("{\"type\":\"string\",\"enum\":[1,\"x\"]}", "1");
    refuses("{\"type\":\"null\",\"enum\":[1]}", "at #/enum: no value is of the schema's type");
}

static void test_json_schema__choices_and_references(void **state)
{
    static const char tree[] =
        "{\"$ref\":\"#/$defs/node\",\"$defs\":{\"node\":{\"type\":\"object\",\"properties\":{"
        "\"v\":{\"type\":\"integer\"},\"next\":{\"anyOf\":[{\"$ref\":\"#/$defs/node\"},{\"type\":"
        "\"null\"}]}},\"required\":[\"v\",\"next\"]}}}";
    takes(tree, "{\"v\":1,\"next\":{\"v\":2,\"next\":null}}");
    takes_not(tree, "{\"v\":1,\"next\":{\"v\":2}}");
    takes("{\"type\":[\"null\",\"boolean\"]}", "true");
    takes("{\"oneOf\":[{\"type\":\"string\"},{\"type\":\"integer\"}]}", "7");
    takes("{\"oneOf\":[{\"type\":\"object\",\"properties\":{\"k\":{\"const\":\"a\"}},\"required\":"
          "[\"k\"]},{\"type\":\"object\",\"properties\":{\"k\":{\"const\":\"b\"}},\"required\":["
          "\"k\"]}]}",
          "{\"k\":\"b\"}");
    takes("{\"properties\":{\"a/b\":{\"type\":\"null\"},\"c\":{\"$ref\":\"#/properties/a~1b\"}},"
          "\"required\":[\"c\"]}",
          "{\"c\":null}");
    takes("{\"oneOf\":[{\"type\":\"object\",\"properties\":{\"k\":{\"enum\":[\"a\",true]}},"
          "\"required\":[\"k\"]},"
          "{\"type\":\"object\",\"properties\":{\"k\":{\"enum\":[\"b\",null]}},"
          "\"required\":[\"k\"]}]}",
          "{\"k\":null}");
    takes("{\"oneOf\":[{\"enum\":[\"a\",\"b\"]},{\"const\":\"c\"}]}", "\"c\"");
    takes("{\"$ref\":\"#/$defs/a%20b~0%C3%A9%\",\"$defs\":{\"a b~é%\":{\"type\":\"null\"}}}",
          "null");
    refuses("{\"oneOf\":[{\"enum\":[\"a\",\"b\"]},{\"enum\":[\"c\",\"b\"]}]}", "at #/oneOf: ");
    refuses("{\"oneOf\":[{\"const\":1},{\"const\":1.0}]}", "at #/oneOf: ");
    refuses("{\"oneOf\":[{\"type\":\"number\"},{\"type\":\"integer\"}]}", "at #/oneOf: ");
    refuses("{\"$ref\":\"#/$defs/x\"}", "\"#/$defs/x\" names nothing");
    refuses("{\"$ref\":\"http://example.com/x\"}", "names nothing in this schema");
    refuses("{\"$ref\":\"#\"}", "# begins with itself");
    refuses("{\"type\":\"array\",\"items\":{\"$ref\":\"#\"},\"minItems\":1}",
            "matches no text that ends");
}

static void test_json_schema__what_is_not_compiled_is_named(void **state)
{
    refuses("{\"type\":\"object\",\"properties\":{\"a\":{\"not\":{}}}}",
            "at #/properties/a/not: this keyword is not compiled");
    refuses("{\"minLenght\":3}", "at #/minLenght: ");
    refuses("{\"anyOf\":[{}],\"type\":\"object\"}", "stands beside");
    refuses("{\"allOf\":[{},{}]}", "at #/allOf: 2 schemas at once");
    refuses("{\"type\":\"array\",\"uniqueItems\":true}", "at #/uniqueItems: ");
    refuses("{\"type\":\"number\",\"multipleOf\":0.1}", "at #/multipleOf: ");
    refuses("{\"type\":\"any\"}", "\"any\" is no type of JSON");
    refuses("{\"type\":\"object\",\"minProperties\":2}", "at #/minProperties: ");
    refuses("{\"type\":\"object\",\"minProperties\":1,\"maxProperties\":0}",
            "at #/minProperties: ");
    refuses("{\"type\":\"array\",\"items\":[{}]}", "name it prefixItems");
    refuses("{\"type\":\"string\",\"minLength\":3,\"maxLength\":2}", "at least 3");
    refuses("{\"type\":\"string\",\"minLength\":-1}", "a whole number from 0 on");
    refuses("{\"type\":\"integer\",\"minimum\":2e16}", "no whole number between");
    refuses("{\"type\":\"integer\",\"minimum\":-1e16,\"maximum\":-1e16}",
            "no whole number between");
    refuses("{\"type\":[\"object\",\"null\",\"object\"]}", "lists \"object\" twice");
    refuses("{\"type\":\"string\",\"pattern\":\"^a$\",\"enum\":[\"b\"]}", "beside \"pattern\"");
    refuses("{\"type\":\"string\",\"minLength\":1e300}", "at most 4096 is taken");
    refuses("false", "holds for no value");
    refuses("[1]", "a schema is an object");
    refuses("{\"type\":\"object\"\n,,", "line 2, column ");
    refuses("", "line 1, column 1: the schema is empty");
    refuses("{\"type\":\"object\",\"type\":\"string\"}", "duplicate object key");
    takes("{\"title\":\"t\",\"description\":\"d\",\"format\":\"date\",\"x-y\":1,\"type\":\"null\"}",
          "null");
    takes("\xef\xbb\xbf{\"type\":\"null\"}", "null"); /* behind a mark of byte order */
    takes("{\"discriminator\":{\"propertyName\":\"k\"},\"oneOf\":[{\"const\":1}]}", "1");
}

static void test_json_schema__limits_hold_and_one_more_is_refused(void **state)
{
    for (int over = 0; over < 2; over++) {
        char *deep = malloc(32 * (GRAMMAR_NESTING_MAX + 2)), *at = deep;
        char text[64];
        int n = GRAMMAR_NESTING_MAX - 1 + over;
        for (int i = 0; i < n; i++)
            at = stpcpy(at, "{\"items\":");
        at = stpcpy(at, "{\"type\":\"null\"}");
        memset(at, '}', (size_t)n);
        at[n] = '\0';
        if (over)
            refuses(deep, "more than 64 schemas in each other");
        else
            takes(deep, "[[]]");
        free(deep);
        snprintf(text, sizeof text, "{\"type\":\"string\",\"maxLength\":%d}",
                 GRAMMAR_REPEAT_MAX + over);
        if (over)
            refuses(text, "at most 4096 is taken");
        else
            takes(text, "\"x\"");
    }
    char *many = malloc(GRAMMAR_BYTES_MAX), *at = stpcpy(many, "{\"enum\":[0");
    for (int i = 0; at - many < (long)GRAMMAR_BYTES_MAX - 64; i++)
        at += sprintf(at, ",\"value %d\"", i);
    strcpy(at, "]}");
    takes(many, "\"value 77\""); /* thousands of values */
    at = stpcpy(many, "{\"pattern\":\"");
    while (at - many < (long)GRAMMAR_BYTES_MAX - 64)
        at = stpcpy(at, "(a|b|c)?");
    strcpy(at, "\"}");
    refuses(many, "the grammar has more than 16384 rules"); /* and no word of what follows */
    free(many);
}

/* Two objects that differ in 40 properties of 60 values, the required one too, asked for often. */
static void test_json_schema__what_would_compare_without_bound_is_refused(void **state)
{
    char *text = malloc(GRAMMAR_BYTES_MAX), *at = stpcpy(text, "{\"prefixItems\":[true");
    for (int i = 0; i < 20; i++)
        at = stpcpy(at, ",{\"oneOf\":[{\"$ref\":\"#/$defs/a\"},{\"$ref\":\"#/$defs/b\"}]}");
    at = stpcpy(at, "],\"$defs\":{\"c\":true");
    for (int side = 0; side < 2; side++) {
        at += sprintf(at, ",\"%c\":{\"type\":\"object\",\"required\":[\"p0\"],", 'a' + side);
        at = stpcpy(at, "\"properties\":{");
        for (int p = 39; p >= 0; p--) {
            at += sprintf(at, "\"p%d\":{\"enum\":[%d", p, 100 * side);
            for (int v = 1; v < 60; v++)
                at += sprintf(at, ",%d", 100 * side + v);
            at = stpcpy(at, p > 0 ? "]}," : "]}}}");
        }
    }
    strcpy(at, "}}");
    refuses(text, "it cannot be told that no two of these hold at once");
    free(text);
}

/* --- random texts of a schema are JSON --- */

static void test_json_schema__whatever_is_drawn_is_json(void **state)
{
    static const char schema[] =
        "{\"type\":\"object\",\"properties\":{\"s\":{\"type\":\"string\",\"maxLength\":8},"
        "\"n\":{\"type\":\"number\"},\"b\":{\"type\":\"boolean\"},\"p\":{\"type\":\"number\","
        "\"minimum\":0,\"exclusiveMaximum\":1},\"q\":{\"type\":\"number\",\"minimum\":2.25,"
        "\"maximum\":2.5},\"r\":{\"type\":\"number\",\"exclusiveMinimum\":-3,\"maximum\":12.5},"
        "\"a\":{\"type\":\"array\",\"items\":{\"type\":\"string\",\"pattern\":\"^[^a-y]{0,5}$\"},"
        "\"maxItems\":3}},\"required\":[\"s\",\"p\",\"q\",\"r\"]}";
    struct tongue tongue = tongue_create();
    uint64_t random = 11;
    for (int i = 0; i < 400; i++) {
        struct grammar *grammar = grammar_of(&tongue, GRAMMAR_JSON_SCHEMA, schema);
        char text[4096];
        json_error_t error;
        random_text_of(grammar, &tongue, &random, text, sizeof text);
        json_t *json = json_loads(text, JSON_ALLOW_NUL, &error);
        if (json == NULL)
            fail_msg("%s: %s", text, error.text);
        double p = json_number_value(json_object_get(json, "p"));
        double q = json_number_value(json_object_get(json, "q"));
        double r = json_number_value(json_object_get(json, "r"));
        assert_true(p >= 0 && p < 1);
        assert_true(q >= 2.25 && q <= 2.5);
        assert_true(r > -3 && r <= 12.5);
        json_decref(json);
        grammar_free(grammar);
    }
    tongue_free(&tongue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_schema__true_is_any_json),
        cmocka_unit_test(test_json_schema__objects_have_their_members_in_order),
        cmocka_unit_test(test_json_schema__other_members_have_other_names),
        cmocka_unit_test(test_json_schema__names_of_a_map_have_lengths_and_patterns),
        cmocka_unit_test(test_json_schema__arrays_have_their_items_and_bounds),
        cmocka_unit_test(test_json_schema__strings_are_counted_in_characters),
        cmocka_unit_test(test_json_schema__patterns_are_those_of_the_value),
        cmocka_unit_test(test_json_schema__whole_numbers_lie_within_their_bounds),
        cmocka_unit_test(test_json_schema__numbers_between_neighbouring_wholes),
        cmocka_unit_test(test_json_schema__refusals_have_a_place),
        cmocka_unit_test(test_json_schema__values_are_spelled_out),
        cmocka_unit_test(test_json_schema__choices_and_references),
        cmocka_unit_test(test_json_schema__what_is_not_compiled_is_named),
        cmocka_unit_test(test_json_schema__limits_hold_and_one_more_is_refused),
        cmocka_unit_test(test_json_schema__what_would_compare_without_bound_is_refused),
        cmocka_unit_test(test_json_schema__whatever_is_drawn_is_json),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
