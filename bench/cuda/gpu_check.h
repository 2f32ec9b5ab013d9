/* bench/cuda/gpu_check.h: what the parts of gpu-check share: the device, the time that each may
 * take, and the report that they fill.
 *
 *   peaks    copy bandwidth and mma rate of the device
 *   model    a tiny model on CUDA beside the CPU; law 2 to the bit
 *   kernels  each op at the shapes of an 8B model, beside the peaks
 *   decode   tokens at growing contexts; pages and weights are made on the device
 *   prefill  a long prompt, step by step
 *   scout    decode again, of a model with chunks, experts and layers that see everything
 *
 * A part that runs out of time stops between two items and says which it left out. The emulated
 * build has tiny shapes, and speed means nothing there. Thread: one.
 */
#ifndef QUIRE_BENCH_GPU_CHECK_H
#define QUIRE_BENCH_GPU_CHECK_H

#include "bench/cuda/gpu_check_report.h"
#include "kernels/device_list.h"
#include "kernels/ops.h"

struct why;

#ifdef GPU_CHECK_EMULATED
#define GPU_CHECK_IS_EMULATED true
#else
#define GPU_CHECK_IS_EMULATED false
#endif

struct gpu_check {
    struct device *device;
    const struct ops *ops;
    struct device_facts facts;
    struct report *report;
    int64_t ends_ns;      /* of everything */
    int64_t part_ends_ns; /* of the part under way, not later */
};

/* Each returns what stopped it short: STATUS_OK also where a test failed, an item did not fit or
 * time ran out, for which the report has places. */
int check_peaks(struct gpu_check *check, struct why *why);
int check_model(struct gpu_check *check, struct why *why);
int check_kernels(struct gpu_check *check, struct why *why);
int check_decode(struct gpu_check *check, struct why *why);
int check_prefill(struct gpu_check *check, struct why *why);
int check_scout(struct gpu_check *check, struct why *why);

/* Tells what comes next, on standard error; or, when the part's time is over, true: the report then
 * names it as cut. */
bool check_is_cut(struct gpu_check *check, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
bool check_is_over(const struct gpu_check *check); /* the part's time */
double check_now(void);                            /* seconds */

#endif
