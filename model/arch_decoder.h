/* model/arch_decoder.h: the parts that architectures are read from: every one of them is a decoder
 * whose layers add attention and a feed-forward to x.
 *
 *   sizes -> heads -> rope                numbers alone
 *   ends, then for each layer: place, attention, dense feed-forward       tensors against them
 *
 * Every part does nothing after a fault. Tensors that are checked count as used.
 */
#ifndef QUIRE_MODEL_ARCH_DECODER_H
#define QUIRE_MODEL_ARCH_DECODER_H

#include "model/arch_experts.h"

struct arch_heads {
    uint32_t n_heads, n_kv_heads, k_dim, v_dim;
    bool v_in_k;    /* values are the first v_dim of the keys */
    uint32_t n_rot; /* of rope.dimension_count: even, at most k_dim */
};

struct arch_windows { /* which layers see only a window or their chunk */
    uint32_t window;    /* tokens; 0: none does */
    uint32_t period;    /* layer i does unless i + 1 is a multiple of it; 0: all do */
    const struct gguf_value *flags; /* a bool for each layer instead, or NULL */
};

/* block_count, context_length, embedding_length, the norm's epsilon; allocates the layers. A model
 * that is not causal is refused. */
void arch_read_sizes(struct arch_reader *reader, struct model_plan *plan);
void arch_read_heads(struct arch_reader *reader, const struct model_plan *plan,
                     struct arch_heads *out);
/* feed_forward_length; 0 where experts make it needless and the file has none. */
uint32_t arch_read_n_ff(struct arch_reader *reader);
/* The one table of angles, of n_rot dims; grows_scores: see rope_plan.h. STATUS_UNSUPPORTED for a
 * scaling that is unknown. */
void arch_rope_read(struct arch_reader *reader, uint32_t n_rot, bool grows_scores,
                    struct model_plan *plan);
/* How queries grow from the length on that the model was trained to before it was stretched; they
 * do not where the file has no attention.temperature_scale. */
struct q_temperature arch_read_temperature(struct arch_reader *reader,
                                           const struct model_plan *plan);
/* Token embedding, last norm, output matrix; and output.bias where has_output_bias allows one. */
void arch_read_ends(struct arch_reader *reader, struct model_plan *plan, bool may_have_bias);

/* Which layers `window` is of: attention.sliding_window_pattern, or the period where there is no
 * such key. */
struct arch_windows arch_read_windows(struct arch_reader *reader, uint32_t window,
                                      uint32_t period);
bool arch_has_window(const struct arch_windows *windows, uint32_t i);
/* Puts layer i into the cache's group of this kind, window and shape, a new one where there is
 * none. Layers come in ascending order. */
void arch_place_layer(struct model_plan *plan, uint32_t i, enum kv_kind kind, uint32_t window,
                      const struct arch_heads *heads);
/* Norm, q, k, v (apart or fused) and output of a placed layer; biases where the file has them. */
void arch_read_attention(struct arch_reader *reader, uint32_t i, const struct arch_heads *heads,
                         struct model_plan *plan);
/* Norm, gate, up and down; biases where the file has them. */
void arch_read_dense(struct arch_reader *reader, uint32_t i, uint32_t n_ff,
                     struct model_plan *plan);

/* The whole of an architecture that has nothing of its own but its pairs of RoPE and how it chooses
 * experts: *experts holds what counts where the file has no key, NULL: it has none. Layers that see
 * a window are those that attention.sliding_window and its pattern name. */
void arch_read_plain(struct arch_reader *reader, enum rope_style rope,
                     struct experts_plan *experts, struct model_plan *plan);

#endif
