#include "engine/decode_graph.h"

#include "base/status.h"

#include <assert.h>
#include <stdlib.h>

struct decode_graph {
    uint32_t n, max_rows;
    uint32_t rows[DECODE_GRAPHS_MAX]; /* ascending; the last is max_rows */
    struct graph *graphs[DECODE_GRAPHS_MAX];
};

static const uint32_t few[] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128};

_Static_assert(sizeof few / sizeof *few + STEP_ROWS_MAX / PAGE_TOKENS <= DECODE_GRAPHS_MAX,
               "each number of rows has its graph");

uint32_t decode_graph_rows(uint32_t n_rows, uint32_t max_rows)
{
    uint32_t rows = (n_rows + PAGE_TOKENS - 1) / PAGE_TOKENS * PAGE_TOKENS;

    assert(n_rows > 0 && n_rows <= max_rows);
    for (size_t i = sizeof few / sizeof *few; i-- > 0 && few[i] >= n_rows;)
        rows = few[i];
    return rows < max_rows ? rows : max_rows;
}

static int make(struct decode_graph *graphs, const struct device_batch *on_device, uint32_t n_rows,
                uint32_t max_context, struct forward *forward, const struct kv_view *view,
                struct stream *stream, struct why *why)
{
    struct batch_shape shape = {.n_rows = n_rows,
                                .n_seqs = n_rows,
                                .n_outputs = n_rows,
                                .max_position = max_context - 1};

    int status = graph_begin(stream, why);
    if (status < 0)
        return status;
    device_batch_run(on_device, &shape, forward, view, stream);
    status = graph_end(stream, &graphs->graphs[graphs->n], why);
    if (status < 0)
        return status;
    graphs->rows[graphs->n++] = n_rows;
    return STATUS_OK;
}

int decode_graph_create(const struct device_batch *on_device, uint32_t max_rows,
                        uint32_t max_context, struct forward *forward, const struct kv_view *view,
                        struct stream *stream, struct decode_graph **out, struct why *why)
{
    struct decode_graph *graphs = calloc(1, sizeof *graphs);

    if (graphs == NULL)
        return refuse(why, STATUS_NO_MEMORY, "no memory for graphs (%zu bytes)", sizeof *graphs);
    graphs->max_rows = max_rows;
    for (uint32_t made = 0; made < max_rows;) {
        uint32_t n_rows = decode_graph_rows(made + 1, max_rows);
        int status = make(graphs, on_device, n_rows, max_context, forward, view, stream, why);
        if (status < 0) {
            decode_graph_free(graphs);
            return refuse_prefix(why, status, "the graph of a step of %u rows", n_rows);
        }
        made = n_rows;
    }
    *out = graphs;
    return STATUS_OK;
}

void decode_graph_free(struct decode_graph *graphs)
{
    if (graphs == NULL)
        return;
    for (uint32_t i = 0; i < graphs->n; i++)
        graph_free(graphs->graphs[i]);
    free(graphs);
}

const struct graph *decode_graph_take(const struct decode_graph *graphs, struct batch *batch,
                                      kv_seq_id padding)
{
    uint32_t i = 0, n_rows = decode_graph_rows(batch->n_rows, graphs->max_rows);

    while (graphs->rows[i] != n_rows)
        i++;
    batch_fill_up(batch, n_rows, padding);
    return graphs->graphs[i];
}
