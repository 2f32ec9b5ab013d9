/* bench/client_load.h: what the benches that call a running server share: connections, requests,
 * percentiles. A failure ends the program: there is nothing to measure then.
 */
#ifndef QUIRE_BENCH_CLIENT_LOAD_H
#define QUIRE_BENCH_CLIENT_LOAD_H

#include "clients/c/quire_call.h"
#include "quire/v1/quire.pb-c.h"

#include <stddef.h>
#include <stdint.h>

struct command;

/* Fills *in (zeroed before). --help ends the program with 0, wrong usage with 2. */
void load_parse_options(const struct command *command, int argc, char **argv, void *in);
_Noreturn void load_give_up(const char *what, const char *why);
struct quire_client *load_connect(const char *server);
Quire__V1__Model *load_get_model(struct quire_client *client);
/* A Generate request; free with free(). max_tokens 0: left out. */
void *load_pack_text(const char *text, size_t len, uint32_t max_tokens, bool ignore_eos, size_t *n);

/* A Generate that is cancelled at its first event: milliseconds from the last byte sent to the
 * first byte of DATA seen. */
double load_first_event_ms(struct quire_client *client, const char *text, size_t len);

uint64_t load_random(uint64_t *state); /* 31 bits */
#define LOAD_RANDOM_START 0x9E3779B97F4A7C15u

void load_sort(double *values, size_t n);
double load_percentile(const double *sorted, size_t n, double share); /* 0 when n is 0 */

#endif
