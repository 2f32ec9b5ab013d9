/* How much of a device the pages get, and the cache of that size.
 *
 *   GPU   | weights | batch, workspace of a step | reserve | pages: the rest |     memory_plan.h
 *   CPU   | ... | pages: 16 full contexts, at most half of what is free | grammars | ... |
 *
 * A context that was asked for must fit; one that was not is cut to what fits, and told.
 */
#include "engine/engine_state.h"

#include "base/log.h"
#include "base/text.h"
#include "engine/memory_plan.h"
#include "kvcache/kv_group.h"
#include "model/model.h"

#include <stdio.h>

#define DEFAULT_CONTEXTS 16 /* full ones that the default --kv-memory of a CPU holds */

uint32_t engine_outputs_max(const struct engine *engine)
{
    uint32_t n_sequences = engine->options.max_sequences;
    return n_sequences < STEP_ROWS_MAX ? n_sequences : STEP_ROWS_MAX;
}

static uint64_t min_of(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* --- a GPU --- */

static uint64_t workspace_bytes(const void *arg, uint64_t context)
{
    const struct engine *engine = arg;
    return forward_workspace_bytes(engine->device, engine->model, STEP_ROWS_MAX,
                                   engine_outputs_max(engine), (uint32_t)context);
}

static uint32_t append_max(const struct engine *engine)
{
    return STEP_ROWS_MAX * flight_depth(engine->device, engine->options.no_overlap);
}

/* At options.max_context. */
static int make_plan(const struct engine *engine, const struct kv_dtypes *dtypes,
                     struct memory_plan *out, struct why *why)
{
    struct model_shape shape;
    uint64_t left_bytes = device_memory_free(engine->device);
    struct memory_budget budget = {.memory_bytes = engine->free_bytes,
                                   .n_devices = 1,
                                   .reserve_bytes = memory_plan_reserve(engine->free_bytes),
                                   .workspace_bytes = workspace_bytes,
                                   .workspace_arg = engine,
                                   .open_pages = kv_open_pages(engine->options.max_sequences,
                                                               append_max(engine))};

    model_shape_from_plan(model_plan(engine->model), &shape);
    uint64_t taken_bytes = engine->free_bytes - min_of(left_bytes, engine->free_bytes);
    if (taken_bytes == 0) /* a driver that does not tell */
        taken_bytes = model_weight_bytes(engine->model);
    return memory_plan_make(&shape, NULL, taken_bytes, dtypes, &budget, engine->options.max_context,
                            out, why);
}

/* "of 22.0 GiB, weights and the batch take 5.1 GiB, the workspace 310.0 MiB and the reserve
 * 715.3 MiB"; ", and rows of pages being written 96.0 MiB" */
static const char *say_parts(char *out, size_t n, const struct memory_plan *made)
{
    char all[TEXT_NUMBER_BYTES], weights[TEXT_NUMBER_BYTES], workspace[TEXT_NUMBER_BYTES],
        reserve[TEXT_NUMBER_BYTES], open[TEXT_NUMBER_BYTES];
    int len = snprintf(out, n,
                       "of %s, weights and the batch take %s, the workspace %s and the reserve %s",
                       text_bytes(all, made->memory_bytes),
                       text_bytes(weights, made->weights_bytes),
                       text_bytes(workspace, made->workspace_bytes),
                       text_bytes(reserve, made->reserve_bytes));
    if (made->open_bytes > 0 && len > 0 && (size_t)len < n)
        snprintf(out + len, n - (size_t)len, ", and rows of pages being written %s",
                 text_bytes(open, made->open_bytes));
    return out;
}

static int refuse_model(const struct engine *engine, const struct memory_plan *made,
                        struct why *why)
{
    char parts[260], left[TEXT_NUMBER_BYTES];
    return refuse(why, STATUS_NO_MEMORY,
                  "%s does not hold this model: %s, which leaves %s for keys and values, not "
                  "enough for %d tokens; take a smaller model, fewer --max-sequences, a GPU with "
                  "more memory (--device) or --backend cpu",
                  device_name(engine->device), say_parts(parts, sizeof parts, made),
                  text_bytes(left, made->room_bytes), CONTEXT_TOKENS_MIN);
}

static int refuse_context(const struct engine *engine, const struct memory_plan *made,
                          struct why *why)
{
    char parts[260], wanted[TEXT_NUMBER_BYTES], need[TEXT_NUMBER_BYTES], left[TEXT_NUMBER_BYTES],
        longest[TEXT_NUMBER_BYTES];
    struct why_numbers numbers = {.requested = (double)made->context,
                                  .available = (double)made->longest_context,
                                  .unit = "tokens",
                                  .setting = "--max-context"};
    return refuse_numbers(why, STATUS_TOO_LARGE, numbers,
                          "--max-context %s does not fit on %s: %s, and of the %s left one such "
                          "sequence takes %s; %s tokens are the most that fit: lower it to that, "
                          "or --max-sequences, or take a GPU with more memory (--device)",
                          text_count(wanted, made->context), device_name(engine->device),
                          say_parts(parts, sizeof parts, made), text_bytes(left, made->room_bytes),
                          text_bytes(need, made->kv_bytes),
                          text_count(longest, made->longest_context));
}

/* --kv-memory holds the rows of pages being written, too. */
static uint64_t kv_room(const struct memory_plan *made)
{
    return made->room_bytes + made->open_bytes;
}

static int refuse_memory(const struct engine *engine, const struct memory_plan *made,
                         struct why *why)
{
    char parts[260], wanted[TEXT_NUMBER_BYTES], left[TEXT_NUMBER_BYTES];
    struct memory_plan rest = *made; /* of which they are no part here */
    struct why_numbers numbers = {.requested = (double)engine->options.kv_memory_bytes,
                                  .available = (double)kv_room(made),
                                  .unit = "bytes",
                                  .setting = "--kv-memory"};
    rest.open_bytes = 0;
    return refuse_numbers(why, STATUS_NO_MEMORY, numbers,
                          "--kv-memory %s does not fit on %s: %s, which leaves %s (%llu bytes): "
                          "lower it to that, or leave it out",
                          text_bytes(wanted, engine->options.kv_memory_bytes),
                          device_name(engine->device), say_parts(parts, sizeof parts, &rest),
                          text_bytes(left, kv_room(made)), (unsigned long long)kv_room(made));
}

static int size_for_gpu(struct engine *engine, const struct kv_dtypes *dtypes,
                        uint64_t page_bytes, struct why *why)
{
    struct engine_options *options = &engine->options;
    struct memory_plan made;

    int status = make_plan(engine, dtypes, &made, why);
    if (status < 0)
        return status;
    if (made.longest_context < CONTEXT_TOKENS_MIN)
        return refuse_model(engine, &made, why);
    if (made.longest_context < options->max_context) {
        if (engine->has_asked_context)
            return refuse_context(engine, &made, why);
        options->max_context = (uint32_t)made.longest_context;
        status = make_plan(engine, dtypes, &made, why);
        if (status < 0)
            return status;
    }
    if (options->kv_memory_bytes > kv_room(&made))
        return refuse_memory(engine, &made, why);
    if (options->kv_memory_bytes == 0)
        options->kv_memory_bytes =
            min_of(kv_room(&made),
                   options->max_sequences * kv_pages_of(options->max_context) * page_bytes +
                       made.open_bytes);
    log_write(LOG_INFO, "memory",
              "device_bytes=%llu weights_bytes=%llu workspace_bytes=%llu reserve_bytes=%llu "
              "room_bytes=%llu kv_bytes=%llu open_bytes=%llu",
              (unsigned long long)made.memory_bytes, (unsigned long long)made.weights_bytes,
              (unsigned long long)made.workspace_bytes, (unsigned long long)made.reserve_bytes,
              (unsigned long long)kv_room(&made), (unsigned long long)options->kv_memory_bytes,
              (unsigned long long)made.open_bytes);
    return STATUS_OK;
}

/* --- a CPU --- */

/* Half of what grammars leave, or of half: a machine where they take that much has pages too. */
static uint64_t most_of_cpu(const struct engine *engine)
{
    uint64_t free_bytes = device_memory_free(engine->device);
    uint64_t grammars_bytes = memory_plan_grammars(model_plan(engine->model)->vocabulary);
    return (free_bytes - min_of(grammars_bytes, free_bytes / 2)) / 2;
}

/* What the process takes; pages become resident as they are written. */
static void tell_cpu_plan(const struct engine *engine, const struct kv_cache_spec *spec)
{
    log_write(LOG_INFO, "memory",
              "weights_bytes=%llu workspace_bytes=%llu kv_bytes=%llu open_bytes=%llu",
              (unsigned long long)model_weight_bytes(engine->model),
              (unsigned long long)workspace_bytes(engine, engine->options.max_context),
              (unsigned long long)engine->options.kv_memory_bytes,
              (unsigned long long)kv_cache_open_bytes(engine->device, spec));
}

/* --- any device --- */

static int check_held(const struct engine *engine, struct why *why)
{
    uint64_t held = kv_cache_tokens_max(engine->cache);
    uint32_t wanted = engine->options.max_context;
    char a[TEXT_NUMBER_BYTES], b[TEXT_NUMBER_BYTES], c[TEXT_NUMBER_BYTES];
    struct why_numbers numbers = {
        .requested = wanted, .available = (double)held, .unit = "tokens", .setting = "--kv-memory"};

    if (!engine->has_asked_context || held >= wanted)
        return STATUS_OK;
    return refuse_numbers(why, STATUS_TOO_LARGE, numbers,
                          "--max-context %s does not fit: a cache of %s holds %s tokens; lower it "
                          "to that, or raise --kv-memory",
                          text_count(a, wanted), text_bytes(b, engine->options.kv_memory_bytes),
                          text_count(c, held));
}

int engine_cache_open(struct engine *engine, const struct kv_dtypes *dtypes, struct why *why)
{
    const struct model_plan *plan = model_plan(engine->model);
    struct engine_options *options = &engine->options;
    struct kv_cache_spec spec = {.n_groups = plan->n_groups,
                                 .max_sequences = options->max_sequences,
                                 .host_bytes = options->host_pool_bytes,
                                 .no_prefixes = options->no_prefix_cache,
                                 .max_append = append_max(engine)};
    uint64_t page_bytes = 0; /* one of each group */
    int status = STATUS_OK;

    for (uint32_t i = 0; i < plan->n_groups; i++) {
        spec.groups[i] = (struct kv_group_spec){.kind = plan->groups[i].kind,
                                                .window = plan->groups[i].window,
                                                .shape = plan->groups[i].shape,
                                                .n_layers = plan->groups[i].n_layers,
                                                .dtype = kv_dtypes_of(dtypes,
                                                                      plan->groups[i].kind)};
        page_bytes += kv_group_page_bytes(device_ops(engine->device), &spec.groups[i]);
    }
    if (device_is_gpu(engine->device))
        status = size_for_gpu(engine, dtypes, page_bytes, why);
    else if (options->kv_memory_bytes == 0)
        options->kv_memory_bytes =
            min_of(DEFAULT_CONTEXTS * kv_pages_of(options->max_context) * page_bytes +
                       kv_cache_open_bytes(engine->device, &spec),
                   most_of_cpu(engine));
    if (status < 0)
        return status;
    if (!device_is_gpu(engine->device))
        tell_cpu_plan(engine, &spec);
    spec.memory_bytes = options->kv_memory_bytes;
    spec.max_context = options->max_context;
    status = kv_cache_create(engine->device, &spec, &engine->cache, why);
    return status < 0 ? status : check_held(engine, why);
}
