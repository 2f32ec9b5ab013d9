/* model/arch_reader.h: what every arch_*.c does: read "<arch>.<key>" with its range, and check
 * tensors against shapes.
 *
 * The first fault sticks in status and why; later calls do nothing, so that an architecture reads
 * as a list of what it needs.
 */
#ifndef QUIRE_MODEL_ARCH_READER_H
#define QUIRE_MODEL_ARCH_READER_H

#include "model/gguf.h"
#include "model/layer_plan.h"

struct arch_reader {
    const struct gguf *file;
    const char *architecture;
    uint32_t n_layers; /* 0 until the architecture has read it: arrays by layer have as many */
    uint32_t n_passed; /* of them, at the end: layers that the model does without */
    bool *uses_tensor; /* [gguf_n_tensors]: set for each tensor that was checked */
    struct why *why;
    int status;
};

/* A number of the file in min..max. A required key that is absent is a fault, else fallback counts.
 * An array with the same number for each layer is read as that number. */
uint32_t arch_number(struct arch_reader *reader, const char *key, uint32_t min, uint32_t max);
uint32_t arch_number_or(struct arch_reader *reader, const char *key, uint32_t min, uint32_t max,
                        uint32_t fallback);
float arch_real(struct arch_reader *reader, const char *key, double min, double max);
float arch_real_or(struct arch_reader *reader, const char *key, double min, double max,
                   double fallback);
bool arch_flag_or(struct arch_reader *reader, const char *key, bool fallback);
/* A bool for each layer, or NULL where the key is absent or no array. */
const struct gguf_value *arch_flags(struct arch_reader *reader, const char *key);
struct slice arch_text_or(struct arch_reader *reader, const char *key, const char *fallback);
void arch_fault(struct arch_reader *reader, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A matrix [n_in, n_out] of a readable type; a vector [n] of F32 or F16. Absent is a fault. */
void arch_matrix(struct arch_reader *reader, const char *name, uint64_t n_in, uint64_t n_out);
void arch_vector(struct arch_reader *reader, const char *name, uint64_t n);
bool arch_has(const struct arch_reader *reader, const char *name);
/* The same for blk.<layer>.<part>. */
void arch_layer_matrix(struct arch_reader *reader, uint32_t layer, const char *part, uint64_t n_in,
                       uint64_t n_out);
/* n matrices one behind the other: [n_in, n_out, n]. */
void arch_layer_matrices(struct arch_reader *reader, uint32_t layer, const char *part,
                         uint64_t n_in, uint64_t n_out, uint64_t n);
void arch_layer_vector(struct arch_reader *reader, uint32_t layer, const char *part, uint64_t n);
bool arch_layer_has(const struct arch_reader *reader, uint32_t layer, const char *part);

/* The architectures: each fills the plan or leaves a fault. */
void arch_deepseek2_read(struct arch_reader *reader, struct model_plan *plan);
void arch_llama_read(struct arch_reader *reader, struct model_plan *plan);
void arch_llama4_read(struct arch_reader *reader, struct model_plan *plan);
void arch_mistral3_read(struct arch_reader *reader, struct model_plan *plan);
void arch_qwen2_read(struct arch_reader *reader, struct model_plan *plan);
void arch_qwen2moe_read(struct arch_reader *reader, struct model_plan *plan);
void arch_qwen3_read(struct arch_reader *reader, struct model_plan *plan);
void arch_qwen3moe_read(struct arch_reader *reader, struct model_plan *plan);

#endif
