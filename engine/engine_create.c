/* Everything an engine allocates, before its first step. */
#include "engine/engine_state.h"

#include "base/text.h"
#include "kernels/ops.h"
#include "model/chat_template.h"
#include "model/model.h"
#include "model/model_shape.h"
#include "model/vocabulary.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static int choose(const char *what, const char *text, const char *const *names, int n, int *out,
                  struct why *why)
{
    for (int i = 0; i < n; i++)
        if (text != NULL && strcmp(text, names[i]) == 0) {
            *out = i;
            return STATUS_OK;
        }
    return refuse(why, STATUS_INVALID, "%s: unknown value \"%s\"", what, text != NULL ? text : "");
}

int engine_check_kv_dtype(const char *text, struct why *why)
{
    struct kv_dtypes ignored;
    return kv_dtypes_parse("--kv-dtype", text, &ignored, why);
}

static int open_device(struct engine *engine, struct kv_dtypes *kv_dtypes, struct why *why)
{
    static const char *const backends[] = {"cpu", "cuda", "auto"};
    static const char *const isas[] = {"auto", "scalar", "avx2", "avx512"};
    static const char *const activations[] = {"16", "int8", "f32"};
    const struct engine_options *options = &engine->options;
    const char *backend_name = options->backend != NULL ? options->backend : "auto";
    int backend = 0, isa = 0, activation = 0;

    int status = choose("backend", backend_name, backends, 3, &backend, why);
    if (status == STATUS_OK)
        status = choose("isa", options->isa != NULL ? options->isa : "auto", isas, 4, &isa, why);
    if (status == STATUS_OK)
        status = choose("activations", options->activations, activations, 3, &activation, why);
    if (status == STATUS_OK)
        status = kv_dtypes_parse("--kv-dtype", options->kv_dtype, kv_dtypes, why);
    if (status < 0)
        return status;
    return device_open(&(struct device_options){.backend = (enum backend)backend,
                                                .has_index = options->has_gpu,
                                                .index = options->gpu,
                                                .n_threads = options->n_threads,
                                                .isa = (enum isa)isa,
                                                .activations = (enum activations)activation,
                                                .strict = options->strict_device},
                       &engine->device, why);
}

/* Tokens that one sequence can really have: of --max-context what the cache holds. */
static uint32_t context_held(const struct engine *engine)
{
    uint64_t held = kv_cache_tokens_max(engine->cache);
    return held < engine->options.max_context ? (uint32_t)held : engine->options.max_context;
}

/* What a vocabulary alone has too. */
static void fill_text_info(struct engine *engine)
{
    const struct model_plan *plan = model_plan(engine->model);
    const struct vocabulary *vocabulary = model_vocabulary(engine->model);
    const struct chat_template *chat = model_chat_template(engine->model);
    struct engine_model_info *info = &engine->info;

    info->is_vocabulary = model_is_vocabulary(engine->model);
    snprintf(info->name, sizeof info->name, "%s", plan->name);
    snprintf(info->architecture, sizeof info->architecture, "%s", plan->architecture);
    snprintf(info->device, sizeof info->device, "%s", device_name(engine->device));
    if (chat != NULL) {
        snprintf(info->chat_format, sizeof info->chat_format, "%s", chat_template_family(chat));
        info->chat_tools = chat_template_tools(chat);
    } else {
        snprintf(info->chat_refusal, sizeof info->chat_refusal, "%.*s",
                 (int)sizeof info->chat_refusal - 1, model_chat_refusal(engine->model));
    }
    info->has_bos = vocabulary_bos_id(vocabulary) >= 0;
    info->vocabulary = plan->vocabulary;
    for (uint32_t id = 0; id < plan->vocabulary; id++)
        if (info->n_end_ids < sizeof info->end_ids / sizeof *info->end_ids &&
            vocabulary_is_end_of_generation(vocabulary, id))
            info->end_ids[info->n_end_ids++] = id;
}

static void fill_info(struct engine *engine, const struct kv_dtypes *dtypes)
{
    const struct model_plan *plan = model_plan(engine->model);
    struct engine_model_info *info = &engine->info;
    struct kv_cache_stats cache;

    fill_text_info(engine);
    kv_cache_read_stats(engine->cache, &cache);
    snprintf(info->activations, sizeof info->activations, "%s",
             device_is_gpu(engine->device) ? "f16" : engine->options.activations);
    kv_dtypes_text(dtypes, info->kv_dtype);
    info->n_parameters = plan->n_parameters;
    info->weight_bytes = plan->weight_bytes;
    info->max_context = context_held(engine);
    info->trained_context = plan->context;
    info->page_tokens = PAGE_TOKENS;
    info->n_groups = plan->n_groups;
    info->token_bytes = model_plan_token_bytes(plan, dtypes);
    info->n_pages = cache.n_pages;
    info->kv_bytes = cache.memory_bytes;
}

static int check_context(struct engine *engine, struct why *why)
{
    struct engine_options *options = &engine->options;
    uint32_t trained = model_plan(engine->model)->context;

    engine->has_asked_context = options->max_context != 0;
    if (!engine->has_asked_context)
        options->max_context = trained < CONTEXT_TOKENS_MAX ? trained : CONTEXT_TOKENS_MAX;
    if (options->max_context > trained)
        return refuse(
            why, STATUS_INVALID,
            "--max-context %u is beyond the %u tokens that the model was trained for: lower it",
            options->max_context, trained);
    if (options->max_context < CONTEXT_TOKENS_MIN)
        return refuse(why, STATUS_INVALID,
                      "--max-context %u holds no question and answer: give %d or more",
                      options->max_context, CONTEXT_TOKENS_MIN);
    return STATUS_OK;
}

/* What steps compute with, and the steps. */
static int open_steps(struct engine *engine, struct why *why)
{
    uint32_t max_outputs = engine_outputs_max(engine), max_context = context_held(engine);

    int status = forward_create(engine->device, engine->model, STEP_ROWS_MAX, max_outputs,
                                max_context, &engine->forward, why);
    if (status < 0)
        return status;
    return flight_create(&(struct flight_spec){.device = engine->device,
                                               .model = engine->model,
                                               .cache = engine->cache,
                                               .forward = engine->forward,
                                               .on_device = engine->on_device,
                                               .max_outputs = max_outputs,
                                               .max_context = max_context,
                                               .no_overlap = engine->options.no_overlap},
                         &engine->flight, why);
}

static int allocate(struct engine *engine, struct why *why)
{
    const struct engine_options *options = &engine->options;
    uint32_t n_sequences = options->max_sequences + options->max_queued;
    size_t longest = vocabulary_longest(model_vocabulary(engine->model));

    engine->sequences = calloc(n_sequences, sizeof *engine->sequences);
    engine->candidates = calloc(SEQUENCES_MAX, sizeof *engine->candidates);
    engine->candidate_sequences = calloc(SEQUENCES_MAX, sizeof(struct sequence *));
    engine->detokenized = malloc(3 * (longest + DETOK_PENDING_BYTES) + DETOK_FLUSH_BYTES + 1);
    engine->shown = malloc(EVENT_TEXT_BYTES_MAX + 3 * longest + STOP_BYTES_MAX + 16);
    if (engine->sequences == NULL || engine->candidates == NULL ||
        engine->candidate_sequences == NULL || engine->detokenized == NULL || engine->shown == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for %u sequences", n_sequences);
    for (uint32_t i = 0; i < n_sequences; i++) {
        list_init(&engine->sequences[i].link);
        list_append(&engine->free, &engine->sequences[i].link);
    }
    /* Submits take MESSAGE_RING_SLOTS of it; the rest is for all the credits and cancels there may
     * be between two looks of the step thread. */
    size_t n_slots =
        MESSAGE_RING_SLOTS + CALLS_MAX + (size_t)options->max_sequences * CALL_CREDIT_EVENTS;
    int status = ring_create(n_slots, sizeof(struct message), &engine->messages, why);
    if (status == STATUS_OK)
        status = byte_ring_create(events_capacity(options), &engine->events, why);
    engine->signal_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (status == STATUS_OK && engine->signal_fd < 0)
        status =
            refuse(why, STATUS_EXHAUSTED, "no descriptor is left for the engine: raise ulimit -n");
    return status;
}

/* All that runs: the cache, the steps, the rings, and what they cost at first. */
static int open_runs(struct engine *engine, const struct kv_dtypes *kv_dtypes, struct why *why)
{
    struct model_shape shape;

    model_shape_from_plan(model_plan(engine->model), &shape);
    int status = model_shape_check_pages(&shape, kv_dtypes, why);
    if (status == STATUS_OK)
        status = check_context(engine, why);
    if (status == STATUS_OK)
        status = device_batch_create(engine->device, engine->model, engine->options.max_sequences,
                                     engine_outputs_max(engine), &engine->on_device, why);
    if (status == STATUS_OK) /* plans what the rest leaves, of which no more is taken then */
        status = engine_cache_open(engine, kv_dtypes, why);
    if (status == STATUS_OK)
        status = open_steps(engine, why);
    if (status == STATUS_OK)
        status = allocate(engine, why);
    if (status < 0)
        return status;
    fill_info(engine, kv_dtypes);
    return warm_up(engine, why);
}

int engine_create(const struct engine_options *options, struct engine **out, struct why *why)
{
    struct engine *engine = calloc(1, sizeof *engine);
    struct kv_dtypes kv_dtypes;

    if (engine == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for an engine");
    engine->options = *options;
    options = &engine->options;
    if (engine->options.max_sequences == 0)
        engine->options.max_sequences = DEFAULT_SEQUENCES;
    if (engine->options.preempt_ns == 0)
        engine->options.preempt_ns = DEFAULT_PREEMPT_MS * NS_PER_MS;
    if (engine->options.max_step_ns == 0)
        engine->options.max_step_ns = DEFAULT_STEP_MS * NS_PER_MS;
    engine->clock = &clock_monotonic;
    engine->signal_fd = -1;
    list_init(&engine->free);
    list_init(&engine->runs);
    scheduler_init(&engine->scheduler, STEP_ROWS_MAX, options->max_step_ns);

    int status = open_device(engine, &kv_dtypes, why);
    if (status == STATUS_OK)
        engine->free_bytes = device_memory_free(engine->device);
    if (status == STATUS_OK)
        status = model_load(engine->device, options->model_path,
                            &(struct model_options){.on_progress = options->on_progress,
                                                    .on_progress_arg = options->on_progress_arg,
                                                    .takes_vocabulary = true,
                                                    .chat_format = options->chat_format},
                            &engine->model, why);
    if (status == STATUS_OK && model_is_vocabulary(engine->model))
        fill_text_info(engine);
    else if (status == STATUS_OK)
        status = open_runs(engine, &kv_dtypes, why);
    if (status < 0) {
        engine_free(engine);
        return status;
    }
    *out = engine;
    return STATUS_OK;
}

/* Runs and messages that a stop left behind. */
static void drop_runs(struct engine *engine)
{
    struct message message;

    while (engine->messages != NULL && ring_try_pop(engine->messages, &message))
        if (message.kind == MESSAGE_SUBMIT || message.kind == MESSAGE_ESTIMATE)
            submit_free(message.submit);
    list_for_each_safe(node, &engine->runs)
    {
        struct sequence *sequence = list_entry(node, struct sequence, link);
        if (sequence->state != SEQUENCE_FINISHED)
            sequence_set_state(sequence, SEQUENCE_FINISHED, &engine->counts,
                               clock_now(engine->clock));
        admission_end(engine, sequence);
    }
}

void engine_free(struct engine *engine)
{
    if (engine == NULL)
        return;
    drop_runs(engine);
    ring_free(engine->messages);
    byte_ring_free(engine->events);
    if (engine->signal_fd >= 0)
        close(engine->signal_fd);
    flight_free(engine->flight);
    forward_free(engine->forward);
    device_batch_free(engine->on_device);
    if (engine->cache != NULL)
        kv_cache_free(engine->cache);
    model_free(engine->model);
    if (engine->device != NULL)
        device_close(engine->device);
    free(engine->sequences);
    free(engine->candidates);
    free(engine->candidate_sequences);
    free(engine->detokenized);
    free(engine->shown);
    free(engine);
}
