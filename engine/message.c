#include "engine/message.h"

#include "model/grammar.h"

#include <stdlib.h>

struct submit *submit_create(uint32_t n_ids)
{
    struct submit *submit = calloc(1, sizeof *submit);
    if (submit == NULL)
        return NULL;
    submit->ids = malloc(n_ids > 0 ? n_ids * sizeof *submit->ids : 1);
    if (submit->ids == NULL) {
        free(submit);
        return NULL;
    }
    submit->n_ids = n_ids;
    submit->sampling = SAMPLING_DEFAULT;
    submit->want_text = submit->want_ids = true;
    return submit;
}

void submit_free(struct submit *submit)
{
    if (submit == NULL)
        return;
    grammar_free(submit->grammar);
    free(submit->ids);
    free(submit);
}
