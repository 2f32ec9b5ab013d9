/* The report as a table. */
#include "bench/cuda/gpu_check_report.h"

#include "base/text.h"

#include <string.h>

#define GIGA 1e-9
#define TERA 1e-12

static void print_tests(const struct report *report, FILE *to)
{
    if (report->n_tests == 0)
        return;
    fprintf(to, "\n%-52s %-8s %8s\n", "test", "outcome", "seconds");
    for (uint32_t i = 0; i < report->n_tests; i++) {
        const struct report_test *test = &report->tests[i];
        fprintf(to, "%-52s %-8s %8.2f  %s\n", test->name, test->outcome, test->seconds,
                test->note);
    }
}

/* "  81 %" of a peak, or nothing where there is none. */
static void print_share(double value, double peak, FILE *to)
{
    if (peak > 0)
        fprintf(to, " %4.0f %%", 100 * value / peak);
    else
        fputs("    -  ", to);
}

static void print_rates(const struct report *report, const struct op_cost *cost, double seconds,
                        FILE *to)
{
    double bytes = (cost->read + cost->written) / seconds, ops = cost->half_ops / seconds;
    fprintf(to, " %9.1f", bytes * GIGA);
    print_share(bytes, report->copy_bytes_per_s, to);
    fprintf(to, " %9.2f", ops * TERA);
    print_share(ops, report->mma_ops_per_s, to);
}

static void print_kernels(const struct report *report, FILE *to)
{
    if (report->n_kernels == 0)
        return;
    fprintf(to, "\n%-18s %-34s %10s %9s %6s %9s %6s\n", "kernel", "shape", "us", "GB/s", "copy",
            "TFLOP/s", "mma");
    for (uint32_t i = 0; i < report->n_kernels; i++) {
        const struct report_kernel *kernel = &report->kernels[i];
        fprintf(to, "%-18s %-34s %10.1f", kernel->name, kernel->shape, kernel->seconds * 1e6);
        print_rates(report, &kernel->cost, kernel->seconds, to);
        fputc('\n', to);
    }
}

/* Those of one model. */
static void print_runs(const struct report *report, const char *title, uint32_t model_idx,
                       const struct report_run *runs, uint32_t n, FILE *to)
{
    char context[TEXT_NUMBER_BYTES], tokens[TEXT_NUMBER_BYTES];
    bool has_title = false;
    for (uint32_t i = 0; i < n; i++) {
        const struct report_run *run = &runs[i];
        if (run->model_idx != model_idx)
            continue;
        if (!has_title)
            fprintf(to, "\n%-18s %12s %10s %12s %10s %9s %6s %9s %6s\n", title, "tokens", "best ms",
                    "tokens/s", "seconds", "GB/s", "copy", "TFLOP/s", "mma");
        has_title = true;
        fprintf(to, "%-18s %12s %10.2f %12.1f %10.2f", text_count(context, run->context),
                text_count(tokens, run->n_tokens), run->best_seconds * 1e3,
                (double)run->n_tokens / run->seconds, run->seconds);
        print_rates(report, &run->cost, run->seconds, to);
        fputc('\n', to);
    }
}

static void print_models(const struct report *report, FILE *to)
{
    char memory[TEXT_NUMBER_BYTES];
    for (uint32_t i = 0; i < report->n_models && report->n_decodes + report->n_prefills > 0; i++) {
        const struct report_model *model = &report->models[i];
        fprintf(to, "\n%s, %s, %s of weights; weights, pages and prompt are a seed's\n",
                model->name, model->weights, text_bytes(memory, model->weights_bytes));
        print_runs(report, "decode behind", i, report->decodes, report->n_decodes, to);
        print_runs(report, "prefill of", i, report->prefills, report->n_prefills, to);
    }
}

static void print_rest(const struct report *report, FILE *to)
{
    char needed[TEXT_NUMBER_BYTES], available[TEXT_NUMBER_BYTES];
    if (report->n_lacks + report->n_cut > 0)
        fputc('\n', to);
    for (uint32_t i = 0; i < report->n_lacks; i++) {
        const struct report_lack *lack = &report->lacks[i];
        fprintf(to, "does not fit: %s takes %s, %s are free\n", lack->what,
                text_bytes(needed, lack->needed_bytes), text_bytes(available, lack->free_bytes));
    }
    for (uint32_t i = 0; i < report->n_cut; i++)
        fprintf(to, "cut: %s\n", report->cut[i]);
}

void report_print(const struct report *report, FILE *to)
{
    char memory[TEXT_NUMBER_BYTES];
    const struct device_facts *device = &report->device;
    fprintf(to, "\n%s, compute capability %u.%u, %u multiprocessors, %s of memory\n", device->name,
            device->major, device->minor, device->n_cores,
            text_bytes(memory, device->memory_bytes));
    if (report->emulated)
        fputs("EMULATED on the CPU, tiny shapes: outcomes count, figures of speed mean nothing\n",
              to);
    if (report->copy_bytes_per_s > 0)
        fprintf(to, "copy %.1f GB/s, read and written; mma of f16 %.2f TFLOP/s\n",
                report->copy_bytes_per_s * GIGA, report->mma_ops_per_s * TERA);
    print_tests(report, to);
    print_kernels(report, to);
    print_models(report, to);
    print_rest(report, to);
    fprintf(to, "\n%u of %u tests failed; %.0f s\n", report_n_failed(report), report->n_tests,
            report->seconds);
}
