/* model/vocabulary.h: the tokens of a model: their raw bytes, their kinds, what merges into them.
 *
 *   gpt2, byte-level BPE: a file spells bytes as characters and lists merges by rank
 *     "Ġthe"        --byte alphabet-->  " the"       plain tokens: what merging can make
 *     "<|im_end|>"  --as it stands-->   "<|im_end|>" special tokens: control, unknown, user-defined
 *   llama, SentencePiece BPE: U+2581 stands for a blank, tokens have scores
 *     "▁the"        ------------------>  " the"       the pair of highest score merges
 *     "<0x0A>"      ------------------>  "\n"         what no other token says, byte by byte
 *
 * Invariant: ordinary text can always be written. In byte-level BPE each byte that it cannot do
 * without is a plain token (real vocabularies lack some control characters; text that holds one is
 * refused); in SentencePiece all 256 bytes have tokens, or the unknown token takes their place.
 * Every merge joins plain tokens into a plain token. Control tokens are never made by merging, so
 * text of users makes one only where the caller asks to parse specials.
 * Thread: immutable after create; any number of threads may read.
 */
#ifndef QUIRE_MODEL_VOCABULARY_H
#define QUIRE_MODEL_VOCABULARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

#define VOCABULARY_MERGES_MAX (4u << 20)
#define VOCABULARY_NO_TOKEN UINT32_MAX
#define VOCABULARY_BLANK "\xE2\x96\x81" /* U+2581, how SentencePiece writes a blank */

struct merge_table;
struct neighbours;
struct pretokenizer;
struct special_table;
struct vocabulary;
struct why;

/* Values of tokenizer.ggml.token_type. */
enum token_kind {
    TOKEN_UNDEFINED, /* taken as normal */
    TOKEN_NORMAL,
    TOKEN_UNKNOWN,
    TOKEN_CONTROL,
    TOKEN_USER_DEFINED,
    TOKEN_UNUSED,
    TOKEN_BYTE,
};

struct vocabulary_source { /* borrowed during create; the caller fills it from the file's keys */
    struct slice model;    /* tokenizer.ggml.model: "gpt2" or "llama" */
    struct slice pre;      /* tokenizer.ggml.pre or empty */
    const struct slice *tokens; /* [n_tokens] */
    uint32_t n_tokens;
    const int32_t *types; /* [n_types], NULL when absent */
    uint32_t n_types;
    const double *scores; /* [n_scores], NULL when absent: of SentencePiece */
    uint32_t n_scores;
    const struct slice *merges; /* of byte-level BPE: [n_merges] "left right", rank = index */
    uint32_t n_merges;
    int64_t bos_id, eos_id, eot_id, eom_id, unknown_id, padding_id; /* -1 absent */
    int add_bos, add_eos, add_space_prefix;                         /* -1 absent, 0, 1 */
    struct slice chat_template;                                     /* empty when absent */
};

/* Copies everything. STATUS_UNSUPPORTED (model, pre: names what is read), STATUS_CORRUPT (with
 * key and numbers), STATUS_NO_MEMORY. The caller frees *out with vocabulary_free. */
int vocabulary_create(const struct vocabulary_source *source, struct vocabulary **out,
                      struct why *why);
void vocabulary_free(struct vocabulary *vocabulary);

uint32_t vocabulary_n_tokens(const struct vocabulary *vocabulary);
/* The bytes that a token stands for; may be empty. id below n_tokens. */
struct slice vocabulary_bytes(const struct vocabulary *vocabulary, uint32_t id);
size_t vocabulary_longest(const struct vocabulary *vocabulary); /* bytes of the longest token */
/* shows as nothing unless asked for */
bool vocabulary_is_control(const struct vocabulary *vocabulary, uint32_t id);
/* eos, eot, eom of the file and every token whose text is a known end of turn or of text
 * (models.md 7). */
bool vocabulary_is_end_of_generation(const struct vocabulary *vocabulary, uint32_t id);
/* -1 when absent, as the next three */
int64_t vocabulary_bos_id(const struct vocabulary *vocabulary);
int64_t vocabulary_eos_id(const struct vocabulary *vocabulary);
int64_t vocabulary_unknown_id(const struct vocabulary *vocabulary);
int64_t vocabulary_padding_id(const struct vocabulary *vocabulary);
bool vocabulary_adds_bos(const struct vocabulary *vocabulary); /* true only with a bos_id */
bool vocabulary_adds_eos(const struct vocabulary *vocabulary); /* true only with an eos_id */
/* text that begins, or follows a special token, is read as if a blank stood before it */
bool vocabulary_adds_space_prefix(const struct vocabulary *vocabulary);
/* Jinja text, empty when absent */
struct slice vocabulary_chat_template(const struct vocabulary *vocabulary);
/* The special token (control, unknown or user-defined) of exactly this text. */
bool vocabulary_find_special(const struct vocabulary *vocabulary, struct slice text, uint32_t *id);
/* The plain token of exactly these raw bytes. */
bool vocabulary_find_plain(const struct vocabulary *vocabulary, struct slice bytes, uint32_t *id);

/* False: no token says this byte, and a text with it is refused. */
bool vocabulary_says_byte(const struct vocabulary *vocabulary, uint8_t byte);

/* For the tokenizer. */
/* NULL of SentencePiece */
const struct pretokenizer *vocabulary_pretokenizer(const struct vocabulary *vocabulary);
/* where SentencePiece's text is cut; NULL of byte-level BPE */
const struct neighbours *vocabulary_neighbours(const struct vocabulary *vocabulary);
/* a whole piece that is a token stays whole */
bool vocabulary_ignores_merges(const struct vocabulary *vocabulary);
const struct merge_table *vocabulary_merges(const struct vocabulary *vocabulary);
/* [256] the token of each byte, VOCABULARY_NO_TOKEN where there is none */
const uint32_t *vocabulary_byte_ids(const struct vocabulary *vocabulary);
/* What is cut out of text first: user-defined tokens always, control and unknown ones when asked
 * for. */
const struct special_table *vocabulary_specials(const struct vocabulary *vocabulary,
                                                bool parse_special);

#endif
