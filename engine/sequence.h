/* engine/sequence.h: one run from admission to its end.
 *
 *   QUEUED --> WAITING_PAGES --> PREFILL --> DECODE <--> PAUSED       any of them --> FINISHED
 *      '---------------------------^            '--> SPILLED (from PAUSED too) --> PREFILL
 *
 * Every change of state goes through sequence_set_state, which asserts the arrow and keeps the
 * counts. A SPILLED one has given up its pages (preempt.h) and reads its text again when it has new
 * ones. Thread: engine only.
 *
 *   position   0 1 2 3 4 5 6 7        a prompt of 5 tokens; 2 of the answer are known
 *   cache      p p p p p a            n_prefilled = 5, n_generated = 2: sequence_n_context = 6
 *   launched   p p p p p a a          n_launched = 7: a step is under way, it reads the newest and
 *                                     draws a third; the next row, at 7, takes that on the device
 *
 * A run that ends leaves when the last step with a row of it is over. One with a grammar has one
 * row under way at most, since what it may draw depends on what it drew: beside steps that overlap
 * it takes every second one, and others do not wait for it.
 *
 * Choices of one prompt (choices.h) are sequences that share its pages:
 *
 *   first      p p p p | p a a ...     reads all but the last token; then the others fork, and
 *   second     '-----' | p a' a' ...   each reads the last one by itself, and draws behind it
 */
#ifndef QUIRE_ENGINE_SEQUENCE_H
#define QUIRE_ENGINE_SEQUENCE_H

#include "base/clock.h"
#include "base/list.h"
#include "engine/message.h"
#include "kvcache/kv_cache.h"
#include "model/detok.h"
#include "model/stop.h"

enum sequence_state {
    SEQUENCE_QUEUED,
    SEQUENCE_WAITING_PAGES,
    SEQUENCE_PREFILL,
    SEQUENCE_DECODE,
    SEQUENCE_PAUSED,
    SEQUENCE_SPILLED,
    SEQUENCE_FINISHED,
    SEQUENCE_STATES
};

/* How a run ended, for the word to its reader; cancelled: none, there is no reader. */
enum sequence_end {
    END_CANCELLED,
    END_STOP,
    END_LENGTH,
    END_OVERDUE,
    END_GRAMMAR, /* it cannot go on: grammar_status and grammar_why */
    END_LOST
};

#define AHEAD_UNTOLD UINT32_MAX

struct sequence {
    struct list link; /* in the engine's line of runs */
    enum sequence_state state;
    struct submit *submit; /* owned */
    /* Before they fork: the choices of a prompt in a ring. NULL: forked, or the only one. */
    struct sequence *next_choice;
    uint64_t seed;
    uint32_t promised_output; /* tokens it may generate */
    kv_seq_id kv;             /* KV_SEQ_NONE until it has pages */
    uint32_t n_prefilled;     /* tokens of the text that it reads (sequence_n_text) in the cache */
    uint32_t n_cached;        /* of the prompt, found there when it got pages first */
    uint32_t n_begun;         /* where its first row stands since it has pages */
    uint32_t n_reread;        /* tokens of the answer that it reads as it does the prompt */
    enum kv_match_end match_end; /* why no more */
    bool has_recalled;        /* what the host pool had of it is matched, and on its way */
    bool has_counts;          /* tokens before its next row are counted, for penalties */
    uint32_t n_generated;
    uint32_t last_id;         /* the newest token that is known */
    uint32_t n_launched;      /* tokens that steps took, over or under way */
    uint32_t n_steps;         /* under way, that hold rows of it */
    uint32_t output_idx;      /* of its newest token, among those of the step that draws it */
    uint32_t n_credit;
    struct detok detok;
    struct stop stop;
    int64_t started_ns, decode_ns, paused_ns,
        paused_since_ns;                  /* of prefill, of decode, sum, since */
    int64_t reads_ns;                     /* since when it reads its text, with the pages it has */
    int64_t mask_ns;                      /* of its grammar's masks: sequence_learn_mask */
    int grammar_status;                   /* of END_GRAMMAR */
    char grammar_why[WHY_BYTES];
    enum sequence_end end;                /* of a FINISHED one, and when */
    int64_t ended_ns;
    int64_t progress_ns;                  /* of the last progress event */
    /* runs that wait before it: at admission, told last (AHEAD_UNTOLD: never) */
    uint32_t n_ahead_first, n_ahead_told;
};

struct sequence_counts {
    uint32_t n[SEQUENCE_STATES];
};

void sequence_set_state(struct sequence *sequence, enum sequence_state next,
                        struct sequence_counts *counts, int64_t now_ns);
const char *sequence_state_name(enum sequence_state state);
bool sequence_has_pages(const struct sequence *sequence);
/* Tokens in the cache: prompt and answer but the newest token, which the next step reads. */
uint32_t sequence_n_context(const struct sequence *sequence);
/* What it reads before it draws: the prompt, and after a loss of pages what it had generated. */
uint32_t sequence_n_text(const struct sequence *sequence);
/* i below that, or below what is generated. */
uint32_t sequence_text_id(const struct sequence *sequence, uint32_t i);
/* Its next row is one of that text. */
bool sequence_is_reading(const struct sequence *sequence);
/* Its penalties ask how often tokens stood there. */
bool sequence_is_counted(const struct sequence *sequence);
/* Tokens that steps under way draw for it. */
uint32_t sequence_n_drawn(const struct sequence *sequence);
/* A mask took so long. The estimate rises at once and falls slowly: a grammar that is dear now and
 * then would else hold up everybody each time. */
#define MASK_NS_FIRST (3 * NS_PER_MS) /* before the first: about what GRAMMAR_WORK_MAX steps take */
void sequence_learn_mask(struct sequence *sequence, int64_t took_ns);
/* Its next row is its first, behind others' pages: their tokens are to be counted too. */
bool sequence_lacks_counts(const struct sequence *sequence);
/* Rows that the next step may take: what the prompt has left, or one, or none: there is nobody to
 * read it, or what is under way ends the run, or decides what its grammar allows next. */
uint32_t sequence_n_wanted(const struct sequence *sequence);

#endif
