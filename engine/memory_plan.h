/* engine/memory_plan.h: what a model takes of a device's memory, what is left for pages, and how
 * fast the memory lets it decode. Pure arithmetic: no device, no clock. Bytes unless said.
 *
 *   memory x devices | weights | workspace | reserve | rows | local layers' pages | global ones' |
 *                      spare |
 *   host             | grammars of requests | the rest of the process |
 *
 * rows: of pages that are being written, where full ones are packed (kvcache/kv_open.h). One
 * sequence; local layers keep their window at most, global layers every token. `quire plan`
 * asks before there is a device, and the workspace is an estimate; the engine asks with one open,
 * and gives what its weights have taken and its buffers will take. Any thread.
 */
#ifndef QUIRE_ENGINE_MEMORY_PLAN_H
#define QUIRE_ENGINE_MEMORY_PLAN_H

#include "kernels/kv_view.h"
#include "model/model_shape.h"

struct why;

struct weight_format {
    const char *name;
    double bits; /* of one weight, its share of the scales included */
};
/* f32, f16, int8, int4; or NULL */
const struct weight_format *weight_format_find(const char *name);

struct memory_budget {
    uint64_t memory_bytes;    /* of one device */
    double bytes_per_second;  /* of one device; 0: no rate is asked for */
    uint32_t n_devices;
    uint64_t reserve_bytes;   /* of one device */
    /* what a step needs beside weights and pages when its longest sequence has `context` tokens; it
     * never shrinks as that grows. NULL: the formulas of memory_plan.c */
    uint64_t (*workspace_bytes)(const void *arg, uint64_t context);
    const void *workspace_arg;
    uint32_t open_pages; /* whose rows stand apart in groups that pack: kv_open_pages */
};

/* Kept free of one device: for the driver's context, code, graphs and the allocator's edges 750 MB,
 * or a sixteenth of the memory where that is less. */
uint64_t memory_plan_reserve(uint64_t memory_bytes);

/* Memory of the host, not of a device unless that is the CPU, that requests with a grammar or
 * schema take at most: GRAMMARS_MAX of them over a vocabulary of so many tokens. */
uint64_t memory_plan_grammars(uint32_t vocabulary);

struct memory_plan {
    uint64_t context;             /* tokens that kv_bytes and the rates are for */
    uint64_t weights_bytes;       /* all devices */
    uint64_t weights_read_bytes;  /* for one token */
    uint64_t global_token_bytes;  /* one token, all global layers, all devices */
    uint64_t local_token_bytes;   /* one token, all local layers */
    uint64_t global_bytes, local_bytes, kv_bytes; /* at `context`; kv = global + local */
    /* all devices; the three parts only where the formulas made them */
    uint64_t activations_bytes, logits_bytes, partials_bytes, workspace_bytes;
    uint64_t open_bytes; /* of rows; 0 where nothing packs */
    uint64_t memory_bytes, reserve_bytes, needed_bytes; /* all devices; needed has all parts */
    bool fits;
    uint64_t room_bytes;          /* what the rest leaves for pages at `context`, all devices */
    /* tokens whose whole pages fit, at most as trained; 0: the rest alone does not fit */
    uint64_t longest_context;
    double bytes_per_token;       /* read for one token at `context`: weights and pages */
    double tokens_per_second;     /* memory's own limit: bandwidth / bytes_per_token */
};

/* weights_bytes 0: by `weights` and the shape's counts; else what a file's take on the devices, and
 * `weights` is not looked at. context 0: 131,072 or as trained, if that is less. STATUS_INVALID:
 * more devices than heads of K and V, or a number that does not divide them; a context beyond the
 * trained one. STATUS_UNSUPPORTED: a shape that nobody published, of which the weights are planned
 * all the same. */
int memory_plan_make(const struct model_shape *shape, const struct weight_format *weights,
                     uint64_t weights_bytes, const struct kv_dtypes *pages,
                     const struct memory_budget *budget, uint64_t context, struct memory_plan *out,
                     struct why *why);

#endif
