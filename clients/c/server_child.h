/* clients/c/server_child.h: `quire serve` as a child on a private unix socket, for --model FILE.
 *
 *   parent  --- write end of a pipe, its alone ---+
 *   child   quire serve --listen unix:TMPDIR/quire-RANDOM.sock --parent-fd (read end)
 *
 * The child ends with its parent, however that ends: the pipe reaches its end, and the kernel sends
 * SIGTERM. It has a session of its own, so Ctrl-C reaches the parent alone. The child makes the
 * socket, for this user alone (umask), and removes it when it ends; the parent removes it as soon
 * as the connection stands. So nothing stays behind, whichever of them is killed.
 */
#ifndef QUIRE_CLIENTS_C_SERVER_CHILD_H
#define QUIRE_CLIENTS_C_SERVER_CHILD_H

#include "clients/c/client_address.h"

#include <stdbool.h>
#include <sys/types.h>

struct why;

#define SERVER_CHILD_WORDS_MAX 24

struct server_child {
    pid_t pid;      /* 0: none */
    int pipe_fd;    /* the write end */
    bool has_ended; /* it was waited for */
    int status;     /* of waitpid, when it has */
    char address[ADDRESS_PATH_BYTES + 8];
};

/* Starts this very executable as `serve` with these further words ("--model", FILE, ..., NULL); its
 * messages go to standard error. STATUS_INVALID (TMPDIR is too long), STATUS_IO. */
int server_child_start(struct server_child *child, const char *const *words, struct why *why);

bool server_child_has_ended(struct server_child *child);     /* looks, does not wait */
void server_child_forget_socket(struct server_child *child); /* removes it; once connected */

/* Lets it end, waits at most some seconds for it, and then kills it. Harmless without a child. */
void server_child_stop(struct server_child *child);

#endif
