/* bench/cuda/gpu_check_report.h: what gpu-check has found: one JSON file and one table.
 *
 * Figures are seconds, bytes and operations as they were measured or counted; shares of the peaks
 * are worked out where they are shown. Rows beyond the last are dropped and counted as cut.
 */
#ifndef QUIRE_BENCH_GPU_CHECK_REPORT_H
#define QUIRE_BENCH_GPU_CHECK_REPORT_H

#include "kernels/device_list.h"
#include "kernels/op_cost.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define REPORT_TESTS_MAX 128
#define REPORT_KERNELS_MAX 128
#define REPORT_RUNS_MAX 16
#define REPORT_MODELS_MAX 2
#define REPORT_NOTES_MAX 128
#define REPORT_NAME_BYTES 96
#define REPORT_NOTE_BYTES 256

struct report_test {
    char name[REPORT_NAME_BYTES];
    char outcome[16]; /* "passed", "failed", "cut", "absent": its program is not installed */
    double seconds;
    char note[REPORT_NOTE_BYTES];
};

struct report_kernel {
    char name[REPORT_NAME_BYTES];
    char shape[REPORT_NAME_BYTES];
    double seconds;      /* of one call: the best of several */
    struct op_cost cost; /* of one call */
};

struct report_model {
    const char *name, *weights; /* "Llama 3 8B", "Q4_0" */
    uint64_t weights_bytes;
};

struct report_run { /* a context that was decoded at, or a prompt that was read */
    uint32_t model_idx;
    uint64_t context;    /* tokens before the first decoded one; of the prompt */
    uint64_t n_tokens;   /* decoded, or read: fewer than `context` when time was over */
    double seconds;      /* of all n_tokens */
    double best_seconds; /* of one step */
    struct op_cost cost; /* of all n_tokens */
};

struct report_lack { /* what does not fit */
    char what[REPORT_NAME_BYTES];
    uint64_t needed_bytes, free_bytes;
};

struct report {
    const char *commit, *toolkit; /* as the script tells them; "" if it does not */
    bool emulated;
    struct device_facts device;
    double copy_bytes_per_s, mma_ops_per_s; /* 0: not measured */
    struct report_model models[REPORT_MODELS_MAX]; /* of decode and prefill */
    uint32_t n_models;
    double seconds;                         /* of the program */
    uint32_t n_tests, n_kernels, n_decodes, n_prefills, n_cut, n_lacks;
    struct report_test tests[REPORT_TESTS_MAX];
    struct report_kernel kernels[REPORT_KERNELS_MAX];
    struct report_run decodes[REPORT_RUNS_MAX], prefills[REPORT_RUNS_MAX];
    char cut[REPORT_NOTES_MAX][REPORT_NOTE_BYTES];
    struct report_lack lacks[REPORT_NOTES_MAX];
};

/* NULL when a list is full. */
struct report_test *report_add_test(struct report *report, const char *name, const char *outcome,
                                    double seconds);
struct report_kernel *report_add_kernel(struct report *report, const char *name);
struct report_run *report_add_decode(struct report *report, uint32_t model_idx, uint64_t context);
struct report_run *report_add_prefill(struct report *report, uint32_t model_idx, uint64_t context);
void report_add_cut(struct report *report, const char *what);
void report_add_lack(struct report *report, const char *what, uint64_t needed_bytes,
                     uint64_t free_bytes);

/* "NAME OUTCOME SECONDS" a line, as the script writes them. STATUS_IO, STATUS_CORRUPT. */
int report_read_tests(struct report *report, const char *path, struct why *why);
/* Tests that ran and did not pass. */
uint32_t report_n_failed(const struct report *report);

void report_print(const struct report *report, FILE *to);
/* STATUS_IO; nothing half-written stands under that name. */
int report_write_json(const struct report *report, const char *path, struct why *why);

#endif
