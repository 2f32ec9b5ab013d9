/* clients/c/client_address.h: where a server listens: HOST:PORT, [IPV6]:PORT, unix:PATH. */
#ifndef QUIRE_CLIENTS_C_CLIENT_ADDRESS_H
#define QUIRE_CLIENTS_C_CLIENT_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>

struct why;

#define ADDRESS_HOST_BYTES 256
#define ADDRESS_PATH_BYTES 108 /* of sockaddr_un, with its NUL */

struct client_address {
    bool is_unix;
    char host[ADDRESS_HOST_BYTES]; /* without brackets */
    char port[8];
    char path[ADDRESS_PATH_BYTES]; /* of the unix socket */
};

/* "127.0.0.1:7070", "localhost:7070", "[::1]:7070", "unix:/run/quire.sock", "unix:///run/..".
 * STATUS_INVALID with what is wrong. */
int client_address_parse(const char *text, struct client_address *out, struct why *why);

/* *out is a connected, non-blocking socket that the caller closes. Host names may stand for several
 * addresses: each is tried, all within timeout_ms (a name that must be looked up over the network
 * may take longer). STATUS_UNAVAILABLE "no server at TEXT (reason)", STATUS_DEADLINE. */
int client_address_connect(const struct client_address *address, const char *text,
                           int64_t timeout_ms, int *out, struct why *why);

#endif
