#include "kernels/cpu/cpu_sample_cut.h"

#include "kernels/cpu/cpu_math.h"

/* the first guess of how far below the best the candidates reach, in nats, doubled up to the last,
 * then all */
#define NEAR_FIRST 8.0f
#define NEAR_LAST 64.0f
#define MASS_LEAST (-28.5f) /* below it, in nats from the best, a token's mass rounds to 0 */
#define SURPRISE_ONE 65536.0

uint32_t cpu_sample_collect_best(const struct cpu_sample_row *row, const float *x, float best,
                                 uint32_t n_wanted)
{
    for (float near = NEAR_FIRST; near <= NEAR_LAST; near *= 2) {
        uint32_t n = row->ops->collect(x, row->vocabulary, best - near, row->ids);
        if (n >= n_wanted)
            return n;
    }
    return row->ops->collect(x, row->vocabulary, -INFINITY, row->ids);
}

uint64_t cpu_sample_kept_mass(const struct cpu_sample_row *row)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < row->n_ids; i++)
        sum += cpu_sample_mass(row->e[row->ids[i]]);
    return sum;
}

/* Larger floats have larger keys. */
static uint32_t key_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

static uint64_t weight_of(const struct cpu_sample_row *row, uint32_t id, bool by_mass)
{
    return by_mass ? cpu_sample_mass(row->e[id]) : 1;
}

/* Keeps the shortest prefix, by (value descending, id ascending), of the kept ids whose weights
 * reach `need`; need is at least 1 and at most their sum. A radix search from the top bits finds
 * the last value, then one pass drops what is beyond it. */
static void cut(struct cpu_sample_row *row, const float *values, uint64_t need, bool by_mass)
{
    static const struct {
        uint32_t shift, mask, above; /* above: bits that are already decided */
    } levels[] = {{21, 0x7ff, 0}, {10, 0x7ff, 0xffe00000u}, {0, 0x3ff, 0xfffffc00u}};
    uint32_t last = 0;
    for (int level = 0; level < 3; level++) {
        memset(row->buckets, 0, SAMPLE_BUCKETS * sizeof *row->buckets);
        for (uint32_t i = 0; i < row->n_ids; i++) {
            uint32_t key = key_of(values[row->ids[i]]);
            if ((key & levels[level].above) == last)
                row->buckets[key >> levels[level].shift & levels[level].mask] +=
                    weight_of(row, row->ids[i], by_mass);
        }
        uint32_t bucket = levels[level].mask;
        while (bucket > 0 && row->buckets[bucket] < need)
            need -= row->buckets[bucket--];
        last |= bucket << levels[level].shift;
    }
    uint32_t n_kept = 0;
    for (uint32_t i = 0; i < row->n_ids; i++) {
        uint32_t id = row->ids[i], key = key_of(values[id]);
        if (key < last || (key == last && need == 0))
            continue;
        if (key == last) {
            uint64_t weight = weight_of(row, id, by_mass);
            need -= weight < need ? weight : need;
        }
        row->ids[n_kept++] = id;
    }
    row->n_ids = n_kept;
}

/* x >= ln(min_p), x being relative to the best. */
static void cut_min_p(struct cpu_sample_row *row, float min_p)
{
    double exact = exact_math_ln(min_p < 1.0f ? (double)min_p : 1.0);
    float threshold = (float)exact;
    if ((double)threshold < exact)
        threshold = nextafterf(threshold, INFINITY);
    row->n_ids = row->ops->collect(row->x, row->vocabulary, threshold, row->ids);
    row->all = false;
}

static void cut_top_k(struct cpu_sample_row *row, uint32_t k)
{
    if (row->all)
        row->n_ids = cpu_sample_collect_best(row, row->x, 0.0f, k);
    row->all = false;
    if (k < row->n_ids)
        cut(row, row->x, k, false);
}

/* 1 at least */
static uint64_t share_of(float p, uint64_t total)
{
    double wanted = ceil((double)p * (double)total);
    uint64_t need = wanted < 1.0 ? 1 : (uint64_t)wanted;
    return need < total ? need : total;
}

static void cut_top_p(struct cpu_sample_row *row, float top_p)
{
    uint64_t total = row->all ? row->ops->mass(row->e, row->vocabulary) : cpu_sample_kept_mass(row);
    uint64_t need = share_of(top_p, total);
    for (float near = NEAR_FIRST; row->all && near <= NEAR_LAST; near *= 2) {
        row->n_ids = row->ops->collect(row->x, row->vocabulary, -near, row->ids);
        row->all = cpu_sample_kept_mass(row) < need;
    }
    if (row->all)
        row->n_ids = row->ops->collect(row->x, row->vocabulary, -INFINITY, row->ids);
    row->all = false;
    cut(row, row->x, need, true);
}

/* What has a mass, and their sum. */
static uint64_t keep_massive(struct cpu_sample_row *row)
{
    uint64_t total = 0;
    uint32_t n = 0;

    if (row->all)
        row->n_ids = row->ops->collect(row->x, row->vocabulary, MASS_LEAST, row->ids);
    row->all = false;
    for (uint32_t i = 0; i < row->n_ids; i++) {
        uint64_t mass = cpu_sample_mass(row->e[row->ids[i]]);
        row->ids[n] = row->ids[i];
        n += mass > 0;
        total += mass;
    }
    row->n_ids = n;
    return total;
}

static void cut_typical(struct cpu_sample_row *row, float typical_p)
{
    uint64_t total = keep_massive(row), need = share_of(typical_p, total);
    unsigned __int128 sum = 0;

    for (uint32_t i = 0; i < row->n_ids; i++) {
        uint32_t id = row->ids[i];
        sum += (unsigned __int128)cpu_sample_mass(row->e[id]) *
               (uint64_t)((double)-row->x[id] * SURPRISE_ONE + 0.5);
    }
    float mean = -(float)((double)sum / (double)total / SURPRISE_ONE);
    for (uint32_t i = 0; i < row->n_ids; i++)
        row->near[row->ids[i]] = -fabsf(row->x[row->ids[i]] - mean);
    cut(row, row->near, need, true);
}

void cpu_sample_cut(struct cpu_sample_row *row, const struct sample_params *params)
{
    row->all = true;
    if (params->min_p > 0.0f)
        cut_min_p(row, params->min_p);
    if (params->top_k > 0 && params->top_k < row->vocabulary)
        cut_top_k(row, params->top_k);
    if (params->typical_p > 0.0f && params->typical_p < 1.0f)
        cut_typical(row, params->typical_p);
    if (params->top_p < 1.0f)
        cut_top_p(row, params->top_p);
}
