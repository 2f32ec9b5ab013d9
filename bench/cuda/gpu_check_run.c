#include "bench/cuda/gpu_check_run.h"

#include "base/status.h"
#include "bench/cuda/gpu_ops.h"
#include "bench/op_counter.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define LINE_BYTES 64
#define OPS_OF_STEP 4 /* the arrays, the draw, its results, one to spare */
#define TABLE_SEED 11

/* --- memory --- */

static void *place(uint8_t *base, size_t *at, size_t n, size_t bytes)
{
    void *part = base == NULL ? NULL : base + *at;
    *at += (n * bytes + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
    return part;
}

/* Returns the bytes of the block. */
static size_t lay_out(const struct check_run_sizes *sizes, void *base,
                      struct check_run_arrays *out)
{
    size_t at = 0, n_rows = sizes->max_rows, n_outputs = sizes->max_outputs;
    out->inputs = place(base, &at, n_rows, sizeof *out->inputs);
    out->position = place(base, &at, n_rows, sizeof *out->position);
    out->row_seq = place(base, &at, n_rows, sizeof *out->row_seq);
    out->seq_begin = place(base, &at, sizes->n_seqs + 1, sizeof *out->seq_begin);
    out->output_rows = place(base, &at, n_outputs, sizeof *out->output_rows);
    out->output_position = place(base, &at, n_outputs, sizeof *out->output_position);
    out->output_seq = place(base, &at, n_outputs, sizeof *out->output_seq);
    out->output_begin = place(base, &at, n_outputs + 1, sizeof *out->output_begin);
    out->params = place(base, &at, n_outputs, sizeof *out->params);
    return at;
}

static int open_set(struct check_run *run, struct check_run_set *set, struct why *why)
{
    uint32_t max_outputs = run->sizes.max_outputs;
    int status = device_alloc_host(run->device, run->block_bytes, &set->block, why);
    if (status == STATUS_OK)
        status = device_alloc_host(run->device, max_outputs * sizeof *set->results,
                                   (void **)&set->results, why);
    if (status < 0)
        return status;
    lay_out(&run->sizes, set->block, &set->arrays);
    for (uint32_t i = 0; i < max_outputs; i++) /* temperature 0: greedy */
        set->arrays.params[i] =
            (struct sample_params){.top_p = 1, .repetition = 1, .count_slot = -1, .mask_slot = -1};
    return STATUS_OK;
}

static int open_arrays(struct check_run *run, struct why *why)
{
    const struct check_run_sizes *sizes = &run->sizes;
    run->block_bytes = lay_out(sizes, NULL, &run->on_device);
    size_t workspace = run->ops->sample_workspace_bytes(run->device, sizes->max_outputs,
                                                        model_plan(run->model)->vocabulary);
    int status = device_alloc(run->device, run->block_bytes, &run->device_block, why);
    if (status == STATUS_OK)
        status = device_alloc(run->device, workspace, &run->sample_workspace, why);
    if (status == STATUS_OK)
        status = device_alloc(run->device, sizes->max_outputs * sizeof *run->results_on_device,
                              (void **)&run->results_on_device, why);
    if (status == STATUS_OK)
        lay_out(sizes, run->device_block, &run->on_device);
    for (uint32_t i = 0; i < device_depth(run->device) && status == STATUS_OK; i++)
        status = open_set(run, &run->sets[i], why);
    return status;
}

/* Pages 0 .. n - 1 in any order. */
static void shuffle(page_id *table, uint32_t n)
{
    uint64_t x = TABLE_SEED;
    for (uint32_t i = 0; i < n; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        uint32_t j = (uint32_t)((x >> 33) % (i + 1));
        table[i] = table[j];
        table[j] = i;
    }
}

static uint32_t pages_of(uint64_t n_tokens)
{
    return (uint32_t)((n_tokens + PAGE_TOKENS - 1) / PAGE_TOKENS);
}

/* Of one sequence: all, or what a chunk and one step reach, at any alignment. */
static uint32_t n_held(const struct check_run *run, const struct kv_group_plan *group)
{
    uint32_t n_all = pages_of(run->sizes.n_tokens);
    uint64_t n_reached = (uint64_t)group->window + run->sizes.max_rows + PAGE_TOKENS;
    return group->kind == KV_FULL || pages_of(n_reached) > n_all ? n_all : pages_of(n_reached);
}

static int open_table(struct check_run *run, uint32_t n_ring, page_id **out, struct why *why)
{
    uint32_t n_pages = pages_of(run->sizes.n_tokens), n_all = n_pages * run->sizes.n_seqs;
    page_id *order = malloc((size_t)n_ring * run->sizes.n_seqs * sizeof *order);
    page_id *table = malloc(n_all * sizeof *table);
    int status = STATUS_NO_MEMORY;
    if (order != NULL && table != NULL) {
        shuffle(order, n_ring * run->sizes.n_seqs);
        for (uint32_t i = 0; i < n_all; i++)
            table[i] = order[i / n_pages * n_ring + i % n_pages % n_ring];
        status = device_alloc(run->device, n_all * sizeof *table, (void **)out, why);
        if (status == STATUS_OK)
            status = device_upload(run->device, *out, table, n_all * sizeof *table);
    } else {
        refuse(why, status, "no memory for tables of %u pages", n_all);
    }
    free(order);
    free(table);
    return status;
}

static int open_group(struct check_run *run, uint32_t g, struct why *why)
{
    const struct kv_group_plan *group = &model_plan(run->model)->groups[g];
    size_t layer_bytes = run->ops->page_layer_bytes(&group->shape, KV_F16);
    page_id *table = NULL;
    void *base = NULL;
    int status = open_table(run, n_held(run, group), &table, why);
    if (status == STATUS_OK)
        status = device_alloc(run->device, run->group_bytes[g], &base, why);
    run->view.groups[g] = (struct kv_group_view){.kind = group->kind,
                                                 .window = group->window,
                                                 .shape = group->shape,
                                                 .dtype_open = KV_F16,
                                                 .dtype_full = KV_F16,
                                                 .base = base,
                                                 .page_stride = layer_bytes * group->n_layers,
                                                 .layer_stride = layer_bytes,
                                                 .table = table,
                                                 .first_page = run->first_page,
                                                 .table_stride = pages_of(run->sizes.n_tokens)};
    return status;
}

static int open_pages(struct check_run *run, struct why *why)
{
    const struct model_plan *plan = model_plan(run->model);
    for (uint32_t g = 0; g < plan->n_groups; g++) {
        const struct kv_group_plan *group = &plan->groups[g];
        run->group_bytes[g] = run->ops->page_layer_bytes(&group->shape, KV_F16) * group->n_layers *
                              n_held(run, group) * run->sizes.n_seqs;
        run->pages_bytes += run->group_bytes[g];
    }
    uint64_t left = device_memory_free(run->device);
    struct why_numbers numbers = {(double)run->pages_bytes, (double)left, "bytes", NULL};
    if (run->pages_bytes > left)
        return refuse_numbers(why, STATUS_NO_MEMORY, numbers,
                              "pages of %llu tokens take %zu bytes, %llu are free",
                              (unsigned long long)run->sizes.n_tokens, run->pages_bytes,
                              (unsigned long long)left);
    int status = device_alloc(run->device, run->sizes.n_seqs * sizeof *run->first_page,
                              (void **)&run->first_page, why); /* zeros */
    run->view.n_groups = plan->n_groups;
    for (uint32_t g = 0; g < plan->n_groups && status == STATUS_OK; g++)
        status = open_group(run, g, why);
    return status == STATUS_OK ? STATUS_OK
                               : refuse_numbers(why, status, numbers,
                                                "pages of %llu tokens do not fit",
                                                (unsigned long long)run->sizes.n_tokens);
}

int check_run_open(struct check_run *run, struct device *device, const struct model *model,
                   const struct check_run_sizes *sizes, struct why *why)
{
    *run = (struct check_run){
        .device = device, .ops = device_ops(device), .model = model, .sizes = *sizes};
    int status = forward_create(device, model, sizes->max_rows, sizes->max_outputs,
                                (uint32_t)sizes->n_tokens, &run->forward, why);
    if (status == STATUS_OK)
        status = stream_create(device, forward_ops_max(model) + OPS_OF_STEP, &run->stream, why);
    if (status == STATUS_OK)
        status = open_arrays(run, why);
    return status < 0 ? status : open_pages(run, why);
}

void check_run_close(struct check_run *run)
{
    if (run->device == NULL)
        return;
    graph_free(run->graph);
    stream_free(run->stream);
    forward_free(run->forward);
    for (uint32_t g = 0; g < run->view.n_groups; g++) {
        device_free(run->device, run->view.groups[g].base);
        device_free(run->device, (void *)run->view.groups[g].table);
    }
    device_free(run->device, run->first_page);
    device_free(run->device, run->results_on_device);
    device_free(run->device, run->sample_workspace);
    device_free(run->device, run->device_block);
    for (uint32_t i = 0; i < DEVICE_DEPTH_MAX; i++) {
        device_free_host(run->device, run->sets[i].block);
        device_free_host(run->device, run->sets[i].results);
    }
    *run = (struct check_run){.device = NULL};
}

/* Values of a size that attention of a trained model meets: -1 .. 1. */
int check_run_fill_pages(struct check_run *run, uint64_t seed, struct why *why)
{
    for (uint32_t g = 0; g < run->view.n_groups; g++)
        gpu_fill_halves(run->stream, run->view.groups[g].base, run->group_bytes[g], seed + g, -1.0f,
                        1.0f);
    device_submit(run->stream);
    int status = device_wait(run->stream, NULL, NULL);
    return status < 0 ? refuse(why, status, "pages could not be filled: %s", status_text(status))
                      : STATUS_OK;
}

/* --- steps --- */

static void fill_piece(const struct check_run *run, const struct check_run_arrays *host,
                       const struct check_piece *piece, uint32_t idx, uint32_t *n_rows,
                       uint32_t *n_outputs)
{
    assert(*n_rows + piece->n_rows <= run->sizes.max_rows);
    assert(*n_outputs + piece->n_outputs <= run->sizes.max_outputs);
    assert(piece->position + piece->n_rows <= run->sizes.n_tokens);
    host->seq_begin[idx] = *n_rows;
    for (uint32_t i = 0; i < piece->n_rows; i++) {
        uint32_t row = *n_rows + i;
        host->inputs[row] = piece->ids == NULL ? (struct row_input){ROW_SAMPLED, 0}
                                               : (struct row_input){ROW_TOKEN, piece->ids[i]};
        host->position[row] = piece->position + i;
        host->row_seq[row] = piece->seq;
    }
    *n_rows += piece->n_rows;
    for (uint32_t i = *n_rows - piece->n_outputs; i < *n_rows; i++) {
        host->output_rows[*n_outputs] = i;
        host->output_position[*n_outputs] = host->position[i];
        host->output_seq[*n_outputs] = piece->seq;
        host->output_begin[*n_outputs] = *n_outputs; /* each by itself */
        ++*n_outputs;
        host->output_begin[*n_outputs] = *n_outputs;
    }
}

/* The forward pass over the arrays on the device, and the draws. */
static void enqueue_ops(const struct check_run *run, uint32_t n_rows, uint32_t n_seqs,
                        uint32_t n_outputs, uint32_t max_position)
{
    struct forward_batch batch = {.inputs = run->on_device.inputs,
                                  .rows = {.n_rows = n_rows,
                                           .n_seqs = n_seqs,
                                           .position = run->on_device.position,
                                           .row_seq = run->on_device.row_seq,
                                           .seq_begin = run->on_device.seq_begin,
                                           .max_position = max_position},
                                  .output_rows = run->on_device.output_rows,
                                  .outputs = {.n_rows = n_outputs,
                                              .n_seqs = n_outputs,
                                              .position = run->on_device.output_position,
                                              .row_seq = run->on_device.output_seq,
                                              .seq_begin = run->on_device.output_begin,
                                              .max_position = max_position},
                                  .sampled = run->results_on_device};
    struct sample_args draw = {.logits = forward_logits(run->forward),
                               .n_rows = n_outputs,
                               .vocabulary = model_plan(run->model)->vocabulary,
                               .params = run->on_device.params,
                               .workspace = run->sample_workspace,
                               .results = run->results_on_device};
    forward_run(run->forward, run->stream, &batch, &run->view);
    if (n_outputs > 0)
        run->ops->sample(run->stream, &draw);
}

int check_run_make_graph(struct check_run *run, struct why *why)
{
    if (!device_has_graphs(run->device))
        return STATUS_OK;
    int status = graph_begin(run->stream, why);
    if (status < 0)
        return status;
    enqueue_ops(run, 1, 1, 1, (uint32_t)run->sizes.n_tokens - 1);
    return graph_end(run->stream, &run->graph, why);
}

void check_run_drop_graph(struct check_run *run)
{
    graph_free(run->graph);
    run->graph = NULL;
}

void check_run_launch(struct check_run *run, const struct check_piece *pieces, uint32_t n_pieces)
{
    struct check_run_set *set = &run->sets[run->n_launched++ % device_depth(run->device)];
    uint32_t n_rows = 0, n_outputs = 0, max_position = 0;
    assert(n_pieces > 0 && n_pieces <= run->sizes.n_seqs);
    for (uint32_t i = 0; i < n_pieces; i++) {
        uint32_t last = pieces[i].position + pieces[i].n_rows - 1;
        fill_piece(run, &set->arrays, &pieces[i], i, &n_rows, &n_outputs);
        max_position = last > max_position ? last : max_position;
    }
    set->arrays.seq_begin[n_pieces] = n_rows;
    device_write(run->stream, run->device_block, set->block, run->block_bytes);
    if (run->graph != NULL && n_rows == 1 && n_outputs == 1)
        graph_run(run->stream, run->graph);
    else
        enqueue_ops(run, n_rows, n_pieces, n_outputs, max_position);
    if (n_outputs > 0)
        device_read(run->stream, set->results, run->results_on_device,
                    n_outputs * sizeof *set->results);
    device_submit(run->stream);
}

int check_run_wait(struct check_run *run, struct why *why)
{
    int status = device_wait(run->stream, NULL, NULL);
    return status < 0 ? refuse(why, status, "a step failed on %s: %s", device_name(run->device),
                               status_text(status))
                      : STATUS_OK;
}

int check_run_step(struct check_run *run, const struct check_piece *pieces, uint32_t n_pieces,
                   struct why *why)
{
    check_run_launch(run, pieces, n_pieces);
    return check_run_wait(run, why);
}

int check_run_read_logits(struct check_run *run, uint32_t n, float *out, struct why *why)
{
    size_t bytes = (size_t)n * model_plan(run->model)->vocabulary * sizeof *out;
    int status = device_download(run->device, out, forward_logits(run->forward), bytes);
    return status < 0
               ? refuse(why, status, "logits could not be read from %s", device_name(run->device))
               : STATUS_OK;
}

/* --- cost --- */

int check_step_cost(const struct model *model, uint32_t position, uint32_t n_rows,
                    uint32_t n_outputs, struct op_cost *out, struct why *why)
{
    static uint32_t positions[STEP_ROWS_MAX], row_seq[STEP_ROWS_MAX];
    static const struct row_input inputs[STEP_ROWS_MAX];
    const struct model_plan *plan = model_plan(model);
    uint32_t seq_begin[] = {0, n_rows}, last = n_rows - 1, last_begin[] = {0, 1};
    struct op_counter counter;
    struct forward *forward;
    op_counter_init(&counter, &cost_model_cuda, ACTIVATIONS_16, false);
    struct stream stream = {.device = &counter.base};
    int status = forward_create(&counter.base, model, n_rows, n_outputs > 0 ? n_outputs : 1,
                                position + n_rows, &forward, why);
    if (status < 0)
        return status;
    for (uint32_t i = 0; i < n_rows; i++)
        positions[i] = position + i;
    struct kv_view view = {.n_groups = plan->n_groups};
    for (uint32_t g = 0; g < plan->n_groups; g++)
        view.groups[g] = (struct kv_group_view){.kind = plan->groups[g].kind,
                                                .window = plan->groups[g].window,
                                                .shape = plan->groups[g].shape,
                                                .dtype_open = KV_F16,
                                                .dtype_full = KV_F16};
    struct forward_batch batch = {
        .inputs = inputs,
        .rows = {n_rows, 1, positions, row_seq, seq_begin, position + n_rows - 1},
        .output_rows = &last,
        .outputs = {n_outputs, n_outputs, positions + last, row_seq, last_begin, position + last},
    };
    forward_run(forward, &stream, &batch, &view);
    struct sample_args draw = {.n_rows = n_outputs, .vocabulary = plan->vocabulary};
    struct op_cost drawn = cost_model_cuda.greedy(&draw);
    *out = op_counter_total(&counter);
    op_cost_add(out, &drawn);
    forward_free(forward);
    return STATUS_OK;
}
