#include "tests/base/capture_fixture.h"

#include <fcntl.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#define MARK "\036"

static void must(int ok, const char *what)
{
    if (!ok) {
        perror(what);
        abort();
    }
}

static void take_over(struct capture *capture, int fd, int target)
{
    fflush(stdout);
    capture->fd = fd;
    capture->saved = dup(fd);
    must(capture->saved >= 0, "dup");
    must(dup2(target, fd) == fd, "dup2");
    close(target);
}

void capture_begin(struct capture *capture, int fd)
{
    char path[] = "/tmp/quire-capture-XXXXXX";
    int target = mkstemp(path);
    must(target >= 0, "mkstemp");
    capture->source = open(path, O_RDONLY);
    must(capture->source >= 0, "open");
    unlink(path);
    fcntl(target, F_SETFL, O_APPEND);
    take_over(capture, fd, target);
}

void capture_begin_terminal(struct capture *capture, int fd)
{
    struct winsize size = {.ws_row = 24, .ws_col = 80};
    struct termios raw;
    int target;
    memset(&raw, 0, sizeof raw);
    cfmakeraw(&raw);
    must(openpty(&capture->source, &target, NULL, &raw, &size) == 0, "openpty");
    take_over(capture, fd, target);
}

/* A terminal hands its bytes on in its own time: a mark behind them tells that they are all here.
 */
static size_t read_terminal(struct capture *capture)
{
    size_t len = 0;
    must(write(capture->fd, MARK, 1) == 1, "write");
    while (len == 0 || capture->text[len - 1] != MARK[0]) {
        ssize_t n = read(capture->source, capture->text + len, sizeof capture->text - len - 1);
        must(n > 0, "read");
        len += (size_t)n;
    }
    return len - 1;
}

const char *capture_read(struct capture *capture)
{
    fflush(stdout);
    size_t len = 0;
    if (isatty(capture->fd)) {
        len = read_terminal(capture);
    } else {
        ssize_t n = read(capture->source, capture->text, sizeof capture->text - 1);
        must(n >= 0, "read");
        len = (size_t)n;
    }
    capture->text[len] = 0;
    return capture->text;
}

void capture_end(struct capture *capture)
{
    fflush(stdout);
    dup2(capture->saved, capture->fd);
    close(capture->saved);
    close(capture->source);
}
