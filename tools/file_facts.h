/* tools/file_facts.h: what `quire inspect` has to say of a GGUF file, gathered before it is
 * printed.
 *
 * The container is sound (gguf_open said so). Whether this build can run it is another question:
 * each reason against is one sentence in `unsupported`; what contradicts itself makes the file bad.
 */
#ifndef QUIRE_TOOLS_FILE_FACTS_H
#define QUIRE_TOOLS_FILE_FACTS_H

#include "base/status.h"
#include "kernels/kv_view.h"
#include "model/gguf.h"
#include "model/layer_plan.h"

struct chat_template;
struct vocabulary;

#define FACTS_REASONS_MAX 8
#define FACTS_TYPES_MAX 48

struct type_facts { /* the tensors of one type */
    uint32_t type;
    uint64_t n_tensors, n_parameters, n_bytes;
};

struct file_facts {
    struct gguf *file;
    uint64_t n_bytes; /* of all files of the set */
    uint64_t n_parameters, weight_bytes;
    uint32_t n_types;
    struct type_facts types[FACTS_TYPES_MAX]; /* by bytes, most first */

    bool is_vocabulary; /* no tensors: it serves text alone */
    bool has_plan;
    struct model_plan plan;
    bool has_geometry; /* of keys and values: by the plan, else as the keys suggest */
    uint64_t kv_values; /* of one token, all layers */
    uint64_t n_unused;  /* tensors that the plan does not use */

    struct vocabulary *vocabulary;       /* NULL when this build cannot read it */
    struct chat_template *chat_template; /* NULL: see chat_refusal */
    bool has_chat_text;                  /* the file holds a template */
    struct why chat_refusal;

    uint32_t n_unsupported;
    struct why unsupported[FACTS_REASONS_MAX]; /* why this build does not run it; none: it does */
    int status;                                /* STATUS_OK, or why the file is bad */
    struct why bad;
};

/* STATUS_* of gguf_open; nothing to release then. *out is large: not for a small stack. */
int file_facts_gather(const char *path, struct file_facts *out, struct why *why);
void file_facts_release(struct file_facts *facts);

#endif
