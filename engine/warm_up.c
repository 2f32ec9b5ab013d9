/* First costs, before anybody asks: a short piece of a prompt and a few single tokens through the
 * real path, at no context and behind a long one. What the long one holds is nothing but zeros:
 * attention takes as long over them.
 */
#include "engine/engine_state.h"

#include "base/status.h"
#include "model/model.h"

#define WARM_ROWS 64
#define WARM_DEEP 1024
#define WARM_TOKENS 3 /* single ones a round */
#define WARM_ROUNDS 2 /* the first meets cold memory */
#define WARM_NS (NS_PER_S / 2) /* what goes beyond one of each is left out after so long */

static int run_rows(struct engine *engine, struct sequence *sequence, uint32_t n_rows,
                    double *least_ns)
{
    int64_t step_ns;

    batch_add(flight_next(engine->flight, clock_now(engine->clock)), sequence, n_rows);
    flight_launch(engine->flight);
    int status = flight_wait(engine->flight, NULL, NULL);
    flight_retire(engine->flight, clock_now(engine->clock), &step_ns);
    kv_cache_commit(engine->cache, sequence->kv, n_rows);
    *least_ns = *least_ns == 0 || (double)step_ns < *least_ns ? (double)step_ns : *least_ns;
    return status;
}

static int skip_rows(struct engine *engine, struct sequence *sequence, uint32_t n_rows)
{
    struct stream *stream = engine->flight->stream;
    int status = STATUS_OK;

    while (sequence->n_launched < n_rows && status == STATUS_OK) {
        uint32_t n = n_rows - sequence->n_launched;
        n = n < STEP_ROWS_MAX ? n : STEP_ROWS_MAX;
        kv_cache_append(engine->cache, sequence->kv, n, stream);
        device_submit(stream);
        status = device_wait(stream, NULL, NULL);
        kv_cache_commit(engine->cache, sequence->kv, n);
        sequence->n_launched += n;
    }
    return status;
}

static bool is_late(const struct engine *engine, int64_t begun_ns)
{
    return clock_now(engine->clock) - begun_ns > WARM_NS;
}

/* n_rows rows of a prompt behind n_context tokens, then single tokens. */
static int run_round(struct engine *engine, struct submit *submit, uint32_t n_context,
                     uint32_t n_rows, double *prefill_ns, double *decode_ns, struct why *why)
{
    int64_t begun_ns = clock_now(engine->clock);
    struct sequence sequence = {.submit = submit,
                                .state = SEQUENCE_PREFILL,
                                .kv = KV_SEQ_NONE,
                                .promised_output = WARM_TOKENS + 1,
                                .n_credit = 1};

    submit->n_ids = n_context + n_rows;
    int status =
        kv_cache_open(engine->cache, submit->n_ids + WARM_TOKENS, &sequence.kv, why);
    if (status < 0)
        return status;
    status = skip_rows(engine, &sequence, n_context);
    if (status == STATUS_OK)
        status = run_rows(engine, &sequence, n_rows, prefill_ns);
    for (uint32_t i = 1; i <= WARM_TOKENS && status == STATUS_OK; i++) {
        sequence.n_generated = i;
        status = run_rows(engine, &sequence, 1, decode_ns);
        if (is_late(engine, begun_ns))
            break;
    }
    kv_cache_close(engine->cache, sequence.kv);
    return status;
}

int warm_up(struct engine *engine, struct why *why)
{
    uint64_t room = engine->info.max_context - WARM_TOKENS;
    uint32_t n_rows = room < WARM_ROWS ? (uint32_t)room : WARM_ROWS;
    uint32_t n_deep = room < WARM_ROWS + WARM_DEEP ? (uint32_t)room - n_rows : WARM_DEEP;
    struct warm_steps warm = {.n_rows = n_rows, .n_deep = n_deep};
    lookback_of_plan(model_plan(engine->model), &warm.lookback);

    struct submit *submit = submit_create(n_deep + n_rows);
    if (submit == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory to warm up");
    for (uint32_t i = 0; i < submit->n_ids; i++)
        submit->ids[i] = i * 131 % engine->info.vocabulary;

    int status = STATUS_OK;
    int64_t begun_ns = clock_now(engine->clock);
    for (int round = 0; round < WARM_ROUNDS && status == STATUS_OK; round++) {
        if (round > 0 && is_late(engine, begun_ns))
            break;
        status = run_round(engine, submit, 0, n_rows, &warm.prefill_ns, &warm.decode_ns, why);
        if (status == STATUS_OK && n_deep > 0)
            status = run_round(engine, submit, n_deep, n_rows, &warm.deep_prefill_ns,
                               &warm.deep_decode_ns, why);
    }
    submit_free(submit);
    if (status == STATUS_INTERNAL)
        return refuse(why, STATUS_CORRUPT,
                      "%s gives logits that are not finite: its weights hold values that are no "
                      "numbers (NaN) or far too large; fetch or convert the file again",
                      engine->options.model_path);
    if (status == STATUS_UNAVAILABLE)
        return refuse(why, status,
                      "the device (%s) failed in the first steps: device_error in the log says "
                      "what, dmesg perhaps why; start the server again when it is mended",
                      device_name(engine->device));
    if (status < 0)
        return refuse_prefix(why, status, "the first steps failed");
    estimate_init(&engine->estimate, &warm, engine->options.max_step_ns);
    return STATUS_OK;
}
