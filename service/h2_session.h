/* service/h2_session.h: the HTTP/2 protocol of a connection: settings, callbacks, and the limits
 * that the library leaves to us.
 *
 *   bytes --h2_session_receive--> library --callbacks--> grpc_call
 *   bytes <--h2_session_send----- library <--submit----- grpc_call
 *
 * Bytes are handed over frame by frame, so that a header is judged when all before it was read.
 * The library does not bound header lists, empty DATA frames, pings, resets that we make, or what
 * it holds for one peer: here they are counted (limits.h). Most errors of a peer queue a GOAWAY and
 * are no error of receive. Thread: the loop.
 */
#ifndef QUIRE_SERVICE_H2_SESSION_H
#define QUIRE_SERVICE_H2_SESSION_H

#include "service/h2_conn.h"

/* Makes the session and queues our SETTINGS. STATUS_NO_MEMORY. */
int h2_session_open(struct h2_conn *conn);
void h2_session_close(struct h2_conn *conn); /* cancels and frees every call, then the session */

/* STATUS_OK, or STATUS_INVALID: the connection cannot go on and must be closed; STATUS_UNSUPPORTED:
 * this is not HTTP/2. */
int h2_session_receive(struct h2_conn *conn, struct slice bytes);
/* Fills the buffer with whole frames while there are any. STATUS_IO: close. */
int h2_session_send(struct h2_conn *conn, struct write_buffer *buffer);
bool h2_session_has_ended(const struct h2_conn *conn); /* neither side has anything left to say */

#endif
