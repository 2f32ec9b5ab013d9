#include "clients/c/server_child.h"

#include "base/clock.h"
#include "base/status.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SCHEME "unix:"
#define TMP_BYTES_MAX 80 /* and "/quire-0123456789abcdef.sock" fits ADDRESS_PATH_BYTES */
#define STOP_SECONDS 10
#define LOOK_MS 2
#define EXIT_CANNOT_START 127

static int name_socket(struct server_child *child, struct why *why)
{
    const char *tmp = getenv("TMPDIR");
    uint64_t random;
    if (tmp == NULL || tmp[0] == 0)
        tmp = "/tmp";
    if (strlen(tmp) > TMP_BYTES_MAX)
        return refuse(why, STATUS_INVALID,
                      "TMPDIR has %zu bytes, too many for the path of a unix socket (%d are left); "
                      "set a shorter one",
                      strlen(tmp), TMP_BYTES_MAX);
    if (getrandom(&random, sizeof random, 0) != sizeof random)
        return refuse(why, STATUS_IO, "no random name for a private socket: %s", strerror(errno));
    snprintf(child->address, sizeof child->address, SCHEME "%.*s/quire-%016" PRIx64 ".sock",
             TMP_BYTES_MAX, tmp, random);
    return STATUS_OK;
}

/* In the child, between fork and exec: only what is safe there. */
static void become_server(char *const *argv, int parent_fd, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(EXIT_CANNOT_START); /* it went before it could be watched */
    setsid();
    umask(S_IRWXG | S_IRWXO); /* the socket is this user's from its first moment */
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
    int nothing = open("/dev/null", O_RDONLY);
    if (nothing < 0 || dup2(nothing, STDIN_FILENO) < 0 || dup2(STDERR_FILENO, STDOUT_FILENO) < 0 ||
        fcntl(parent_fd, F_SETFD, 0) < 0)
        _exit(EXIT_CANNOT_START);
    execv("/proc/self/exe", argv);
    _exit(EXIT_CANNOT_START);
}

static int spawn(struct server_child *child, const char *const *words, struct why *why)
{
    int pipe_fds[2];
    char fd_text[16];
    const char *argv[SERVER_CHILD_WORDS_MAX + 8] = {"quire",        "serve",       "--listen",
                                                    child->address, "--parent-fd", fd_text};
    size_t n = 6;
    for (size_t i = 0; words[i] != NULL && i < SERVER_CHILD_WORDS_MAX; i++)
        argv[n++] = words[i];
    argv[n] = NULL;
    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return refuse(why, STATUS_IO, "no pipe to the server: %s", strerror(errno));
    snprintf(fd_text, sizeof fd_text, "%d", pipe_fds[0]);

    pid_t parent = getpid();
    child->pid = fork();
    if (child->pid == 0)
        become_server((char *const *)(uintptr_t)argv, pipe_fds[0], parent);
    int error = errno;
    close(pipe_fds[0]);
    child->pipe_fd = pipe_fds[1];
    if (child->pid < 0) {
        child->pid = 0;
        close(child->pipe_fd);
        return refuse(why, STATUS_IO, "the server cannot be started: %s", strerror(error));
    }
    return STATUS_OK;
}

int server_child_start(struct server_child *child, const char *const *words, struct why *why)
{
    memset(child, 0, sizeof *child);
    child->pipe_fd = -1;
    int status = name_socket(child, why);
    return status < 0 ? status : spawn(child, words, why);
}

bool server_child_has_ended(struct server_child *child)
{
    if (child->pid == 0)
        return false;
    if (!child->has_ended)
        child->has_ended = waitpid(child->pid, &child->status, WNOHANG) == child->pid;
    return child->has_ended;
}

void server_child_forget_socket(struct server_child *child)
{
    if (child->address[0] != 0)
        unlink(child->address + strlen(SCHEME));
    child->address[0] = 0;
}

void server_child_stop(struct server_child *child)
{
    if (child->pid == 0)
        return;
    close(child->pipe_fd);
    int64_t until_ns = clock_now(&clock_monotonic) + STOP_SECONDS * NS_PER_S;
    while (!server_child_has_ended(child) && clock_now(&clock_monotonic) < until_ns)
        poll(NULL, 0, LOOK_MS);
    if (!child->has_ended) {
        kill(child->pid, SIGKILL);
        waitpid(child->pid, &child->status, 0);
    }
    server_child_forget_socket(child);
    child->pid = 0;
}
