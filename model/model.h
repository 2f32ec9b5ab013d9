/* model/model.h: a loaded model: plan, weights on a device, vocabulary, chat template. Read-only
 * after load, any thread.
 *
 *   gguf --arch_*--> model_plan --weights--> device --forward--> logits
 *     '--vocabulary, chat template
 */
#ifndef QUIRE_MODEL_MODEL_H
#define QUIRE_MODEL_MODEL_H

#include "model/layer_plan.h"

struct vocabulary;
struct chat_template;
struct token_trie;
struct model;
struct device;

struct model_options {
    /* bytes of weights; may be NULL */
    void (*on_progress)(void *arg, uint64_t n_done, uint64_t n_total);
    void *on_progress_arg;
    bool takes_vocabulary; /* a file with a vocabulary and no tensors will do */
    const char *chat_format; /* of --chat-format; NULL or "": as the file's template says */
};

/* Of such a file model_options.takes_vocabulary speaks. */
bool model_holds_vocabulary_alone(const struct gguf *file);
/* The file's vocabulary, as many tokens as the plan has rows. STATUS_CORRUPT, STATUS_UNSUPPORTED,
 * STATUS_NO_MEMORY. The caller frees *out with vocabulary_free. */
int model_read_vocabulary(const struct gguf *file, const struct model_plan *plan,
                          struct vocabulary **out, struct why *why);

/* Loads everything; the file's pages are dropped as tensors are repacked. STATUS_* of gguf_open and
 * model_plan_read; STATUS_NO_MEMORY, before anything is loaded where a GPU is too small; of
 * chat_template_create, when a chat_format is asked for that the model cannot have. */
int model_load(struct device *device, const char *path, const struct model_options *options,
               struct model **out, struct why *why);
void model_free(struct model *model);
/* The file has a vocabulary and no tensors: text becomes tokens and back, and nothing runs. */
bool model_is_vocabulary(const struct model *model);
const struct model_plan *model_plan(const struct model *model);
const struct vocabulary *model_vocabulary(const struct model *model);
const struct token_trie *model_token_trie(const struct model *model); /* for grammars */
/* NULL when the file's template is unknown or absent; then model_chat_refusal says why chat is
 * refused. */
const struct chat_template *model_chat_template(const struct model *model);
const char *model_chat_refusal(const struct model *model);
const struct gguf *model_file(const struct model *model); /* stays open: digest, inspect */
const struct model_weights *model_weights(const struct model *model); /* for forward.c */
uint64_t model_weight_bytes(const struct model *model); /* that the weights take of the device */
uint64_t model_step_bytes(const struct model *model); /* of weights that one decode step reads */

#endif
