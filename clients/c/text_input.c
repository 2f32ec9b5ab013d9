#include "clients/c/text_input.h"

#include "base/status.h"
#include "base/text.h"
#include "base/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK_BYTES 65536
#define SHOWN_BYTES 200

static int read_all(int fd, const char *name, size_t bytes_max, struct text_input *out,
                    struct why *why)
{
    size_t cap = 0;
    for (;;) {
        if (out->len == cap) {
            cap = cap == 0 ? BLOCK_BYTES : 2 * cap;
            uint8_t *grown = realloc(out->bytes, cap);
            if (grown == NULL)
                return refuse(why, STATUS_NO_MEMORY, "no memory for %zu bytes of %.*s", cap,
                              SHOWN_BYTES, name);
            out->bytes = grown;
        }
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        ssize_t n = read(fd, out->bytes + out->len, cap - out->len);
        if (n == 0)
            return STATUS_OK;
        if (n < 0 && (errno == EINTR || (errno == EAGAIN && poll(&wait, 1, -1) >= 0)))
            continue;
        if (n < 0)
            return refuse(why, STATUS_IO, "cannot read %.*s: %s", SHOWN_BYTES, name,
                          strerror(errno));
        out->len += (size_t)n;
        if (out->len > bytes_max)
            return refuse(why, STATUS_TOO_LARGE,
                          "%.*s has more than %zu bytes, the most that one request takes",
                          SHOWN_BYTES, name, bytes_max);
    }
}

int text_input_file(const char *path, size_t bytes_max, struct text_input *out, struct why *why)
{
    bool is_pipe = strcmp(path, "-") == 0;
    *out = (struct text_input){.bytes = NULL};
    int fd = is_pipe ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return refuse(why, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO, "cannot read %.*s: %s",
                      SHOWN_BYTES, path, strerror(errno));
    int status = read_all(fd, is_pipe ? "standard input" : path, bytes_max, out, why);
    if (!is_pipe)
        close(fd);
    if (status < 0)
        text_input_release(out);
    return status;
}

int text_input_argument(const char *argument, size_t bytes_max, struct text_input *out,
                        struct why *why)
{
    if (strcmp(argument, "-") == 0)
        return text_input_file(argument, bytes_max, out, why);
    if (argument[0] == '@')
        return text_input_file(argument + 1, bytes_max, out, why);
    *out = (struct text_input){.bytes = (uint8_t *)strdup(argument), .len = strlen(argument)};
    return out->bytes != NULL ? STATUS_OK : refuse(why, STATUS_NO_MEMORY, "no memory for a text");
}

void text_input_release(struct text_input *input)
{
    free(input->bytes);
    *input = (struct text_input){.bytes = NULL};
}

int text_input_check(const struct text_input *input, const char *what, struct why *why)
{
    size_t at;
    if (utf8_is_valid(input->bytes, input->len, &at))
        return STATUS_OK;
    return refuse(why, STATUS_INVALID,
                  "%s is not UTF-8: the byte 0x%02X at offset %zu of %zu begins no character; "
                  "convert it first (for example: iconv -f LATIN1 -t UTF-8)",
                  what, input->bytes[at], at, input->len);
}

int text_input_ids(const struct text_input *input, uint32_t **ids, size_t *n, struct why *why)
{
    *ids = NULL;
    *n = 0;
    int status = text_parse_ids((const char *)input->bytes, input->len, ids, n, why);
    if (status < 0) {
        free(*ids);
        *ids = NULL;
        *n = 0;
    }
    return status;
}
