/* model/pretokenizer_family.h: which pattern a value of tokenizer.ggml.pre asks for.
 *
 * Each pattern matches at every character of any text, so that pieces follow each other without
 * gaps. Families of several stages (each applied inside the pieces of the one before, a piece being
 * its whole subject) are folded into one pattern; pretokenizer_fold_test.c compares each with its
 * stages as published. A blank is what Unicode calls White_Space, as in the publishers' libraries:
 * PCRE2's \s has U+180E besides.
 *
 * Source: the publishers' tokenizer.json and tekken.json files, and llama.cpp's for `default`.
 */
#ifndef QUIRE_MODEL_PRETOKENIZER_FAMILY_H
#define QUIRE_MODEL_PRETOKENIZER_FAMILY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"

struct pretokenizer_family {
    const char *pattern;  /* of PCRE2, for UTF and UCP, to be anchored */
    const char *names[8]; /* values of tokenizer.ggml.pre, NULL ends */
    bool ignores_merges;  /* a whole piece that is a token stays whole */
    bool adds_bos;        /* unless the file says otherwise */
};

/* The family of this name; of no name (the key is absent) `default`. NULL when it is unknown. */
const struct pretokenizer_family *pretokenizer_family_find(struct slice name);
/* NULL behind the last. */
const struct pretokenizer_family *pretokenizer_family_at(size_t idx);

#endif
