/* model/weights_loader.h: tensors of a file onto the device, one by one or fused: what weights.c
 * and the files that are parts of it are made of.
 *
 * The first failure sticks in status and why; later steps do nothing and give NULL. Which tensors
 * exist, their shapes and types were checked by model_plan_read.
 */
#ifndef QUIRE_MODEL_WEIGHTS_LOADER_H
#define QUIRE_MODEL_WEIGHTS_LOADER_H

#include "model/gguf.h"
#include "model/model.h"
#include "model/weights.h"

struct loader {
    struct device *device;
    const struct ops *ops;
    const struct gguf *file;
    const struct model_options *options;
    uint64_t n_done, n_total; /* bytes of the file */
    uint64_t n_bytes;         /* on the device */
    struct why *why;
    int status;
};

struct layer_name {
    char text[64];
};
struct layer_name loader_name(uint32_t layer, const char *part); /* blk.<layer>.<part> */

const struct gguf_tensor *loader_find(struct loader *loader, const char *name);
/* A tensor is on the device: its file pages are dropped. */
void loader_progress(struct loader *loader, const struct gguf_tensor *tensor);
/* Host memory to new device memory. */
void *loader_upload(struct loader *loader, const void *host, size_t bytes);

struct weight *loader_matrix(struct loader *loader, enum weight_fuse fuse,
                             const struct weight_source *sources, uint32_t n);
/* names: 1 to 3 tensors of one fused weight. */
struct weight *loader_weight(struct loader *loader, enum weight_fuse fuse,
                             const char *const *names, uint32_t n);
struct weight *loader_layer_weight(struct loader *loader, uint32_t layer, const char *part);
/* Matrix e of a tensor of several: n_out rows from first_row on. */
struct weight_source loader_source(const struct gguf_tensor *tensor, const char *name, uint64_t e,
                                   uint64_t first_row, uint64_t n_out);
/* names: gate and up, or both in one tensor, of which the first half of each expert is the gate; or
 * down; or of WEIGHT_HEADS the heads' matrices. */
struct weight *loader_experts(struct loader *loader, enum weight_fuse fuse,
                              const char *const *names, uint32_t n_names);

/* Vectors of these lengths, end to end, as f32; one that the file lacks is zeros. */
float *loader_vectors(struct loader *loader, const char *const *names, const uint64_t *lengths,
                      uint32_t n);
float *loader_vector(struct loader *loader, const char *name);
float *loader_layer_vector(struct loader *loader, uint32_t layer, const char *part);
float *loader_layer_optional(struct loader *loader, uint32_t layer, const char *part); /* or NULL */

/* --- weights_latent.c --- */

/* The attention of a layer whose heads share one latent vector a token, but for its norm and its
 * output. */
void loader_latent(struct loader *loader, uint32_t layer, const struct layer_plan *plan,
                   struct latent_weights *out);

#endif
