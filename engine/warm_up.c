/* First rates, before anybody asks: a short prefill and a few single tokens through the real path.
 * */
#include "engine/engine_state.h"

#include "base/status.h"

#define WARM_PREFILL_ROWS 64
#define WARM_ROUNDS 3

static int run_rows(struct engine *engine, struct sequence *sequence, uint32_t n_rows)
{
    int64_t begun_ns = clock_now(engine->clock);

    batch_clear(engine->batch);
    batch_add(engine->batch, sequence, n_rows);
    batch_run(engine->batch, engine->forward, engine->cache, engine->stream);
    device_submit(engine->stream);
    int status = device_wait(engine->stream, NULL, NULL);
    kv_cache_commit(engine->cache, sequence->kv, n_rows);
    bool is_prefill = n_rows > 1;
    estimate_learn(&engine->estimate, !is_prefill, is_prefill ? n_rows : 0,
                   clock_now(engine->clock) - begun_ns);
    return status;
}

int warm_up(struct engine *engine, struct why *why)
{
    uint32_t n_rows = WARM_PREFILL_ROWS, n_outputs = 2 * WARM_ROUNDS;
    uint64_t room = kv_cache_tokens_max(engine->cache);

    if (room < n_rows + n_outputs) /* a cache of one page: as much as it holds */
        n_rows = room > n_outputs + 2 ? (uint32_t)room - n_outputs : 1;
    struct submit *submit = submit_create(n_rows);
    if (submit == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory to warm up");
    for (uint32_t i = 0; i < n_rows; i++)
        submit->ids[i] = i * 131 % engine->info.vocabulary;

    int status = STATUS_OK;
    for (int round = 0; round < WARM_ROUNDS && status == STATUS_OK; round++) {
        struct sequence sequence = {.submit = submit, .state = SEQUENCE_PREFILL, .kv = KV_SEQ_NONE};
        status = kv_cache_open(engine->cache, n_rows + n_outputs, &sequence.kv, why);
        if (status < 0)
            break;
        if (round == 1)
            engine->estimate = (struct estimate){0}; /* the first round met cold memory */
        status = run_rows(engine, &sequence, n_rows);
        sequence.n_prefilled = n_rows;
        for (uint32_t i = 1; i < n_outputs && status == STATUS_OK; i++) {
            sequence.n_generated = i;
            status = run_rows(engine, &sequence, 1);
        }
        kv_cache_close(engine->cache, sequence.kv);
    }
    submit_free(submit);
    return status == STATUS_OK ? status : refuse_prefix(why, status, "the first steps failed");
}
