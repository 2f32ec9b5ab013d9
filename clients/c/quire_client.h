/* clients/c/quire_client.h: a connection to a gRPC server such as `quire serve`.
 *
 *   struct quire_client *client;
 *   struct why why;
 *   if (quire_client_open("127.0.0.1:7070", NULL, &client, &why) < 0)
 *       fprintf(stderr, "%s\n", why.text);
 *   else {
 *       ... quire_call_open(client, "/quire.v1.Quire/Generate", ...) ...
 *       quire_client_close(client);
 *   }
 *
 * Synchronous: nothing happens behind the caller's back. Bytes move, and callbacks run, only inside
 * the functions of quire_call.h that wait. Several calls may be open at once on one connection:
 * waiting for one of them moves them all. HTTP/2 without TLS, prior knowledge.
 *
 * Thread: one at a time; quire_client_interrupt alone may be called from anywhere. SIGPIPE is never
 * raised by this library.
 */
#ifndef QUIRE_CLIENTS_C_QUIRE_CLIENT_H
#define QUIRE_CLIENTS_C_QUIRE_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct quire_client;

struct quire_client_options {
    int64_t connect_timeout_ms; /* 0: 10 s */
    size_t receive_bytes_max;   /* of one message; 0: 16 MiB */
    const char *user_agent;     /* borrowed during open; NULL: "quire-c/VERSION" */
};

/* Connects to "HOST:PORT", "[IPV6]:PORT" or "unix:PATH". options may be NULL. The caller owns *out
 * and closes it. STATUS_INVALID (the address), STATUS_UNAVAILABLE "no server at ADDRESS (connection
 * refused)", STATUS_DEADLINE, STATUS_NO_MEMORY, with the sentence in *why. */
int quire_client_open(const char *address, const struct quire_client_options *options,
                      struct quire_client **out, struct why *why);

/* Cancels what is still open (the server is told, if it listens within a second) and frees. Calls
 * of it must have been freed. NULL is fine. */
void quire_client_close(struct quire_client *client);

const char *quire_client_address(const struct quire_client *client); /* as it was opened */

/* Watches the pipe or socket that answers are written to: once nobody can read from it any more the
 * client is interrupted. -1: none (so it begins). */
void quire_client_watch_reader(struct quire_client *client, int fd);

/* Every open call ends CANCELLED as soon as its waiting function looks, and later ones at once.
 * Safe in signal handlers and other threads. */
void quire_client_interrupt(struct quire_client *client);
/* Calls opened from now on go on again. */
void quire_client_resume(struct quire_client *client);
bool quire_client_is_interrupted(const struct quire_client *client);

#endif
