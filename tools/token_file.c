#include "tools/token_file.h"

#include "base/status.h"
#include "base/text.h"
#include "limits.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_BYTES_MAX ((size_t)CONTEXT_TOKENS_MAX * 12) /* ten digits and what parts them */
#define READ_BYTES 65536

static int read_stream(FILE *file, const char *path, char **out, size_t *len, struct why *why)
{
    size_t cap = 0;

    for (;;) {
        if (*len == cap) {
            cap = cap == 0 ? READ_BYTES : 2 * cap;
            char *grown = realloc(*out, cap);
            if (grown == NULL)
                return refuse(why, STATUS_NO_MEMORY, "--tokens @%s: no memory for %zu bytes", path,
                              cap);
            *out = grown;
        }
        size_t n = fread(*out + *len, 1, cap - *len, file);
        *len += n;
        if (*len > FILE_BYTES_MAX)
            return refuse(why, STATUS_TOO_LARGE, "--tokens @%s: more than %zu bytes", path,
                          FILE_BYTES_MAX);
        if (n == 0 && ferror(file))
            return refuse(why, STATUS_IO, "--tokens @%s: %s", path, strerror(errno));
        if (n == 0)
            return STATUS_OK;
    }
}

static int read_file(const char *path, struct token_list *out, struct why *why)
{
    char *text = NULL;
    size_t len = 0;
    FILE *file = fopen(path, "rbe");
    if (file == NULL)
        return refuse(why, errno == ENOENT ? STATUS_NOT_FOUND : STATUS_IO, "--tokens @%s: %s", path,
                      strerror(errno));

    int status = read_stream(file, path, &text, &len, why);
    fclose(file);
    if (status == STATUS_OK) {
        status = text_parse_ids(text, len, &out->ids, &out->n, why);
        if (status < 0)
            status = refuse_prefix(why, status == STATUS_INVALID ? STATUS_CORRUPT : status,
                                   "--tokens @%s", path);
    }
    free(text);
    return status;
}

int token_list_read(const char *text, struct token_list *out, struct why *why)
{
    int status;

    *out = (struct token_list){.ids = NULL};
    if (text[0] == '@') {
        status = read_file(text + 1, out, why);
    } else {
        status = text_parse_ids(text, strlen(text), &out->ids, &out->n, why);
        if (status < 0)
            refuse_prefix(why, status, "--tokens");
    }
    if (status < 0)
        token_list_release(out); /* parsing grows the array before it meets what is wrong */
    return status;
}

void token_list_release(struct token_list *list)
{
    free(list->ids);
    *list = (struct token_list){.ids = NULL};
}
