#include "clients/c/logit_biases.h"

#include "base/status.h"

#include <errno.h>
#include <stdlib.h>

static int refuse_pair(const char *pair, struct why *why)
{
    return refuse(why, STATUS_INVALID,
                  "--logit-bias takes ID:BIAS, or several parted by commas, such as "
                  "7042:-100,28:2.5; a bias is from -%d to %d; not \"%.80s\"",
                  LOGIT_BIAS_MAX, LOGIT_BIAS_MAX, pair);
}

/* The end of the pair that `at` begins with, or NULL. */
static const char *parse_pair(const char *at, Quire__V1__LogitBias *out)
{
    char *end;
    errno = 0;
    unsigned long id = strtoul(at, &end, 10);
    if (at[0] < '0' || at[0] > '9' || *end != ':' || errno == ERANGE || id > UINT32_MAX)
        return NULL;
    at = end + 1;
    double bias = strtod(at, &end);
    if (end == at || !(bias >= -LOGIT_BIAS_MAX && bias <= LOGIT_BIAS_MAX))
        return NULL;
    out->token = (uint32_t)id;
    out->bias = (float)bias;
    return *end == ',' || *end == 0 ? end : NULL;
}

int logit_biases_parse(const char *text, struct logit_biases *out, struct why *why)
{
    const char *at = text;

    for (out->n = 0;; at++) {
        if (out->n == LOGIT_BIASES_MAX)
            return refuse(why, STATUS_INVALID, "--logit-bias names more than %d tokens",
                          LOGIT_BIASES_MAX);
        Quire__V1__LogitBias *item = &out->items[out->n];
        quire__v1__logit_bias__init(item);
        const char *end = parse_pair(at, item);
        if (end == NULL)
            return refuse_pair(at, why);
        out->list[out->n++] = item;
        at = end;
        if (*at == 0)
            return STATUS_OK;
    }
}
