/* service/wire.h: protobuf on one side, plain structs on the other. Only service/wire*.c see
 * protobuf types.
 *
 *   request bytes --wire_unpack_*(arena)--> struct wire_*       borrowed from the arena; every
 * string checked UTF-8, every number checked for range struct event  --wire_pack_*(buffer)--->
 * message bytes       0 when the buffer is too small, which is asserted against
 *
 * Unpacking: STATUS_INTERNAL (does not parse), STATUS_EXHAUSTED (takes more memory than its size
 * allows), STATUS_INVALID (names field and number). The arena's cap is wire_arena_bytes of the
 * message.
 */
#ifndef QUIRE_SERVICE_WIRE_H
#define QUIRE_SERVICE_WIRE_H

#include "base/arena.h"
#include "base/slice.h"
#include "engine/engine.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

size_t wire_arena_bytes(size_t message_bytes);

enum wire_prompt { WIRE_TEXT, WIRE_TOKENS, WIRE_CHAT };

struct wire_generate {
    enum wire_prompt prompt;
    struct slice text;
    uint32_t *ids; /* in the arena */
    size_t n_ids;
    struct chat chat;
    bool truncates_oldest;
    struct sampling sampling;
    struct stop_list stop;
    bool has_max_tokens, ignore_eos, want_text, want_ids, want_logprobs;
    uint32_t max_tokens, n_top;
    int add_bos; /* -1 as the file says */
    bool has_grammar;
    enum engine_grammar grammar_form;
    struct slice grammar;
    const uint32_t *stop_tokens; /* [n_stop_tokens], at most STOP_TOKENS_MAX */
    uint32_t n_stop_tokens, min_tokens;
    uint32_t n, best_of; /* 1..CHOICES_MAX; best_of >= n */
    struct cache_salt cache_salt;
};
int wire_unpack_generate(struct arena *arena, struct slice body, struct wire_generate *out,
                         struct why *why);

struct wire_finished {
    const struct event_finished *event;
    uint32_t choice_idx;
    bool is_last;      /* of the call: event has what all used, and the times */
    bool has_mean;
    double mean_logprob;
    struct slice stop; /* the stop string that matched; len 0: none did */
    const struct chat_call *calls; /* [n_calls], n_calls <= TOOL_CALLS_MAX */
    size_t n_calls;
};

/* What was left out of a chat. */
struct chat_cut {
    uint32_t n_tokens, n_messages;
};

size_t wire_pack_accepted(uint8_t *out, size_t cap, const struct event_accepted *event,
                          const char *id, const struct chat_cut *cut);
size_t wire_pack_progress(uint8_t *out, size_t cap, const struct event_progress *event);
/* 0 bytes with *empty set: nothing of it is wanted. Token bytes of logprobs come from the engine's
 * vocabulary. */
size_t wire_pack_delta(uint8_t *out, size_t cap, const struct event_delta *event,
                       uint32_t choice_idx, const struct engine *engine, bool want_text,
                       bool want_ids, bool *empty);
size_t wire_pack_finished(uint8_t *out, size_t cap, const struct wire_finished *finished);

/* --- estimate --- */

struct wire_estimate {
    bool has_request;
    struct wire_generate request;
    uint32_t n_prompt; /* when there is no request */
    bool has_max_tokens;
    uint32_t max_tokens;
};
int wire_unpack_estimate(struct arena *arena, struct slice body, struct wire_estimate *out,
                         struct why *why);
size_t wire_pack_estimate(uint8_t *out, size_t cap, const struct event_estimate *event);

/* --- summarize --- */

struct wire_summary_options {
    struct slice instruction; /* len 0: none */
    uint32_t section_tokens;  /* 0: whole when it fits, else as large as fit */
    struct sampling sampling;
    uint32_t max_tokens, section_max_tokens;
    uint64_t total_bytes; /* 0: not told */
    bool replaces_invalid;
    struct cache_salt cache_salt;
};
struct wire_summarize {
    bool has_options; /* else text */
    struct wire_summary_options options;
    struct slice text; /* any bytes */
};
int wire_unpack_summarize(struct arena *arena, struct slice body, struct wire_summarize *out,
                          struct why *why);

enum wire_phase {
    WIRE_PHASE_UPLOAD,
    WIRE_PHASE_WAITING,
    WIRE_PHASE_PREFILL,
    WIRE_PHASE_SECTIONS,
    WIRE_PHASE_ANSWER,
};
struct wire_progress {
    enum wire_phase phase;
    uint64_t n_done, n_total;
    double per_s, left_s;
};
struct wire_section {
    uint32_t level, index;
    uint64_t begin, end;
    struct slice text;
    bool is_last;
};
struct wire_summary {
    enum finish_reason reason;
    uint64_t n_covered, n_total, n_replaced;
    uint32_t n_sections, n_levels;
    uint64_t n_prompt, n_completion;
    double seconds;
};
size_t wire_pack_summary_accepted(uint8_t *out, size_t cap, const char *id, uint64_t seed);
size_t wire_pack_summary_progress(uint8_t *out, size_t cap, const struct wire_progress *progress);
size_t wire_pack_section(uint8_t *out, size_t cap, const struct wire_section *section);
size_t wire_pack_summary_delta(uint8_t *out, size_t cap, struct slice text);
size_t wire_pack_summary_finished(uint8_t *out, size_t cap, const struct wire_summary *summary);

/* --- text --- */

struct wire_tokenize {
    struct slice text;
    bool add_special, parse_special, spans;
};
int wire_unpack_tokenize(struct arena *arena, struct slice body, struct wire_tokenize *out,
                         struct why *why);
struct wire_detokenize {
    const uint32_t *ids;
    size_t n_ids;
    bool special;
};
int wire_unpack_detokenize(struct arena *arena, struct slice body, struct wire_detokenize *out,
                           struct why *why);
/* malloc'ed for the caller; NULL when memory is out. spans may be NULL. */
uint8_t *wire_pack_tokens(const uint32_t *ids, const struct token_span *spans, size_t n,
                          size_t *bytes);
/* text: the bytes with what is not UTF-8 replaced */
uint8_t *wire_pack_text(struct slice text, struct slice exact, size_t *bytes);

/* --- model, stats, health --- */

int wire_unpack_model(struct arena *arena, struct slice body, struct why *why);
size_t wire_pack_model(uint8_t *out, size_t cap, const struct engine_model_info *info,
                       const char *weights_sha256);
struct wire_watch_stats {
    uint32_t interval_ms;
    bool has_sequence;
    uint32_t sequence;
};
int wire_unpack_watch_stats(struct arena *arena, struct slice body, struct wire_watch_stats *out,
                            struct why *why);
struct wire_stats {
    const struct engine_stats *now,
        *before; /* before: of the stream's last message; rates are since then */
    const struct event_tables *tables; /* NULL: none were asked for */
    uint64_t resident_bytes;
    uint32_t n_connections;
};
size_t wire_pack_stats(uint8_t *out, size_t cap, const struct wire_stats *stats);

enum wire_health { WIRE_HEALTH_UNKNOWN, WIRE_SERVING, WIRE_NOT_SERVING, WIRE_SERVICE_UNKNOWN };
int wire_unpack_health(struct arena *arena, struct slice body, struct slice *name, struct why *why);
size_t wire_pack_health(uint8_t *out, size_t cap, enum wire_health health);
int wire_unpack_health_list(struct arena *arena, struct slice body, struct why *why);
/* names: [n], n <= WIRE_HEALTH_NAMES_MAX, all in the same condition */
#define WIRE_HEALTH_NAMES_MAX 4
size_t wire_pack_health_list(uint8_t *out, size_t cap, const char *const *names, size_t n,
                             enum wire_health health);

/* --- reflection --- */

enum wire_reflection_kind {
    WIRE_NOTHING_KNOWN, /* empty, or a kind of a later protocol */
    WIRE_FILE_BY_NAME,
    WIRE_FILE_OF_SYMBOL,
    WIRE_FILE_OF_EXTENSION,
    WIRE_EXTENSIONS_OF,
    WIRE_SERVICES,
};
struct wire_reflection {
    enum wire_reflection_kind kind;
    struct slice name;   /* of the file, the symbol or the message */
    int32_t number;      /* of the extension */
    const void *request; /* as it came: the response holds it again */
};
int wire_unpack_reflection(struct arena *arena, struct slice body, struct wire_reflection *out,
                           struct why *why);

enum wire_reflection_reply_kind {
    WIRE_REPLY_ERROR,
    WIRE_REPLY_FILES,
    WIRE_REPLY_EXTENSIONS,
    WIRE_REPLY_SERVICES,
};
struct descriptor_service;
/* Arrays are the caller's. */
struct wire_reflection_reply {
    enum wire_reflection_reply_kind kind;
    const struct slice *files; /* [n_files], at most DESCRIPTOR_FILES_MAX */
    size_t n_files;
    struct slice base_type;
    const int32_t *numbers; /* [n_numbers] */
    size_t n_numbers;
    const struct descriptor_service *services; /* [n_services] */
    size_t n_services;
    int error_code; /* of gRPC */
    const char *error_text;
};
/* malloc'ed for the caller; NULL when memory is out. arena: where the request lives. */
uint8_t *wire_pack_reflection(struct arena *arena, const struct wire_reflection *request,
                              const struct wire_reflection_reply *reply, size_t *bytes);

/* Fields of google.rpc.ErrorInfo: reason, and up to 6 pairs. */
struct wire_detail {
    const char *key, *value;
};
size_t wire_pack_details(uint8_t *out, size_t cap, int grpc_code, const char *message,
                         const char *reason, const struct wire_detail *details, size_t n_details);
#define WIRE_DETAILS_BYTES_MAX 4096
/* The same out of a refusal: its status as reason, its numbers as pairs (requested, available,
 * unit, setting). */
size_t wire_pack_refusal(uint8_t *out, size_t cap, int status, const char *message,
                         const struct why_numbers *numbers);

#endif
