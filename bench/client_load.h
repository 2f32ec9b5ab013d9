/* bench/client_load.h: what the benches that call a running server share: connections, requests,
 * percentiles. A failure ends the program: there is nothing to measure then.
 */
#ifndef QUIRE_BENCH_CLIENT_LOAD_H
#define QUIRE_BENCH_CLIENT_LOAD_H

#include "clients/c/quire_call.h"
#include "quire/v1/quire.pb-c.h"

#include <stddef.h>
#include <stdint.h>

_Noreturn void load_give_up(const char *what, const char *why);
struct quire_client *load_connect(const char *server);
Quire__V1__Model *load_get_model(struct quire_client *client);
/* A Generate request; free with free(). max_tokens 0: left out. */
void *load_pack_text(const char *text, size_t len, uint32_t max_tokens, bool ignore_eos, size_t *n);

uint64_t load_random(uint64_t *state); /* 31 bits */
#define LOAD_RANDOM_START 0x9E3779B97F4A7C15u

void load_sort(double *values, size_t n);
double load_percentile(const double *sorted, size_t n, double share); /* 0 when n is 0 */

#endif
