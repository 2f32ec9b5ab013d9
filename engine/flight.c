#include "engine/flight.h"

#include "base/status.h"
#include "model/model.h"

#include <assert.h>
#include <stdlib.h>

/* arrays, masks, biases, count, sample, results; a graph in place of the pass */
#define OWN_OPS 10

/* --- life --- */

uint32_t flight_depth(const struct device *device, bool no_overlap)
{
    return no_overlap ? 1 : device_depth(device);
}

static uint32_t ops_max(const struct flight_spec *spec)
{
    return forward_ops_max(spec->model) + kv_cache_ops_max(spec->cache, STEP_ROWS_MAX) +
           2 * spec->max_outputs /* counts that begin, and that forks take over */ + OWN_OPS;
}

static int create_parts(struct flight *flight, const struct flight_spec *spec, struct why *why)
{
    struct lookback lookback;

    lookback_of_plan(model_plan(spec->model), &lookback);
    int status = stream_create(spec->device, ops_max(spec), &flight->stream, why);
    for (uint32_t i = 0; i < flight->depth && status == STATUS_OK; i++)
        status = batch_create(spec->device, spec->max_outputs, spec->on_device->vocabulary,
                              &lookback, &flight->batches[i], why);
    if (status == STATUS_OK && device_has_graphs(spec->device) && !spec->no_overlap)
        status = decode_graph_create(spec->on_device, spec->max_outputs, spec->max_context,
                                     spec->forward, &flight->view, flight->stream, &flight->graphs,
                                     why);
    return status;
}

int flight_create(const struct flight_spec *spec, struct flight **out, struct why *why)
{
    struct flight *flight = calloc(1, sizeof *flight);

    if (flight == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for steps (%zu bytes)", sizeof *flight);
    flight->cache = spec->cache;
    flight->forward = spec->forward;
    flight->on_device = spec->on_device;
    flight->depth = flight_depth(spec->device, spec->no_overlap);
    kv_cache_view(spec->cache, &flight->view);
    int status = create_parts(flight, spec, why);
    if (status < 0) {
        flight_free(flight);
        return status;
    }
    *out = flight;
    return STATUS_OK;
}

void flight_free(struct flight *flight)
{
    if (flight == NULL)
        return;
    assert(flight->n == 0);
    decode_graph_free(flight->graphs);
    stream_free(flight->stream); /* before the memory that it reads and writes */
    for (uint32_t i = 0; i < flight->depth; i++)
        batch_free(flight->batches[i]);
    free(flight);
}

/* --- a step --- */

const struct stream *flight_stream(const struct flight *flight)
{
    return flight->stream;
}

bool flight_has_room(const struct flight *flight)
{
    return flight->n < flight->depth;
}

bool flight_is_empty(const struct flight *flight)
{
    return flight->n == 0;
}

static struct batch *batch_at(const struct flight *flight, uint32_t i)
{
    return flight->batches[(flight->first + i) % flight->depth];
}

struct batch *flight_next(struct flight *flight, int64_t now_ns)
{
    struct batch *batch = batch_at(flight, flight->n);

    assert(flight_has_room(flight));
    batch_clear(batch, now_ns);
    return batch;
}

/* Pages of the step's rows; counts of those that begin with it. */
static void make_room(const struct flight *flight, const struct batch *batch)
{
    for (uint32_t s = 0; s < batch->n_seqs; s++) {
        const struct sequence *sequence = batch->sequences[s];
        uint32_t first_row = batch->arrays->seq_begin[s];
        kv_cache_append(flight->cache, sequence->kv, batch->n_rows_of[s], flight->stream);
        if (batch->arrays->position[first_row] == 0 &&
            batch->arrays->count_slots[first_row] != COUNT_NONE)
            device_batch_forget(flight->on_device, sequence->kv, flight->stream);
    }
    for (uint32_t i = 0; i < batch->n_count_rows; i++)
        device_batch_recall(flight->on_device, batch->count_slots[i],
                            batch->count_rows + (size_t)i * batch->vocabulary, flight->stream);
}

void flight_launch(struct flight *flight)
{
    struct batch *batch = batch_at(flight, flight->n);
    const struct device_batch *on_device = flight->on_device;
    const struct graph *graph = NULL;

    assert(flight_has_room(flight) && batch->n_rows > 0);
    if (flight->graphs != NULL && batch_is_decode(batch))
        graph = decode_graph_take(flight->graphs, batch, kv_cache_padding(flight->cache));
    make_room(flight, batch);
    device_write(flight->stream, on_device->arrays, batch->arrays, sizeof *batch->arrays);
    if (batch->n_masks > 0)
        device_write(flight->stream, on_device->masks, batch->masks,
                     (size_t)batch->n_masks * batch->mask_words * sizeof *batch->masks);
    if (batch->n_biases > 0)
        device_write(flight->stream, on_device->biases, batch->biases,
                     batch->n_biases * sizeof *batch->biases);
    if (graph != NULL)
        graph_run(flight->stream, graph);
    else
        device_batch_run(on_device,
                         &(struct batch_shape){.n_rows = batch->n_rows,
                                               .n_seqs = batch->n_seqs,
                                               .n_outputs = batch->n_outputs,
                                               .max_position = batch->max_position},
                         flight->forward, &flight->view, flight->stream);
    if (batch->n_outputs > 0)
        device_read(flight->stream, batch->results, on_device->results,
                    batch->n_outputs * sizeof *batch->results);
    kv_cache_fetch_counters(flight->cache, flight->stream);
    device_submit(flight->stream);
    flight->n++;
}

int flight_wait(struct flight *flight, void (*poll)(void *arg), void *arg)
{
    assert(flight->n > 0);
    return device_wait(flight->stream, poll, arg);
}

const struct batch *flight_retire(struct flight *flight, int64_t now_ns, int64_t *step_ns)
{
    const struct batch *batch = batch_at(flight, 0);

    assert(flight->n > 0);
    for (uint32_t s = 0; s < batch->n_seqs; s++)
        batch->sequences[s]->n_steps--;
    *step_ns =
        now_ns - (batch->begun_ns > flight->retired_ns ? batch->begun_ns : flight->retired_ns);
    flight->retired_ns = now_ns;
    flight->first = (flight->first + 1) % flight->depth;
    flight->n--;
    return batch;
}

void flight_drop(struct flight *flight)
{
    int64_t ignored;

    while (flight->n > 0) {
        device_wait(flight->stream, NULL, NULL);
        flight_retire(flight, flight->retired_ns, &ignored);
    }
}
