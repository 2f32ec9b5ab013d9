#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/options.h"
#include "base/status.h"
#include "tests/base/capture_fixture.h"

struct settings {
    int64_t seed, threads;
    bool given_threads, json;
    double temperature;
    uint64_t kv_memory;
    const char *model;
    int kv_dtype;
    struct option_list stop;
};

#define FIELD(name) offsetof(struct settings, name)

static const struct option table[] = {
    {.name = "model",
     .letter = 'm',
     .kind = OPTION_TEXT,
     .offset = FIELD(model),
     .value_name = "FILE",
     .help = "the model's GGUF file"},
    {.name = "threads",
     .letter = 't',
     .kind = OPTION_INT,
     .offset = FIELD(threads),
     .fallback = "2",
     .value_name = "N",
     .min = 1,
     .max = 256,
     .help =
         "worker threads; more than the machine has cores only makes them wait for one another, "
         "so that the default is nearly always the best choice",
     .given_offset = FIELD(given_threads)},
    {.name = "seed",
     .kind = OPTION_INT,
     .offset = FIELD(seed),
     .value_name = "N",
     .min = 0,
     .max = 0x1p63,
     .help = "same seed, same text"},
    {.name = "temperature",
     .kind = OPTION_REAL,
     .offset = FIELD(temperature),
     .fallback = "0.7",
     .value_name = "T",
     .min = 0,
     .max = 2,
     .help = "0 is greedy"},
    {.name = "kv-memory",
     .kind = OPTION_BYTES,
     .offset = FIELD(kv_memory),
     .fallback = "1GiB",
     .value_name = "BYTES",
     .help = "memory for pages\nof keys and values"},
    {.name = "kv-dtype",
     .kind = OPTION_CHOICE,
     .offset = FIELD(kv_dtype),
     .fallback = "f16",
     .value_name = "DTYPE",
     .choices = "f16|f32|bf16",
     .help = "type of page values"},
    {.name = "stop",
     .kind = OPTION_LIST,
     .offset = FIELD(stop),
     .value_name = "TEXT",
     .help = "ends the text before this; may be given again"},
    {.name = "json",
     .kind = OPTION_FLAG,
     .offset = FIELD(json),
     .fallback = "no",
     .help = "one object a line"},
    {.name = "a-name-that-is-longer-than-the-column-allows",
     .kind = OPTION_FLAG,
     .offset = FIELD(json),
     .help = "odd"},
    {.name = NULL},
};

static const struct command serve = {
    .name = "serve",
    .usage = "quire serve --model FILE [options] FILE...",
    .summary = "Serves a model.",
    .options = table,
    .examples = "  quire serve --model m.gguf",
    .operands_min = 0,
    .operands_max = 2,
};

struct outcome {
    int status;
    struct settings settings;
    const char *operands[2];
    int n_operands;
    bool help;
    struct why why;
};

/* Parses the words up to NULL, with fields that tell whether they were touched. */
static struct outcome parse(char *first, ...)
{
    struct outcome o = {.settings = {.seed = -5, .model = "untouched"}};
    char *argv[64] = {"serve"};
    int argc = 1;
    va_list words;
    va_start(words, first);
    for (char *word = first; word != NULL; word = va_arg(words, char *))
        argv[argc++] = word;
    va_end(words);
    o.status =
        options_parse(&serve, argc, argv, &o.settings, o.operands, &o.n_operands, &o.help, &o.why);
    return o;
}

static int clear_variables(void **state)
{
    static const char *const names[] = {"QUIRE_MODEL",    "QUIRE_THREADS", "QUIRE_KV_MEMORY",
                                        "QUIRE_KV_DTYPE", "QUIRE_STOP",    "QUIRE_JSON"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
    return 0;
}

static void test_options__fill_defaults_and_leave_the_rest(void **state)
{
    struct outcome o = parse(NULL);
    assert_int_equal(o.status, STATUS_OK);
    assert_int_equal(o.settings.threads, 2);
    assert_false(o.settings.given_threads);
    assert_true(o.settings.temperature == 0.7);
    assert_true(o.settings.kv_memory == 1u << 30);
    assert_int_equal(o.settings.kv_dtype, 0);
    assert_string_equal(o.settings.model, "untouched");
    assert_int_equal(o.settings.seed, -5);
    assert_int_equal(o.settings.stop.n, 0);
    assert_false(o.settings.json);
}

static void test_options__read_every_form_of_the_command_line(void **state)
{
    struct outcome o =
        parse("--threads", "3", "--kv-memory=1.5g", "-m", "x.gguf", "--json", "--kv-dtype", "bf16",
              "--temperature=0", "--seed", "9223372036854775807", NULL);
    assert_int_equal(o.status, STATUS_OK);
    assert_int_equal(o.settings.threads, 3);
    assert_true(o.settings.given_threads);
    assert_true(o.settings.kv_memory == UINT64_C(3) << 29);
    assert_string_equal(o.settings.model, "x.gguf");
    assert_true(o.settings.json);
    assert_int_equal(o.settings.kv_dtype, 2);
    assert_true(o.settings.temperature == 0);
    assert_true(o.settings.seed == INT64_MAX);
}

static void test_options__the_last_of_several_counts_but_lists_grow(void **state)
{
    struct outcome o = parse("-t", "3", "-t", "4", "--stop", "a", "--stop=", "--stop", "-b", NULL);
    assert_int_equal(o.status, STATUS_OK);
    assert_int_equal(o.settings.threads, 4);
    assert_int_equal(o.settings.stop.n, 3);
    assert_string_equal(o.settings.stop.values[0], "a");
    assert_string_equal(o.settings.stop.values[1], "");
    assert_string_equal(o.settings.stop.values[2], "-b");
}

static void test_options__a_list_has_a_limit(void **state)
{
    char *argv[2 * OPTION_LIST_MAX + 3] = {"serve"};
    for (int i = 1; i < 2 * OPTION_LIST_MAX + 3; i++)
        argv[i] = i % 2 == 1 ? "--stop" : "x";
    struct outcome o = {0};
    assert_int_equal(options_parse(&serve, 2 * OPTION_LIST_MAX + 1, argv, &o.settings, o.operands,
                                   &o.n_operands, &o.help, &o.why),
                     STATUS_OK);
    assert_int_equal(o.settings.stop.n, OPTION_LIST_MAX);
    assert_int_equal(options_parse(&serve, 2 * OPTION_LIST_MAX + 3, argv, &o.settings, o.operands,
                                   &o.n_operands, &o.help, &o.why),
                     STATUS_INVALID);
    assert_string_equal(o.why.text,
                        "--stop may be given 16 times, not more; see quire serve --help");
}

static void test_options__the_environment_stands_between_line_and_default(void **state)
{
    setenv("QUIRE_THREADS", "7", 1);
    setenv("QUIRE_KV_MEMORY", "512K", 1);
    setenv("QUIRE_JSON", "on", 1);
    setenv("QUIRE_STOP", "end", 1);
    setenv("QUIRE_MODEL", "", 1); /* as good as not set */
    struct outcome o = parse("--kv-memory", "1M", NULL);
    assert_int_equal(o.status, STATUS_OK);
    assert_int_equal(o.settings.threads, 7);
    assert_true(o.settings.given_threads);
    assert_true(o.settings.kv_memory == 1u << 20);
    assert_true(o.settings.json);
    assert_int_equal(o.settings.stop.n, 1);
    assert_string_equal(o.settings.model, "untouched");
    setenv("QUIRE_JSON", "off", 1);
    o = parse("--stop", "other", NULL);
    assert_false(o.settings.json);
    assert_int_equal(o.settings.stop.n, 1);
    assert_string_equal(o.settings.stop.values[0], "other");
}

static void test_options__a_bad_variable_is_named(void **state)
{
    setenv("QUIRE_THREADS", "x", 1);
    struct outcome o = parse(NULL);
    assert_int_equal(o.status, STATUS_INVALID);
    assert_string_equal(o.why.text, "QUIRE_THREADS takes a whole number from 1 to 256, not \"x\"; "
                                    "see quire serve --help");
    assert_int_equal(parse("--threads", "3", NULL).status, STATUS_OK); /* not looked at */
    setenv("QUIRE_THREADS", "3", 1);
    setenv("QUIRE_JSON", "maybe", 1);
    o = parse(NULL);
    assert_string_equal(o.why.text, "QUIRE_JSON takes 1, true, yes, on, 0, false, no or off, not "
                                    "\"maybe\"; see quire serve --help");
}

static void assert_refused(struct outcome o, const char *sentence)
{
    assert_int_equal(o.status, STATUS_INVALID);
    assert_string_equal(o.why.text, sentence);
}

static void test_options__refusals_say_what_is_taken(void **state)
{
    assert_refused(
        parse("--threads", "x", NULL),
        "--threads takes a whole number from 1 to 256, not \"x\"; see quire serve --help");
    assert_refused(
        parse("-t", "257", NULL),
        "--threads takes a whole number from 1 to 256, not \"257\"; see quire serve --help");
    assert_refused(parse("--temperature=nan", NULL),
                   "--temperature takes a number from 0 to 2, not \"nan\"; see quire serve --help");
    assert_refused(parse("--kv-memory", "lots", NULL),
                   "--kv-memory takes a size in bytes, such as 4096, 512K, 1.5g or 8GiB, not "
                   "\"lots\"; see quire serve --help");
    assert_refused(parse("--kv-dtype", "f1", NULL),
                   "--kv-dtype takes f16, f32 or bf16, not \"f1\"; see quire serve --help");
    assert_refused(parse("--json=yes", NULL),
                   "--json takes no value, but \"yes\" was given; see quire serve --help");
    assert_refused(parse("--model", NULL), "--model needs a value (FILE); see quire serve --help");
    assert_refused(parse("a", "b", "c", NULL),
                   "quire serve was given 3 arguments beside its options and takes 0 to 2: "
                   "quire serve --model FILE [options] FILE...");
}

static void test_options__an_unknown_one_hears_the_nearest_name(void **state)
{
    assert_refused(parse("--thread", "3", NULL),
                   "quire serve has no option --thread; did you mean --threads? "
                   "See quire serve --help");
    assert_refused(parse("--kv-mmeory=3", NULL),
                   "quire serve has no option --kv-mmeory; did you mean --kv-memory? "
                   "See quire serve --help");
    assert_refused(parse("--Json", NULL), "quire serve has no option --Json; did you mean --json? "
                                          "See quire serve --help");
    assert_refused(parse("--temp", "1", NULL),
                   "quire serve has no option --temp; did you mean --temperature? "
                   "See quire serve --help");
    assert_refused(parse("--unheard-of", NULL),
                   "quire serve has no option --unheard-of; see quire serve --help");
    assert_refused(parse("-x", NULL), "quire serve has no option -x; see quire serve --help");
    char name[300] = "--";
    memset(name + 2, 'q', sizeof name - 3);
    assert_int_equal(parse(name, NULL).status, STATUS_INVALID);
}

static void test_options__operands_mix_and_two_dashes_end_options(void **state)
{
    struct outcome o = parse("one", "--json", "-", NULL);
    assert_int_equal(o.status, STATUS_OK);
    assert_int_equal(o.n_operands, 2);
    assert_string_equal(o.operands[0], "one");
    assert_string_equal(o.operands[1], "-");
    o = parse("--", "--json", "--", NULL);
    assert_int_equal(o.status, STATUS_OK);
    assert_int_equal(o.n_operands, 2);
    assert_string_equal(o.operands[0], "--json");
    assert_string_equal(o.operands[1], "--");
    assert_false(o.settings.json);
}

static void test_options__help_comes_before_every_complaint(void **state)
{
    assert_true(parse("--threads", "x", "--help", NULL).help);
    assert_true(parse("--unknown", "-h", NULL).help);
    assert_int_equal(parse("--unknown", "-h", NULL).status, STATUS_OK);
    assert_false(parse("--model", "--help", NULL).help); /* a value */
    assert_false(parse("--", "--help", NULL).help);
}

static void test_options__help_shows_everything_in_a_hundred_columns(void **state)
{
    static struct capture capture;
    capture_begin(&capture, STDOUT_FILENO);
    options_print_help(&serve);
    const char *text = capture_read(&capture);
    capture_end(&capture);

    size_t longest = 0;
    for (const char *at = text; *at != 0; at += strcspn(at, "\n") + 1) {
        size_t len = strcspn(at, "\n");
        longest = len > longest ? len : longest;
        assert_true(len == 0 || at[len - 1] != ' ');
    }
    assert_in_range(longest, 90, 100);
    static const char *const lines[] = {
        "Usage: quire serve --model FILE [options] FILE...\n\nServes a model.\n\nOptions:\n",
        "  -m, --model FILE              the model's GGUF file (QUIRE_MODEL)\n",
        "      --temperature T           0 is greedy (default 0.7; QUIRE_TEMPERATURE)\n",
        "      --kv-memory BYTES         memory for pages\n"
        "                                of keys and values (default 1GiB; QUIRE_KV_MEMORY)\n",
        "      --kv-dtype DTYPE          type of page values (f16|f32|bf16; default f16; "
        "QUIRE_KV_DTYPE)\n",
        "      --json                    one object a line (QUIRE_JSON)\n",
        "      --a-name-that-is-longer-than-the-column-allows\n"
        "                                odd (QUIRE_A_NAME_",
        "  -h, --help                    this text\n\nExamples:\n  quire serve --model m.gguf\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        if (strstr(text, lines[i]) == NULL)
            fail_msg("the help lacks:\n%s\nin\n%s", lines[i], text);
    }
    const char *examples = strstr(text, "Examples:");
    assert_string_equal(examples, "Examples:\n  quire serve --model m.gguf\n"); /* the end */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options__fill_defaults_and_leave_the_rest),
        cmocka_unit_test(test_options__read_every_form_of_the_command_line),
        cmocka_unit_test(test_options__the_last_of_several_counts_but_lists_grow),
        cmocka_unit_test(test_options__a_list_has_a_limit),
        cmocka_unit_test_teardown(test_options__the_environment_stands_between_line_and_default,
                                  clear_variables),
        cmocka_unit_test_teardown(test_options__a_bad_variable_is_named, clear_variables),
        cmocka_unit_test(test_options__refusals_say_what_is_taken),
        cmocka_unit_test(test_options__an_unknown_one_hears_the_nearest_name),
        cmocka_unit_test(test_options__operands_mix_and_two_dashes_end_options),
        cmocka_unit_test(test_options__help_comes_before_every_complaint),
        cmocka_unit_test(test_options__help_shows_everything_in_a_hundred_columns),
    };
    clear_variables(NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
