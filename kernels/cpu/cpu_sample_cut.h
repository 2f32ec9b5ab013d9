/* kernels/cpu/cpu_sample_cut.h: which tokens of a row may be drawn: what min_p, top_k, typical_p
 * and top_p leave, each of what the one before it left.
 *
 * A worker has one row in hand, of its part of the op's workspace.
 */
#ifndef QUIRE_KERNELS_CPU_SAMPLE_CUT_H
#define QUIRE_KERNELS_CPU_SAMPLE_CUT_H

#include "kernels/cpu/cpu_sample.h"
#include "kernels/ops.h"

#define SAMPLE_BUCKETS 2048

struct cpu_sample_row {
    const struct cpu_sample_ops *ops;
    uint32_t vocabulary;
    float *x;      /* [vocabulary] logits after the steps so far */
    float *e;      /* [vocabulary] */
    float *near;   /* [vocabulary] of kept ids: how near they are to the mean surprise, negative */
    uint32_t *ids; /* [vocabulary] what is kept, ascending, unless `all` */
    uint32_t n_ids;
    bool all;
    uint64_t *buckets; /* [SAMPLE_BUCKETS] */
};

/* Of a row that was weighed (cpu_sample_ops.weigh): cuts it down to what may be drawn, the best
 * token at least. */
void cpu_sample_cut(struct cpu_sample_row *row, const struct sample_params *params);
/* Sum of the masses of what is kept. */
uint64_t cpu_sample_kept_mass(const struct cpu_sample_row *row);
/* To row->ids what of x is at or above some distance from `best`, at least n_wanted when there are
 * so many: a prefix of the order (value descending, id ascending) that holds the first n_wanted.
 * Returns how many. */
uint32_t cpu_sample_collect_best(const struct cpu_sample_row *row, const float *x, float best,
                                 uint32_t n_wanted);

#endif
