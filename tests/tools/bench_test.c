/* The subcommand as it is called, on a tiny model: what it prints, what it refuses. */
#include "tiny_file_fixture.h"

#include "tools/tools.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define SAID_MAX 65536
#define WORDS_MAX 16

static char said[2][SAID_MAX]; /* standard output, standard error */

static void take_over(FILE *stream, int *kept, FILE **instead)
{
    fflush(stream);
    *kept = dup(fileno(stream));
    *instead = tmpfile();
    assert_non_null(*instead);
    assert_true(dup2(fileno(*instead), fileno(stream)) >= 0);
}

static void give_back(FILE *stream, int kept, FILE *instead, char *out)
{
    fflush(stream);
    assert_true(dup2(kept, fileno(stream)) >= 0);
    close(kept);
    rewind(instead);
    out[fread(out, 1, SAID_MAX - 1, instead)] = '\0';
    fclose(instead);
}

/* Options are parted by blanks; the model is the tiny one (2,048 tokens of context). */
static int run_bench(const char *options)
{
    char text[256], *argv[WORDS_MAX] = {"bench", "--model"}, *rest = text;
    int argc = 3, kept[2], exit_status;
    FILE *instead[2];
    const char *path = tiny_file(NULL);

    argv[2] = (char *)path;
    snprintf(text, sizeof text, "%s", options);
    for (char *word; (word = strtok_r(rest, " ", &rest)) != NULL; argv[argc++] = word)
        assert_true(argc < WORDS_MAX);
    take_over(stdout, &kept[0], &instead[0]);
    take_over(stderr, &kept[1], &instead[1]);
    exit_status = tools_bench(argc, argv);
    give_back(stdout, kept[0], instead[0], said[0]);
    give_back(stderr, kept[1], instead[1], said[1]);
    unlink(path);
    return exit_status;
}

/* The number behind the next "key": in the JSON from *at on. */
static double next_number(const char **at, const char *key)
{
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\": ", key);
    *at = strstr(*at, quoted);
    if (*at == NULL)
        fail_msg("no \"%s\" in %s", key, said[0]);
    *at += strlen(quoted);
    return strtod(*at, NULL);
}

static void test_bench__each_depth_stands_beside_the_peaks_of_its_minute(void **state)
{
    static const uint32_t depths[] = {70, 0};
    if (run_bench("--json --depth 70,0 --prompt 30 --gen 3 --threads 1") != 0)
        fail_msg("%s", said[1]);
    const char *at = said[0];
    double step_bytes = next_number(&at, "step_weight_bytes");
    for (size_t i = 0; i < 2; i++) {
        assert_true(next_number(&at, "depth") == depths[i]);
        assert_true(next_number(&at, "read_bytes_per_s") > 0);
        assert_true(next_number(&at, "int8_ops_per_s") > 0);
        assert_true(next_number(&at, "fma_ops_per_s") > 0);
        for (int phase = 0; phase < 2; phase++) { /* prefill, decode */
            double tokens = next_number(&at, "tokens"), seconds = next_number(&at, "seconds");
            assert_true(tokens == (phase == 0 ? 30 : 3));
            assert_true(next_number(&at, "cpu_seconds") > 0);
            double rate = next_number(&at, "tokens_per_s");
            assert_true(rate * seconds > tokens * 0.999 && rate * seconds < tokens * 1.001);
            assert_true(next_number(&at, "ops_per_s") > 0);
            double bytes = next_number(&at, "bytes_per_s") * seconds;
            assert_true(bytes > 0.999 * step_bytes * (phase == 0 ? 1 : 3));
            assert_true(next_number(&at, "share_of_peaks") > 0);
        }
    }
}

static void test_bench__what_cannot_be_is_refused_before_anything_is_loaded(void **state)
{
    assert_int_equal(run_bench("--depth 0,x"), 2);
    assert_non_null(strstr(said[1], "--depth \"0,x\" is no list of whole numbers"));
    assert_int_equal(run_bench("--gen 0"), 2);
    assert_non_null(strstr(said[1], "--gen"));
    assert_int_equal(run_bench("--depth 1500 --prompt 512 --gen 64"), 1);
    assert_non_null(strstr(said[1], "need 2,076 tokens of context; the model's holds 2,048"));
    assert_null(strstr(said[1], "loading"));
    assert_string_equal(said[0], "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bench__each_depth_stands_beside_the_peaks_of_its_minute),
        cmocka_unit_test(test_bench__what_cannot_be_is_refused_before_anything_is_loaded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
