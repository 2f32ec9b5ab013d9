#include "clients/c/client_address.h"

#include "base/clock.h"
#include "base/status.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SHOWN_BYTES 200 /* of an address, in a refusal */

static int refuse_address(struct why *why, const char *text, const char *reason)
{
    return refuse(why, STATUS_INVALID,
                  "\"%.*s\" is no address: %s; write HOST:PORT, [IPV6]:PORT or unix:PATH",
                  SHOWN_BYTES, text, reason);
}

static int parse_path(const char *text, const char *path, struct client_address *out,
                      struct why *why)
{
    if (strncmp(path, "//", 2) == 0)
        path += 2; /* unix:///run/quire.sock, as gRPC writes it */
    if (path[0] == 0)
        return refuse_address(why, text, "the path is missing");
    if (strlen(path) >= sizeof out->path)
        return refuse(why, STATUS_INVALID,
                      "the path of a unix socket holds %zu bytes at most; this one has %zu: %.*s",
                      sizeof out->path - 1, strlen(path), SHOWN_BYTES, path);
    out->is_unix = true;
    strcpy(out->path, path);
    return STATUS_OK;
}

static int parse_port(const char *text, const char *port, struct client_address *out,
                      struct why *why)
{
    size_t n = strspn(port, "0123456789");
    if (n == 0 || port[n] != 0 || n > 5 || atoi(port) < 1 || atoi(port) > 65535)
        return refuse_address(why, text, "the port is a number from 1 to 65535");
    strcpy(out->port, port);
    return STATUS_OK;
}

int client_address_parse(const char *text, struct client_address *out, struct why *why)
{
    memset(out, 0, sizeof *out);
    if (strncmp(text, "unix:", 5) == 0)
        return parse_path(text, text + 5, out, why);

    if (strstr(text, "://") != NULL)
        return refuse_address(why, text, "it begins with a scheme");

    bool bracketed = text[0] == '[';
    const char *host = text + bracketed;
    const char *end = bracketed ? strchr(host, ']') : strchr(host, ':');
    if (end == NULL)
        return refuse_address(why, text, bracketed ? "the ] is missing" : "the port is missing");
    const char *colon = end + bracketed;
    if (*colon != ':')
        return refuse_address(why, text, "the port is missing");
    if (!bracketed && strchr(colon + 1, ':') != NULL)
        return refuse_address(why, text, "an IPv6 address stands in brackets");
    size_t len = (size_t)(end - host);
    if (len == 0 || len >= sizeof out->host)
        return refuse_address(why, text, len == 0 ? "the host is missing" : "the host is too long");
    memcpy(out->host, host, len);
    return parse_port(text, colon + 1, out, why);
}

/* Waits until a connect under way has ended; its error, or 0. */
static int await_connect(int fd, int64_t until_ns)
{
    for (;;) {
        int64_t left_ns = until_ns - clock_now(&clock_monotonic);
        if (left_ns <= 0)
            return ETIMEDOUT;
        struct pollfd wait = {.fd = fd, .events = POLLOUT};
        int n = poll(&wait, 1, (int)(left_ns / NS_PER_MS + 1));
        if (n < 0 && errno != EINTR)
            return errno;
        if (n > 0) {
            int error = 0;
            socklen_t size = sizeof error;
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
            return error;
        }
    }
}

/* A connected socket, or minus the error. */
static int connect_one(int family, const struct sockaddr *to, socklen_t size, int64_t until_ns)
{
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int error = 0;
    if (connect(fd, to, size) < 0) {
        error = errno;
        if (error == EINPROGRESS || error == EINTR)
            error = await_connect(fd, until_ns);
    }
    if (error != 0) {
        close(fd);
        return -error;
    }
    int on = 1;
    if (family != AF_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static int connect_unix(const struct client_address *address, int64_t until_ns)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    strcpy(to.sun_path, address->path);
    return connect_one(AF_UNIX, (struct sockaddr *)&to, sizeof to, until_ns);
}

/* As connect_one; *unknown says why a name has no address. */
static int connect_tcp(const struct client_address *address, int64_t until_ns, const char **unknown)
{
    struct addrinfo wanted = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int error = getaddrinfo(address->host, address->port, &wanted, &found);
    if (error != 0) {
        *unknown = gai_strerror(error);
        return -EHOSTUNREACH;
    }
    int fd = -EHOSTUNREACH;
    for (struct addrinfo *at = found; at != NULL && fd < 0; at = at->ai_next)
        fd = connect_one(at->ai_family, at->ai_addr, at->ai_addrlen, until_ns);
    freeaddrinfo(found);
    return fd;
}

int client_address_connect(const struct client_address *address, const char *text,
                           int64_t timeout_ms, int *out, struct why *why)
{
    int64_t until_ns = clock_now(&clock_monotonic) + timeout_ms * NS_PER_MS;
    const char *unknown = NULL;
    int fd = address->is_unix ? connect_unix(address, until_ns)
                              : connect_tcp(address, until_ns, &unknown);
    if (fd >= 0) {
        *out = fd;
        return STATUS_OK;
    }
    if (fd == -ETIMEDOUT)
        return refuse(why, STATUS_DEADLINE, "no server at %.*s (no answer within %.1f s)",
                      SHOWN_BYTES, text, (double)timeout_ms / 1000);

    char reason[128];
    snprintf(reason, sizeof reason, "%s", unknown != NULL ? unknown : strerror(-fd));
    if (reason[0] >= 'A' && reason[0] <= 'Z')
        reason[0] = (char)(reason[0] - 'A' + 'a');
    return refuse(why, STATUS_UNAVAILABLE, "no server at %.*s (%s)", SHOWN_BYTES, text, reason);
}
