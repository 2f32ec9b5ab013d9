#include "clients/c/sampling_options.h"

#include "base/status.h"

#include <errno.h>
#include <stdlib.h>

static int parse_seed(const char *text, uint64_t *out, struct why *why)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != 0 || errno == ERANGE)
        return refuse(why, STATUS_INVALID,
                      "--seed takes a whole number from 0 to 18446744073709551615, not \"%.80s\"",
                      text);
    *out = value;
    return STATUS_OK;
}

int sampling_options_fill(const struct sampling_options *in, Quire__V1__Sampling *out,
                          struct why *why)
{
    if (in->temperature_given) {
        out->opt_temperature_case = QUIRE__V1__SAMPLING__OPT_TEMPERATURE_TEMPERATURE;
        out->temperature = (float)in->temperature;
    }
    if (in->top_p_given) {
        out->opt_top_p_case = QUIRE__V1__SAMPLING__OPT_TOP_P_TOP_P;
        out->top_p = (float)in->top_p;
    }
    if (in->min_p_given) {
        out->opt_min_p_case = QUIRE__V1__SAMPLING__OPT_MIN_P_MIN_P;
        out->min_p = (float)in->min_p;
    }
    if (in->typical_p_given) {
        out->opt_typical_p_case = QUIRE__V1__SAMPLING__OPT_TYPICAL_P_TYPICAL_P;
        out->typical_p = (float)in->typical_p;
    }
    if (in->top_k_given) {
        out->opt_top_k_case = QUIRE__V1__SAMPLING__OPT_TOP_K_TOP_K;
        out->top_k = (uint32_t)in->top_k;
    }
    if (in->repetition_penalty_given) {
        out->opt_repetition_penalty_case =
            QUIRE__V1__SAMPLING__OPT_REPETITION_PENALTY_REPETITION_PENALTY;
        out->repetition_penalty = (float)in->repetition_penalty;
    }
    if (in->frequency_penalty_given) {
        out->opt_frequency_penalty_case =
            QUIRE__V1__SAMPLING__OPT_FREQUENCY_PENALTY_FREQUENCY_PENALTY;
        out->frequency_penalty = (float)in->frequency_penalty;
    }
    if (in->presence_penalty_given) {
        out->opt_presence_penalty_case =
            QUIRE__V1__SAMPLING__OPT_PRESENCE_PENALTY_PRESENCE_PENALTY;
        out->presence_penalty = (float)in->presence_penalty;
    }
    if (in->seed == NULL || in->seed[0] == 0)
        return STATUS_OK;
    out->opt_seed_case = QUIRE__V1__SAMPLING__OPT_SEED_SEED;
    return parse_seed(in->seed, &out->seed, why);
}
