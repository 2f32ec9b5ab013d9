/* engine/engine.h: the step thread and its door. Everything that the service may ask stands here.
 *
 *   loop thread                              step thread
 *   engine_try_send ----- ring A ----------> drain -> plan -> batch -> forward -> accept -> publish
 *   engine_peek_event <-- ring B ----------- wake(arg)
 *
 * Threads: engine_try_send, engine_peek_event and engine_pop_event from one thread (the loop); the
 * read-only functions at the end from any thread. Between steps the step thread and its team are
 * parked.
 */
#ifndef QUIRE_ENGINE_ENGINE_H
#define QUIRE_ENGINE_ENGINE_H

#include "base/slice.h"
#include "base/text_parts.h"
#include "engine/message.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct engine;

struct engine_options {
    const char *model_path;
    const char *backend;         /* NULL or "auto", "cpu", "cuda": device.h */
    bool has_gpu;                /* which one was said: gpu */
    uint32_t gpu;
    int n_threads;               /* 0: the measured default */
    const char *isa;             /* NULL or "auto", "scalar", "avx2", "avx512" */
    const char *activations;     /* "16", "int8", "f32" */
    const char *kv_dtype;        /* "q8", "global=q4,local=f16": kernels/kv_dtype.h */
    /* 0: on a CPU what 16 full contexts take, at most half of the memory that is free; on a GPU
     * what the memory plan leaves, at most max_sequences full contexts */
    uint64_t kv_memory_bytes;
    uint64_t host_pool_bytes; /* where pages go that give way (kvcache/kv_host.h); 0: nowhere */
    /* 0: the model's, or as much of it as the cache holds; any other must fit */
    uint32_t max_context;
    const char *chat_format;     /* NULL or "": as the file's template says */
    uint32_t max_sequences;      /* that hold pages at once; 0: DEFAULT_SEQUENCES */
    uint32_t max_queued;         /* that may wait for pages; 0: none */
    int64_t max_step_ns;         /* 0: DEFAULT_STEP_MS */
    int64_t preempt_ns;          /* engine/preempt.h; 0: DEFAULT_PREEMPT_MS */
    bool strict_device;
    bool no_prefix_cache;        /* every prompt is computed: to compare with */
    bool no_overlap;             /* one step at a time, no graphs: to compare with */
    void (*on_progress)(void *arg, uint64_t n_done, uint64_t n_total); /* loading, bytes */
    void *on_progress_arg;
};

/* Loads the model, sizes the cache, measures rates by a short warm-up. STATUS_* of device_open and
 * model_load; STATUS_NO_MEMORY with numbers; STATUS_TOO_LARGE: a context or a cache that does not
 * fit, with what does. */
int engine_create(const struct engine_options *options, struct engine **out, struct why *why);
/* Starts the step thread; wake is called on it after events were published (ring_fence was issued).
 * */
int engine_start(struct engine *engine, void (*wake)(void *arg), void *arg, struct why *why);
/* Ends the step thread; runs that are left are dropped without events. */
void engine_stop(struct engine *engine);
void engine_free(struct engine *engine);

/* False when MESSAGE_RING_SLOTS runs and questions are unanswered or ring A has no slot for more:
 * the caller answers STATUS_EXHAUSTED now, and keeps the submit. Credits and cancels are always
 * taken: the last slots are kept for them. */
bool engine_try_send(struct engine *engine, const struct message *message);
/* The oldest event, valid until pop; NULL when there is none. */
const struct event *engine_peek_event(struct engine *engine);
void engine_pop_event(struct engine *engine);

/* --- read-only, any thread --- */

struct engine_model_info {
    char name[128], architecture[32], activations[8], kv_dtype[32], device[64], chat_format[32],
        chat_refusal[512];
    uint64_t n_parameters, weight_bytes;
    uint32_t max_context; /* that one sequence gets: what is asked for, if the cache holds it */
    uint32_t trained_context, vocabulary;
    uint32_t page_tokens, n_groups;
    uint64_t token_bytes, n_pages, kv_bytes;
    uint32_t end_ids[64];
    uint32_t n_end_ids;
    bool has_bos;         /* add_bos = 1 adds a token */
    enum chat_tool_style chat_tools;
    /* The file has no tensors: only the read-only functions answer, and engine_try_send is false.
     * Names, vocabulary, end_ids and has_bos are told, the rest is 0. */
    bool is_vocabulary;
};
void engine_model_info(const struct engine *engine, struct engine_model_info *out);
/* True and hex digits once the digest is known. */
bool engine_weights_sha256(const struct engine *engine, char out[65]);

/* ids and spans (if spans is not NULL) are malloc'ed for the caller. At most n_max ids:
 * STATUS_TOO_LARGE with numbers. add_bos: -1 as the file says, 0, 1. Text must be valid UTF-8:
 * STATUS_INVALID with the byte offset. */
int engine_tokenize(const struct engine *engine, struct slice text, int add_bos, bool parse_special,
                    size_t n_max, uint32_t **ids, struct token_span **spans, size_t *n,
                    struct why *why);
/* False: no token of the vocabulary says this byte, and a text with it is refused. */
bool engine_says_byte(const struct engine *engine, uint8_t byte);
/* Exact bytes, malloc'ed for the caller. STATUS_INVALID names an id beyond the vocabulary. */
int engine_detokenize(const struct engine *engine, const uint32_t *ids, size_t n, bool special,
                      uint8_t **out, size_t *len, struct why *why);
/* empty beyond the vocabulary */
struct slice engine_token_bytes(const struct engine *engine, uint32_t id);

/* Rendered by the model's template and tokenized, with the generation prompt. STATUS_UNSUPPORTED
 * when the template is not known; else as chat_template_render. */
int engine_render_chat(const struct engine *engine, const struct chat *chat, size_t n_max,
                       uint32_t **ids, size_t *n_ids, struct why *why);
/* STATUS_INVALID: engine_options.kv_dtype may not be so. */
int engine_check_kv_dtype(const char *text, struct why *why);
/* STATUS_INVALID: no chat format is called so, with the names of all; "": as the file says. */
int engine_check_chat_format(const char *name, struct why *why);
/* The calls that an answer asks for, as the model's chat format writes them (text: from the first
 * mark or bracket on, special tokens as their text). Parts are borrowed from text. 0: it is none,
 * or more than max. */
size_t engine_read_calls(const struct engine *engine, struct slice text, struct chat_call *calls,
                         size_t max);

/* Keys of the prompt's pages, as the step thread would make them (9 ms and more for a million
 * tokens), for a submit that is yet to be sent, with its ids, salt and tenant: by the thread that
 * has it. Nothing while the weights' digest is not known. */
void engine_name_prompt(const struct engine *engine, struct submit *submit);

enum engine_grammar { ENGINE_GRAMMAR_GBNF, ENGINE_GRAMMAR_JSON_SCHEMA };

struct grammar;
/* A grammar over the model's tokens, for a submit, which owns it then; else the caller frees it
 * with engine_free_grammar. STATUS_INVALID, with line and column; STATUS_NO_MEMORY. */
int engine_compile_grammar(const struct engine *engine, enum engine_grammar form,
                           struct slice text, struct grammar **out, struct why *why);
void engine_free_grammar(struct grammar *grammar); /* NULL too */

#endif
