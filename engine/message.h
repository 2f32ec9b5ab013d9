/* engine/message.h: the PODs that cross between the loop thread and the step thread, and nothing
 * else does.
 *
 *   loop   --struct message--> ring A (fixed slots)    --> engine     submit, cancel, credit, stats
 *   loop   <--struct event---- ring B (byte records)   <-- engine      one wake a step
 *
 * A run is named by (call_id, tag): call_id is the call's slot and generation, tag tells the runs
 * of one call apart (sections of a summary). An event of a run that nobody knows any more is
 * dropped by comparison.
 *
 * A submit may ask for several answers to its prompt, its choices: a run each, with tags that
 * count from that of the first. They are answered by one EVENT_ACCEPTED or _REFUSED; they draw by
 * the same seed and their own choice_idx, the first what it would draw alone; each tells its deltas
 * and its end. The first reads the prompt, and tells of it, for all; who gave up its pages tells
 * what it reads again itself.
 *
 * Credit: a run starts with submit_credit of it; each EVENT_DELTA takes one; at 0 the sequence is
 * PAUSED. Answers (accepted, refused, stats, tables, estimate) need none, but no more than
 * MESSAGE_RING_SLOTS runs may be owed one, nor does the end of a run; progress is left out when
 * room is short. So ring B, sized in publish.c, cannot fill: asserted by publish_begin.
 */
#ifndef QUIRE_ENGINE_MESSAGE_H
#define QUIRE_ENGINE_MESSAGE_H

#include "base/arena.h"
#include "base/status.h"
#include "limits.h"

#include <stdbool.h>
#include <stdint.h>

struct grammar;
struct page_key;

struct logit_bias {
    uint32_t id;
    float bias; /* -LOGIT_BIAS_MAX to LOGIT_BIAS_MAX */
};

struct sampling {
    float temperature, top_p, min_p, typical_p, repetition, frequency, presence;
    uint32_t top_k;
    bool has_seed;
    uint64_t seed;
    uint32_t n_biases;
    struct logit_bias biases[LOGIT_BIASES_MAX]; /* [n_biases], distinct ids */
};

#define SAMPLING_DEFAULT                                                                           \
    ((struct sampling){.temperature = 1, .top_p = 1, .typical_p = 1, .repetition = 1})

struct stop_list {
    uint32_t n;
    uint16_t len[STOP_STRINGS_MAX];
    uint8_t bytes[STOP_STRINGS_MAX][STOP_BYTES_MAX];
};

/* Who gives the same shares prefixes. */
struct cache_salt {
    uint32_t n;
    uint8_t bytes[CACHE_SALT_BYTES_MAX];
};

/* Owned by the sender until a successful engine_try_send, then by the engine, which frees it with
 * submit_free. */
struct submit {
    uint64_t call_id;
    uint32_t tag;
    uint32_t *ids;            /* the prompt, [n_ids], n_ids >= 1: malloc'ed, or in `memory` */
    uint32_t n_ids;
    struct arena memory;      /* owned; holds nothing where the ids are malloc'ed */
    bool has_max_tokens;
    uint32_t max_tokens;
    struct sampling sampling;
    struct stop_list stop;
    bool ignore_eos;
    /* before so many no end of generation is drawn, and stop tokens end nothing */
    uint32_t min_tokens;
    uint32_t n_stop_tokens;
    uint32_t stop_tokens[STOP_TOKENS_MAX]; /* [n_stop_tokens]: as the model's own ends */
    struct grammar *grammar;  /* owned; NULL: none */
    bool want_text, want_ids, want_logprobs;
    bool want_special;        /* control tokens as their text, not as nothing */
    uint32_t n_top;           /* 0..TOP_LOGPROBS_MAX */
    int32_t priority;         /* higher first; 0 for everybody today's API can reach */
    int64_t deadline_ns;      /* monotonic; 0 = none */
    int64_t arrived_ns;
    uint64_t tenant;          /* salt of the principal; 0 while nobody logs in */
    struct cache_salt salt;
    /* the engine's (engine_name_prompt): root and a key of each whole page before the last token;
     * NULL: nothing is shared. Of choices those of the first */
    struct page_key *page_keys; /* [1 + n_whole_pages] */
    uint32_t n_whole_pages;
    bool has_page_keys;
    uint32_t choice_idx;      /* 0: the first */
    struct submit *next_choice; /* owned; NULL: the last. Until it is admitted */
    /* room for the prompt and all that may be generated behind it, made by engine_try_send: answer
     * is filled as it is drawn, and what stands before it, with the keys, when a run that gave up
     * its pages reads both again. NULL: it keeps its pages to its end */
    uint32_t *text, *answer;  /* answer = text + n_ids */
    struct page_key *text_keys; /* NULL: only the prompt's are known */
    uint32_t n_text_keys;     /* root and pages, as of page_keys, so far */
    uint32_t *n_sharing;      /* choices that hold ids, one of which is the last to; NULL: one */
};
/* zeroed but for ids and defaults; NULL when out of memory */
struct submit *submit_create(uint32_t n_ids);
/* Of ids that are there, and are its own from then on: malloc'ed, or, where memory is not NULL, in
 * that arena, which is left empty. NULL when out of memory: nothing was taken. */
struct submit *submit_create_of(uint32_t *ids, uint32_t n_ids, struct arena *memory);
/* One choice more, behind the others of first: as that, over the same ids, but without a grammar,
 * of which each has its own. NULL when out of memory. */
struct submit *submit_add_choice(struct submit *first);
uint32_t submit_n_choices(const struct submit *first);
uint32_t submit_credit(uint32_t n_choices); /* that each of so many starts with */
void submit_free(struct submit *submit); /* and the choices behind it */

enum message_kind {
    MESSAGE_SUBMIT,
    MESSAGE_CANCEL,
    MESSAGE_CREDIT,
    MESSAGE_STATS,
    MESSAGE_TABLES,
    MESSAGE_ESTIMATE
};

struct message {
    enum message_kind kind;
    uint32_t tag;             /* CANCEL: UINT32_MAX = all runs of the call; TABLES: whose */
    uint64_t call_id;
    uint32_t n_credit;        /* CREDIT */
    struct submit *submit;    /* SUBMIT; ESTIMATE: as of a SUBMIT, ids may be NULL */
};
#define TAG_ALL UINT32_MAX

enum event_kind {
    EVENT_ACCEPTED,
    EVENT_REFUSED,
    EVENT_PROGRESS,
    EVENT_DELTA,
    EVENT_FINISHED,
    EVENT_STATS,
    EVENT_TABLES,
    EVENT_ESTIMATE,
    EVENT_WEIGHTS,
    EVENT_LOST
};

enum run_phase { RUN_WAITING, RUN_PREFILL };
enum finish_reason { FINISH_STOP, FINISH_LENGTH };

/* Why no more of a prompt came out of the cache: enum kv_match_end, for the loop. */
enum cache_end {
    CACHE_END_UNNAMED,
    CACHE_END_WHOLE,
    CACHE_END_ABSENT,
    CACHE_END_DIVERGED,
    CACHE_END_WINDOW,
    CACHE_END_ROOM
};

struct event_accepted {
    uint64_t seed;
    uint32_t n_choices, n_prompt, max_tokens, n_ahead; /* max_tokens: of each choice */
    uint32_t n_cached;             /* tokens of the prompt in the cache, now */
    double first_token_s, total_s; /* estimates; total 0 when no max_tokens was given */
};

/* also the end of a run that failed or ran out of time after it was accepted */
struct event_refused {
    int status;
    bool was_accepted;        /* after EVENT_ACCEPTED: the run has ended without an answer */
    uint32_t n_choices;       /* of the submit, which was not accepted */
    double numbers[2];        /* what was asked and what there is; for the details */
    char unit[16];            /* of the numbers: "seconds", "tokens", "bytes" */
    char setting[32];         /* "--kv-memory"; "" when none would help */
    char text[WHY_BYTES];
};

/* what a submit would be answered now */
struct event_estimate {
    struct event_accepted accepted; /* its numbers, also where it is refused but for its time */
    uint64_t n_pages, n_bytes, n_free_pages;
    int status; /* STATUS_OK, or why not */
    char text[WHY_BYTES];
};

struct event_progress {
    enum run_phase phase;
    uint64_t n_done, n_total;
    double per_s, left_s;
};

struct token_logprob {
    uint32_t id;
    float logprob;
};

/* one decoded token, or the rest that was held back (has_token false) */
struct event_delta {
    bool has_token, has_logprob;
    uint32_t id;
    float logprob;
    uint32_t n_top;
    uint32_t text_bytes;
    struct token_logprob top[TOP_LOGPROBS_MAX];
    uint8_t text[];           /* [text_bytes], whole characters */
};

struct event_finished {
    enum finish_reason reason;
    int32_t stop_idx;         /* of the stop string that matched, or -1 */
    uint64_t n_prompt, n_completion, n_cached; /* n_cached: of n_prompt, not computed */
    enum cache_end cache_end;
    double queue_s, prefill_s, decode_s, paused_s;
};

/* Pages of one group of layers; those that are neither free nor open are full (kv_look.h). */
struct page_group {
    char kind[8], dtype[8];   /* "global", "sliding", "chunked"; of full pages */
    uint32_t window, n_layers;
    uint64_t page_bytes;
    uint32_t n_pages, n_free, n_cached, n_reserved, n_open, n_full, n_own;
};

/* A sequence that holds pages. */
struct page_holder {
    uint32_t id;              /* its slot in the cache */
    char state[12];           /* "PREFILL" */
    uint32_t n_tokens, n_promised;
};

struct engine_stats {
    double uptime_s;
    uint64_t n_pages, n_pages_used, n_pages_reserved, n_pages_cached;
    uint32_t n_queued, n_waiting_pages, n_prefill, n_decode, n_paused;
    uint64_t n_prompt_tokens, n_generated_tokens, n_admitted, n_refused, n_cancelled, n_steps,
        n_saturated, n_hit_tokens, n_evicted_pages, n_preempted, n_reread_tokens, n_host_pages,
        n_host_used, n_spilled_pages, n_recalled_pages;
    double busy_s, prefill_busy_s, decode_busy_s; /* time in steps; split by rows */
    uint32_t n_groups, n_holders;
    struct page_group groups[KV_GROUPS_MAX];
    struct page_holder holders[STATS_HOLDERS_MAX]; /* the first of them in line */
};

/* What a sequence's tables hold: of each group n_stretches stretches, group behind group. */
struct page_table_look {
    uint32_t first_page, n_pages, n_stretches, n_untold; /* kv_look.h */
};
struct page_stretch {
    uint32_t index, page, n, n_holders : 31, is_open : 1;
};
struct event_tables {
    bool is_there;            /* else no sequence of that number holds pages */
    struct page_holder holder;
    uint32_t n_committed, n_groups;
    struct page_table_look tables[KV_GROUPS_MAX];
    struct page_stretch stretches[TABLE_STRETCHES_MAX];
};

struct event {
    enum event_kind kind;
    uint32_t tag;
    uint64_t call_id;         /* 0: EVENT_WEIGHTS, EVENT_LOST */
    union {
        struct event_accepted accepted;
        struct event_refused refused;
        struct event_progress progress;
        struct event_finished finished;
        struct engine_stats stats;
        struct event_tables tables;
        struct event_estimate estimate;
        char weights_sha256[65];
        struct event_delta delta; /* last: has a flexible tail */
    };
};

#endif
