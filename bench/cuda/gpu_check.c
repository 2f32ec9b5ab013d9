/* bench/cuda/gpu_check.c: proves and measures the CUDA backend on this machine's first GPU, from
 * nothing but a seed. scripts/gpu-check builds it, runs the tests of ops before it and hands their
 * outcomes over.
 *
 *   gpu_check [--output FILE] [--tests FILE] [--seconds N] [--part-seconds N] [--only PART]
 *
 * Exit status: 0; 1: a test failed, or a part could not go on; 2: the command line.
 */
#include "bench/cuda/gpu_check.h"

#include "base/clock.h"
#include "base/options.h"
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct gpu_check_options {
    const char *output, *tests, *commit, *toolkit;
    double seconds, part_seconds;
    int only;
};

#define FIELD(name) offsetof(struct gpu_check_options, name)

static const struct option options[] = {
    {"output", 'o', OPTION_TEXT, FIELD(output), NULL, "FILE", "also write the report as JSON", 0,
     0, NULL, 0},
    {"tests", 0, OPTION_TEXT, FIELD(tests), NULL, "FILE",
     "outcomes of tests that ran before: NAME OUTCOME SECONDS a line", 0, 0, NULL, 0},
    {"seconds", 0, OPTION_REAL, FIELD(seconds), "420", "N", "for everything", 0, 86400, NULL, 0},
    {"part-seconds", 0, OPTION_REAL, FIELD(part_seconds), "0", "N",
     "for each part; 0: as each has it", 0, 86400, NULL, 0},
    {"commit", 0, OPTION_TEXT, FIELD(commit), "", "TEXT", "of the sources, for the report", 0, 0,
     NULL, 0},
    {"toolkit", 0, OPTION_TEXT, FIELD(toolkit), "", "TEXT", "the CUDA toolkit, for the report", 0,
     0, NULL, 0},
    {"only", 0, OPTION_CHOICE, FIELD(only), "all", "PART", "one part instead of all", 0, 0,
     "all|peaks|model|kernels|decode|prefill|scout", 0},
    {NULL, 0, 0, 0, NULL, NULL, NULL, 0, 0, NULL, 0},
};

static const struct command command = {
    .name = "gpu_check",
    .usage = "gpu_check [options]",
    .summary = "Proves and measures the CUDA backend on this machine; scripts/gpu-check runs it.",
    .options = options,
    .examples = "  gpu_check --output report.json\n"
                "  gpu_check --only kernels\n",
};

static const struct part {
    const char *name;
    double seconds;
    int (*run)(struct gpu_check *check, struct why *why);
} parts[] = { /* in the order of --only */
    {"peaks", 10, check_peaks},   {"model", 60, check_model},      {"kernels", 60, check_kernels},
    {"decode", 80, check_decode}, {"prefill", 110, check_prefill}, {"scout", 80, check_scout},
};
#define N_PARTS (sizeof parts / sizeof parts[0])

double check_now(void)
{
    return (double)clock_now(&clock_monotonic) * 1e-9;
}

bool check_is_over(const struct gpu_check *check)
{
    return clock_now(&clock_monotonic) >= check->part_ends_ns;
}

bool check_is_cut(struct gpu_check *check, const char *format, ...)
{
    char what[REPORT_NOTE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    bool is_over = check_is_over(check);
    fprintf(stderr, "gpu-check: %s%s\n", what, is_over ? ": cut, its time is over" : "");
    if (is_over)
        report_add_cut(check->report, what);
    return is_over;
}

/* A part that cannot go on is a failed test of its own; the others are tried all the same. */
static void run_part(struct gpu_check *check, const struct part *part, double limit)
{
    struct why why = {.text = ""};
    int64_t now = clock_now(&clock_monotonic);
    double seconds = limit > 0 ? limit : part->seconds, begin = check_now();
    check->part_ends_ns = now + (int64_t)(seconds * NS_PER_S);
    if (check->part_ends_ns > check->ends_ns)
        check->part_ends_ns = check->ends_ns;
    int status = part->run(check, &why);
    if (status == STATUS_OK)
        return;
    fprintf(stderr, "gpu-check: %s: %s\n", part->name, why.text);
    struct report_test *test =
        report_add_test(check->report, part->name, "failed", check_now() - begin);
    if (test != NULL)
        snprintf(test->note, sizeof test->note, "%.*s", (int)sizeof test->note - 1, why.text);
}

static int open_device(struct gpu_check *check, struct why *why)
{
    struct device_facts facts[DEVICES_MAX];
    struct device_options cuda = {.backend = BACKEND_CUDA};
    uint32_t n;
    int status = device_list(BACKEND_CUDA, facts, &n, why);
    if (status == STATUS_OK)
        status = device_open(&cuda, &check->device, why);
    if (status < 0)
        return status;
    check->ops = device_ops(check->device);
    check->facts = check->report->device = facts[0];
    return STATUS_OK;
}

static int run_parts(struct report *report, const struct gpu_check_options *in, struct why *why)
{
    double begin = check_now();
    struct gpu_check check = {.report = report};
    check.ends_ns = clock_now(&clock_monotonic) + (int64_t)(in->seconds * NS_PER_S);
    int status = open_device(&check, why);
    if (status < 0)
        return status;
    for (size_t i = 0; i < N_PARTS; i++)
        if (in->only == 0 || (size_t)in->only == i + 1)
            run_part(&check, &parts[i], in->part_seconds);
    device_close(check.device);
    report->seconds = check_now() - begin;
    report_print(report, stdout);
    return in->output != NULL ? report_write_json(report, in->output, why) : STATUS_OK;
}

static int refused(const struct why *why, int exit_status)
{
    fprintf(stderr, "gpu-check: %s\n", why->text);
    return exit_status;
}

int main(int argc, char **argv)
{
    static struct report report;
    struct gpu_check_options in = {.output = NULL};
    struct why why = {.text = ""};
    bool help;
    int n_operands, status;

    status = options_parse(&command, argc, argv, &in, NULL, &n_operands, &help, &why);
    if (status < 0)
        return refused(&why, 2);
    if (help) {
        options_print_help(&command);
        return 0;
    }
    report.commit = in.commit;
    report.toolkit = in.toolkit;
    report.emulated = GPU_CHECK_IS_EMULATED;
    if (in.tests != NULL)
        status = report_read_tests(&report, in.tests, &why);
    if (status == STATUS_OK)
        status = run_parts(&report, &in, &why);
    if (status < 0)
        return refused(&why, 1);
    return report_n_failed(&report) > 0 ? 1 : 0;
}
