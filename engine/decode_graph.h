/* engine/decode_graph.h: a step in which everybody decodes, as graphs: one a number of rows, made
 * before the first step, since their making allocates.
 *
 *   rows     1 2 3 4 | 5 6 | 7 8 | 9 .. 12 | ... 128 | 129 .. 192 | ...     up to all outputs
 *   graph    1 2 3 4 |  6  |  8  |    12   | ... 128 |     192    | ...
 *
 * Rows of nobody fill a step up to its graph's, fewer than PAGE_TOKENS: row invariance keeps the
 * others as they are. Thread: engine only.
 */
#ifndef QUIRE_ENGINE_DECODE_GRAPH_H
#define QUIRE_ENGINE_DECODE_GRAPH_H

#include "engine/device_batch.h"

#define DECODE_GRAPHS_MAX 32

/* Rows of the graph that takes n_rows of at most max_rows. */
uint32_t decode_graph_rows(uint32_t n_rows, uint32_t max_rows);

struct decode_graph;
/* max_rows: as many as the results hold; max_context: of any sequence. STATUS_UNAVAILABLE,
 * STATUS_NO_MEMORY. */
int decode_graph_create(const struct device_batch *on_device, uint32_t max_rows,
                        uint32_t max_context, struct forward *forward, const struct kv_view *view,
                        struct stream *stream, struct decode_graph **out, struct why *why);
void decode_graph_free(struct decode_graph *graphs);
/* Fills the batch, a decode, up; the graph that runs its arrays once they are on the device. */
const struct graph *decode_graph_take(const struct decode_graph *graphs, struct batch *batch,
                                      kv_seq_id padding);

#endif
