/* kernels/row_token.h: the token of a row, as embed and count find it. */
#ifndef QUIRE_KERNELS_ROW_TOKEN_H
#define QUIRE_KERNELS_ROW_TOKEN_H

#include "base/status.h"
#include "kernels/host_device.h"
#include "kernels/ops.h"

/* *token gets an id below `vocabulary`; STATUS_OUT_OF_RANGE, one beyond; STATUS_INTERNAL, an input
 * that names none. */
HOST_DEVICE int row_token(const struct row_input *input, const struct sample_result *sampled,
                          uint32_t vocabulary, uint32_t *token)
{
    *token = input->value;
    if (input->kind == ROW_SAMPLED) {
        if (sampled == NULL)
            return STATUS_INTERNAL;
        *token = sampled[input->value].id;
    } else if (input->kind != ROW_TOKEN) {
        return STATUS_INTERNAL;
    }
    return *token < vocabulary ? STATUS_OK : STATUS_OUT_OF_RANGE;
}

#endif
