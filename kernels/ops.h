/* kernels/ops.h: every operation of the forward pass, as one struct that each backend fills.
 *
 * Planning and loading functions run on the host and may be slow. Every other op only ENQUEUES on a
 * stream: its arguments are copied, device pointers must live until the stream has passed them,
 * nothing is allocated, errors stick to the stream. A step enqueues the same list whatever its
 * number of rows is; whether all of them, some or none give logits makes three lists.
 *
 * Row invariance (DESIGN, law 2): the value of a row depends on that row alone, its sequence's
 * pages and the weights: never on n_rows, the place of the row, the number of threads, or the
 * instruction set. Each op states the order of every sum.
 *
 * The scalar CPU form is the definition; AVX2 and AVX-512 forms equal it to the bit (memcmp in
 * tests). f32 arithmetic; fma is written where it is meant; contraction is off. Lane sums: 16
 * lanes, folded 16 -> 8 -> 4 -> 2 -> 1 (lane i += lane i + half).
 *
 *   x --norm--> act --linear(QKV)--> qkv --rope_append--> q, pages [--page_seal-->] --attend--> act
 *       --linear(ADD)--> x --norm--> act --linear_glu--> act --linear(ADD)--> x
 *   last: gather, norm, linear(head), sample
 *
 *   latent attention, whose heads share one latent vector a token:
 *   act --linear--> q --quantize--> act --linear_heads(k_b)--> q, latent --rope_append--> q, pages
 *       --attend--> act --linear_heads(v_b)--> v --quantize--> act --linear(ADD)--> x
 */
#ifndef QUIRE_KERNELS_OPS_H
#define QUIRE_KERNELS_OPS_H

#include "kernels/device.h"
#include "kernels/kv_view.h"

/* one or several fused matrices in the backend's own layout; weight_load creates it */
struct weight;

/* --- loading --- */

struct weight_source {
    uint32_t type;         /* enum tensor_type */
    uint32_t n_in, n_out;  /* n_out rows of n_in values */
    const void *bytes;     /* host, tensor_type_bytes(type, n_in, n_out), any alignment */
    const char *name;      /* for refusals */
};

/* PLAIN: one source. QKV: two or three sources stacked as they are given. GATE_UP: gate, then up,
 * of equal shape. EXPERTS: a source for each expert, of one type and shape; EXPERTS_GATE_UP: the
 * gates of all experts, then as many ups. HEADS: a source for each head, laid out as experts. */
enum weight_fuse {
    WEIGHT_PLAIN,
    WEIGHT_QKV,
    WEIGHT_GATE_UP,
    WEIGHT_EXPERTS,
    WEIGHT_EXPERTS_GATE_UP,
    WEIGHT_HEADS,
};

struct weight_info {
    uint32_t n_in, n_out;  /* n_out: sum over the sources; for gate and up the width of one */
    uint32_t n_experts;    /* or heads; 0: none */
    /* read once a pass: what decode is bound by; of experts all, a pass reads those chosen */
    size_t bytes;
    /* forms of activations that this weight multiplies: enum act_form bits */
    uint32_t act_forms;
};

/* --- activations --- */

/* What a panel of activations holds; several consumers of one panel OR their bits. */
enum act_form {
    ACT_BLOCKS = 1, /* CPU: integers by blocks of 32, of integer types; CUDA: f16, of all but F32 */
    ACT_FLOATS = 2, /* f32. CPU: of F32, F16, BF16, and all with ACTIVATIONS_F32; CUDA: of F32 */
    ACT_QUERY = 4,  /* rotated queries on their way to attend */
};

struct act { /* an opaque panel; the caller owns the memory */
    void *base;        /* device, act_bytes(max_rows, width, forms) */
    uint32_t max_rows;
    uint32_t width;    /* values of a row */
    uint32_t forms;
};

/* --- arguments of ops --- */

enum row_kind {
    ROW_TOKEN,   /* value is a token id */
    /* value is an index into `sampled`: the token that an earlier row of the stream produced */
    ROW_SAMPLED,
    ROW_VECTOR,  /* value is an index into `vectors` */
};

struct row_input {
    uint32_t kind;  /* enum row_kind */
    uint32_t value;
};

/* x[r] = dequantised row `id` of the table, exact; a token beyond the table sticks
 * STATUS_OUT_OF_RANGE. */
struct embed_args {
    const struct weight *table;           /* PLAIN; may also be the output matrix */
    const struct row_input *inputs;       /* device [n_rows] */
    const struct sample_result *sampled;  /* device, or NULL */
    const float *vectors;                 /* device [.., n_in], or NULL */
    uint32_t n_rows;
    float *x;                             /* device [n_rows, n_in] */
};

/* out[r] = x[r] / sqrt(mean(x[r]^2) + eps) * weight. Sum of squares: fma into 16 lanes, i ascending
 * by 16, then the fold. */
struct norm_args {
    const float *x;      /* device [n_rows, width] */
    const float *weight; /* device [width] */
    float eps;
    uint32_t n_rows, width;
    struct act out;
};

/* out[r, h * n + i] = x[r, h * head_stride + i] for i below n: rows into a panel, rounded as norm
 * rounds them. */
struct quantize_args {
    const float *x;        /* device [n_rows, x_stride] */
    uint32_t x_stride;     /* floats */
    uint32_t n_heads, head_stride, n; /* n values of each head are taken, head_stride apart */
    uint32_t n_rows;
    struct act out;        /* width n_heads * n */
};

enum linear_mode { LINEAR_SET, LINEAR_ADD };

/* y[r, o] (= or +=) (chain over k of w[o, k] * x[r, k]) + bias[o].
 * Integer blocks: per block b ascending, s = exact integer dot, acc = fma(f32(s), d_w * d_x, acc),
 * then for types with a minimum acc = fma(m_w, d_x * sum(x), acc) (cpu_kernels.md 3 and 14). Types
 * with two scales in 32 values take the first step for each 16, those with two minima the second
 * (cpu_product.h). Float weights, and ACTIVATIONS_F32: acc = fma(w, x, acc), k ascending. Then +
 * bias, then SET or ADD of the whole chain. */
struct linear_args {
    const struct weight *weight;
    struct act in;
    const float *bias;   /* device [n_out] or NULL */
    uint32_t n_rows;
    enum linear_mode mode;
    float *y;            /* device [n_rows, y_stride] */
    uint32_t y_stride;   /* floats */
};

/* y[r, h] = [chain over k of w_h[o, k] * in[r, h * n_in + k], o ascending | tail[r, h]]: a matrix
 * of its own for each head, and behind its outputs values that pass. Every chain is that of linear
 * with the head's matrix alone. */
struct linear_heads_args {
    const struct weight *weight;  /* HEADS: n_heads of [n_in -> n_out] */
    struct act in;                /* width n_heads * n_in */
    uint32_t n_rows;
    const float *tail;            /* device, of row 0 and head 0; may be NULL where n_tail is 0 */
    uint32_t n_tail, tail_stride, tail_head_stride; /* floats: from row to row, head to head */
    float *y;                     /* device [n_rows, y_stride]; no aliasing with tail */
    uint32_t y_stride, y_head_stride; /* floats; heads take n_out + n_tail of theirs */
};

/* out[r, o] = silu(gate[r, o]) * up[r, o]; silu(z) = z / (1 + exp2(-z * log2 e)) by the polynomial
 * of cpu_math.h. */
struct linear_glu_args {
    const struct weight *weight; /* GATE_UP */
    struct act in;
    const float *gate_bias, *up_bias; /* device [n_out] or NULL */
    uint32_t n_rows;
    struct act out;
};

/* How a row chooses among experts (models.md 4.7, 4.8). */
enum route_score { ROUTE_SOFTMAX, ROUTE_SIGMOID };

struct route_rule {
    uint32_t n_experts, n_used;  /* 1 <= n_used <= n_experts <= MODEL_EXPERTS_MAX */
    /* Equal runs of experts of which the best n_groups_used are kept, with n_used experts at least;
     * 1 and 1: no groups. A group is as good as the sum of its group_best (1 or 2) best choice
     * values. */
    uint32_t n_groups, n_groups_used, group_best;
    enum route_score score;
    bool chooses_by_logit;       /* else by score (+ bias) */
    bool normalise;              /* weights by their sum */
    float scale;                 /* of the weights; 1: none */
};

/* Of each row the n_used best experts, best first, and their weights.
 * score: SOFTMAX over all experts, e = exp2((z - max) * log2 e), sum of e in 16 lanes, i ascending
 * by 16, then the fold, score = e / sum; SIGMOID 1 / (1 + exp2(-z * log2 e)); both by the
 * polynomial of cpu_math.h. choice = score + bias. Greater choice values come first, of equal ones
 * the lower index; of groups likewise (two best: the greater + the other).
 * weight = score of the chosen (without bias); normalise: weight / max(sum, 2^-14), the sum from 0
 * in slot order; then * scale.
 * A row with a choice value that is NaN sticks STATUS_INTERNAL; its experts are 0, 1, ... and its
 * weights 0. */
struct route_args {
    struct route_rule rule;
    const float *logits;  /* device [n_rows, n_experts] */
    const float *bias;    /* device [n_experts] or NULL: to choose, not to weigh */
    uint32_t n_rows;
    uint32_t *experts;    /* device [n_rows, n_used] */
    float *weights;       /* device [n_rows, n_used] */
};

/* y[r] (= or +=) sum over slots s ascending, from 0, of weights[r, s] * down_e(silu(gate_e(x[r])) *
 * up_e(x[r])), e = experts[r, s]; product and sum rounded apart. Every chain is that of linear and
 * linear_glu with e's matrices alone, whatever other rows choose e. With scales_input the expert
 * reads weight * x: its gate and up are multiplied by the weight, at the end of their chains, and
 * its output is not.
 * The rows of an expert are brought together, in the order of (row, slot), so that its weights are
 * read once for all. An expert's index beyond the matrices sticks STATUS_OUT_OF_RANGE. */
struct moe_args {
    const struct weight *gate_up; /* EXPERTS_GATE_UP */
    const struct weight *down;    /* EXPERTS, as many */
    struct act in;
    const uint32_t *experts;      /* device [n_rows, n_used] */
    const float *weights;         /* device [n_rows, n_used] */
    uint32_t n_rows, n_used;
    bool scales_input;
    void *workspace;              /* device, moe_workspace_bytes for in.max_rows */
    size_t workspace_bytes;
    enum linear_mode mode;
    float *y;                     /* device [n_rows, y_stride] */
    uint32_t y_stride;            /* floats */
};

enum rope_style { ROPE_NONE, ROPE_NORM, ROPE_NEOX }; /* pairs (2k, 2k + 1), or (k, k + n/2) */

/* RMS of each head of q and of k, over all its values: weighted before the rotation (Qwen 3), or
 * without weights after it (Llama 4). LATENT: of k's first v_dim values alone, weighted, before
 * (DeepSeek). */
enum qk_norm { QK_NORM_NONE, QK_NORM_BEFORE, QK_NORM_AFTER, QK_NORM_LATENT };

/* Queries grow with their position by 1 + scale * ln(1 + floor((position + offset) / length)). */
struct q_temperature {
    float scale;               /* 0: they do not */
    uint32_t length, offset;   /* tokens */
};

/* Per head of q and k: the norm before, the rotation by position * inv_freq (double; own
 * polynomial for sin and cos, rounded to f32 once), the norm after; then q times q_scale x
 * temperature (one f32 factor, made in double). Writes K and V into the OPEN page of each row's
 * position (f16 and bf16: round to even; beyond the greatest finite value that one, counted; NaN
 * stays NaN), q to `q`. A norm is that of norm_args: the same sums and products. */
struct rope_append_args {
    const float *qkv;          /* device [n_rows, qkv_stride]: q heads, k heads, v heads (none of
                                  a group with v_in_k) */
    uint32_t qkv_stride;
    uint32_t n_heads;          /* of q; 0: rows have k and v alone. Those by the group's shape */
    bool no_append;            /* rows have q alone, and pages stay as they are */
    enum rope_style style;
    uint32_t first_rot, n_rot; /* rotated dims of a head: n_rot, even, from first_rot on; the
                                  others pass through */
    const double *inv_freq;    /* device [n_rot / 2], scaling included */
    float rope_scale;          /* multiplies cos and sin (YaRN); 1 otherwise */
    enum qk_norm qk_norm;
    const float *q_norm, *k_norm; /* device [k_dim] each, of QK_NORM_BEFORE; k_norm [v_dim], of
                                     QK_NORM_LATENT */
    float norm_eps;
    float q_scale;             /* log2(e) x the scale of scores: attend works with exp2 */
    struct q_temperature q_temperature;
    struct rows_view rows;
    struct kv_group_view group;
    uint32_t layer_idx;        /* within the group */
    struct act q;              /* ACT_QUERY, width n_heads * k_dim; of no heads: not looked at */
    uint64_t *n_saturated;     /* device counter or NULL */
};

/* Of a group that packs: each page whose last token is one of the rows is packed from its open rows
 * to its place in the group's pages, beside them. Runs of values share a scale: K and latent planes
 * by channel over the page, V by token. least = min, step = (max - least) / 255 (q4: / 15), code =
 * round to even((x - least) / step), a step of 0 gives code 0; f32, divisions by IEEE. The same
 * codes and scales from every backend. A page of guesses that are taken back is packed again when
 * it is full again: its rows stay open until all 64 are committed. */
struct page_seal_args {
    struct rows_view rows;
    struct kv_group_view group;
    uint32_t layer_idx;
};

/* out[r, h] = sum_t p_t v_t / sum_t p_t over the visible positions t <= position of r. Query head h
 * reads kv head h * K / H.
 * Fixed spans of SPAN_TOKENS at absolute positions, each with its own (m, l, o), merged in
 * ascending order; within a span pages ascending, within a page one softmax step (cpu_kernels.md 6
 * and 14). Masked scores contribute an exact zero. The page that a row stands in is read as it was
 * written, every earlier one as the group's full pages are: packed, where the group packs
 * (cpu_attend.h has the arithmetic). */
struct attend_args {
    struct act q;
    uint32_t n_heads;
    struct rows_view rows;
    struct kv_group_view group;
    uint32_t layer_idx;
    void *workspace;           /* device, attend_workspace_bytes */
    size_t workspace_bytes;
    struct act out;            /* width n_heads * v_dim */
};

/* y[i] = x[rows[i]] */
struct gather_args {
    const float *x;          /* device [.., width] */
    const uint32_t *rows;    /* device [n] */
    uint32_t n, width;
    float *y;                /* device [n, width]; no aliasing */
};

struct sample_params {       /* one a row; PODs in device memory */
    float temperature;       /* 0: greedy, lowest id on ties, no random number */
    float top_p;             /* >= 1 off */
    float min_p;             /* 0 off */
    float typical_p;         /* 0, or >= 1, off */
    float repetition;        /* 1 off; applies to tokens whose count is not 0 */
    float frequency;         /* 0 off; times occurrences in the output */
    float presence;          /* 0 off; once for tokens of the output */
    uint32_t top_k;          /* 0 off */
    uint32_t n_top;          /* logprobs wanted beside the drawn one, 0..TOP_LOGPROBS_MAX */
    uint32_t want_logprob;   /* 0 or 1; 1 when n_top > 0 */
    uint32_t mask_banned;    /* 1: ids in `banned` cannot be drawn */
    int32_t count_slot;      /* row of counts, or -1 */
    int32_t mask_slot;       /* row of masks, or -1 */
    uint32_t first_bias, n_biases; /* of biases */
    uint32_t choice_idx;     /* Philox key: (seed, choice); counter: position */
    uint64_t seed;
    uint64_t position;       /* output position of the token */
};

struct sample_result {
    uint32_t id;
    float logprob;           /* ln softmax of the raw logits; -9999 floor */
    uint32_t n_top;
    uint32_t top_id[TOP_LOGPROBS_MAX];     /* by value descending, id ascending */
    float top_logprob[TOP_LOGPROBS_MAX];
};

struct sample_bias {
    uint32_t id;             /* below the vocabulary, else it counts for nothing */
    float bias;              /* finite */
};

/* Order of the chain: bias, masks, repetition, frequency, presence, temperature, min_p, top_k,
 * typical_p, top_p, draw (models.md 8.1, 8.2). With l the logit, n the token's count in the output:
 * l += bias; l > 0 ? l / repetition : l * repetition; l -= frequency * n; l -= presence if n > 0,
 * each step rounded to f32. A masked token has -infinity. The draw: u = 64 random bits of
 * Philox4x32-10(seed, choice, position); integer masses round(p * 2^40) over the kept ids in id
 * order; the first id whose running sum exceeds (u * total) >> 64. top_p cuts on the same integer
 * masses by (value descending, id ascending): the shortest prefix that reaches ceil(top_p * total).
 * typical_p does so by (distance ascending, id ascending), the distance of a token's surprise from
 * the mean one, |-ln p - H| = |y - mean|, y being ln p relative to the best: with m the masses and
 * k = round(-y * 2^16), mean = -float(double(sum m * k) / double(sum m) / 2^16), |y - mean| in f32
 * (locally typical sampling, Meister et al. 2022). A row of NaN sticks STATUS_INTERNAL. */
struct sample_args {
    const float *logits;                 /* device [n_rows, vocabulary] */
    uint32_t n_rows, vocabulary;
    const struct sample_params *params;  /* device [n_rows] */
    const uint32_t *counts;              /* device [n_slots, vocabulary] as count has it; or NULL */
    uint32_t n_slots;
    /* device [n_masks, mask_words]: bit id % 32 of word id / 32 set: it may be drawn; or NULL */
    const uint32_t *masks;
    uint32_t n_masks, mask_words;        /* words: of the vocabulary, at least */
    const struct sample_bias *biases;    /* device [n_biases], of a row distinct ids; or NULL */
    uint32_t n_biases;
    const uint32_t *banned;              /* device [n_banned], ascending */
    uint32_t n_banned;
    void *workspace;                     /* device, sample_workspace_bytes */
    struct sample_result *results;       /* device [n_rows] */
};

#define COUNT_NONE UINT32_MAX    /* a row whose token is not counted */
#define COUNT_OUTPUT 0x80000000u /* beside the slot: the row's token is one of the output */

/* A count has the occurrences in the output times 2, and 1 more where the token stands in the
 * prompt: counts[slot of row r][token of row r] += 2, or |= 1. The token is that of inputs[r], as
 * embed reads it. A token beyond the vocabulary sticks STATUS_OUT_OF_RANGE; a ROW_VECTOR counts
 * nothing. */
struct count_args {
    uint32_t *counts;                    /* device [n_slots, vocabulary] */
    uint32_t vocabulary, n_slots;
    const struct row_input *inputs;      /* device [n_rows] */
    const struct sample_result *sampled; /* device, or NULL */
    const uint32_t *slots;               /* device [n_rows]; COUNT_OUTPUT beside them */
    uint32_t n_rows;
};

/* counts[slot] = 0 for every token */
struct count_zero_args {
    uint32_t *counts;        /* device [n_slots, vocabulary] */
    uint32_t vocabulary, slot;
};

/* counts[to] = counts[from] for every token; distinct slots */
struct count_copy_args {
    uint32_t *counts;        /* device [n_slots, vocabulary] */
    uint32_t vocabulary, from, to;
};

struct page_zero_args {
    uint8_t *base;           /* device; of the group's pool */
    size_t page_stride;
    const page_id *pages;    /* device [n] */
    uint32_t n;
};

struct page_copy_args {      /* whole pages: all layers of the group */
    uint8_t *base;
    size_t page_stride;
    const page_id *from, *to; /* device [n]; distinct */
    uint32_t n;
};

struct ops {
    const char *name;        /* "cpu" */
    /* version of the arithmetic; one number for all CPU instruction sets; part of kv_identity */
    uint32_t numerics;

    /* Host, may be slow. rank 0 of n_ranks 1 is the whole matrix. STATUS_UNSUPPORTED,
     * STATUS_NO_MEMORY, STATUS_INVALID. */
    int (*weight_load)(struct device *device, enum weight_fuse fuse,
                       const struct weight_source *sources, uint32_t n_sources, uint32_t rank,
                       uint32_t n_ranks, struct weight **out, struct why *why);
    void (*weight_free)(struct device *device, struct weight *weight);
    struct weight_info (*weight_info)(const struct weight *weight);
    size_t (*act_bytes)(const struct device *device, uint32_t max_rows, uint32_t width,
                        uint32_t forms);
    /* one layer of one page */
    size_t (*page_layer_bytes)(const struct kv_shape *shape, enum kv_dtype dtype);
    size_t (*attend_workspace_bytes)(const struct device *device, uint32_t n_heads,
                                     const struct kv_shape *shape, uint32_t max_rows,
                                     uint32_t max_context);
    size_t (*sample_workspace_bytes)(const struct device *device, uint32_t max_rows,
                                     uint32_t vocabulary);
    size_t (*moe_workspace_bytes)(const struct device *device, const struct weight *gate_up,
                                  const struct weight *down, uint32_t max_rows, uint32_t n_used);

    /* Enqueue. */
    void (*embed)(struct stream *stream, const struct embed_args *args);
    void (*norm)(struct stream *stream, const struct norm_args *args);
    void (*quantize)(struct stream *stream, const struct quantize_args *args);
    void (*linear)(struct stream *stream, const struct linear_args *args);
    void (*linear_heads)(struct stream *stream, const struct linear_heads_args *args);
    void (*linear_glu)(struct stream *stream, const struct linear_glu_args *args);
    void (*route)(struct stream *stream, const struct route_args *args);
    void (*moe)(struct stream *stream, const struct moe_args *args);
    void (*rope_append)(struct stream *stream, const struct rope_append_args *args);
    void (*page_seal)(struct stream *stream, const struct page_seal_args *args);
    void (*attend)(struct stream *stream, const struct attend_args *args);
    void (*gather)(struct stream *stream, const struct gather_args *args);
    void (*sample)(struct stream *stream, const struct sample_args *args);
    void (*count)(struct stream *stream, const struct count_args *args);
    void (*count_zero)(struct stream *stream, const struct count_zero_args *args);
    void (*count_copy)(struct stream *stream, const struct count_copy_args *args);
    void (*page_zero)(struct stream *stream, const struct page_zero_args *args);
    void (*page_copy)(struct stream *stream, const struct page_copy_args *args);
};

#endif
