#include "tools/run.h"

#include "base/clock.h"
#include "base/progress.h"
#include "base/status.h"
#include "kvcache/kv_group.h"
#include "model/gguf.h"
#include "model/model_shape.h"

#include <assert.h>

#define LINE_BYTES 64
#define OPS_OF_STEP 4 /* the arrays, the draw, its results, one to spare */

static void on_load(void *progress, uint64_t n_done, uint64_t n_total)
{
    progress_update(progress, "loading", n_done, n_total, 0);
}

int run_read_plan(const char *path, struct model_plan *out, struct why *why)
{
    struct gguf *file;
    int status = gguf_open(path, &file, why);
    if (status < 0)
        return status;
    status = model_plan_read(file, out, why);
    gguf_close(file);
    return status < 0 ? refuse_prefix(why, status, "%s", path) : STATUS_OK;
}

int run_open(const struct run_options *options, struct run *run, struct why *why)
{
    struct model_shape shape;
    struct progress progress;
    struct model_options loading = {.on_progress = on_load, .on_progress_arg = &progress};

    *run = (struct run){.kv_dtypes = options->kv_dtypes};
    int status = device_open(&options->device, &run->device, why);
    if (status < 0)
        return status;
    run->ops = device_ops(run->device);
    progress_init(&progress, &clock_monotonic, "bytes", options->quiet);
    status = model_load(run->device, options->model_path, &loading, &run->model, why);
    progress_end(&progress);
    if (status < 0)
        return status;
    model_shape_from_plan(model_plan(run->model), &shape);
    return model_shape_check_pages(&shape, &run->kv_dtypes, why);
}

/* --- memory --- */

static void *place(uint8_t *base, size_t *at, size_t n, size_t bytes)
{
    void *part = base == NULL ? NULL : base + *at;
    *at += (n * bytes + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
    return part;
}

/* Returns the bytes of the block. */
static size_t lay_out(const struct run_sizes *sizes, void *base, struct run_arrays *out)
{
    size_t at = 0, n_rows = sizes->max_rows, n_outputs = sizes->max_outputs;
    out->inputs = place(base, &at, n_rows, sizeof *out->inputs);
    out->position = place(base, &at, n_rows, sizeof *out->position);
    out->row_seq = place(base, &at, n_rows, sizeof *out->row_seq);
    out->seq_begin = place(base, &at, sizes->n_sequences + 1, sizeof *out->seq_begin);
    out->output_rows = place(base, &at, n_outputs, sizeof *out->output_rows);
    out->output_position = place(base, &at, n_outputs, sizeof *out->output_position);
    out->output_seq = place(base, &at, n_outputs, sizeof *out->output_seq);
    out->output_begin = place(base, &at, n_outputs + 1, sizeof *out->output_begin);
    out->params = place(base, &at, n_outputs, sizeof *out->params);
    return at;
}

static int prepare_arrays(struct run *run, struct why *why)
{
    const struct run_sizes *sizes = &run->sizes;
    run->block_bytes = lay_out(sizes, NULL, &run->host);
    int status = device_alloc_host(run->device, run->block_bytes, &run->host_block, why);
    if (status == STATUS_OK)
        status = device_alloc(run->device, run->block_bytes, &run->device_block, why);
    if (status < 0)
        return refuse_prefix(why, status, "steps of %u rows", sizes->max_rows);
    lay_out(sizes, run->host_block, &run->host);
    lay_out(sizes, run->device_block, &run->on_device);
    for (uint32_t i = 0; i < sizes->max_outputs; i++) /* temperature 0: greedy */
        run->host.params[i] = (struct sample_params){
            .top_p = 1, .repetition = 1, .count_slot = -1, .mask_slot = -1};
    if (!sizes->draws)
        return STATUS_OK;
    size_t workspace = run->ops->sample_workspace_bytes(run->device, sizes->max_outputs,
                                                        model_plan(run->model)->vocabulary);
    size_t results_bytes = sizes->max_outputs * sizeof *run->results;
    status = device_alloc(run->device, workspace, &run->sample_workspace, why);
    if (status == STATUS_OK)
        status = device_alloc_host(run->device, results_bytes, (void **)&run->results, why);
    if (status < 0)
        return status;
    return device_alloc(run->device, results_bytes, (void **)&run->results_on_device, why);
}

static int prepare_cache(struct run *run, struct why *why)
{
    const struct model_plan *plan = model_plan(run->model);
    struct kv_cache_spec spec = {.n_groups = plan->n_groups,
                                 .max_sequences = run->sizes.n_sequences,
                                 .max_context = (uint32_t)run->sizes.n_tokens,
                                 .max_append = run->sizes.max_rows};
    uint64_t n_pages = kv_pages_of(run->sizes.n_tokens) * run->sizes.n_sequences;
    for (uint32_t g = 0; g < plan->n_groups; g++) {
        const struct kv_group_plan *group = &plan->groups[g];
        spec.groups[g] = (struct kv_group_spec){.kind = group->kind,
                                                .window = group->window,
                                                .shape = group->shape,
                                                .n_layers = group->n_layers,
                                                .dtype = kv_dtypes_of(&run->kv_dtypes,
                                                                      group->kind)};
        spec.memory_bytes += n_pages * kv_group_page_bytes(run->ops, &spec.groups[g]);
    }
    spec.memory_bytes += kv_cache_open_bytes(run->device, &spec);
    int status = kv_cache_create(run->device, &spec, &run->cache, why);
    return status < 0
               ? refuse_prefix(why, status, "keys and values of %u x %llu tokens",
                               run->sizes.n_sequences, (unsigned long long)run->sizes.n_tokens)
               : STATUS_OK;
}

int run_prepare(struct run *run, const struct run_sizes *sizes, struct why *why)
{
    assert(run->cache == NULL && sizes->n_tokens <= CONTEXT_TOKENS_MAX);
    run->sizes = *sizes;
    int status = prepare_cache(run, why);
    if (status == STATUS_OK)
        status = forward_create(run->device, run->model, sizes->max_rows, sizes->max_outputs,
                                (uint32_t)sizes->n_tokens, &run->forward, why);
    if (status == STATUS_OK && sizes->no_last_layer_saving)
        forward_keep_last_layer_whole(run->forward);
    if (status == STATUS_OK)
        status = stream_create(run->device,
                               forward_ops_max(run->model) +
                                   kv_cache_ops_max(run->cache, sizes->max_rows) + OPS_OF_STEP,
                               &run->stream, why);
    return status < 0 ? status : prepare_arrays(run, why);
}

void run_close(struct run *run)
{
    if (run->device == NULL)
        return;
    device_free(run->device, run->results_on_device);
    device_free(run->device, run->sample_workspace);
    device_free(run->device, run->device_block);
    if (run->stream != NULL)
        stream_free(run->stream);
    device_free_host(run->device, run->results);
    device_free_host(run->device, run->host_block);
    forward_free(run->forward);
    if (run->cache != NULL)
        kv_cache_free(run->cache);
    model_free(run->model);
    device_close(run->device);
    *run = (struct run){.device = NULL};
}

/* --- steps --- */

int run_begin(struct run *run, kv_seq_id *out, struct why *why)
{
    return kv_cache_open(run->cache, run->sizes.n_tokens, out, why);
}

void run_end(struct run *run, kv_seq_id seq)
{
    kv_cache_close(run->cache, seq);
}

struct step { /* as far as it is filled */
    uint32_t n_rows, n_seqs, max_position;
    uint32_t n_outputs, n_output_seqs;
};

/* The last rows of the piece that was filled in. */
static void fill_outputs(struct run *run, uint32_t n_outputs, struct step *step)
{
    struct run_arrays *host = &run->host;
    if (n_outputs == 0)
        return;
    host->output_begin[step->n_output_seqs++] = step->n_outputs;
    for (uint32_t row = step->n_rows - n_outputs; row < step->n_rows; row++) {
        host->output_rows[step->n_outputs] = row;
        host->output_position[step->n_outputs] = host->position[row];
        host->output_seq[step->n_outputs++] = host->row_seq[row];
    }
    host->output_begin[step->n_output_seqs] = step->n_outputs;
}

static void fill_piece(struct run *run, const struct run_piece *piece, struct step *step)
{
    uint64_t first = kv_cache_written(run->cache, piece->seq);
    assert(piece->n_rows > 0 && piece->n_outputs <= piece->n_rows);
    assert(step->n_rows + piece->n_rows <= run->sizes.max_rows);
    assert(step->n_outputs + piece->n_outputs <= run->sizes.max_outputs);

    run->host.seq_begin[step->n_seqs++] = step->n_rows;
    for (uint32_t i = 0; i < piece->n_rows; i++) {
        uint32_t row = step->n_rows++;
        run->host.inputs[row] = (struct row_input){.kind = ROW_TOKEN, .value = piece->ids[i]};
        run->host.position[row] = (uint32_t)first + i;
        run->host.row_seq[row] = piece->seq;
    }
    run->host.seq_begin[step->n_seqs] = step->n_rows;
    fill_outputs(run, piece->n_outputs, step);
    uint32_t last = (uint32_t)first + piece->n_rows - 1;
    step->max_position = last > step->max_position ? last : step->max_position;
    kv_cache_append(run->cache, piece->seq, piece->n_rows, run->stream);
}

static void enqueue_draw(struct run *run, uint32_t n_outputs)
{
    run->ops->sample(run->stream,
                     &(struct sample_args){.logits = forward_logits(run->forward),
                                           .n_rows = n_outputs,
                                           .vocabulary = model_plan(run->model)->vocabulary,
                                           .params = run->on_device.params,
                                           .workspace = run->sample_workspace,
                                           .results = run->results_on_device});
    device_read(run->stream, run->results, run->results_on_device,
                n_outputs * sizeof *run->results);
}

int run_step(struct run *run, const struct run_piece *pieces, uint32_t n_pieces, struct why *why)
{
    const struct run_arrays *arrays = &run->on_device;
    struct step step = {.n_rows = 0};
    struct kv_view view;

    assert(n_pieces > 0 && n_pieces <= run->sizes.n_sequences);
    for (uint32_t i = 0; i < n_pieces; i++)
        fill_piece(run, &pieces[i], &step);

    device_write(run->stream, run->device_block, run->host_block, run->block_bytes);
    kv_cache_view(run->cache, &view);
    struct forward_batch batch = {
        .inputs = arrays->inputs,
        .rows = {step.n_rows, step.n_seqs, arrays->position, arrays->row_seq, arrays->seq_begin,
                 step.max_position},
        .output_rows = arrays->output_rows,
        .outputs = {step.n_outputs, step.n_output_seqs, arrays->output_position,
                    arrays->output_seq, arrays->output_begin, step.max_position},
    };
    forward_run(run->forward, run->stream, &batch, &view);
    if (run->sizes.draws && step.n_outputs > 0)
        enqueue_draw(run, step.n_outputs);
    device_submit(run->stream);
    int status = device_wait(run->stream, NULL, NULL);
    if (status < 0)
        return refuse(why, status,
                      "a step of %u rows failed on %s (%s): device_error above says what failed",
                      step.n_rows, device_name(run->device), status_text(status));
    for (uint32_t i = 0; i < n_pieces; i++)
        kv_cache_commit(run->cache, pieces[i].seq, pieces[i].n_rows);
    return STATUS_OK;
}

int run_read_logits(struct run *run, uint32_t first, uint32_t n, float *out, struct why *why)
{
    size_t vocabulary = model_plan(run->model)->vocabulary;
    const float *from = forward_logits(run->forward) + first * vocabulary;
    int status = device_download(run->device, out, from, n * vocabulary * sizeof *out);
    return status < 0
               ? refuse(why, status, "logits could not be read from %s", device_name(run->device))
               : STATUS_OK;
}
