#include "bench/cuda/gpu_check_report.h"

#include "base/status.h"

#include <errno.h>
#include <string.h>

struct report_test *report_add_test(struct report *report, const char *name, const char *outcome,
                                    double seconds)
{
    if (report->n_tests == REPORT_TESTS_MAX) {
        report_add_cut(report, name);
        return NULL;
    }
    struct report_test *test = &report->tests[report->n_tests++];
    snprintf(test->name, sizeof test->name, "%s", name);
    snprintf(test->outcome, sizeof test->outcome, "%s", outcome);
    test->seconds = seconds;
    return test;
}

struct report_kernel *report_add_kernel(struct report *report, const char *name)
{
    if (report->n_kernels == REPORT_KERNELS_MAX) {
        report_add_cut(report, name);
        return NULL;
    }
    struct report_kernel *kernel = &report->kernels[report->n_kernels++];
    snprintf(kernel->name, sizeof kernel->name, "%s", name);
    return kernel;
}

static struct report_run *add_run(struct report_run *runs, uint32_t *n, uint32_t model_idx,
                                  uint64_t context)
{
    if (*n == REPORT_RUNS_MAX)
        return NULL;
    runs[*n] = (struct report_run){.model_idx = model_idx, .context = context};
    return &runs[(*n)++];
}

struct report_run *report_add_decode(struct report *report, uint32_t model_idx, uint64_t context)
{
    return add_run(report->decodes, &report->n_decodes, model_idx, context);
}

struct report_run *report_add_prefill(struct report *report, uint32_t model_idx, uint64_t context)
{
    return add_run(report->prefills, &report->n_prefills, model_idx, context);
}

void report_add_cut(struct report *report, const char *what)
{
    if (report->n_cut < REPORT_NOTES_MAX)
        snprintf(report->cut[report->n_cut++], REPORT_NOTE_BYTES, "%s", what);
}

void report_add_lack(struct report *report, const char *what, uint64_t needed_bytes,
                     uint64_t free_bytes)
{
    if (report->n_lacks == REPORT_NOTES_MAX)
        return;
    struct report_lack *lack = &report->lacks[report->n_lacks++];
    snprintf(lack->what, sizeof lack->what, "%s", what);
    lack->needed_bytes = needed_bytes;
    lack->free_bytes = free_bytes;
}

/* --- what the script ran --- */

int report_read_tests(struct report *report, const char *path, struct why *why)
{
    FILE *file = fopen(path, "r");
    char line[512], name[REPORT_NAME_BYTES], outcome[16];
    double seconds;
    int status = STATUS_OK;
    if (file == NULL)
        return refuse(why, STATUS_IO, "%s: %s (--tests)", path, strerror(errno));
    while (status == STATUS_OK && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "%95s %15s %lf", name, outcome, &seconds) != 3)
            status = refuse(why, STATUS_CORRUPT, "%s: a line is not NAME OUTCOME SECONDS: %.80s",
                            path, line);
        else
            report_add_test(report, name, outcome, seconds);
    }
    fclose(file);
    return status;
}

static bool has_failed(const struct report_test *test)
{
    static const char *const sound[] = {"passed", "cut", "absent"};
    for (size_t i = 0; i < sizeof sound / sizeof *sound; i++)
        if (strcmp(test->outcome, sound[i]) == 0)
            return false;
    return true;
}

uint32_t report_n_failed(const struct report *report)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < report->n_tests; i++)
        n += has_failed(&report->tests[i]) ? 1 : 0;
    return n;
}
