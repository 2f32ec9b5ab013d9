/* model/vocabulary_state.h: what the files that build a vocabulary share. Nobody else includes
 * it. */
#ifndef QUIRE_MODEL_VOCABULARY_STATE_H
#define QUIRE_MODEL_VOCABULARY_STATE_H

#include "model/merge_table.h"
#include "model/neighbours.h"
#include "model/special_table.h"
#include "model/vocabulary.h"

struct vocabulary {
    bool is_sentencepiece;
    uint32_t n_tokens;
    uint8_t *bytes; /* raw bytes of all tokens, one after the other */
    size_t *begins; /* [n_tokens + 1] offsets in bytes */
    uint8_t *kinds; /* [n_tokens] enum token_kind */
    bool *is_end;   /* [n_tokens] ends generation */
    size_t longest;
    uint32_t *plain_slots; /* [plain_mask + 1] ids by raw bytes, half of them NO_TOKEN */
    uint64_t plain_mask;
    uint32_t byte_ids[256];
    int64_t bos_id, eos_id, unknown_id, padding_id;
    bool adds_bos, adds_eos, adds_space_prefix;
    uint8_t *chat_template;
    size_t chat_template_len;
    struct pretokenizer *pretokenizer; /* NULL of SentencePiece */
    struct merge_table merges;
    struct neighbours neighbours; /* of SentencePiece */
    struct special_table always;  /* user-defined tokens */
    struct special_table special; /* these and control and unknown ones */
};

#define VOCABULARY_QUOTED_BYTES 80
const char *vocabulary_quote(char out[VOCABULARY_QUOTED_BYTES], struct slice text);

/* --- vocabulary_tokens.c: after allocation and ids --- */
int vocabulary_tokens_read(struct vocabulary *v, const struct vocabulary_source *source,
                           struct why *why);
/* The slot of these bytes, or the empty slot where they belong. */
uint32_t *vocabulary_plain_slot(const struct vocabulary *v, struct slice bytes);

/* --- what may become one token, after the tokens --- */
/* vocabulary_merges.c: byte-level BPE, by the file's merges. */
int vocabulary_merges_read(struct vocabulary *v, const struct vocabulary_source *source,
                           struct why *why);
/* vocabulary_scores.c: SentencePiece, by the file's scores. */
int vocabulary_scores_read(struct vocabulary *v, const struct vocabulary_source *source,
                           struct why *why);

#endif
