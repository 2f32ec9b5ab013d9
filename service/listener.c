#include "service/listener.h"

#include "base/text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 511

/* --- TCP --- */

static bool is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
    const struct in6_addr *in6 = &((const struct sockaddr_in6 *)address)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(in6) || (IN6_IS_ADDR_V4MAPPED(in6) && in6->s6_addr[12] == 127);
}

/* Cuts "HOST:PORT" or "[V6]:PORT"; host is "" for ":PORT". */
static int cut_address(const char *listen, char *host, size_t cap, const char **port,
                       struct why *why)
{
    const char *colon = strrchr(listen, ':');
    int64_t number;
    if (colon == NULL)
        return refuse(why, STATUS_INVALID,
                      "cannot listen on \"%s\": expected HOST:PORT, [V6]:PORT or unix:PATH",
                      listen);
    if (text_parse_i64(colon + 1, 0, 65535, &number, why) < 0)
        return refuse(why, STATUS_INVALID,
                      "cannot listen on \"%s\": the port must be 0 to 65535 (0: the system picks)",
                      listen);
    const char *from = listen;
    size_t n = (size_t)(colon - listen);
    if (n >= 2 && from[0] == '[' && from[n - 1] == ']') {
        from++;
        n -= 2;
    } else if (memchr(from, ':', n) != NULL) {
        return refuse(why, STATUS_INVALID,
                      "cannot listen on \"%s\": write an IPv6 address in brackets, [::1]:7070",
                      listen);
    }
    if (n >= cap)
        return refuse(why, STATUS_INVALID, "cannot listen on \"%s\": the host name is too long",
                      listen);
    memcpy(host, from, n);
    host[n] = '\0';
    *port = colon + 1;
    return STATUS_OK;
}

static int resolve(const char *listen, struct sockaddr_storage *out, struct why *why)
{
    char host[256];
    const char *port = "";
    int status = cut_address(listen, host, sizeof(host), &port, why);
    if (status < 0)
        return status;
    struct addrinfo wanted = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found;
    int error = getaddrinfo(host[0] == '\0' ? NULL : host, port, &wanted, &found);
    if (error != 0)
        return refuse(why, STATUS_NOT_FOUND, "cannot listen on \"%s\": %s", listen,
                      gai_strerror(error));
    const struct addrinfo *pick = found; /* "localhost" is both: every client tries IPv4 */
    for (const struct addrinfo *each = found; each != NULL; each = each->ai_next)
        if (each->ai_family == AF_INET) {
            pick = each;
            break;
        }
    memcpy(out, pick->ai_addr, pick->ai_addrlen);
    freeaddrinfo(found);
    return STATUS_OK;
}

static void name_address(struct listener *listener)
{
    struct sockaddr_storage real;
    int n = sizeof(real);
    char host[INET6_ADDRSTRLEN];
    if (uv_tcp_getsockname(&listener->socket.tcp, (struct sockaddr *)&real, &n) < 0)
        return;
    if (real.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&real;
        uv_ip6_name(in6, host, sizeof(host));
        snprintf(listener->address, sizeof(listener->address), "[%s]:%u", host,
                 ntohs(in6->sin6_port));
    } else {
        const struct sockaddr_in *in4 = (const struct sockaddr_in *)&real;
        uv_ip4_name(in4, host, sizeof(host));
        snprintf(listener->address, sizeof(listener->address), "%s:%u", host,
                 ntohs(in4->sin_port));
    }
}

static int refuse_uv(int error, const char *listen, struct why *why)
{
    if (error == UV_EADDRINUSE)
        return refuse(why, STATUS_EXISTS,
                      "cannot listen on %s: another program holds this address. Stop it (`ss "
                      "-ltnp` shows it), or choose another with --listen HOST:PORT (port 0: "
                      "the system picks)",
                      listen);
    if (error == UV_EACCES)
        return refuse(why, STATUS_DENIED,
                      "cannot listen on %s: permission denied; choose a port of 1024 or more, or a "
                      "path that you may write",
                      listen);
    if (error == UV_EADDRNOTAVAIL)
        return refuse(why, STATUS_UNAVAILABLE,
                      "cannot listen on %s: this machine does not have that address", listen);
    return refuse(why, STATUS_IO, "cannot listen on %s: %s", listen, uv_strerror(error));
}

static int open_tcp(struct listener *listener, struct loop *loop, const char *listen, bool insecure,
                    uv_connection_cb on_connection, struct why *why)
{
    struct sockaddr_storage address;
    int status = resolve(listen, &address, why);
    if (status < 0)
        return status;
    if (!insecure && !is_loopback((const struct sockaddr *)&address))
        return refuse(why, STATUS_DENIED,
                      "will not listen on %s: calls and answers would cross the network "
                      "unencrypted and without a password. Listen on loopback (--listen "
                      "127.0.0.1:%d) behind a proxy or tunnel that encrypts, or accept the risk "
                      "with --insecure",
                      listen, DEFAULT_PORT);
    uv_tcp_init(&loop->uv, &listener->socket.tcp);
    listener->is_open = true;
    int error = uv_tcp_bind(&listener->socket.tcp, (const struct sockaddr *)&address, 0);
    if (error == 0)
        error = uv_listen(&listener->socket.stream, BACKLOG, on_connection);
    if (error < 0) {
        listener_close(listener);
        return refuse_uv(error, listen, why);
    }
    name_address(listener);
    return STATUS_OK;
}

/* --- unix sockets --- */

/* Removes a socket file that nobody serves any more. */
static int clear_path(const struct sockaddr_un *address, struct why *why)
{
    struct stat found;
    if (lstat(address->sun_path, &found) != 0)
        return STATUS_OK; /* nothing there; bind says what else is wrong */
    if (!S_ISSOCK(found.st_mode))
        return refuse(why, STATUS_EXISTS,
                      "cannot listen on unix:%s: a file that is not a socket stands there; choose "
                      "another path with --listen unix:PATH",
                      address->sun_path);
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (probe < 0)
        return refuse_uv(-errno, address->sun_path, why);
    int error = connect(probe, (const struct sockaddr *)address, sizeof(*address)) == 0 ? 0 : errno;
    close(probe);
    if (error != ECONNREFUSED)
        return refuse(why, STATUS_EXISTS,
                      "cannot listen on unix:%s: another program serves this socket. Stop it, or "
                      "choose another path with --listen unix:PATH",
                      address->sun_path);
    unlink(address->sun_path);
    return STATUS_OK;
}

static int bind_path(int fd, const struct sockaddr_un *address, struct listener *listener)
{
    struct stat made;
    if (bind(fd, (const struct sockaddr *)address, sizeof(*address)) != 0)
        return -errno;
    if (chmod(address->sun_path, 0600) != 0 || stat(address->sun_path, &made) != 0) {
        int error = -errno;
        unlink(address->sun_path);
        return error;
    }
    listener->path_device = made.st_dev;
    listener->path_inode = made.st_ino;
    snprintf(listener->path, sizeof(listener->path), "%s", address->sun_path);
    return 0;
}

static int open_unix(struct listener *listener, struct loop *loop, const char *path,
                     uv_connection_cb on_connection, struct why *why)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (path[0] == '\0' || strlen(path) >= sizeof(address.sun_path))
        return refuse(why, STATUS_INVALID,
                      "cannot listen on unix:%s: the path must have 1 to %zu bytes", path,
                      sizeof(address.sun_path) - 1);
    memcpy(address.sun_path, path, strlen(path));
    int status = clear_path(&address, why);
    if (status < 0)
        return status;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return refuse_uv(-errno, path, why);
    uv_pipe_init(&loop->uv, &listener->socket.pipe, 0);
    listener->is_open = true;
    int error = bind_path(fd, &address, listener);
    if (error == 0)
        error = uv_pipe_open(&listener->socket.pipe, fd);
    if (error != 0)
        close(fd);
    else
        error = uv_listen(&listener->socket.stream, BACKLOG, on_connection);
    if (error < 0) {
        listener_close(listener);
        return refuse_uv(error, path, why);
    }
    snprintf(listener->address, sizeof(listener->address), "unix:%s", path);
    return STATUS_OK;
}

int listener_open(struct listener *listener, struct loop *loop, const char *listen, bool insecure,
                  uv_connection_cb on_connection, struct why *why)
{
    *listener = (struct listener){.is_open = false};
    if (strncmp(listen, "unix:", 5) == 0)
        return open_unix(listener, loop, listen + 5, on_connection, why);
    return open_tcp(listener, loop, listen, insecure, on_connection, why);
}

void listener_close(struct listener *listener)
{
    struct stat found;
    if (!listener->is_open)
        return;
    listener->is_open = false;
    if (listener->path[0] != '\0' && stat(listener->path, &found) == 0 &&
        found.st_dev == listener->path_device && found.st_ino == listener->path_inode)
        unlink(listener->path);
    uv_close(&listener->socket.handle, NULL);
}
