/* service/serve_options.h: what `quire serve` is told, by its words and QUIRE_* variables. */
#ifndef QUIRE_SERVICE_SERVE_OPTIONS_H
#define QUIRE_SERVICE_SERVE_OPTIONS_H

#include "base/options.h"
#include "engine/engine.h"

#include <stdbool.h>
#include <stdint.h>

struct serve_options {
    const char *model, *listen;
    bool insecure, strict_device, has_device, no_prefix_cache;
    int64_t device, threads, max_context, max_step_ms, max_sequences, max_queued, max_connections;
    int64_t drain_ms, max_paused_ms, preempt_ms, parent_fd;
    uint64_t kv_memory, host_pool;
    const char *chat_format, *kv_dtype;
    int backend, activations, isa, log_level, log_format;
};

extern const struct command serve_options_command;

/* Texts are borrowed from argv and the environment. STATUS_INVALID with a sentence; *help: --help
 * was given, and nothing else was checked. */
int serve_options_parse(struct serve_options *out, int argc, char **argv, bool *help,
                        struct why *why);
/* What of them the engine takes; on_progress is the caller's to set. Borrows the texts. */
struct engine_options serve_options_engine(const struct serve_options *in);

#endif
