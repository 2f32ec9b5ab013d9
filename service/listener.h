/* service/listener.h: the one address a server listens on: HOST:PORT, [V6]:PORT, or unix:PATH.
 *
 * A stale unix socket (nobody answers a connect) is replaced, a live one is refused; the new one
 * belongs to its owner alone (mode 600) and is removed at the end if it is still ours. Plaintext
 * beyond loopback needs `insecure`. Thread: the loop, or before it runs.
 */
#ifndef QUIRE_SERVICE_LISTENER_H
#define QUIRE_SERVICE_LISTENER_H

#include "service/loop.h"

#include <sys/types.h>

#define ADDRESS_BYTES 160

struct listener {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t pipe;
    } socket;
    bool is_open;
    char address[ADDRESS_BYTES]; /* as a client writes it; the real port */
    char path[108];              /* of the unix socket, else "" */
    dev_t path_device;
    ino_t path_inode;
};

/* on_connection is called with a negative status when accepting failed. STATUS_INVALID,
 * STATUS_DENIED, STATUS_EXISTS, STATUS_IO. */
int listener_open(struct listener *listener, struct loop *loop, const char *listen, bool insecure,
                  uv_connection_cb on_connection, struct why *why);
/* new connections are refused from now on; harmless when closed */
void listener_close(struct listener *listener);

#endif
