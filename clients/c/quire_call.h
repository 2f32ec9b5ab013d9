/* clients/c/quire_call.h: one gRPC call, of any of the four shapes.
 *
 *   open --> send ... send(last) --> wait --> status --> free
 *                |                     |
 *                +-- on_message -------+    each message that came, whole, in order
 *
 * A call ends once: by the server's status, or locally (cancel, deadline, a broken connection, an
 * oversized or malformed message). After that nothing is sent, no callback runs, and every function
 * returns at once. Flow control goes both ways: send returns when the bytes are on their way, and a
 * callback that takes its time stops the server.
 */
#ifndef QUIRE_CLIENTS_C_QUIRE_CALL_H
#define QUIRE_CLIENTS_C_QUIRE_CALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "clients/c/quire_client.h"
#include "clients/c/quire_status.h"

struct quire_call;

struct quire_call_options {
    const char *request_id; /* metadata x-request-id, 0x20..0x7E; NULL: none. Borrowed in open */
    int64_t timeout_ms;     /* deadline, sent as grpc-timeout and kept here too; 0: none */
    /* A message; the bytes live during the call only. False cancels the call. Of this library it
     * may call quire_call_cancel, quire_call_status and quire_client_interrupt. NULL: dropped. */
    bool (*on_message)(void *arg, const void *bytes, size_t len);
    void *arg;
};

/* 1 to REQUEST_ID_BYTES_MAX of 0x20..0x7E. */
bool quire_call_id_is_valid(const char *request_id);

struct quire_call_times {
    int64_t sent_ns;       /* the last byte of the request went to the system; 0: not yet */
    int64_t first_data_ns; /* the first byte of the first DATA frame was seen; 0: not yet */
};

/* Begins a call of "/package.Service/Method". Never NULL but when memory is out; what is wrong
 * (a lost connection, a bad request id) is the status of a call that has ended already. options may
 * be NULL. The caller frees it before it closes the client. */
struct quire_call *quire_call_open(struct quire_client *client, const char *method,
                                   const struct quire_call_options *options);
void quire_call_free(struct quire_call *call); /* cancels it when it is open; NULL is fine */

/* Sends one message (last: and no more after it). Returns when all of it was handed to the system's
 * queue or the call has ended; bytes are borrowed meanwhile. False: the call has ended. */
bool quire_call_send(struct quire_call *call, const void *bytes, size_t len, bool last);
bool quire_call_send_end(struct quire_call *call); /* no more messages; waits for nothing */

/* Until the call has ended. The status is valid until the call is freed. */
const struct quire_status *quire_call_wait(struct quire_call *call);
/* Until `fd` can be read (true) or the call has ended (false). A regular file can always be read.
 */
bool quire_call_wait_readable(struct quire_call *call, int fd);

void quire_call_cancel(struct quire_call *call); /* RST_STREAM(CANCEL); status CANCELLED */

bool quire_call_has_ended(const struct quire_call *call);
const struct quire_status *quire_call_status(const struct quire_call *call); /* after the end */
struct quire_call_times quire_call_times(const struct quire_call *call);

/* One request, one reply; of options (NULL: none) the callback is not used. When it returns true,
 * *reply (malloc) is the caller's to free; else it is NULL and *status says why. */
bool quire_call_unary(struct quire_client *client, const char *method, const void *request,
                      size_t len, const struct quire_call_options *options, void **reply,
                      size_t *reply_len, struct quire_status *status);

#endif
