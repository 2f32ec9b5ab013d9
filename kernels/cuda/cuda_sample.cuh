/* kernels/cuda/cuda_sample.cuh: what the kernels of sampling share.
 *
 *   row      |------------------ vocabulary ------------------|   x: f32, in the workspace
 *   strips   |  1024  |  1024  |  1024  |  ...         | rest |   struct sample_strip each
 *
 *   prepare  strips: x = logits with biases, masks and penalties in them; the best of each strip
 *   weigh    strips: x relative to the row's best, in units of temperature; masses by nearness
 *   choose   a block a row: cuts, then the draw
 *   report   a block a row: log-probabilities
 *
 * Values are ordered by keys: larger floats have larger keys, both zeros have the same. Masses are
 * integers, so that sums by atomics and in any order are the CPU's.
 */
#ifndef QUIRE_KERNELS_CUDA_SAMPLE_CUH
#define QUIRE_KERNELS_CUDA_SAMPLE_CUH

#include "kernels/cuda/cuda_key.cuh"
#include "kernels/cuda/cuda_math.cuh"
#include "kernels/cuda/cuda_stream.cuh"

#define STRIP 1024
#define STRIP_THREADS 256
#define ROW_THREADS 512
#define ROW_WARPS (ROW_THREADS / WARP_LANES)
#define NEAR_LEVELS 3 /* x less than 8 below the best, less than 32, any: the best may be enough */
#define RADIX_BUCKETS 2048
#define LOADS 8 /* of a lane under way at once */
#define KEY_INFINITE 0xff800000u
#define KEY_LOWEST 0x007fffffu /* of -infinity */

struct sample_strip {
    uint32_t best;     /* key of its largest x; KEY_NAN: the row cannot be drawn from */
    uint32_t best_raw; /* of its logits */
    uint32_t peak;     /* no key of its x, once weighed, is above it */
    uint32_t floor;    /* keys above it pass min_p */
    uint32_t n_ties;   /* of what a cut left: see kept */
    uint64_t n[NEAR_LEVELS], mass[NEAR_LEVELS]; /* of the level, without the levels before */
    uint64_t kept_mass;
};

/* The strips' x, and what is known of each, of all rows. */
struct sample_space {
    float *x;                    /* [n_rows, x_stride] */
    struct sample_strip *strips; /* [n_rows, n_strips] */
    uint32_t x_stride, n_strips;
};

/* What cuts have left: keys above `least`, and of those equal to it the first n_ties by id. */
struct kept {
    uint32_t least, n_ties;
};

struct choice_row {
    float *x;
    struct sample_strip *strips;
    uint32_t vocabulary, n_strips;
};

/* How far a draw has come: the mass still to pass before the drawn id, and the ties that still
 * count, each with tie_mass. */
struct draw {
    uint64_t left;
    uint64_t tie_mass;
    uint32_t ties_left;
};

static __device__ __forceinline__ bool is_finite_key(uint32_t key)
{
    return key > KEY_LOWEST && key < KEY_INFINITE;
}

/* e^x * 2^40 to the nearest integer, ties to even; x at most 0. */
static __device__ __forceinline__ unsigned long long mass_of(float x)
{
    uint32_t bits = __float_as_uint(cuda_exp(x));
    uint64_t digits = (bits & 0x7fffffu) | 0x800000u;
    int shift = (int)(bits >> 23) - 127 - 23 + 40;
    if (shift >= 0)
        return digits << shift;
    if (shift < -25)
        return 0;
    uint64_t middle = (uint64_t)1 << (-shift - 1), whole = digits >> -shift;
    uint64_t rest = digits & (2 * middle - 1);
    return whole + (rest > middle || (rest == middle && (whole & 1) != 0) ? 1 : 0);
}

static __device__ __forceinline__ uint64_t warp_sum(uint64_t value)
{
    for (int apart = WARP_LANES / 2; apart > 0; apart /= 2)
        value += __shfl_xor_sync(ALL_LANES, value, apart);
    return value;
}

/* The least of all threads' values, for all of them. */
template <uint32_t n_warps>
static __device__ __forceinline__ uint32_t block_min(uint32_t value, uint32_t (&of_warp)[n_warps])
{
    value = __reduce_min_sync(ALL_LANES, value);
    __syncthreads(); /* of_warp's last values have been read */
    if (lane_idx() == 0)
        of_warp[warp_idx()] = value;
    __syncthreads();
    for (uint32_t w = 0; w < n_warps; w++)
        value = min(value, of_warp[w]);
    return value;
}

template <uint32_t n_warps>
static __device__ __forceinline__ uint32_t block_max(uint32_t value, uint32_t (&of_warp)[n_warps])
{
    return ~block_min(~value, of_warp);
}

/* Items stand in the lanes in id order: each has a mass, and ties beside it that count while there
 * are ties left. Gives the lane that the draw falls into, or WARP_LANES, and moves the draw up to
 * that lane. By a whole warp. */
static __device__ __forceinline__ uint32_t draw_among_lanes(struct draw *draw, uint64_t mass,
                                                            uint32_t n_ties)
{
    uint32_t ties = n_ties;
    for (uint32_t apart = 1; apart < WARP_LANES; apart *= 2) {
        uint32_t below = __shfl_up_sync(ALL_LANES, ties, apart);
        ties += lane_idx() >= apart ? below : 0;
    }
    uint64_t sum = mass;
    for (uint32_t apart = 1; apart < WARP_LANES; apart *= 2) {
        uint64_t below = __shfl_up_sync(ALL_LANES, sum, apart);
        sum += lane_idx() >= apart ? below : 0;
    }
    sum += min(ties, draw->ties_left) * draw->tie_mass;
    uint32_t reached = __ballot_sync(ALL_LANES, draw->left < sum);
    uint32_t lane = reached != 0 ? (uint32_t)__ffs((int)reached) - 1 : WARP_LANES;
    int before = lane == 0 ? 0 : (int)lane - 1;
    uint64_t passed = __shfl_sync(ALL_LANES, sum, before);
    uint32_t passed_ties = __shfl_sync(ALL_LANES, ties, before);
    if (lane > 0) {
        draw->left -= passed;
        draw->ties_left -= min(passed_ties, draw->ties_left);
    }
    return lane;
}

/* --- cuts --- */

/* Of an item a key, and the mass that counts where a cut goes by masses; of a strip of STRIP items
 * a bound, which none of its keys is above. */
struct logit_keys {
    const float *x;
    const struct sample_strip *strips;
    uint32_t sample_strip::*bound_of; /* best_raw or peak, by what x is */
    __device__ __forceinline__ uint32_t bound(uint32_t s) const
    {
        return strips[s].*bound_of;
    }
    __device__ __forceinline__ uint32_t operator()(uint32_t i) const
    {
        return key_of(x[i]);
    }
    __device__ __forceinline__ unsigned long long mass(uint32_t, uint32_t key) const
    {
        return mass_of(float_of_key(key));
    }
};

struct strip_keys { /* of the best logits */
    const struct sample_strip *strips;
    __device__ __forceinline__ uint32_t bound(uint32_t) const
    {
        return UINT32_MAX;
    }
    __device__ __forceinline__ uint32_t operator()(uint32_t i) const
    {
        return strips[i].best_raw;
    }
    __device__ __forceinline__ unsigned long long mass(uint32_t, uint32_t key) const
    {
        return mass_of(float_of_key(key));
    }
};

struct radix { /* shared by the block */
    unsigned long long buckets[RADIX_BUCKETS];
    uint32_t bucket;
    uint64_t need;
};

/* The bucket in which the sum, from the top bucket on, reaches need; radix->need is what is wanted
 * of that one. By warp 0. */
static __device__ __forceinline__ void find_bucket(struct radix *radix, uint64_t need)
{
    const uint32_t share = RADIX_BUCKETS / WARP_LANES;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < share; i++) /* each lane elsewhere in its share: other banks */
        sum += radix->buckets[RADIX_BUCKETS - 1 - lane_idx() * share - (i + lane_idx()) % share];
    struct draw draw = {need - 1, 0, 0};
    uint32_t lane = draw_among_lanes(&draw, sum, 0);
    uint32_t bucket = 0;
    for (uint32_t i = 0; lane < WARP_LANES && i < share; i += WARP_LANES) {
        uint32_t first = RADIX_BUCKETS - 1 - lane * share - i;
        uint32_t at = draw_among_lanes(&draw, radix->buckets[first - lane_idx()], 0);
        bucket = first - at;
        if (at < WARP_LANES)
            break;
    }
    if (lane_idx() == 0) {
        radix->bucket = bucket;
        radix->need = draw.left + 1;
    }
}

/* Adds what the items weigh that begin with the bits `last` to the buckets of their next ones. A
 * warp a strip: most strips of a model's logits have nothing near the best, and are passed over. */
template <class Keys>
static __device__ __forceinline__ void fill_buckets(const Keys &key_at, uint32_t n, uint32_t least,
                                                    uint32_t above, uint32_t last, uint32_t shift,
                                                    uint32_t mask, bool by_mass,
                                                    struct radix *radix)
{
    for (uint32_t s = warp_idx(); s * STRIP < n; s += ROW_WARPS) {
        uint32_t bound = key_at.bound(s), end = min(n, (s + 1) * STRIP);
        if (bound < least || (bound & above) < last)
            continue;
        for (uint32_t first = s * STRIP + lane_idx(); first < end; first += LOADS * WARP_LANES) {
            uint32_t keys[LOADS]; /* all under way together */
#pragma unroll
            for (uint32_t j = 0; j < LOADS; j++) {
                uint32_t i = first + j * WARP_LANES;
                keys[j] = i < end ? key_at(i) : 0;
            }
#pragma unroll
            for (uint32_t j = 0; j < LOADS; j++) {
                uint32_t i = first + j * WARP_LANES;
                if (i < end && keys[j] >= least && (keys[j] & above) == last)
                    atomicAdd(&radix->buckets[keys[j] >> shift & mask],
                              by_mass ? key_at.mass(i, keys[j]) : 1ull);
            }
        }
    }
}

/* The shortest prefix, by (key descending, id ascending), whose weights reach need, which is at
 * least 1; the keys from `least` on are enough for it. Ties are taken for equally heavy, as they
 * are where keys are those of x; radix->need is the weight that is wanted of them. A radix search
 * from the top bits. By the whole block. */
template <class Keys>
static __device__ __forceinline__ struct kept find_cut(Keys key_at, uint32_t n, uint32_t least,
                                                       uint64_t need, bool by_mass,
                                                       struct radix *radix)
{
    uint32_t last = 0;
    for (uint32_t level = 0; level < 3; level++) { /* 11, 11 and 10 bits */
        uint32_t shift = level == 0 ? 21 : level == 1 ? 10 : 0;
        uint32_t mask = level < 2 ? 0x7ffu : 0x3ffu;
        uint32_t above = level == 0 ? 0 : level == 1 ? 0xffe00000u : 0xfffffc00u;
        for (uint32_t i = threadIdx.x; i < RADIX_BUCKETS; i += ROW_THREADS)
            radix->buckets[i] = 0;
        __syncthreads();
        fill_buckets(key_at, n, least, above, last, shift, mask, by_mass, radix);
        __syncthreads();
        if (warp_idx() == 0)
            find_bucket(radix, need);
        __syncthreads();
        need = radix->need;
        last |= radix->bucket << shift;
    }
    uint64_t weight = by_mass ? mass_of(float_of_key(last)) : 1;
    uint64_t n_ties = weight == 0 ? 0 : (need + weight - 1) / weight;
    return {last, (uint32_t)n_ties};
}

/* Log-probabilities of the rows that want them; the draws have been made. */
cudaError_t cuda_sample_report(cudaStream_t stream, const struct sample_args &args,
                               const struct sample_space &space, int *error);

#endif
