#include "tests/kernels/draw_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "tests/kernels/linear_fixture.h"

const struct sample_params plain = {
    .temperature = 1.0f, .top_p = 1.0f, .repetition = 1.0f, .count_slot = -1, .mask_slot = -1};

static void *upload(struct device *device, const void *bytes, size_t n)
{
    void *on_device;
    assert_int_equal(device_alloc(device, n, &on_device, NULL), STATUS_OK);
    void *nans = malloc(n);
    memset(nans, 0xff, n);
    device_upload(device, on_device, bytes != NULL ? bytes : nans, n);
    free(nans);
    return on_device;
}

int sample_on(enum isa isa, int n_threads, const struct draw *draw, struct sample_result *results)
{
    struct device_options options = {.n_threads = n_threads, .isa = isa, .strict = true};
    return sample_by(&options, draw, results);
}

int sample_by(const struct device_options *options, const struct draw *draw,
              struct sample_result *results)
{
    struct device *device;
    struct stream *stream;
    assert_int_equal(device_open(options, &device, NULL), STATUS_OK);
    assert_int_equal(stream_create(device, 4, &stream, NULL), STATUS_OK);
    const struct ops *ops = device_ops(device);
    struct sample_args args = {
        .logits = upload(device, draw->logits, sizeof(float) * draw->n_rows * draw->vocabulary),
        .n_rows = draw->n_rows,
        .vocabulary = draw->vocabulary,
        .params = upload(device, draw->params, sizeof *draw->params * draw->n_rows),
        .n_slots = draw->n_slots,
        .n_banned = draw->n_banned,
        .n_masks = draw->n_masks,
        .mask_words = MASK_WORDS(draw->vocabulary),
        .n_biases = draw->n_biases,
        .workspace = upload(device, NULL,
                            ops->sample_workspace_bytes(device, draw->n_rows, draw->vocabulary)),
        .results = upload(device, NULL, sizeof *results * draw->n_rows),
    };
    if (draw->counts != NULL)
        args.counts =
            upload(device, draw->counts, sizeof(uint32_t) * draw->n_slots * draw->vocabulary);
    if (draw->banned != NULL)
        args.banned = upload(device, draw->banned, sizeof(uint32_t) * draw->n_banned);
    if (draw->masks != NULL)
        args.masks = upload(device, draw->masks,
                            sizeof(uint32_t) * draw->n_masks * MASK_WORDS(draw->vocabulary));
    if (draw->biases != NULL)
        args.biases = upload(device, draw->biases, sizeof *draw->biases * draw->n_biases);
    ops->sample(stream, &args);
    device_submit(stream);
    int status = device_wait(stream, NULL, NULL);
    device_download(device, results, args.results, sizeof *results * draw->n_rows);
    device_free(device, (void *)args.logits);
    device_free(device, (void *)args.params);
    device_free(device, (void *)args.counts);
    device_free(device, (void *)args.banned);
    device_free(device, (void *)args.masks);
    device_free(device, (void *)args.biases);
    device_free(device, args.workspace);
    device_free(device, args.results);
    stream_free(stream);
    device_close(device);
    return status;
}

float changed_logit(const struct draw *draw, uint32_t r, uint32_t id)
{
    const struct sample_params *params = &draw->params[r];
    float logit = draw->logits[(size_t)r * draw->vocabulary + id];
    for (uint32_t i = 0; i < params->n_biases; i++)
        if (draw->biases[params->first_bias + i].id == id)
            logit += draw->biases[params->first_bias + i].bias;
    for (uint32_t i = 0; params->mask_banned && i < draw->n_banned; i++)
        if (draw->banned[i] == id)
            return -INFINITY;
    if (params->mask_slot >= 0 &&
        (draw->masks[(uint32_t)params->mask_slot * MASK_WORDS(draw->vocabulary) + id / 32] >>
             id % 32 & 1) == 0)
        return -INFINITY;
    if (params->count_slot < 0)
        return logit;
    uint32_t count = draw->counts[(size_t)params->count_slot * draw->vocabulary + id];
    if (count != 0)
        logit = logit > 0 ? logit / params->repetition : logit * params->repetition;
    if (count / 2 > 0)
        logit = logit - params->frequency * (float)(count / 2) - params->presence;
    return logit;
}

static double random_unit(uint64_t *state)
{
    return (double)(random_next(state) >> 8) * 0x1p-24 + (double)random_next(state) * 0x1p-56;
}

/* About normal, deviation 3.5, as a model's logits are; some are equal. */
static void random_logits(float *logits, uint32_t n, uint64_t *state)
{
    for (uint32_t i = 0; i < n; i++) {
        double sum = -6;
        for (int j = 0; j < 12; j++)
            sum += random_unit(state);
        logits[i] = (float)(sum * 3.5);
        if (i % 50 == 49)
            logits[i] = logits[(uint32_t)(random_unit(state) * i)];
    }
}

static struct sample_params random_params(uint32_t i, uint64_t *state)
{
    struct sample_params params = plain;
    params.temperature = i % 7 == 0 ? 0.0f : 0.3f + 0.25f * (float)(i % 5);
    params.top_p = i % 3 == 0 ? 1.0f : 0.5f + 0.45f * (float)random_unit(state);
    if (i % 4 != 0)
        params.top_k = 1 + (uint32_t)(random_unit(state) * 100) * (i % 2 == 0 ? 1 : 40);
    params.min_p = i % 5 == 0 ? 0.05f * (float)random_unit(state) : 0.0f;
    params.repetition = i % 2 == 0 ? 1.0f : 1.3f;
    params.frequency = i % 4 == 3 ? 0.7f : 0.0f;
    params.presence = i % 5 == 2 ? -0.9f : 0.0f;
    params.count_slot = i % 6 == 0 ? -1 : (int32_t)(i % 2);
    params.mask_slot = (int32_t)(i % 3) - 1;
    params.first_bias = i % 8;
    params.n_biases = i % 9 < 4 ? i % 9 * 8 : 0;
    params.mask_banned = i % 2;
    params.seed = 12345 + i;
    params.position = i * 3;
    params.choice_idx = i % 4;
    params.want_logprob = i % 3 != 0;
    params.n_top = i % 3 == 2 ? 1 + i % TOP_LOGPROBS_MAX : 0;
    return params;
}

struct crowd *make_crowd(void)
{
    uint64_t state = 77;
    struct crowd *crowd = calloc(1, sizeof *crowd);
    random_logits(crowd->logits, N_ROWS * VOCABULARY, &state);
    for (uint32_t i = 0; i < N_ROWS; i++)
        crowd->params[i] = random_params(i, &state);
    for (uint32_t i = 0; i < 2 * VOCABULARY; i++)
        crowd->counts[i] = random_unit(&state) < 0.1 ? 1 + i % 3 : 0;
    memcpy(crowd->banned, (uint32_t[]){0, 17, 1000, 4999, 5002}, sizeof crowd->banned);
    for (uint32_t i = 0; i < 2 * MASK_WORDS(VOCABULARY); i++)
        crowd->masks[i] = i % 7 == 0 ? UINT32_MAX : (uint32_t)(random_unit(&state) * 0x1p32);
    for (uint32_t i = 0; i < N_BIASES; i++)
        crowd->biases[i] = (struct sample_bias){
            i < 2 ? VOCABULARY - 1 + i : i * 113, (float)(random_unit(&state) * 30 - 15)};
    crowd->draw = (struct draw){crowd->logits, N_ROWS, VOCABULARY,   crowd->params,
                                crowd->counts, 2,      crowd->banned, 5,
                                crowd->masks,  2,      crowd->biases, N_BIASES};
    return crowd;
}
