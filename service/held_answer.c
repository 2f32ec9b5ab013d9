#include "service/held_answer.h"

#include "base/status.h"

#include <math.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_BYTES 4096

static size_t record_bytes(size_t text_bytes)
{
    size_t align = alignof(struct event_delta);
    return (sizeof(struct event_delta) + text_bytes + align - 1) / align * align;
}

/* Doubles, so that copying costs no more than what is kept. */
static int make_room(struct held_answer *held, struct service *service, size_t bytes,
                     struct why *why)
{
    size_t cap = held->cap > 0 ? held->cap : FIRST_BYTES;

    while (cap < held->len + bytes)
        cap *= 2;
    if (cap == held->cap)
        return STATUS_OK;
    int status = service_hold_text(service, cap - held->cap, why);
    if (status < 0)
        return status;
    uint8_t *grown = realloc(held->bytes, cap);
    if (grown == NULL) {
        service_give_text(service, cap - held->cap);
        return refuse(why, STATUS_NO_MEMORY, "no memory for answers of %zu bytes", cap);
    }
    held->bytes = grown;
    held->cap = cap;
    return STATUS_OK;
}

int held_answer_add(struct held_answer *held, struct service *service,
                    const struct event_delta *delta, bool keeps_logprobs, struct why *why)
{
    size_t bytes = record_bytes(delta->text_bytes);
    int status = make_room(held, service, bytes, why);
    if (status < 0)
        return status;
    struct event_delta *record = (struct event_delta *)(void *)(held->bytes + held->len);
    memcpy(record, delta, sizeof *record + delta->text_bytes);
    record->has_logprob = record->has_logprob && keeps_logprobs;
    if (!record->has_logprob)
        record->n_top = 0;
    held->len += bytes;
    if (delta->has_token) {
        held->logprob_sum += (double)delta->logprob;
        held->n_tokens++;
    }
    return STATUS_OK;
}

const struct event_delta *held_answer_next(struct held_answer *held)
{
    if (held->n_read == held->len)
        return NULL;
    const struct event_delta *record =
        (const struct event_delta *)(const void *)(held->bytes + held->n_read);
    held->n_read += record_bytes(record->text_bytes);
    return record;
}

double held_answer_mean(const struct held_answer *held)
{
    return held->n_tokens > 0 ? held->logprob_sum / (double)held->n_tokens : -INFINITY;
}

void held_answer_release(struct held_answer *held, struct service *service)
{
    service_give_text(service, held->cap);
    free(held->bytes);
    *held = (struct held_answer){.bytes = NULL};
}

void held_answer_rank(const struct held_answer *const *answers, uint32_t n, uint32_t *order)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = i;
        while (at > 0 && held_answer_mean(answers[order[at - 1]]) < held_answer_mean(answers[i])) {
            order[at] = order[at - 1];
            at--;
        }
        order[at] = i;
    }
}
