/* tests/service/echo_fixture.h: a real server in a thread with small handlers, one for each thing a
 * call can do.
 *
 *   /test.Echo/Unary    unary           answers the message
 *   /test.Echo/Small    unary           the same, messages of at most ECHO_SMALL_BYTES
 * /test.Echo/Count    server stream   {n, size} as big-endian 32-bit: n messages of size bytes, by
 * credit
 *   /test.Echo/Sum      client stream   8 bytes big-endian: how many bytes came
 * /test.Echo/Slow     client stream   the same, but takes one message each time echo_release opens
 * the gate
 *   /test.Echo/Early    client stream   refuses with its first message
 *   /test.Echo/Bidi     bidi            answers each message
 * /test.Echo/Refuse   server stream   RESOURCE_EXHAUSTED with the message as sentence and as
 * details
 *   /test.Echo/Never    server stream   opens the reply and says nothing
 *   /test.Echo/Silent   server stream   never even opens the reply
 *   /test.Echo/Work     unary           the message reversed on a worker thread
 *
 * Every handler holds something from its first callback to its end: `held` must come back to 0.
 */
#ifndef QUIRE_TESTS_ECHO_FIXTURE_H
#define QUIRE_TESTS_ECHO_FIXTURE_H

#include "base/clock.h"
#include "service/server.h"

#include <pthread.h>
#include <stdatomic.h>

#define ECHO_SMALL_BYTES 100

struct echo {
    struct server *server;
    pthread_t thread;
    bool has_thread;
    int result;                /* of server_run */
    struct server_options options;
    _Atomic int held;          /* handlers that hold something */
    _Atomic int cancels;
    _Atomic int begun;         /* first callbacks */
    _Atomic int drains;        /* on_drain calls */
    _Atomic int gate;          /* messages that Slow may still take */
    _Atomic int taken;         /* messages that Slow took */
    _Atomic int draining;      /* on_draining calls */
    _Atomic size_t unsent_max; /* largest call_unsent_bytes seen by Count */
    _Atomic size_t unsent_account_max; /* largest server_stats.unsent_bytes seen by Count */
    _Atomic int advance_ms;    /* see echo_advance */
    struct clock clock;        /* the server's, when options.clock points to it: stands still */
    _Atomic int wants_stats;
    struct server_stats stats; /* valid when wants_stats came back to 0 */
};

extern const struct method echo_methods[];
extern const size_t n_echo_methods;

/* Fills what the options leave open: loopback port 0, the methods, the callbacks. Asserts success.
 * */
void echo_start(struct echo *echo, const struct server_options *options);
void echo_stop(struct echo *echo); /* server_stop, joins, frees; asserts that nothing is held */
void echo_join(struct echo *echo); /* the same without the stop: after a drain */
void echo_release(struct echo *echo, int n_messages);
void echo_stats(struct echo *echo, struct server_stats *out); /* taken on the loop */
void echo_start_frozen(struct echo *echo); /* with a clock that only echo_advance moves */
void echo_advance(struct echo *echo, int ms);
bool echo_wait(_Atomic int *value, int wanted);               /* up to 10 s */

#endif
