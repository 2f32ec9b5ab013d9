/* clients/c/logit_biases.h: --logit-bias ID:BIAS,ID:BIAS,... as the request has it. */
#ifndef QUIRE_CLIENTS_C_LOGIT_BIASES_H
#define QUIRE_CLIENTS_C_LOGIT_BIASES_H

#include "limits.h"
#include "quire/v1/quire.pb-c.h"

#include <stddef.h>

struct why;

struct logit_biases {
    Quire__V1__LogitBias items[LOGIT_BIASES_MAX];
    Quire__V1__LogitBias *list[LOGIT_BIASES_MAX]; /* of items: what a message points at */
    size_t n;
};

/* STATUS_INVALID: what is wrong, and where. A token named twice is the server's to refuse. */
int logit_biases_parse(const char *text, struct logit_biases *out, struct why *why);

#endif
