#include "tests/base/capture_fixture.h"

#include <fcntl.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

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
    fcntl(capture->source, F_SETFL, O_NONBLOCK);
    take_over(capture, fd, target);
}

const char *capture_read(struct capture *capture)
{
    fflush(stdout);
    ssize_t len = read(capture->source, capture->text, sizeof capture->text - 1);
    capture->text[len > 0 ? len : 0] = 0;
    return capture->text;
}

void capture_end(struct capture *capture)
{
    fflush(stdout);
    dup2(capture->saved, capture->fd);
    close(capture->saved);
    close(capture->source);
}
