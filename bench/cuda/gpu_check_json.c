/* The report as JSON. */
#include "bench/cuda/gpu_check_report.h"

#include "base/status.h"
#include "tools/json_print.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PATH_BYTES 4096

static void print_device(struct json_print *json, const struct report *report)
{
    const struct device_facts *device = &report->device;
    json_print_open(json, "device", '{');
    json_print_string(json, "name", device->name);
    json_print_uint(json, "major", device->major);
    json_print_uint(json, "minor", device->minor);
    json_print_uint(json, "multiprocessors", device->n_cores);
    json_print_uint(json, "memory_bytes", device->memory_bytes);
    json_print_uint(json, "memory_free_bytes", device->memory_free);
    json_print_uint(json, "l2_bytes", device->l2_bytes);
    json_print_close(json, '}');
    json_print_open(json, "peaks", '{');
    json_print_real(json, "copy_bytes_per_s", report->copy_bytes_per_s);
    json_print_real(json, "mma_ops_per_s", report->mma_ops_per_s);
    json_print_close(json, '}');
}

static void print_models(struct json_print *json, const struct report *report)
{
    json_print_open(json, "models", '[');
    for (uint32_t i = 0; i < report->n_models; i++) {
        json_print_open(json, NULL, '{');
        json_print_string(json, "name", report->models[i].name);
        json_print_string(json, "weights", report->models[i].weights);
        json_print_uint(json, "weights_bytes", report->models[i].weights_bytes);
        json_print_bool(json, "synthetic", true); /* a shape of the name; values are a seed's */
        json_print_close(json, '}');
    }
    json_print_close(json, ']');
}

static void print_tests(struct json_print *json, const struct report *report)
{
    json_print_open(json, "tests", '[');
    for (uint32_t i = 0; i < report->n_tests; i++) {
        json_print_open(json, NULL, '{');
        json_print_string(json, "name", report->tests[i].name);
        json_print_string(json, "outcome", report->tests[i].outcome);
        json_print_real(json, "seconds", report->tests[i].seconds);
        json_print_string(json, "note", report->tests[i].note);
        json_print_close(json, '}');
    }
    json_print_close(json, ']');
}

static void print_cost(struct json_print *json, const struct op_cost *cost)
{
    json_print_real(json, "read_bytes", cost->read);
    json_print_real(json, "written_bytes", cost->written);
    json_print_real(json, "mma_ops", cost->half_ops);
    json_print_real(json, "float_ops", cost->float_ops);
}

static void print_kernels(struct json_print *json, const struct report *report)
{
    json_print_open(json, "kernels", '[');
    for (uint32_t i = 0; i < report->n_kernels; i++) {
        const struct report_kernel *kernel = &report->kernels[i];
        json_print_open(json, NULL, '{');
        json_print_string(json, "name", kernel->name);
        json_print_string(json, "shape", kernel->shape);
        json_print_real(json, "seconds", kernel->seconds);
        print_cost(json, &kernel->cost);
        json_print_close(json, '}');
    }
    json_print_close(json, ']');
}

static void print_runs(struct json_print *json, const struct report *report, const char *key,
                       const struct report_run *runs, uint32_t n)
{
    json_print_open(json, key, '[');
    for (uint32_t i = 0; i < n; i++) {
        json_print_open(json, NULL, '{');
        json_print_string(json, "model", report->models[runs[i].model_idx].name);
        json_print_uint(json, "context", runs[i].context);
        json_print_uint(json, "tokens", runs[i].n_tokens);
        json_print_real(json, "seconds", runs[i].seconds);
        json_print_real(json, "best_step_seconds", runs[i].best_seconds);
        json_print_real(json, "tokens_per_s", (double)runs[i].n_tokens / runs[i].seconds);
        print_cost(json, &runs[i].cost);
        json_print_close(json, '}');
    }
    json_print_close(json, ']');
}

static void print_rest(struct json_print *json, const struct report *report)
{
    json_print_open(json, "does_not_fit", '[');
    for (uint32_t i = 0; i < report->n_lacks; i++) {
        json_print_open(json, NULL, '{');
        json_print_string(json, "what", report->lacks[i].what);
        json_print_uint(json, "needed_bytes", report->lacks[i].needed_bytes);
        json_print_uint(json, "free_bytes", report->lacks[i].free_bytes);
        json_print_close(json, '}');
    }
    json_print_close(json, ']');
    json_print_open(json, "cut", '[');
    for (uint32_t i = 0; i < report->n_cut; i++)
        json_print_string(json, NULL, report->cut[i]);
    json_print_close(json, ']');
}

static void print_report(struct json_print *json, const struct report *report)
{
    char date[32] = "";
    time_t now = time(NULL);
    struct tm utc;
    if (gmtime_r(&now, &utc) != NULL)
        strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &utc);
    json_print_open(json, NULL, '{');
    json_print_uint(json, "version", 2);
    json_print_bool(json, "emulated", report->emulated);
    json_print_string(json, "commit", report->commit);
    json_print_string(json, "toolkit", report->toolkit);
    json_print_string(json, "date", date);
    json_print_real(json, "seconds", report->seconds);
    print_device(json, report);
    print_models(json, report);
    json_print_uint(json, "n_failed", report_n_failed(report));
    print_tests(json, report);
    print_kernels(json, report);
    print_runs(json, report, "decode", report->decodes, report->n_decodes);
    print_runs(json, report, "prefill", report->prefills, report->n_prefills);
    print_rest(json, report);
    json_print_close(json, '}');
    fputc('\n', json->to);
}

int report_write_json(const struct report *report, const char *path, struct why *why)
{
    char half[PATH_BYTES];
    if (snprintf(half, sizeof half, "%s.part", path) >= (int)sizeof half)
        return refuse(why, STATUS_IO, "the path of the report is too long (--output)");
    struct json_print json = {.to = fopen(half, "w")};
    if (json.to == NULL)
        return refuse(why, STATUS_IO, "%s: %s (--output)", half, strerror(errno));
    print_report(&json, report);
    bool is_bad = ferror(json.to) != 0;
    is_bad = fclose(json.to) != 0 || is_bad;
    if (!is_bad && rename(half, path) == 0)
        return STATUS_OK;
    int status = refuse(why, STATUS_IO, "%s: %s (--output)", path, strerror(errno));
    unlink(half);
    return status;
}
