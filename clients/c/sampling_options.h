/* clients/c/sampling_options.h: the options of sampling that generate and summarize share. */
#ifndef QUIRE_CLIENTS_C_SAMPLING_OPTIONS_H
#define QUIRE_CLIENTS_C_SAMPLING_OPTIONS_H

#include "base/options.h"
#include "quire/v1/quire.pb-c.h"

#include <stdbool.h>
#include <stdint.h>

struct why;

struct sampling_options {
    double temperature, top_p, min_p, typical_p;
    double repetition_penalty, frequency_penalty, presence_penalty;
    int64_t top_k;
    const char *seed;
    bool temperature_given, top_p_given, min_p_given, typical_p_given, repetition_penalty_given,
        top_k_given, frequency_penalty_given, presence_penalty_given;
};

#define SAMPLING_ROW(type, name, kind, field, value_name, min, max, help)                          \
    {name, 0, kind, offsetof(type, sampling.field), NULL, value_name, help, min, max, NULL,        \
     offsetof(type, sampling.field##_given)}

/* Rows of an option table; `type` has the field `sampling`. What is not given is not sent: the
 * server's defaults hold, and the help tells those of temperature and repetition. */
#define SAMPLING_OPTION_ROWS(type, temperature_default, repetition_default)                        \
    SAMPLING_ROW(type, "temperature", OPTION_REAL, temperature, "T", 0, 100,                       \
                 "0: always the most likely token; " temperature_default " when not given"),       \
    SAMPLING_ROW(type, "top-k", OPTION_INT, top_k, "N", 0, 4294967295.0,                           \
                 "keep this many most likely tokens; 0: all"),                                     \
    SAMPLING_ROW(type, "top-p", OPTION_REAL, top_p, "P", 0, 1,                                     \
                 "keep the most likely tokens that sum to this; 1: all"),                          \
    SAMPLING_ROW(type, "min-p", OPTION_REAL, min_p, "P", 0, 1,                                     \
                 "keep tokens at least this likely relative to the best; 0: all"),                 \
    SAMPLING_ROW(type, "typical-p", OPTION_REAL, typical_p, "P", 1e-6, 1,                          \
                 "keep the tokens of the most typical surprise that sum to this; 1: all"),         \
    SAMPLING_ROW(type, "repetition-penalty", OPTION_REAL, repetition_penalty, "R", 0.01, 100,      \
                 "above 1: tokens that stood there already become less likely; "                   \
                 repetition_default " when not given"),                                            \
    SAMPLING_ROW(type, "frequency-penalty", OPTION_REAL, frequency_penalty, "F", -2, 2,            \
                 "above 0: tokens become less likely each time that they are written"),            \
    SAMPLING_ROW(type, "presence-penalty", OPTION_REAL, presence_penalty, "F", -2, 2,              \
                 "above 0: tokens become less likely once they are written"),                      \
    {"seed", 0, OPTION_TEXT, offsetof(type, sampling.seed), NULL, "N",                             \
     "the same seed gives the same tokens; a random one when not given, told by --json", 0, 0,     \
     NULL, 0}

/* Fills *out, an initialised message. STATUS_INVALID: the seed is none. */
int sampling_options_fill(const struct sampling_options *in, Quire__V1__Sampling *out,
                          struct why *why);

#endif
