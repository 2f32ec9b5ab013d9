/* bench/cuda/gpu_check_case.h: one op at one shape, measured.
 *
 *   case_begin -> case_take, case_floats, ... -> case_measure     its memory goes back there
 *
 *   lane   what a call reads stands in memory several times over, so that little of it is found in
 *          the caches: a case has as many lanes as make COLD_BYTES together
 *   list   CASE_LIST_CALLS calls, lane after lane, as a graph: what the host needs to launch them
 *          one by one is no part of it; the best of several lists counts
 *
 * The first failure stays in `status`; later calls do nothing. A case that does not fit is told to
 * the report, and the next one begins afresh. Thread: one.
 */
#ifndef QUIRE_BENCH_GPU_CHECK_CASE_H
#define QUIRE_BENCH_GPU_CHECK_CASE_H

#include "bench/cuda/gpu_check.h"
#include "bench/cuda/gpu_check_model.h"
#include "bench/cuda/gpu_check_weight.h"
#include "kernels/op_cost.h"

#define CASE_LANES_MAX 16
#define CASE_ALLOCS_MAX 32
#define CASE_SEED 3

#ifdef GPU_CHECK_EMULATED
#define CASE_COLD_BYTES ((uint64_t)64 << 10)
#define CASE_LIST_CALLS 1
#define CASE_STEP_ROWS 40
#define CASE_DECODE_CONTEXT 600
#define CASE_PREFILL_CONTEXT 128
#else
#define CASE_COLD_BYTES ((uint64_t)512 << 20)
#define CASE_LIST_CALLS 32
#define CASE_STEP_ROWS STEP_ROWS_MAX
#define CASE_DECODE_CONTEXT 32768
#define CASE_PREFILL_CONTEXT 8192
#endif

struct bench_case {
    struct gpu_check *check;
    struct stream *stream;
    const struct check_shape *model;
    char name[REPORT_NAME_BYTES], shape[REPORT_NAME_BYTES];
    uint32_t n_lanes;
    struct weight *weights[CASE_LANES_MAX]; /* by lane */
    uint32_t n_allocs;
    void *allocs[CASE_ALLOCS_MAX];
    uint64_t wanted_bytes; /* of the array that was taken last */
    struct why *why;
    int status;
};

/* False when nothing is to be done: something has failed, or the time is over, and the report then
 * names the case. */
bool case_begin(struct bench_case *bench, const char *name, const char *shape, ...)
    __attribute__((format(printf, 3, 4)));

void *case_take(struct bench_case *bench, size_t bytes); /* zeros */
void *case_upload(struct bench_case *bench, const void *from, size_t bytes);
float *case_floats(struct bench_case *bench, size_t n); /* in -1 .. 1 */
struct act case_panel(struct bench_case *bench, uint32_t n_rows, uint32_t width, uint32_t forms);
/* Of the norm of rows of case_floats. */
struct act case_filled_panel(struct bench_case *bench, uint32_t n_rows, uint32_t width,
                             uint32_t forms);
/* Lanes for so many bytes in each. */
void case_set_lanes(struct bench_case *bench, uint64_t bytes);
void case_load_weights(struct bench_case *bench, const struct check_matrix *matrix); /* and lanes */

/* `call` enqueues one call with the data of a lane; `cost` is that of one call. */
void case_measure(struct bench_case *bench,
                  void (*call)(struct bench_case *bench, uint32_t lane, const void *args),
                  const void *args, struct op_cost cost);

/* Norms, pages, attention, rows and draws; linears and the table are gpu_check_kernels.c's. */
void bench_rows(struct bench_case *bench);

#endif
