/* tests/kernels/route_fixture.h: rules of routers and rows of logits for them, and one route of any
 * backend. */
#ifndef QUIRE_TESTS_ROUTE_FIXTURE_H
#define QUIRE_TESTS_ROUTE_FIXTURE_H

#include "kernels/ops.h"

#define ROUTE_RULES 12
/* Every score, groups, normalisation and scale that models have, and the ends of sizes. */
struct route_rule route_rule_of(int i);

/* malloc'd [n_rows, n_experts]; odd rows are small integers, so that many are equal. */
float *route_logits(const struct route_rule *rule, uint32_t n_rows, uint64_t seed);

struct routed { /* malloc'd [n_rows, n_used] */
    uint32_t *experts;
    float *weights;
    int status;
};
/* bias: [n_experts] or NULL. */
struct routed route_run(struct device *device, const struct route_rule *rule, const float *logits,
                        const float *bias, uint32_t n_rows);
void routed_free(struct routed *routed);

#endif
